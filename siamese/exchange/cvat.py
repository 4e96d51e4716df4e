"""CVAT for images 1.1 (docs.cvat.ai, "CVAT for image"): one XML for all images, one shape a lesion. Exact in both directions.

Layout
  annotations.xml
  images/NAME.png

A lesion without a hole is a ``polygon`` along the pixels' edges, another one a ``mask`` (run lengths by row, background first, within
its box). A synthetic image carries a tag ``synthetic`` with the recipe as its attribute. Polygons of other programs are drawn by their
pixels' centres. CVAT has no place for the category of an image without a lesion: it is that of the file if it has only one, otherwise
"lesion".
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator

import numpy as np

from siamese.exchange.item import AnnotatedImage, ExchangeError, image_png, unique
from siamese.exchange.source import Source, annotated
from siamese.exchange.target import Put
from siamese.files.names import shown_name
from siamese.masks.outlines import (
    Lesion,
    OutlineError,
    from_run_lengths,
    lesions,
    outer_ring,
    rasterise,
    run_lengths,
)

FILE = "annotations.xml"
SYNTHETIC, RECIPE = "synthetic", "recipe"
ELLIPSE_CORNERS = 360
AREAS = ("polygon", "box", "ellipse", "mask")
LINES = ("polyline", "points", "cuboid", "skeleton")


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice, or a category is called "synthetic", which is the tag's name.
    """
    images: list[ET.Element] = []
    categories: dict[str, None] = {}
    for item in unique(items):
        if item.category == SYNTHETIC:
            raise ExchangeError('a category cannot be called "synthetic" in CVAT\'s format; rename it.')
        categories[item.category] = None
        put(f"images/{item.name}.png", image_png(item))
        images.append(_image(item, len(images)))
    root = ET.Element("annotations")
    ET.SubElement(root, "version").text = "1.1"
    root.append(_meta(categories, len(images)))
    root.extend(images)
    ET.indent(root)
    put(FILE, ET.tostring(root, encoding="utf-8", xml_declaration=True))
    return len(images)


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    return any(name.rpartition("/")[2].lower() == FILE for name in source.names)


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The images that ``annotations.xml`` lists.

    Raises:
        ExchangeError: no such file, or a damaged one. Faults of single images are added to ``source``.
    """
    path = source.only(FILE)
    root = ET.Element("")
    with source.item(path):
        root = _parsed(source.read(path))
    source.check()
    if root.tag != "annotations":
        raise ExchangeError(f'{shown_name(path)} is not CVAT\'s; export it as "CVAT for images 1.1".')
    names = [e.text or "" for e in root.iterfind("meta//labels/label/name") if e.text != SYNTHETIC]
    for element in root.iterfind("image"):
        name = element.get("name") or ""
        with source.item(name):
            file = source.find(name, beside=path, folders=("images", "", "images/default"))
            picture = source.picture(file)
            width, height = picture.image.size
            if (element.get("width"), element.get("height")) != (str(width), str(height)):
                raise ExchangeError(f"has another size in {FILE} than the image, {width} x {height} pixels")
            shapes = [e for e in element if e.tag in AREAS + LINES]
            category = source.wanted(
                [e.get("label") or "" for e in shapes] or [*dict.fromkeys(names)][: len(names) == 1]
            )
            mask = np.zeros((height, width), np.uint8)
            for shape in shapes:
                if shape.get("label") == category:
                    mask |= drawn(shape, (height, width))
            tag = next((e for e in element.iterfind("tag") if e.get("label") == SYNTHETIC), None)
            about = {"synthetic": tag is not None, "recipe": _recipe(tag)}
            yield annotated(source, name, mask, picture, about=about, category=category)


def drawn(shape: ET.Element, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 of a shape of an image.

    Raises:
        ExchangeError: a shape without an area, or damaged numbers.
        OutlineError: a polygon or a mask that describes no part of an image.
    """
    try:
        if shape.tag == "polygon":
            points = [
                [float(v) for v in point.split(",")] for point in (shape.get("points") or "").split(";")
            ]
            return rasterise([np.array(points)], size)
        if shape.tag == "mask":
            return _mask(shape, size)
        if shape.tag not in AREAS:
            raise ExchangeError(
                f"has a shape of the kind {shape.tag}, which has no area; draw a polygon or a mask"
            )
        angle = math.radians(_number(shape, "rotation", 0))
        if shape.tag == "box":
            x0, y0, x1, y1 = (_number(shape, key) for key in ("xtl", "ytl", "xbr", "ybr"))
            centre, corners = (
                np.array([x0 + x1, y0 + y1]) / 2,
                np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]),
            )
        else:
            x, y, rx, ry = (_number(shape, key) for key in ("cx", "cy", "rx", "ry"))
            turn = np.linspace(0, 2 * math.pi, ELLIPSE_CORNERS, endpoint=False)
            centre = np.array([x, y])
            corners = centre + np.stack([rx * np.cos(turn), ry * np.sin(turn)], 1)
    except (ExchangeError, OutlineError):
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise ExchangeError(f"has a {shape.tag} with damaged numbers; export it again") from error
    rotation = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return rasterise([(corners - centre) @ rotation + centre], size)


