"""LabelMe (github.com/wkentaro/labelme): a JSON beside each image, one shape a lesion. Exact in both directions.

Layout
  NAME.png
  NAME.json   ``shapes``, ``imagePath``, ``imageHeight``, ``imageWidth``, ``flags``

LabelMe's own rule draws a polygon with its outline, through whole pixels (``labelme.utils.shape_to_mask``). So a lesion is written as
the polygon through the centres of its outermost pixels, in LabelMe's numbering, if that rule gives exactly the lesion; otherwise
(holes, single pixels, lines) as a shape of the type "mask". ``synthetic`` is a flag; ``recipe`` is a field of our own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import cv2
import numpy as np
from PIL import Image, ImageDraw

from siamese.exchange.item import AnnotatedImage, ExchangeError, grey_png, image_png, unique
from siamese.exchange.source import PHOTO_SUFFIXES, Source, annotated
from siamese.exchange.target import Put, json_bytes
from siamese.files.decoding import decode
from siamese.files.names import shown_name
from siamese.masks.outlines import MAX_COORDINATE, MAX_CORNERS, Lesion, lesions

FORMAT_VERSION = "5.5.0"
"""Of LabelMe, the first that has shapes of the type "mask" with a description."""


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice.
    """
    count = 0
    for item in unique(items):
        count += 1
        put(f"{item.name}.png", image_png(item))
        height, width = item.mask.shape
        document = {
            "version": FORMAT_VERSION,
            "flags": {"synthetic": item.synthetic},
            "shapes": [_shape(lesion, item, number) for number, lesion in enumerate(lesions(item.mask), 1)],
            "imagePath": f"{item.name}.png",
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
            "category": item.category,
            "recipe": item.recipe,
        }
        put(f"{item.name}.json", json_bytes(document))
    return count


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell: a JSON beside each image."""
    images = {str(PurePosixPath(name).with_suffix("")) for name in source.ending(*PHOTO_SUFFIXES)}
    texts = {str(PurePosixPath(name).with_suffix("")) for name in source.ending(".json")}
    return bool(texts & images)


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The images of all LabelMe files in ``source``; other JSON files are passed over.

    Raises:
        ExchangeError: there is none. Faults of single images are added to ``source``.
    """
    found = 0
    for path in source.ending(".json"):
        with source.item(path):
            document = source.json(path)
            if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
                continue
            found += 1
            yield _image(source, path, document)
    if not found and not source.faults:
        raise ExchangeError("there is no LabelMe file: a JSON with shapes beside each image.")


def _image(source: Source, path: str, document: dict[str, Any]) -> AnnotatedImage:
    shapes = document["shapes"]
    if not all(isinstance(s, dict) and isinstance(s.get("label"), str) for s in shapes):
        raise ExchangeError("has a shape without a label; export it again")
    labels = [shape["label"] for shape in shapes]
    if not labels and isinstance(document.get("category"), str):
        labels = [document["category"]]
    category = source.wanted(labels)
    name = source.find(document.get("imagePath"), beside=path)
    picture = source.picture(name)
    width, height = picture.image.size
    if (document.get("imageWidth", width), document.get("imageHeight", height)) != (width, height):
        raise ExchangeError(f"says another size than that of {shown_name(name)}, {width} x {height} pixels")
    mask = np.zeros((height, width), np.uint8)
    for shape in shapes:
        if shape["label"] == category:
            mask |= drawn(shape, (height, width))
    flags = document.get("flags")
    about = {
        "synthetic": isinstance(flags, dict) and flags.get("synthetic") is True,
        "recipe": document.get("recipe"),
    }
    return annotated(source, name, mask, picture, about=about, category=category)


def drawn(shape: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 of a shape, by LabelMe's own rule.

    Raises:
        ExchangeError: a shape that has no area, or is damaged.
    """
    kind, points = shape.get("shape_type") or "polygon", _points(shape.get("points"))
    if kind == "mask" and len(points) == 2:
        return _mask(shape.get("mask"), points, size)
    canvas = Image.new("L", (size[1], size[0]))
    pen, corners = ImageDraw.Draw(canvas), [tuple(point) for point in points]
    if kind == "polygon" and len(points) > 2:
        pen.polygon(corners, fill=255, outline=255)
    elif kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = np.min(points, 0), np.max(points, 0)
        pen.rectangle((x0, y0, x1, y1), fill=255, outline=255)
    elif kind == "circle" and len(points) == 2:
        (x, y), (radius,) = points[0], [np.hypot(*np.subtract(points[0], points[1]))]
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255, outline=255)
    else:
        raise ExchangeError(
            f"has a shape of the type {shown_name(str(kind))} with {len(points)} points, which has no area; draw a polygon"
        )
    return np.array(canvas)


def _shape(lesion: Lesion, item: AnnotatedImage, number: int) -> dict[str, Any]:
    ring = _ring(lesion)
    left, top, width, height = lesion.box
    if ring is None:
        points = [[left, top], [left + width - 1, top + height - 1]]
        pixels = base64.b64encode(grey_png(lesion.mask)).decode("ascii")
    else:
        points, pixels = ring, None
    return {
        "label": item.category,
        "points": [[float(x), float(y)] for x, y in points],
        "group_id": number,
        "description": "",
        "shape_type": "mask" if ring is None else "polygon",
        "flags": {},
        "mask": pixels,
    }


def _ring(lesion: Lesion) -> list[list[int]] | None:
    """The polygon through the outermost pixels, if LabelMe's rule makes the lesion of it."""
    rings, _ = cv2.findContours(lesion.mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    points = rings[0].reshape(-1, 2)
    if not 3 <= len(points) <= MAX_CORNERS:
        return None
    again = drawn({"points": points.tolist()}, (lesion.mask.shape[0], lesion.mask.shape[1]))
    return (points + (lesion.left, lesion.top)).tolist() if np.array_equal(again, lesion.mask) else None


def _points(points: Any) -> list[list[float]]:
    if (
        not isinstance(points, list)
        or len(points) > MAX_CORNERS
        or not all(
            isinstance(point, list)
            and len(point) == 2
            and all(isinstance(v, int | float) and abs(v) <= MAX_COORDINATE for v in point)
            for point in points
        )
    ):
        raise ExchangeError("has a shape whose points are not pairs of numbers; export it again")
    return points


def _mask(text: Any, points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """A shape of the type "mask": a PNG in base64 and the corners of the box that it fills, both inclusive."""
    try:
        data = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError) as error:
        raise ExchangeError("has a mask that is not base64; export it again") from error
    part = np.array(decode(data).image.convert("L")) > 0  # LabelMe writes 0 / 1 or false / true
    (x, y), whole = [round(v) for v in points[0]], np.zeros(size, np.uint8)
    height, width = part.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise ExchangeError("has a mask that leaves the image; export it again")
    whole[y : y + height, x : x + width][part] = 255
    return whole
