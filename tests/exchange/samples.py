"""Annotated images with everything that a format may lose: holes, parts that touch at a corner, single pixels, odd sizes and names."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path

import numpy as np

from siamese.exchange.item import AnnotatedImage

RECIPE = '{"prompt": "an image of a <polyp> & more", "seed": 7}\nGrüße "quoted" \\ end'


def mask_of(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (40, 57)) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 with 255 in ``boxes`` (top, bottom, left, right); a later box within one is a hole."""
    mask = np.zeros(size, np.uint8)
    for top, bottom, left, right in boxes:
        mask[top:bottom, left:right] = 255 - mask[top, left]
    return mask


def photo(seed: int, size: tuple[int, int] = (40, 57)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def disc() -> np.ndarray:
    y, x = np.mgrid[:40, :57]
    return np.where((x - 30) ** 2 + (y - 19) ** 2 < 120, 255, 0).astype(np.uint8)


TWO = mask_of((3, 12, 4, 20), (20, 37, 30, 57))
HOLED = mask_of((5, 30, 5, 50), (10, 20, 10, 20), (2, 3, 2, 3))
DIAGONAL = np.eye(40, 57, dtype=np.uint8) * 255
NOISE = np.where(np.random.default_rng(1).random((23, 31)) < 0.5, 255, 0).astype(np.uint8)

ITEMS = [
    AnnotatedImage(photo(0), TWO, "two", "polyp"),
    AnnotatedImage(photo(1), HOLED, "holed", "polyp", synthetic=True, recipe=RECIPE),
    AnnotatedImage(photo(2), DIAGONAL, "diagonal_seg", "polyp", synthetic=True),
    AnnotatedImage(photo(3, (23, 31)), NOISE, "test_1.b", "skin lesion", synthetic=True, recipe="x" * 10_000),
    AnnotatedImage(photo(4), np.zeros((40, 57), np.uint8), "empty_é", "polyp"),
    AnnotatedImage(photo(5), disc(), "disc", "polyp"),
    AnnotatedImage(photo(6, (1, 1)), np.full((1, 1), 255, np.uint8), "full", "polyp"),
]


def equal(found: Iterable[AnnotatedImage], expected: Iterable[AnnotatedImage]) -> None:
    """Assert that all fields are the same, whatever the order of the images."""
    by_name = [{item.name: item for item in items} for items in (found, expected)]
    assert by_name[0].keys() == by_name[1].keys()
    for name, item in by_name[0].items():
        other = by_name[1][name]
        np.testing.assert_array_equal(item.image, other.image, err_msg=name)
        np.testing.assert_array_equal(item.mask, other.mask, err_msg=name)
        for field in fields(item):
            if field.name not in ("image", "mask"):
                assert getattr(item, field.name) == getattr(other, field.name), (name, field.name)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
