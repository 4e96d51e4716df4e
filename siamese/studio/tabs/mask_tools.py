"""The buttons that change the drawn mask as a whole: what each does to a mask uint8 [H, W] of 0 / 255."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from siamese.masks import editing

TOOLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Flip ↔": lambda m: editing.flip(m, "horizontal"),
    "Flip ↕": lambda m: editing.flip(m, "vertical"),
    "Turn ↺": lambda m: editing.rotate(m, -15),
    "Turn ↻": lambda m: editing.rotate(m, 15),
    "Move ←": lambda m: editing.shift(m, -0.05, 0),
    "Move →": lambda m: editing.shift(m, 0.05, 0),
    "Move ↑": lambda m: editing.shift(m, 0, -0.05),
    "Move ↓": lambda m: editing.shift(m, 0, 0.05),
    "Larger": lambda m: editing.scale(m, 1.15),
    "Smaller": lambda m: editing.scale(m, 1 / 1.15),
    "Grow": lambda m: editing.grow(m, max(1, max(m.shape) // 100)),
    "Shrink": lambda m: editing.shrink(m, max(1, max(m.shape) // 100)),
    "Smooth": lambda m: editing.smooth(m, max(2, max(m.shape) // 60)),
    "Fill holes": editing.fill_holes,
}
"""By the button's text. What a screen reader says in place of the arrows is in ``static/studio.js``."""
