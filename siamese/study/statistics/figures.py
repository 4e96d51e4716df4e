"""A figure with its interval, or the reason why it has none."""
from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import stdtrit

CONDITIONAL = "conditional on these raters"
"""The interval holds for these raters judging other images; it says nothing of other raters."""
OVER_RATERS = "over mask groups and raters"
"""The interval holds for other images and other raters of the same kind."""


@dataclass(frozen=True)
class Figure:
    """An estimate, with a confidence interval where there is one. A missing number is None, never NaN."""

    value: float | None
    low: float | None = None
    high: float | None = None
    basis: str | None = None
    """Whom the interval speaks for: ``CONDITIONAL`` or ``OVER_RATERS``; None without an interval."""
    reason: str | None = None
    """Why the value, or its interval, is missing."""


@dataclass(frozen=True)
class Quantity:
    """What is known of a figure before it is computed."""

    name: str
    missing: str
    """Why it is missing where it cannot be computed, and what to do."""
    low: float = -math.inf
    """Least possible value."""
    high: float = math.inf
    """Greatest possible value."""
    average: bool = False
    """The figure is linear in averages of single answers, so that a value at its limit has an exact bound."""


def missing(reason: str) -> Figure:
    """A figure that cannot be computed."""
    return Figure(None, reason=reason)


def interval(value: float, variance: float, freedom: float, level: float, quantity: Quantity) -> tuple[float, float]:
    """Two-sided interval from an estimate's variance by Student's t, inside the quantity's limits.

    A figure with two limits gets Wilson's score interval (1927, Journal of the American Statistical Association 22) of its place between the
    limits, with the number of answers replaced by the effective number that its variance implies, as for proportions of complex
    surveys (Kott & Carr 1997, Journal of Official Statistics 13). Near a limit the sampling distribution is skewed: there a symmetric
    interval covers too little and leaves the range, and one on the logit scale covers too much. A figure with an upper limit only is
    treated on the scale -log(high - x) by the delta method.

    Args:
        value: the estimate, strictly between its limits.
        variance: its variance, above 0.
        freedom: degrees of freedom, above 0.
        level: nominal coverage, such as 0.95.

    Returns:
        Lower and upper end.
    """
    reach = stdtrit(freedom, (1 + level) / 2) * math.sqrt(variance)
    if math.isfinite(quantity.low) and math.isfinite(quantity.high):
        width = quantity.high - quantity.low
        share = (value - quantity.low) / width
        pull = (reach / width) ** 2 / (share * (1 - share))
        centre = (share + pull / 2) / (1 + pull)
        half = math.sqrt((reach / width) ** 2 + pull ** 2 / 4) / (1 + pull)
        low, high = quantity.low + width * (centre - half), quantity.low + width * (centre + half)
    elif math.isfinite(quantity.high):
        room = quantity.high - value
        low, high = quantity.high - room * math.exp(reach / room), quantity.high - room * math.exp(-reach / room)
    else:
        low, high = value - reach, value + reach
    return float(low), float(high)


def limit_interval(value: float, units: int, level: float, quantity: Quantity) -> tuple[float, float]:
    """Exact interval of an average that sits at one of its limits, where resampling shows no variation.

    If ``units`` independent parts were all at the limit, the true average is no further from it than the Clopper-Pearson bound
    1 - ((1 - level) / 2)^(1 / units) of the range (Clopper & Pearson 1934): the chance that one part is off the limit is at least the
    average distance. Conservative.
    """
    away = (quantity.high - quantity.low) * (1 - ((1 - level) / 2) ** (1 / units))
    return (value, value + away) if value == quantity.low else (value - away, value)
