"""Hugging Face's imagefolder (huggingface.co/docs/datasets/image_dataset): images with metadata.jsonl. Exact in both directions.

Layout
  README.md          names the files of the only split, "train": a name such as ``test_1.png`` would otherwise make a split of its own
  metadata.jsonl     a line for each image: ``file_name``, ``mask_file_name``, ``category``, ``synthetic``, ``recipe``
  images/NAME.png
  masks/NAME.png     8-bit grey, 0 background, 255 lesion

``datasets.load_dataset(folder)`` gives the columns ``image``, ``mask``, ``category``, ``synthetic`` and ``recipe``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from siamese.exchange.item import LESION, AnnotatedImage, ExchangeError, grey_png, image_png, unique
from siamese.exchange.source import Source, annotated
from siamese.exchange.target import Put, json_lines

FILE = "metadata.jsonl"
README = """---
configs:
- config_name: default
  drop_labels: true
  data_files:
  - split: train
    path:
    - metadata.jsonl
    - images/*
    - masks/*
---
Images with masks of lesions, written by Siamese-Diffusion Studio. The column synthetic says which images a model made; the others
may be photographs of patients. Research use. Not for diagnosis.
"""


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice.
    """
    rows: list[dict[str, Any]] = []
    for item in unique(items):
        row = {"file_name": f"images/{item.name}.png", "mask_file_name": f"masks/{item.name}.png"}
        put(row["file_name"], image_png(item))
        put(row["mask_file_name"], grey_png(item.mask))
        rows.append({**row, "category": item.category, "synthetic": item.synthetic, "recipe": item.recipe})
    put(FILE, json_lines(rows))
    put("README.md", README.encode())
    return len(rows)


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    return any(name.rpartition("/")[2].lower() == FILE for name in source.names)


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The images of every metadata.jsonl, one in each split, that name a mask.

    Raises:
        ExchangeError: there is none. Faults of single images are added to ``source``.
    """
    paths = [name for name in source.names if name.rpartition("/")[2].lower() == FILE]
    if not paths:
        raise ExchangeError(f"there is no file {FILE}.")
    for path in paths:
        rows: list[dict[str, Any]] = []
        with source.item(path):
            rows = source.json_lines(path)
        for number, row in enumerate(rows, start=1):
            with source.item(f"{path}, line {number}"):
                if "mask_file_name" not in row:
                    raise ExchangeError('has no "mask_file_name"; add the path of the mask')
                name = source.find(row.get("file_name"), beside=path)
                mask = source.mask(source.find(row["mask_file_name"], beside=path, folders=("", "masks")))
                category = source.wanted([str(row.get("category") or LESION)])
                yield annotated(source, name, mask, source.picture(name), about=row, category=category)
