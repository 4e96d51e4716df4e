"""Random variants of a drawn mask: the paper's "Random" masks. Free of torch: the page imports it.

The paper synthesises from training masks and from "random" ones, which are training masks after transformations. The authors name
them as Flip, Scale and ShiftScaleRotate with shift only, which are names of the library albumentations, and give no ranges
(https://github.com/Qiukunpeng/Siamese-Diffusion/issues/9; the released ``tutorial_dataset_sample.py`` only resizes). The ranges here
are therefore our own choice, wider than the library's defaults (scale 10 %, shift 6.25 %), with which most variants look the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import ndimage

from siamese.masks.core import check_mask
from siamese.masks.editing import EditError

SCALE = 0.25
"""The sides are multiplied by a factor between 1 - SCALE and 1 + SCALE."""
SHIFT = 0.125
"""The lesion moves by up to this share of the mask's width and height."""
ATTEMPTS = 200
"""Draws of scale and shift before the lesion is only mirrored."""


@dataclass(frozen=True)
class _Box:
    """The lesion's bounding box on one axis of a mask, and its centre."""

    first: int
    end: int
    centre: float
    side: int
    """Pixels of the mask on this axis."""

    def keeps_its_ends(self, factor: float, shift: float) -> bool:
        """Whether the changed box lies at the same ends of the frame as before, and its centre inside.

        So a lesion that the frame cuts off is still cut off there, and no straight edge comes into view; and no other lesion is cut.
        """
        # Pixel i covers i - 0.5 to i + 0.5; its centre stays at a whole number.
        first, end = (
            self.centre + shift + factor * (edge - self.centre) for edge in (self.first - 0.5, self.end - 0.5)
        )
        return (
            (first <= -0.5) == (self.first == 0)
            and (end >= self.side - 0.5) == (self.end == self.side)
            and 0 <= self.centre + shift <= self.side - 1
        )


def augment(mask: np.ndarray, seed: int) -> np.ndarray:
    """A random variant of ``mask``: mirrored (four ways, each as likely), scaled about its centroid, and moved.

    A lesion inside the frame stays inside. One that the frame cuts off stays cut off at the same sides, before mirroring. If no drawn
    scale and shift do this, or nothing of a tiny lesion would be left, the lesion is mirrored only; so the result is never empty.

    Args:
        mask: uint8 [H, W], lesion if > 127.
        seed: 0 or more; the same seed gives the same variant.

    Returns:
        uint8 [H, W] of 0 / 255.

    Raises:
        MaskError: not a mask (``siamese.masks.core.check_mask``).
        EditError: the mask is empty.
        ValueError: ``seed`` is negative.

    >>> import numpy as np
    >>> mask = np.zeros((64, 64), np.uint8)
    >>> mask[20:30, 10:40] = 255
    >>> variant = augment(mask, 1)
    >>> variant.shape, int(variant.max()), np.array_equal(variant, augment(mask, 1))
    ((64, 64), 255, True)
    """
    lesion = check_mask(mask) > 0
    if not lesion.any():
        raise EditError("There is no lesion to change: draw one first.")
    rng = np.random.default_rng(seed)
    lesion = lesion[:: rng.choice((1, -1)), :: rng.choice((1, -1))]
    boxes = [_box(lesion, axis) for axis in (0, 1)]
    for _ in range(ATTEMPTS):
        factor = rng.uniform(1 - SCALE, 1 + SCALE)
        shifts = [round(rng.uniform(-SHIFT, SHIFT) * box.side) for box in boxes]
        if all(box.keeps_its_ends(factor, shift) for box, shift in zip(boxes, shifts, strict=True)):
            changed = _warped(lesion, boxes, factor, shifts)
            lesion = changed if changed.any() else lesion
            break
    return np.where(lesion, 255, 0).astype(np.uint8)


def _box(lesion: np.ndarray, axis: int) -> _Box:
    counts = lesion.sum(1 - axis)
    places = np.flatnonzero(counts)
    centre = float((np.arange(len(counts)) * counts).sum() / counts.sum())
    return _Box(int(places[0]), int(places[-1]) + 1, centre, len(counts))


def _warped(lesion: np.ndarray, boxes: list[_Box], factor: float, shifts: list[int]) -> np.ndarray:
    """bool [H, W]: scaled about the centroid and moved in one step, so that nothing is cut off in between."""
    centre = np.array([box.centre for box in boxes])
    offset = centre - (centre + shifts) / factor
    return (
        ndimage.affine_transform(
            lesion.astype(np.uint8),
            np.full(2, 1 / factor),
            cast(Any, offset),  # an offset for each axis, which the stub lacks
            order=0,
            mode="nearest",  # beyond the frame a lesion goes on that the frame cuts off
        )
        > 0
    )
