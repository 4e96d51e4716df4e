"""Lesion masks as arrays: thresholding, resizing, outlines. Free of torch, so that the page comes up fast.

A mask is uint8 [H, W] of 0 (background) and 255 (lesion) everywhere in this project.
"""

from __future__ import annotations

import hashlib

import cv2
import numpy as np
from PIL import Image

THRESHOLD = 127


def binarise(mask: np.ndarray) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 from any uint8 [H, W]: lesion where the value is > 127."""
    if mask.ndim != 2:
        raise ValueError(f"a mask has two dimensions [H, W], not shape {mask.shape}.")
    return np.where(mask > THRESHOLD, 255, 0).astype(np.uint8)


def mask_digest(mask: np.ndarray | None) -> str | None:
    """A short text that two masks share where they are the same to the pixel; None without a mask."""
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
