"""Covering of burned-in text in a photograph. Free of torch."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from siamese.records.burned_in_text import MAX_SIDE, Box

MARGIN = 0.15
"""Of a box's height, that is covered around it: the detector's boxes may cut the ends of letters."""
MIN_MARGIN = 2
"""Pixels of an image in which text is looked for, which is reduced to ``MAX_SIDE``."""


def cover(photo: np.ndarray, boxes: Iterable[Box]) -> np.ndarray:
    """Copy of ``photo`` uint8 [H, W, 3] in which ``boxes`` and a margin around them are black.

    Nothing of what was there is left, as with a blur it would be, and nobody takes a black box for tissue. The file from which the
    photograph was read is not changed.

    Args:
        boxes: fractions 0..1 of the width and height, such as ``siamese.records.burned_in_text.find_text`` gives, or drawn by a
            person, in any order of their sides. What lies outside the image is cut off.

    Raises:
        ValueError: another shape or type, or a box whose sides are not finite numbers.
    """
    if photo.dtype != np.uint8 or photo.ndim != 3 or photo.shape[2] != 3:
        raise ValueError(f"a photograph must be uint8 [H, W, 3], not {photo.dtype} {list(photo.shape)}.")
    covered, (height, width) = photo.copy(), photo.shape[:2]
    least = MIN_MARGIN * max(1.0, max(height, width) / MAX_SIDE)
    for box in boxes:
        if not all(map(math.isfinite, box)):
            raise ValueError(f"a box must have four finite sides, not {tuple(box)}.")
        left, right = sorted((box[0], box[2]))
        top, bottom = sorted((box[1], box[3]))
        if right < 0 or bottom < 0 or left > 1 or top > 1:
            continue
        (left, right), (top, bottom) = np.clip((left, right), 0, 1), np.clip((top, bottom), 0, 1)
        margin = max(least, MARGIN * (bottom - top) * height)
        x0, y0 = max(0, math.floor(left * width - margin)), max(0, math.floor(top * height - margin))
        covered[y0 : math.ceil(bottom * height + margin), x0 : math.ceil(right * width + margin)] = 0
    return covered
