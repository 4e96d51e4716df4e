"""Edits of a lesion mask: flip, shift, scale, rotate, grow, shrink, smooth, fill holes, keep the largest. Free of torch: the page imports it.

Every function takes a mask uint8 [H, W] (lesion if > 127) and returns a new one of 0 / 255 of the same shape; the input is never
changed. What leaves the frame is lost. Every function raises EditError if there is nothing to edit or nothing would be left,
MaskError if the array is not a mask (``siamese.masks.core.check_mask``), and ValueError if a number has no meaning.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
from scipy import ndimage

from siamese.masks.core import check_mask

Axis = Literal["horizontal", "vertical"]


class EditError(ValueError):
    """There is no lesion to edit, or nothing would be left of it. The message says what to do."""


def flip(mask: np.ndarray, axis: Axis) -> np.ndarray:
    """Mirror image: "horizontal" exchanges left and right, "vertical" top and bottom."""
    lesion = _lesion(mask)
    if axis not in ("horizontal", "vertical"):
        raise ValueError(f'the axis is "horizontal" or "vertical", not {axis!r}.')
    return _mask(lesion[:, ::-1] if axis == "horizontal" else lesion[::-1])


def shift(mask: np.ndarray, dx: float, dy: float) -> np.ndarray:
    """Move by whole pixels: ``dx`` is a fraction of the width to the right, ``dy`` one of the height downwards, both rounded to a pixel."""
    lesion = _lesion(mask)
    _finite(dx=dx, dy=dy)
    moved = np.zeros_like(lesion)
    (height, width) = lesion.shape
    # Beyond a whole side nothing is left, however far it is.
    down, right = (
        max(-side, min(side, round(fraction * side))) for fraction, side in ((dy, height), (dx, width))
    )
    source = lesion[max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)]
    moved[max(0, down) : max(0, down) + source.shape[0], max(0, right) : max(0, right) + source.shape[1]] = (
        source
    )
    return _mask(moved, "it would lie outside the image; move it less far")


def scale(mask: np.ndarray, factor: float) -> np.ndarray:
    """Enlarge (``factor`` > 1) or reduce (0 < ``factor`` < 1) both sides about the lesion's centroid; the area changes by factor^2."""
    lesion = _lesion(mask)
    _finite(factor=factor)
    if factor <= 0:
        raise ValueError(f"the factor must be greater than 0, not {factor}.")
    return _mask(
        _about_centroid(lesion, np.eye(2) / factor),
        "at this size it would vanish or leave the image; change its size less",
    )


def rotate(mask: np.ndarray, degrees: float) -> np.ndarray:
    """Turn clockwise on the screen about the lesion's centroid; a whole turn changes nothing."""
    lesion = _lesion(mask)
    _finite(degrees=degrees)
    angle = math.radians(degrees % 360)
    # Rows run downwards: this is the inverse of a clockwise turn, from (row, column) of the result to the source.
    inverse = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    return _mask(_about_centroid(lesion, inverse), "it would lie outside the image; turn it by another angle")


def grow(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Dilation by a disc of radius ``pixels``: everything at most that far from the lesion joins it."""
    lesion = _lesion(mask)
    _whole(pixels=pixels)
    return _mask(_distances(~lesion) <= pixels)


def shrink(mask: np.ndarray, pixels: int) -> np.ndarray:
    """Erosion by a disc of radius ``pixels``: everything at most that far from the background leaves the lesion.

    Outside the frame counts as lesion: at the side on which the image cuts a lesion off, there is no margin to move.
    """
    lesion = _lesion(mask)
    _whole(pixels=pixels)
    if lesion.all():
        return _mask(lesion)  # no background: the distance to it is not defined
    return _mask(_distances(lesion) > pixels, "shrink it by fewer pixels")


def smooth(mask: np.ndarray, radius: float) -> np.ndarray:
    """Round off a ragged margin: Gaussian blur of standard deviation ``radius`` pixels, cut at the level that keeps the area.

    The area stays the same up to pixels of exactly the same level. Details finer than the radius vanish, holes and
    separate small parts among them. The image is mirrored at the frame, so that a lesion cut off there stays cut off.
    """
    lesion = _lesion(mask)
    _finite(radius=radius)
    if radius < 0:
        raise ValueError(f"the radius must be 0 or greater, not {radius}.")
    if radius == 0:
        return _mask(lesion)
    level = ndimage.gaussian_filter(lesion.astype(np.float64), radius, mode="reflect", truncate=3)
    level = np.round(level, 9)  # so that pixels of the same level stay so, in whatever order a blur adds
    count = int(lesion.sum())
    return _mask(level >= np.partition(level.ravel(), -count)[-count])


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Background that the lesion encloses joins it.

    A hole is background that no path over pixel sides (4-neighbours) connects with the frame. So pixels of the lesion that touch at a
    corner enclose, as in COCO's polygons, which run through such a corner; ImageJ, MATLAB and SciPy fill by the same rule. A gap of
    one pixel in the ring opens it.
    """
    return _mask(np.asarray(ndimage.binary_fill_holes(_lesion(mask))))


def keep_largest(mask: np.ndarray) -> np.ndarray:
    """The part with the most pixels, connected over sides and corners; the first from the top if several have as many."""
    labels, _ = cast("tuple[np.ndarray, int]", ndimage.label(_lesion(mask), np.ones((3, 3), bool)))
    return _mask(labels == 1 + np.argmax(np.bincount(labels.ravel())[1:]))


def _distances(inside: np.ndarray) -> np.ndarray:
    """float64 [H, W]: how far each pixel of a bool [H, W] is from the nearest one outside."""
    return np.asarray(ndimage.distance_transform_edt(inside))


def _lesion(mask: np.ndarray) -> np.ndarray:
    """bool [H, W] of a mask that has a lesion."""
    lesion = check_mask(mask) > 0
    if not lesion.any():
        raise EditError("There is no lesion to edit: draw one first.")
    return lesion


def _mask(lesion: np.ndarray, advice: str = "do less of it") -> np.ndarray:
    """uint8 [H, W] of 0 / 255 from bool; ``advice`` ends the message if nothing is left."""
    if not lesion.any():
        raise EditError(f"Nothing would be left of the lesion: {advice}.")
    return np.where(lesion, 255, 0).astype(np.uint8)


def _about_centroid(lesion: np.ndarray, inverse: np.ndarray) -> np.ndarray:
    """Nearest-neighbour warp; ``inverse`` [2, 2] maps (row, column) of the result about the centroid to the source's."""
    rows, columns = np.nonzero(lesion)
    centroid = np.array([rows.mean(), columns.mean()])
    # "grid-constant": the outermost pixels are whole pixels, not half ones.
    return (
        ndimage.affine_transform(
            lesion.astype(np.uint8),
            inverse,
            cast(Any, centroid - inverse @ centroid),  # an offset for each axis, which the stub lacks
            order=0,
            mode="grid-constant",
        )
        > 0
    )


def _finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise ValueError(f"{name} must be a finite number, not {value}.")


def _whole(**values: int) -> None:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 0:
            raise ValueError(f"{name} must be a whole number of pixels, 0 or more, not {value!r}.")
