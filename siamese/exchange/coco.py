"""COCO (Lin et al. 2014, arXiv:1405.0312): one JSON for all images, one annotation a lesion. Exact in both directions.

Layout
  annotations/instances_default.json   ``info``, ``images``, ``annotations``, ``categories``; see ``lesion_annotations`` in
                                       ``siamese.masks.coco``. CVAT imports the ZIP file as it is.
  images/NAME.png

``synthetic`` and ``recipe`` are fields of our own in ``images``, which other programs pass over. Boxes without outlines are refused:
they are not masks. Polygons of other programs are drawn by their pixels' centres, which differs from pycocotools only on the outline.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from siamese import VERSION
from siamese.exchange.item import AnnotatedImage, ExchangeError, image_png, unique
from siamese.exchange.source import Source, annotated
from siamese.exchange.target import Put, json_bytes
from siamese.files.names import shown_name
from siamese.masks.coco import lesion_annotations
from siamese.masks.outlines import OutlineError, from_packed_run_lengths, from_run_lengths, rasterise

FILE = "annotations/instances_default.json"


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice.
    """
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    categories: dict[str, int] = {}
    for item in unique(items):
        image_id, category_id = len(images) + 1, categories.setdefault(item.category, len(categories) + 1)
        put(f"images/{item.name}.png", image_png(item))
        height, width = item.mask.shape
        row = {"id": image_id, "file_name": f"{item.name}.png", "height": height, "width": width}
        about = {"category": item.category, "synthetic": item.synthetic, "recipe": item.recipe}
        images.append({**row, **about})
        annotations += lesion_annotations(
            item.mask, image_id=image_id, category_id=category_id, first_id=len(annotations) + 1
        )
    synthetic = sum(image["synthetic"] for image in images)
    description = (
        f"Siamese-Diffusion Studio: {len(images)} images, {synthetic} of them synthetic. Not for diagnosis."
    )
    document = {
        "info": {"description": description, "version": VERSION},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": id, "name": name, "supercategory": ""} for name, id in categories.items()],
    }
    put(FILE, json_bytes(document))
    return len(images)


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    names = [PurePosixPath(name.lower()) for name in source.ending(".json")]
    return any(
        n.parent.name == "annotations" or n.name.startswith(("annotation", "instances")) for n in names
    )


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The images that the one COCO document in ``source`` lists.

    Raises:
        ExchangeError: no document, several, or a damaged one. Faults of single images are added to ``source``.
    """
    path, document = _document(source)
    names = {row["id"]: row["name"] for row in _rows(document, "categories", id=int, name=str)}
    of_image: dict[int, list[dict[str, Any]]] = {}
    for annotation in _rows(document, "annotations", image_id=int, category_id=int):
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    for image in _rows(document, "images", id=int, file_name=str, width=int, height=int):
        with source.item(image["file_name"]):
            annotations = of_image.get(image["id"], [])
            if unknown := [a["category_id"] for a in annotations if a["category_id"] not in names]:
                raise ExchangeError(f"has an annotation of the category {unknown[0]}, which is not listed")
            found = [names[a["category_id"]] for a in annotations]
            if not found:
                found = (
                    [image["category"]] if "category" in image else list(names.values())[: len(names) == 1]
                )
            category = source.wanted(found)
            file = source.find(image["file_name"], beside=path, folders=("images", ""))
            picture = source.picture(file)
            height, width = image["height"], image["width"]
            if picture.image.size != (width, height):
                raise ExchangeError(
                    f"is {picture.image.width} x {picture.image.height} pixels, but {path} says {width} x {height}"
                )
            mask = np.zeros((height, width), np.uint8)
            for annotation in annotations:
                if names[annotation["category_id"]] == category:
                    mask |= drawn(annotation.get("segmentation"), (height, width))
            yield annotated(source, image["file_name"], mask, picture, about=image, category=category)


def drawn(segmentation: Any, shape: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 of an annotation's ``segmentation``: polygons, or run lengths, compressed or not.

    Raises:
        ExchangeError: something else, or nothing.
        OutlineError: damaged, or of another size.
    """
    if isinstance(segmentation, list) and segmentation:
        rings = [_corners(ring) for ring in segmentation]
        return rasterise(rings, shape)
    if isinstance(segmentation, dict):
        if segmentation.get("size") != list(shape):
            raise OutlineError("has run lengths of another size than the image")
        counts = segmentation.get("counts")
        if isinstance(counts, str):
            return from_packed_run_lengths(counts, shape)
        if isinstance(counts, list) and all(type(count) is int for count in counts):
            return from_run_lengths(counts, shape)
    raise ExchangeError(
        "has an annotation without an outline (a box alone is not a mask); export it with segmentations"
    )


def _corners(ring: Any) -> np.ndarray:
    if (
        not isinstance(ring, list)
        or len(ring) % 2
        or not all(isinstance(v, int | float) and abs(v) < 1e9 for v in ring)
    ):
        raise OutlineError("has a polygon that is not a list of numbers")
    return np.array(ring, np.float64).reshape(-1, 2)


def _document(source: Source) -> tuple[str, dict[str, Any]]:
    """Path and content of the only COCO document."""
    found = []
    for name in source.ending(".json"):
        document = None
        with source.item(name):
            document = source.json(name)
        if isinstance(document, dict) and {"images", "annotations", "categories"} <= document.keys():
            found.append((name, document))
    source.check()
    if len(found) != 1:
        several = f"there are several COCO files ({', '.join(shown_name(n) for n, _ in found)}); keep one"
        raise ExchangeError(
            f"{several}."
            if found
            else "there is no COCO file: a JSON with images, annotations and categories."
        )
    return found[0]


def _rows(document: dict[str, Any], key: str, **fields: type) -> list[dict[str, Any]]:
    """The objects of a list of the document, of which each has these ``fields``."""
    rows = document[key]
    if not isinstance(rows, list):
        raise ExchangeError(f'the COCO file has no list "{key}"; export it again.')
    for row in rows:
        for field, kind in fields.items():
            if not isinstance(row, dict) or not isinstance(row.get(field), kind):
                raise ExchangeError(
                    f'an entry of "{key}" in the COCO file has no valid "{field}"; export it again.'
                )
    return rows
