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
    """An estimate, with its confidence interval, if it has one. A missing number is None, never NaN."""

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
    """Why it is missing if it cannot be computed, and what to do."""
    low: float = -math.inf
    """Least possible value; both limits are finite, or neither is."""
    high: float = math.inf
    """Greatest possible value."""
    average: bool = False
    """The figure is linear in averages of single answers, so that a value at its limit has an exact bound."""
    comparisons: float = math.inf
    """Independent comparisons that the figure can rest on at most: of a coefficient of agreement, each answer to an item after its first."""
    min_variance: float = 0.0
    """Variance that the figure has at least, if resampling is known to show too little."""

    def __post_init__(self) -> None:
        if math.isfinite(self.low) != math.isfinite(self.high):
            raise ValueError(
                f"{self.name} needs both limits or none: an interval that knows one limit only leaves the range at the other end."
            )


def missing(reason: str) -> Figure:
    """A figure that cannot be computed."""
    return Figure(None, reason=reason)


def interval(
    value: float, variance: float, freedom: float, level: float, quantity: Quantity
) -> tuple[float, float]:
    """Two-sided interval from an estimate's variance by Student's t, inside the quantity's limits.

    A figure with two limits gets Wilson's score interval (1927, Journal of the American Statistical Association 22) of its place between the
    limits, with the number of answers replaced by the effective number that its variance implies, as for proportions of complex
    surveys (Kott & Carr 1997, Journal of Official Statistics 13). Near a limit the sampling distribution is skewed: there a symmetric
    interval covers too little and leaves the range, and one on the logit scale covers too much.

    The effective number is at most ``quantity.comparisons``, as it is held to the actual number in such surveys (Parker et al. 2017,
    National Center for Health Statistics Data Presentation Standards for Proportions, Vital and Health Statistics 2 (175)). Without that,
    few items with a rare answer give a coefficient of agreement just below 0 with next to no variation: intervals of 95 % then covered
    73 to 88 % (Cohen's kappa of 12 to 24 items, a quarter of the answers or fewer the rare one). With it, they cover 91 % or more.

    Args:
        value: the estimate, strictly between its limits.
        variance: its variance, above 0.
        freedom: degrees of freedom, above 0.
        level: nominal coverage, such as 0.95.

    Returns:
        Lower and upper end.
    """
    quantile = stdtrit(freedom, (1 + level) / 2)
    if math.isfinite(quantity.low):
        width = quantity.high - quantity.low
        share = (value - quantity.low) / width
        reach = quantile * math.sqrt(max(variance, width**2 * share * (1 - share) / quantity.comparisons))
        pull = (reach / width) ** 2 / (share * (1 - share))
        centre = (share + pull / 2) / (1 + pull)
        half = math.sqrt((reach / width) ** 2 + pull**2 / 4) / (1 + pull)
        # the ends lie in the range whatever the variance; max and min take off what rounding adds
        low, high = (
            max(quantity.low, quantity.low + width * (centre - half)),
            min(quantity.high, quantity.low + width * (centre + half)),
        )
    else:
        reach = quantile * math.sqrt(variance)
        low, high = value - reach, value + reach
    return float(low), float(high)


def limit_interval(value: float, units: int, level: float, quantity: Quantity) -> tuple[float, float]:
    """Exact interval of an average that sits at one of its limits: resampling shows no variation there.

    If ``units`` independent parts were all at the limit, the true average is no further from it than the Clopper-Pearson bound
    1 - ((1 - level) / 2)^(1 / units) of the range (Clopper & Pearson 1934): the chance that one part is off the limit is at least the
    average distance. Conservative.
    """
    away = (quantity.high - quantity.low) * (1 - ((1 - level) / 2) ** (1 / units))
    return (value, value + away) if value == quantity.low else (value - away, value)
