"""Studies drawn from a known model, to see how often an interval covers the truth.

An answer is "real" if m + a_r + c_rm + b_g + d_gm + noise > 0: m of the method, a of the rater, c of rater and method, b of the mask group, d of
the image, noise standard normal. Truths follow from the normal distribution: for these raters, Phi((m + a + c) / sqrt(1 + var b + var d))
averaged over them; for all raters, Phi(m / sqrt(1 + all variances)).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri


@dataclass(frozen=True)
class Model:
    """Expected MOS of each method, the real images' first, and the standard deviations of the parts."""

    mos: tuple[float, ...]
    rater: float = 0.4
    rater_method: float = 0.25
    group: float = 0.4
    image: float = 0.5


@dataclass(frozen=True)
class Study:
    """Answers [R, G, M] of 1 (real) and 0, with the MOS [M] that is true of these raters and of all raters."""

    answers: np.ndarray
    of_these_raters: np.ndarray
    of_all_raters: np.ndarray


def draw(model: Model, raters: int, groups: int, generator: np.random.Generator) -> Study:
    """One study."""
    count = len(model.mos)
    between = model.rater**2 + model.rater_method**2
    items = 1 + model.group**2 + model.image**2
    centre = ndtri(np.array(model.mos)) * np.sqrt(items + between)
    lean = (
        centre
        + generator.normal(0, model.rater, (raters, 1))
        + generator.normal(0, model.rater_method, (raters, count))
    )
    image = generator.normal(0, model.group, (groups, 1)) + generator.normal(0, model.image, (groups, count))
    answers = (lean[:, None] + image + generator.normal(size=(raters, groups, count)) > 0).astype(np.int64)
    return Study(answers, ndtr(lean / np.sqrt(items)).mean(0), np.array(model.mos))


def accuracy(mos: np.ndarray) -> float:
    """Balanced accuracy that a true MOS [M] stands for, the real images' first."""
    return float((mos[0] + np.mean(1 - mos[1:])) / 2)
