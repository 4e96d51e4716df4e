"""A square of a photo around a lesion, and the way back: cutting, feathering, pasting. Free of torch.

All distances are shares of the square's side, so that they mean the same at the photo's size and at the model's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np

from siamese.masks.core import check_mask, resize_image

MARGIN = 0.4
"""On each side of the lesion's bounding box, in its larger side: so much of the surroundings the model sees."""
FREE = 3 / 64
"""How far from the lesion the surroundings may be synthesised too: the margin between lesion and photo needs room."""
FEATHER = (1 / 32, 1 / 8)
"""How far from the lesion the photo begins to show through, and from where on it is untouched."""
DETAIL = 1 / 16
"""How far from the lesion the detail that the autoencoder loses is the photo's in full; at the lesion it is none of it."""
LEAST = 0.5
"""The square's least side, in the model's: a smaller one would be more enlarged than photos of the training data are."""


@dataclass(frozen=True)
class Crop:
    """A square in a photo. If the photo is smaller, the square reaches beyond it and the photo is continued by mirroring."""

    top: int
    """Pixels; below 0 if the square reaches beyond the photo."""
    left: int
    side: int

    @classmethod
    def around(cls, mask: np.ndarray, size: int) -> Crop:
        """The square around the lesion of ``mask`` uint8 [H, W], for a model of ``size`` pixels, moved to lie inside the photo.

        It is smaller than ``MARGIN`` asks for if the photo is, and reaches beyond the photo only if the lesion and its feather do not
        fit into it otherwise.

        Raises:
            ValueError: the mask is empty.
        """
        rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
        if not rows.size:
            raise ValueError("there is no lesion to cut out.")
        box = max(int(places[-1] - places[0]) + 1 for places in (rows, columns))
        wanted = max(round(box * (1 + 2 * MARGIN)), round(size * LEAST))
        needed = math.ceil(box / (1 - 2 * FEATHER[1]))
        side = max(min(wanted, *mask.shape), needed)
        return cls(_start(rows, side, mask.shape[0]), _start(columns, side, mask.shape[1]), side)

    def cut_photo(self, photo: np.ndarray) -> np.ndarray:
        """uint8 [side, side, 3] of a photo uint8 [H, W, 3]; what lies beyond it is mirrored at its edge."""
        return self._cut(photo, "symmetric")

    def cut_mask(self, mask: np.ndarray) -> np.ndarray:
        """uint8 [side, side] of a mask uint8 [H, W]; what lies beyond it is background."""
        return self._cut(mask, "constant")

    def paste(self, photo: np.ndarray, square: np.ndarray) -> np.ndarray:
        """Copy of ``photo`` uint8 [H, W, 3] with ``square`` uint8 [side, side, 3] in the place that was cut out."""
        pasted = photo.copy()
        height, width = photo.shape[:2]
        top, left = max(self.top, 0), max(self.left, 0)
        bottom, right = min(self.top + self.side, height), min(self.left + self.side, width)
        pasted[top:bottom, left:right] = square[
            top - self.top : bottom - self.top, left - self.left : right - self.left
        ]
        return pasted

    def _cut(self, array: np.ndarray, mode: str) -> np.ndarray:
        height, width = array.shape[:2]
        beyond = [
            (max(0, -self.top), max(0, self.top + self.side - height)),
            (max(0, -self.left), max(0, self.left + self.side - width)),
        ]
        top, left = max(self.top, 0), max(self.left, 0)
        inside = array[top : self.top + self.side, left : self.left + self.side]
        padding = [*beyond, *[(0, 0)] * (array.ndim - 2)]
        return np.pad(inside, padding, mode=mode)  # pyright: ignore[reportArgumentType, reportCallIssue]  # one of two modes


def distance_from(lesion: np.ndarray) -> np.ndarray:
    """float32 [S, S]: how far each pixel is from the lesion of a mask uint8 [S, S], in shares of the side; 0 inside."""
    outside = (check_mask(lesion) == 0).astype(np.uint8)
    return cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE) / len(lesion)


def opacity(distance: np.ndarray) -> np.ndarray:
    """float32 [S, S] in 0..1 of ``distance_from``: 1 up to ``FEATHER``'s begin, exactly 0 from its end on."""
    begin, end = FEATHER
    return 1 - _smooth((distance - begin) / (end - begin))


def blend(photo: np.ndarray, lesion: np.ndarray, synthetic: np.ndarray, rebuilt: np.ndarray) -> np.ndarray:
    """The photo's square with the synthetic lesion in it.

    Two steps. The autoencoder loses detail and shifts colours a little; what it loses of the photo (photo - rebuilt) is given back to
    the synthetic surroundings, more of it the further they are from the lesion. Then the photo shows through by ``opacity``.

    Args:
        photo: uint8 [side, side, 3], as ``Crop.cut_photo`` returns it.
        lesion: uint8 [side, side] of 0 / 255, the drawn mask's part.
        synthetic: uint8 [S, S, 3], the decoded sample.
        rebuilt: uint8 [S, S, 3], the photo encoded and decoded.

    Returns:
        uint8 [side, side, 3]; equal to ``photo``, bit for bit, at ``FEATHER``'s end and beyond.
    """
    distance = distance_from(lesion)
    real = photo.astype(np.float32)
    detail = real - resize_image(rebuilt, len(photo))
    mixed = resize_image(synthetic, len(photo)) + _smooth(distance / DETAIL)[..., None] * detail
    share = opacity(distance)[..., None]
    blended = (real + share * (mixed - real)).round().clip(0, 255).astype(np.uint8)
    return np.where(share > 0, blended, photo)


def _smooth(x: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, and 3 x^2 - 2 x^3 between."""
    x = x.clip(0, 1)
    return x * x * (3 - 2 * x)


def _start(places: np.ndarray, side: int, length: int) -> int:
    """First pixel of a stretch of ``side`` around ``places``, moved inside 0..length, or centred on it if it is longer."""
    if side >= length:
        return (length - side) // 2
    centred = round((int(places[0]) + int(places[-1]) + 1 - side) / 2)
    return min(max(centred, 0), length - side)
