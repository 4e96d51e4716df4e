"""The form in which a drawn mask travels between page and server: eight pixels to a byte. The browser's half is ``static/canvas/mask.js``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

import numpy as np

from siamese.masks.core import MaskError, check_mask

MAX_SIDE = 1024
"""Longest side in pixels of a drawing."""


def pack(mask: np.ndarray) -> dict[str, Any]:
    """``width``, ``height`` and ``bits`` of a mask uint8 [H, W]: its pixels row by row, 1 at the lesion, the first of eight in the
    highest bit, the last byte filled with 0; as base64. Raises MaskError as ``check_mask``."""
    lesion = check_mask(mask) > 0
    bits = base64.b64encode(np.packbits(lesion).tobytes()).decode("ascii")
    return {"width": lesion.shape[1], "height": lesion.shape[0], "bits": bits}


def unpack(value: Mapping[str, Any]) -> np.ndarray:
    """Mask uint8 [H, W] of 0 / 255 from what ``pack`` returns; it may be empty.

    Raises:
        MaskError: sides or bits are missing or of the wrong kind, a side is not 1..``MAX_SIDE``, or there are not as many bits as pixels.
    """
    width, height, bits = (value.get(name) for name in ("width", "height", "bits"))
    if not all(type(side) is int and 1 <= side <= MAX_SIDE for side in (width, height)):
        raise MaskError(f"a drawing has sides of 1 to {MAX_SIDE} pixels.")
    assert isinstance(width, int) and isinstance(height, int)  # noqa: PT018 - the line above; for the type checker
    if not isinstance(bits, str):
        raise MaskError("a drawing's bits are base64.")
    try:
        data = base64.b64decode(bits, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MaskError("a drawing's bits are base64.") from error
    if len(data) != (width * height + 7) // 8:
        raise MaskError(
            f"a drawing of {width} x {height} pixels has {(width * height + 7) // 8} bytes, not {len(data)}."
        )
    lesion = np.unpackbits(np.frombuffer(data, np.uint8), count=width * height).reshape(height, width)
    return lesion * np.uint8(255)
