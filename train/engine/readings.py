"""Losses that stay on the device until they are read: reading waits for the device, so it is done every ``log_every`` updates."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class NotFinite(FloatingPointError):
    """A loss or a gradient was not finite; ``step`` is the first such update."""

    def __init__(self, what: str, value: float, step: int, advice: str) -> None:
        super().__init__(f"{what} is {value} at step {step}; {advice}.")
        self.step = step


class Readings:
    """The last update's figures, and those of the first update that was not finite.

    Args:
        skips: whether the optimiser itself skips an update whose gradient is not finite (fp16's scaler does).
    """

    def __init__(self, skips: bool = False) -> None:
        self.skips = skips
        self.figures: dict[str, Tensor] = {}
        self._watched: Tensor | None = None  # [step, total, norm]: the newest, until one is not finite

    def add(self, step: int, figures: dict[str, Tensor]) -> None:
        """Scalars on the device by name, ``total`` and ``gradient_norm`` among them. Reads nothing from the device."""
        self.figures = figures
        total, norm = figures["total"].float(), figures["gradient_norm"].float()
        newest = torch.stack(
            [torch.full_like(total, step), total, torch.zeros_like(norm) if self.skips else norm]
        )
        earlier = newest if self._watched is None else self._watched
        self._watched = torch.where(earlier.isfinite().all(), newest, earlier)

    def read(self) -> dict[str, float]:
        """The last update's figures.

        Raises:
            NotFinite: one of the updates since the last reading had a loss or a gradient that is not finite.
        """
        if self._watched is None:
            return {}
        values = torch.cat(
            [self._watched, *(v.float().reshape(1) for v in self.figures.values())]
        ).tolist()  # one transfer
        step, total, norm = values[:3]
        if not math.isfinite(total):
            raise NotFinite(
                "loss",
                total,
                int(step),
                "begin a new run with a lower --loop.learning-rate, or with a (lower) --loop.clip-norm",
            )
        if not math.isfinite(norm):
            raise NotFinite(
                "the gradient", norm, int(step), "begin a new run with a lower --loop.learning-rate"
            )
        return dict(zip(self.figures, values[3:], strict=True))
