"""Smooth blobs in the shape of a lesion: the mask on a first visit."""

from __future__ import annotations

import numpy as np

FIRST_VISIT = 7
"""Seed of the mask on a first visit."""


def example_mask(seed: int, side: int) -> np.ndarray:
    """A star-shaped blob as mask uint8 [side, side] of 0 / 255, never touching the border.

    Its radius in polar coordinates is 1 + sum_k a_k cos(k angle + phase_k), k = 2..5, with amplitudes falling as 1 / k.
    """
    rng = np.random.default_rng(seed)
    orders = np.arange(2, 6)
    amplitudes = rng.uniform(0.15, 0.45, len(orders)) / orders
    phases = rng.uniform(0, 2 * np.pi, len(orders))
    # The centre is at most 0.08 and the radius at most 0.25 * (1 + 0.58) of the side: 0.5 + 0.08 + 0.395 < 1.
    centre = side * (0.5 + rng.uniform(-0.08, 0.08, 2))
    radius = side * rng.uniform(0.18, 0.25)
    rows, columns = np.mgrid[:side, :side]
    y, x = rows - centre[0], columns - centre[1]
    angle = np.arctan2(y, x)
    waves = sum(a * np.cos(k * angle + p) for a, k, p in zip(amplitudes, orders, phases, strict=True))
    return np.where(np.hypot(x, y) < radius * (1 + waves), 255, 0).astype(np.uint8)