def _parsed(data: bytes) -> ET.Element:
    try:
        return ET.fromstring(data, parser=ET.XMLParser(target=_NoDoctype()))
    except (ET.ParseError, LookupError, UnicodeError) as error:
        raise ExchangeError("is not XML that can be read; export it again") from error


class _NoDoctype(ET.TreeBuilder):
    """A document without declarations of its own: entities in one can grow without bound."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ExchangeError("has a document type declaration, which CVAT never writes; export it again")


def _meta(categories: Iterable[str], size: int) -> ET.Element:
    meta = ET.Element("meta")
    task = ET.SubElement(meta, "task")
    ET.SubElement(task, "name").text = "Siamese-Diffusion Studio"
    ET.SubElement(task, "size").text = str(size)
    ET.SubElement(task, "mode").text = "annotation"
    labels = ET.SubElement(task, "labels")
    for name, kind in [*((name, "any") for name in categories), (SYNTHETIC, "tag")]:
        label = ET.SubElement(labels, "label")
        ET.SubElement(label, "name").text = name
        ET.SubElement(label, "type").text = kind
        attributes = ET.SubElement(label, "attributes")
        if name == SYNTHETIC:
            attribute = ET.SubElement(attributes, "attribute")
            values = {
                "name": RECIPE,
                "mutable": "False",
                "input_type": "text",
                "default_value": "",
                "values": "",
            }
            for key, value in values.items():
                ET.SubElement(attribute, key).text = value
    return meta


def _image(item: AnnotatedImage, number: int) -> ET.Element:
    height, width = item.mask.shape
    image = ET.Element("image", id=str(number), name=f"{item.name}.png", width=str(width), height=str(height))
    image.extend(_shape(lesion, item.category) for lesion in lesions(item.mask))
    if item.synthetic:
        tag = ET.SubElement(image, "tag", label=SYNTHETIC, source="manual")
        if item.recipe is not None:
            ET.SubElement(tag, "attribute", name=RECIPE).text = item.recipe
    return image


def _shape(lesion: Lesion, category: str) -> ET.Element:
    common = {"label": category, "source": "manual", "occluded": "0"}
    if lesion.has_hole():
        left, top, width, height = lesion.box
        where = {"left": left, "top": top, "width": width, "height": height}
        rle = ", ".join(map(str, run_lengths(lesion.mask, "C")))
        return ET.Element(
            "mask", {**common, "rle": rle, **{k: str(v) for k, v in where.items()}, "z_order": "0"}
        )
    points = ";".join(f"{x}.00,{y}.00" for x, y in outer_ring(lesion))
    return ET.Element("polygon", {**common, "points": points, "z_order": "0"})


def _mask(shape: ET.Element, size: tuple[int, int]) -> np.ndarray:
    left, top, width, height = (int(shape.get(key) or "") for key in ("left", "top", "width", "height"))
    if min(left, top, width, height) < 0 or top + height > size[0] or left + width > size[1]:
        raise ExchangeError("has a mask that leaves the image; export it again")
    counts = [int(v) for v in (shape.get("rle") or "").split(",")]
    whole = np.zeros(size, np.uint8)
    whole[top : top + height, left : left + width] = from_run_lengths(counts, (height, width), "C")
    return whole


def _number(shape: ET.Element, key: str, default: float | None = None) -> float:
    text = shape.get(key)
    return default if text is None and default is not None else float(text or "")


def _recipe(tag: ET.Element | None) -> str | None:
    found = None if tag is None else tag.find(f"attribute[@name='{RECIPE}']")
    return None if found is None else found.text or ""
