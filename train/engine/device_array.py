"""Training data that lies on the device: batched choosing, flipping, turning and cropping there, with nothing read back.

A data set of N images at S x S pixels takes N S^2 bytes for each channel, as uint8: 2,872 images and masks take 0.75 GB at
256 pixels and 1.7 GB at 384. On a CPU an array is held as it is, without a copy. No batch is made on the host, so none has to
be fetched ahead: what is sent at each step are indices.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from train.engine.randomness import sent

FLIP = 4
"""Codes of the eight flips and turns: ``code % 4`` quarter turns, after a left-right flip if ``code`` >= 4."""


class DeviceArray:
    """An array that lies on the device from its first use on; ``dtype`` is what it is stored as there."""

    def __init__(self, array: np.ndarray, dtype: torch.dtype | None = None) -> None:
        self._tensor = torch.from_numpy(array)
        self._dtype = dtype or self._tensor.dtype

    def on(self, device: torch.device) -> Tensor:
        """The whole array."""
        if self._tensor.device != device or self._tensor.dtype != self._dtype:
            self._tensor = self._tensor.to(device, self._dtype)
        return self._tensor


def turned(x: Tensor, index: np.ndarray, codes: np.ndarray) -> Tensor:
    """Squares [B, S, S, ...] number ``index`` [B] of x [N, S, S, ...], each flipped and turned by its code [B] in 0..7."""
    out = x.new_empty((len(index), *x.shape[1:]))
    for code in np.unique(codes):  # which sample has which code the host knows
        rows = np.flatnonzero(codes == code)
        some = x.index_select(0, sent(index[rows], x.device))
        out.index_copy_(
            0, sent(rows, x.device), (some.flip(2) if code >= FLIP else some).rot90(int(code) % 4, (1, 2))
        )
    return out


def cropped(x: Tensor, top: np.ndarray, left: np.ndarray, side: int, *before: np.ndarray) -> Tensor:
    """Squares [B, side, side, ...] of x [..., H, W, ...] from pixels ``top`` and ``left`` [B] on.

    ``before`` are indices [B] into the axes of x before H.
    """
    place = [sent(i, x.device).reshape(-1, 1, 1) for i in before]
    steps = torch.arange(side, device=x.device)
    rows, columns = sent(top, x.device)[:, None] + steps, sent(left, x.device)[:, None] + steps
    return x[(*place, rows[:, :, None], columns[:, None, :])]


def images_of(x: Tensor) -> Tensor:
    """float32 [B, 3, H, W] in -1..1, channels last, of uint8 [B, H, W, 3]."""
    return x.permute(0, 3, 1, 2).float().div(127.5).sub(1)
