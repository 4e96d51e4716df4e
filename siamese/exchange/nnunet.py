"""nnU-Net's raw layout (github.com/MIC-DKFZ/nnUNet, documentation/dataset_format.md). Exact in both directions.

Layout, to be unpacked into a folder ``nnUNet_raw/DatasetXXX_NAME``
  dataset.json               ``channel_names``, ``labels``, ``numTraining``, ``file_ending``
  imagesTr/NAME_0000.png     RGB in one file, as nnU-Net's NaturalImage2DIO reads it
  labelsTr/NAME.png          8-bit grey: 0 background, and 1, 2, ... for each category; with one category 0 and 1

``synthetic`` and ``recipe`` of each case are a field of our own in dataset.json, which nnU-Net passes over.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from siamese.exchange.item import AnnotatedImage, ExchangeError, grey_png, image_png, unique
from siamese.exchange.source import Source, annotated
from siamese.exchange.target import Put, json_bytes
from siamese.files.decoding import decode
from siamese.files.names import shown_name

FILE, IMAGES, LABELS, CASES = "dataset.json", "imagesTr", "labelsTr", "siamese_cases"
MAX_CATEGORIES = 255
"""Values that an 8-bit label has beside the background."""


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice, a category that nnU-Net keeps for itself, or too many of them.
    """
    labels, cases = {"background": 0}, {}
    for item in unique(items):
        if item.category in ("background", "ignore"):
            raise ExchangeError(f"nnU-Net keeps the label {item.category} for itself; rename the category.")
        value = labels.setdefault(item.category, len(labels))
        if value > MAX_CATEGORIES:
            raise ExchangeError(f"nnU-Net's PNG labels hold at most {MAX_CATEGORIES} categories.")
        put(f"{IMAGES}/{item.name}_0000.png", image_png(item))
        put(f"{LABELS}/{item.name}.png", grey_png(np.where(item.mask > 0, value, 0).astype(np.uint8)))
        cases[item.name] = {"category": item.category, "synthetic": item.synthetic, "recipe": item.recipe}
    document = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": labels,
        "numTraining": len(cases),
        "file_ending": ".png",
        "overwrite_image_reader_writer": "NaturalImage2DIO",
        "description": "Written by Siamese-Diffusion Studio. Not for diagnosis.",
        CASES: cases,
    }
    put(FILE, json_bytes(document))
    return len(cases)


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    return any(name.rpartition("/")[2] == FILE for name in source.names) and any(
        f"/{LABELS}/" in f"/{name}" for name in source.names
    )


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The training cases of two-dimensional RGB or grey images.

    Raises:
        ExchangeError: no dataset.json, or one of volumes, regions or several files an image. Faults of single cases are added to
            ``source``.
    """
    path = source.only(FILE)
    labels, ending, about = _dataset(source, path)
    root = PurePosixPath(path).parent
    for name in source.names:
        place = PurePosixPath(name)
        if place.parent != root / LABELS or not name.endswith(ending):
            continue
        case = place.name.removesuffix(ending)
        with source.item(name):
            image = str(root / IMAGES / f"{case}_0000{ending}")
            if image not in source.names:
                raise ExchangeError(f"has no image {IMAGES}/{case}_0000{ending}")
            if str(root / IMAGES / f"{case}_0001{ending}") in source.names:
                raise ExchangeError("has several image files; only RGB or grey in one file can be read")
            values = np.array(decode(source.read(name), source.limits.picture).image.convert("L"))
            known = {value: label for label, value in labels.items()}
            found = [int(v) for v in np.unique(values) if v]
            if unknown := [v for v in found if v not in known]:
                raise ExchangeError(f"has the value {unknown[0]}, which {FILE} does not list")
            row = about.get(case, {})
            if not found and isinstance(row.get("category"), str):
                category = source.wanted([row["category"]])
            else:
                category = source.wanted([known[v] for v in found] or list(labels)[: len(labels) == 1])
            mask = np.where(values == labels.get(category, -1), 255, 0).astype(np.uint8)
            yield annotated(source, f"{case}.png", mask, source.picture(image), about=row, category=category)


def _dataset(source: Source, path: str) -> tuple[dict[str, int], str, dict[str, Any]]:
    """Values of the foreground's labels, the files' ending, and what is said of each case."""
    document: Any = None
    with source.item(path):
        document = source.json(path)
    source.check()
    labels = document.get("labels") if isinstance(document, dict) else None
    if not isinstance(labels, dict) or not all(type(v) is int and 0 <= v <= 255 for v in labels.values()):
        raise ExchangeError(
            f"{shown_name(path)} has no labels with one value each; regions and labels of nnU-Net 1 are not read."
        )
    ending = document.get("file_ending")
    if not isinstance(ending, str) or not re.fullmatch(r"\.(png|bmp|tif|tiff)", ending):
        raise ExchangeError(
            f"{shown_name(path)}: only two-dimensional images in .png, .bmp or .tif files are read, not {shown_name(str(ending))}."
        )
    cases = document.get(CASES)
    cases = cases if isinstance(cases, dict) else {}
    about = {name: case for name, case in cases.items() if isinstance(case, dict)}
    return {name: value for name, value in labels.items() if value and name != "ignore"}, ending, about
