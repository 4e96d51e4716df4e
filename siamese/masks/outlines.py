"""Lesions of a mask as outlines and run lengths, and back. Free of torch.

Every way of writing is exact: ``rasterise`` of ``outer_ring``, and ``from_run_lengths`` of ``run_lengths``, give the lesion bit for bit.
Coordinates are pixel edges: the image spans 0..W and 0..H, and the centre of the first pixel is (0.5, 0.5). A pixel belongs to a
polygon if its centre lies inside, by the even-odd rule. COCO's own library (pycocotools) gives the same pixels for our outlines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

import cv2
import numpy as np
from scipy import ndimage

from siamese.masks.core import check_mask

MAX_CORNERS = 200_000
"""Corners of one polygon that are read; a stranger's file could otherwise keep the program busy for hours."""
MAX_COORDINATE = 1e6
_SHORT = 32
"""Rows that a short edge crosses at most."""
_TURNS = ((1, 0), (0, 1), (-1, 0), (0, -1))
"""Directions (dx, dy) along a pixel's edge, each a right turn from the one before on the screen."""


class OutlineError(ValueError):
    """A polygon or run lengths that do not describe a part of an image. The text says what is wrong."""


class Lesion(NamedTuple):
    """One connected part of a mask."""

    left: int
    top: int
    """Pixels from the mask's upper left corner to that of ``mask``."""
    mask: np.ndarray
    """uint8 [h, w] of 0 / 255: the part alone, cropped to its box."""

    @property
    def area(self) -> int:
        """Pixels of the lesion, without its holes."""
        return int(np.count_nonzero(self.mask))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Left, top, width and height in pixels."""
        height, width = self.mask.shape
        return self.left, self.top, width, height

    def has_hole(self) -> bool:
        """Whether background lies within it that no path over pixel sides connects with the outside."""
        return int(np.count_nonzero(np.asarray(ndimage.binary_fill_holes(self.mask)))) > self.area

    def on(self, shape: Sequence[int]) -> np.ndarray:
        """uint8 [H, W] of 0 / 255 of this shape with the lesion alone."""
        whole = np.zeros(tuple(shape), np.uint8)
        left, top, width, height = self.box
        whole[top : top + height, left : left + width] = self.mask
        return whole


def lesions(mask: np.ndarray) -> list[Lesion]:
    """The parts of ``mask`` uint8 [H, W], from top to bottom and left to right of their first pixels; none if it is empty.

    Pixels that touch at a corner belong to one lesion (8-neighbours).

    Raises:
        MaskError: see ``siamese.masks.core.check_mask``.
    """
    mask = check_mask(mask)
    _, labels, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    found = []
    for label, (left, top, width, height, _) in enumerate(boxes[1:].tolist(), start=1):
        part = labels[top : top + height, left : left + width] == label
        found.append(Lesion(left, top, np.where(part, 255, 0).astype(np.uint8)))
    return found


def outer_ring(lesion: Lesion) -> np.ndarray:
    """Corners int64 [N, 2] of (x, y) of the lesion's outer outline, along pixel edges, clockwise on the screen; holes are left out.

    Parts that touch at a corner are one ring, which passes through that corner twice.
    """
    inside = np.pad(lesion.mask > 0, 1)
    stride, pixels = (
        inside.shape[1],
        inside.tobytes(),
    )  # a look into bytes costs a fraction of one into an array
    x = start = int(np.argmax(inside[1])) - 1
    y = direction = 0
    corners = [(x, y)]
    while True:
        # The lesion is on the right of the path. Ahead lie a pixel on the left and one on the right.
        dx, dy = _TURNS[direction]
        x, y = x + dx, y + dy
        left = pixels[(y + (dy - dx + 1) // 2) * stride + x + (dx + dy + 1) // 2]
        right = pixels[(y + (dy + dx + 1) // 2) * stride + x + (dx - dy + 1) // 2]
        if left or not right:
            if (x, y) == (start, 0):
                break
            corners.append((x, y))
            direction = (direction + (-1 if left else 1)) % 4
    return np.array(corners) + (lesion.left, lesion.top)


def rasterise(rings: Iterable[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """uint8 [H, W] of 0 / 255: the pixels whose centres lie in at least one of the polygons.

    Args:
        rings: corners [N, 2] of (x, y); the last one is joined to the first. What lies outside the image is cut off.
        shape: height and width in pixels.

    Raises:
        OutlineError: fewer than three corners, too many, or coordinates that are not numbers of a sensible size.
    """
    height, width = shape
    found = np.zeros((height, width), bool)
    for ring in rings:
        ring = np.asarray(ring, np.float64)
        if ring.ndim != 2 or ring.shape[1] != 2 or not 3 <= len(ring) <= MAX_CORNERS:
            raise OutlineError(f"a polygon needs 3 to {MAX_CORNERS:,} corners of two numbers")
        if not (np.abs(ring) <= MAX_COORDINATE).all():  # false for NaN, too
            raise OutlineError("a polygon has coordinates far outside every image")
        # Within the polygon's own box: a photograph may show hundreds of small lesions.
        (left, top), (right, bottom) = (
            np.clip(edge, 0, (width, height)).astype(int)
            for edge in (np.floor(ring.min(0)), np.ceil(ring.max(0)))
        )
        if left < right and top < bottom:
            found[top:bottom, left:right] |= _inside(ring - (left, top), bottom - top, right - left)
    return np.where(found, 255, 0).astype(np.uint8)


def _inside(ring: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H, W]: the pixels whose centres lie inside by the even-odd rule."""
    crossings = np.zeros(height * (width + 1), np.uint8)
    begin, end = ring, np.roll(ring, -1, 0)
    # The rows whose centres an edge crosses: y0 <= row + 0.5 < y1.
    first = np.ceil(np.clip(np.minimum(begin[:, 1], end[:, 1]), 0, height) - 0.5).astype(int)
    last = np.ceil(np.clip(np.maximum(begin[:, 1], end[:, 1]), 0, height) - 0.5).astype(int)
    counts = last - first
    # Long edges one by one, as each crosses a row once; short ones together, as there may be many.
    short = np.flatnonzero((counts > 0) & (counts <= _SHORT))
    for some in [*np.array_split(short, len(short) // 10_000 + 1), *np.flatnonzero(counts > _SHORT)[:, None]]:
        edge = np.repeat(some, counts[some])
        rows = (
            np.arange(len(edge))
            - np.repeat(np.cumsum(counts[some]) - counts[some], counts[some])
            + first[edge]
        )
        (x0, y0), (x1, y1) = begin[edge].T, end[edge].T
        x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        where = rows * (width + 1) + np.ceil(np.clip(x, 0, width) - 0.5).astype(int)
        if len(some) == 1:
            crossings[where] ^= 1
        else:
            np.add.at(crossings, where, 1)
    odd = (crossings & 1).reshape(height, width + 1)[:, :width]
    return np.bitwise_xor.accumulate(odd, axis=1) > 0


def run_lengths(mask: np.ndarray, order: Literal["C", "F"] = "F") -> list[int]:
    """Lengths of the runs of uint8 [H, W] of 0 / 255, background first: column by column ("F", COCO) or row by row ("C", CVAT)."""
    flat = mask.ravel(order) > 0
    ends = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    counts = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return [0, *counts] if flat[0] else counts


def from_run_lengths(
    counts: Sequence[int], shape: Sequence[int], order: Literal["C", "F"] = "F"
) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 of what ``run_lengths`` gives.

    Raises:
        OutlineError: the runs are not whole numbers, negative, or not as long as the mask together.
    """
    height, width = shape
    runs = np.asarray(counts)
    if runs.ndim != 1 or runs.dtype.kind not in "iu" or runs.size > height * width + 1 or (runs < 0).any():
        raise OutlineError("run lengths must be a list of whole numbers, none of them negative")
    # As Python's integers: the sum of a stranger's numbers must not wrap.
    if sum(map(int, runs)) != height * width:
        raise OutlineError(f"the run lengths do not add up to {width} x {height} pixels")
    values = np.resize(np.array([0, 255], np.uint8), runs.size)
    return np.repeat(values, runs).reshape((height, width), order=order)


def from_packed_run_lengths(text: str, shape: Sequence[int]) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 of COCO's compressed run lengths, a text of the characters "0" to "o".

    Five bits a character, least significant first, bit 6 says that more follow; from the fourth number on, the difference from the
    one before last (``rleFrString`` in maskApi.c of cocoapi). Own code, so that nothing of a
    stranger's file reaches a decoder in C.

    Raises:
        OutlineError: another character, an unfinished number, or lengths that do not fit the shape.
    """
    counts: list[int] = []
    value = shift = 0
    for bits in (ord(character) - 48 for character in text):
        if not 0 <= bits < 64 or shift > 60:
            raise OutlineError("the compressed run lengths are damaged")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            if bits & 16:
                value -= 1 << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise OutlineError("the compressed run lengths are cut off")
    return from_run_lengths(counts, shape)
