"""Lesion masks as arrays: checking, resizing, digests, outlines. Free of torch, so that the page starts fast.

A mask is uint8 [H, W] of 0 (background) and 255 (lesion) everywhere in this project. ``siamese.masks.reading`` makes it from a file.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from PIL import Image

THRESHOLD = 127
"""A value above is lesion."""


class MaskError(ValueError):
    """An array is not a mask, or not one that can be used. The text says what is wrong and what to do."""


class VanishedLesionError(MaskError):
    """Nothing of the lesion is left at the model's size."""


def check_mask(mask: np.ndarray, batched: bool = False) -> np.ndarray:
    """Copy of ``mask`` as 0 / 255: lesion if the value is > 127. It may be empty.

    Args:
        mask: uint8 [H, W], or [..., H, W] if ``batched``.

    Raises:
        MaskError: another type or shape, no pixels, or only values of 1 to 127 on 0, such as a label map of 0 and 1.
    """
    if not isinstance(mask, np.ndarray):
        raise MaskError(f"a mask must be uint8 [H, W], not {type(mask).__name__}.")
    if mask.dtype != np.uint8 or mask.size == 0 or not (mask.ndim == 2 or (batched and mask.ndim > 2)):
        wanted = "[..., H, W]" if batched else "[H, W]"
        raise MaskError(
            f"a mask must be uint8 {wanted} with at least one pixel, not {mask.dtype} {list(mask.shape)}."
        )
    if 0 < (highest := int(mask.max())) <= THRESHOLD:
        raise MaskError(
            f"a mask must have values above {THRESHOLD} at the lesion; the largest here is {highest}. Store it as 0 and 255."
        )
    return np.where(mask > THRESHOLD, 255, 0).astype(np.uint8)


def fit_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """The mask as a model of this size sees it: thresholded at its own size, then resized nearest; uint8 [size, size] of 0 / 255.

    Raises:
        MaskError: see ``check_mask``; or the mask is empty.
        VanishedLesionError: it is empty at ``size`` alone.
    """
    whole = check_mask(mask)
    if not whole.any():
        raise MaskError("the mask is empty: draw or mark a lesion.")
    fitted = resize_mask(whole, size)
    if not fitted.any():
        raise VanishedLesionError(
            f"the lesion vanishes at the model's {size} x {size} pixels; draw a larger lesion, or crop the image round it."
        )
    return fitted


def binarise(mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 from grey values uint8 [H, W]: lesion if the value is > 127."""
    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions [H, W], not shape {mask.shape}.")
    return np.where(mask > THRESHOLD, 255, 0).astype(np.uint8)


def mask_digest(mask: np.ndarray | None) -> str | None:
    """SHA-256, in hexadecimal, that two masks share if they are the same to the pixel; None without a mask."""
    return None if mask is None else hashlib.sha256(repr(mask.shape).encode() + mask.tobytes()).hexdigest()


def resize_mask(mask: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Nearest-neighbour resize to ``size`` (a side, or height and width); the aspect is not kept."""
    height, width = (size, size) if isinstance(size, int) else size
    return np.array(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def resize_image(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Bilinear antialiased resize of uint8 [H, W, 3] to ``size``; the aspect is not kept."""
    height, width = (size, size) if isinstance(size, int) else size
    return np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def outline(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int] = (57, 255, 120)) -> np.ndarray:
    """Copy of uint8 [H, W, 3] ``image`` with the contour of ``mask`` (same size) drawn two pixels wide at 512 px."""
    if image.shape[:2] != mask.shape:
        raise ValueError(f"image {image.shape[:2]} and mask {mask.shape} differ in size.")
    contours, _ = cv2.findContours(mask, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(
        image.copy(), contours, -1, colour, max(1, round(min(mask.shape) / 256)), cv2.LINE_AA
    )
