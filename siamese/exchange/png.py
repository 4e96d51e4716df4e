"""PNG pairs: images and masks by name, as training, evaluation and most programs for segmentation read them. Exact in both directions.

Layout
  images/NAME.png
  masks/NAME.png     8-bit grey, 0 background, 255 lesion
  manifest.jsonl     a line for each pair: files, category, ``synthetic``, recipe

Without a manifest, a mask belongs to the image of its name, also with an ending such as ``_segmentation``; see ``siamese.files.listing``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Any

from siamese.exchange.item import LESION, AnnotatedImage, ExchangeError, grey_png, image_png, unique
from siamese.exchange.source import PHOTO_SUFFIXES, Source, annotated
from siamese.exchange.target import Put, json_lines
from siamese.files.listing import find_key, key_of
from siamese.files.names import path_parts, shown_name

FILE = "manifest.jsonl"
IMAGES, MASKS = ("images", "image"), ("masks", "mask")


def write(items: Iterable[AnnotatedImage], put: Put) -> int:
    """Write ``items`` and return how many they were; see the module's text.

    Raises:
        ExchangeError: a name comes twice.
    """
    rows: list[dict[str, Any]] = []
    for item in unique(items):
        row = {"image": f"images/{item.name}.png", "mask": f"masks/{item.name}.png"}
        put(row["image"], image_png(item))
        put(row["mask"], grey_png(item.mask))
        rows.append({**row, "category": item.category, "synthetic": item.synthetic, "recipe": item.recipe})
    put(FILE, json_lines(rows))
    return len(rows)


def fits(source: Source) -> bool:
    """Whether this may be a data set of the format, as far as names tell."""
    return bool(_in(source, IMAGES) and _in(source, MASKS))


def read(source: Source) -> Iterator[AnnotatedImage]:
    """The pairs in ``source``: each file in a folder ``images`` with that of its name in ``masks`` beside it.

    Raises:
        ExchangeError: no such folders, or a damaged manifest. Faults of single pairs are added to ``source``.
    """
    images, masks = _in(source, IMAGES), _in(source, MASKS)
    if not images or not masks:
        raise ExchangeError("there are no folders images and masks with PNG files of the same names.")
    about = _manifest(source)
    keys = {(_set_of(name), key_of(name)) for name in images}
    mask_of: dict[tuple[str, str], list[str]] = {}
    for name in masks:
        key = find_key(PurePosixPath(name).name, {k for place, k in keys if place == _set_of(name)})
        if key is None:
            source.fault(name, "is a mask without an image of its name")
        else:
            mask_of.setdefault((_set_of(name), key), []).append(name)
    for name in images:
        with source.item(name):
            found = mask_of.get((_set_of(name), key_of(name)), [])
            if len(found) != 1:
                raise ExchangeError("has several masks; keep one" if found else "has no mask of its name")
            row = about.get(name, {})
            category = source.wanted([str(row.get("category") or LESION)])
            mask = source.mask(found[0])
            yield annotated(source, name, mask, source.picture(name), about=row, category=category)


def _in(source: Source, folders: tuple[str, ...]) -> list[str]:
    """Image files that lie in a folder of one of these names."""
    return [n for n in source.ending(*PHOTO_SUFFIXES) if PurePosixPath(n).parent.name.lower() in folders]


def _set_of(name: str) -> str:
    """The folder in which ``images`` and ``masks`` lie."""
    return str(PurePosixPath(name).parent.parent)


def _manifest(source: Source) -> dict[str, dict[str, Any]]:
    """What the manifests say of an image, by its path."""
    about: dict[str, dict[str, Any]] = {}
    for path in source.ending(FILE):
        with source.item(path):
            for row in source.json_lines(path):
                image = row.get("image")
                if not isinstance(image, str):
                    raise ExchangeError(f"has a line without an image ({shown_name(str(row))})")
                about[str(PurePosixPath(path).parent / "/".join(path_parts(image)))] = row
    source.check()
    return about
