"""How many mask groups and raters an interval of a wanted width needs.

Model: an answer y of rater r to group g is m + a_r + b_g + e_rg, with variances s_r^2 between raters, s_g^2 between mask groups and s_e^2
of the rest (the two-way random model; for answers of 0 or 1 these are the parts of their variance p (1 - p)). With R raters and G groups

    reach = t(0.975, f) * sqrt(s_r^2 / R + s_g^2 / G + s_e^2 / (R G)),    half width = reach / sqrt(1 + (reach / h)^2),

with h half of the figure's range: that is the half width of the score interval (see ``figures``) in the middle of the range, which stays in it.
f is Satterthwaite's number of degrees of freedom (see ``bootstrap``). Conditional on the raters, s_r^2 / R drops out and s_e^2 stays in,
with f = G - 1. For a difference of two methods, y is the difference of the two answers of a rater to a group.

The half width is the expected one: about half of all studies come out narrower.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import stdtrit

from siamese.study.statistics.bootstrap import LEVEL, MIN_GROUPS, MIN_RATERS
from siamese.study.statistics.table import StatisticsError

MAX_GROUPS = 100_000
MAX_RATERS = 1000


@dataclass(frozen=True)
class Components:
    """Variances of one answer, or of one difference of two answers."""

    raters: float
    groups: float
    rest: float
    half_range: float = math.inf
    """Half of the figure's range: 0.5 of a MOS, 1 of a difference; infinite of a figure without limits."""

    def __post_init__(self) -> None:
        values = (self.raters, self.groups, self.rest)
        if not all(math.isfinite(v) and v >= 0 for v in values) or sum(values) == 0:
            raise StatisticsError("variances are 0 or more and not all 0.")
        if not self.half_range > 0:
            raise StatisticsError("half of a figure's range is above 0.")


@dataclass(frozen=True)
class StudySize:
    """A number of raters with the number of mask groups that it needs."""

    raters: int
    groups: int | None
    """None: no number of groups is enough."""
    half_width: float | None
    """Expected half width with these numbers."""
    conditional: bool
    """The interval speaks for these raters only."""
    reason: str | None = None


def mos_components(mos: float, rater_share: float = 0.1, group_share: float = 0.05) -> Components:
    """Components of a MOS from an expected value.

    Args:
        mos: expected share judged real, above 0 and below 1; 0.5 is the most demanding.
        rater_share: share of the variance that lies between raters (their leaning to "real").
        group_share: share that lies between mask groups.

    Raises:
        StatisticsError: a value is out of its range.
    """
    check_shares(rater_share, group_share)
    if not 0 < mos < 1:
        raise StatisticsError("an expected MOS lies between 0 and 1; use 0.5 if nothing is known.")
    return split(mos * (1 - mos), rater_share, group_share, 0.5)


def difference_components(
    real: float, method: float, rater_share: float = 0.1, group_share: float = 0.05
) -> Components:
    """Components of real minus method from the two expected MOS, answers within a group being otherwise independent.

    Raises:
        StatisticsError: a value is out of its range.
    """
    check_shares(rater_share, group_share)
    if not (0 < real < 1 and 0 < method < 1):
        raise StatisticsError("an expected MOS lies between 0 and 1; use 0.5 if nothing is known.")
    return split(real * (1 - real) + method * (1 - method), rater_share, group_share, 1.0)


def check_shares(rater_share: float, group_share: float) -> None:
    """Raise a StatisticsError unless the shares are 0 or more and together at most 1."""
    if not (rater_share >= 0 and group_share >= 0 and rater_share + group_share <= 1):
        raise StatisticsError("the shares of raters and groups are 0 or more and together at most 1.")


def split(variance: float, rater_share: float, group_share: float, half_range: float) -> Components:
    """A variance in its parts."""
    return Components(
        variance * rater_share, variance * group_share, variance * (1 - rater_share - group_share), half_range
    )


def half_width(
    components: Components, groups: int, raters: int, level: float = LEVEL, conditional: bool | None = None
) -> float:
    """Expected half width of the interval.

    Args:
        groups: mask groups, 2 or more.
        raters: raters, 1 or more.
        conditional: the interval speaks for these raters only; None: with fewer than six of them.

    Raises:
        StatisticsError: too few groups or raters, or a level outside 0 to 1.
    """
    if conditional is None:
        conditional = raters < MIN_RATERS
    if groups < 2 or raters < (1 if conditional else 2) or not 0 < level < 1:
        raise StatisticsError(
            "a width needs two or more groups, one or more raters (two or more for other raters) and a level between 0 and 1."
        )
    rest = components.rest / (raters * groups)
    from_groups = components.groups / groups + rest
    if conditional:
        return in_range(float(stdtrit(groups - 1, (1 + level) / 2)) * math.sqrt(from_groups), components)
    from_raters = components.raters / raters + rest
    variance = from_raters + from_groups - rest
    freedom = variance**2 / (
        from_raters**2 / (raters - 1)
        + from_groups**2 / (groups - 1)
        + rest**2 / ((raters - 1) * (groups - 1))
    )
    return in_range(float(stdtrit(freedom, (1 + level) / 2)) * math.sqrt(variance), components)


def in_range(reach: float, components: Components) -> float:
    """Half width of the score interval in the middle of the range that has this reach without limits."""
    return reach / math.sqrt(1 + (reach / components.half_range) ** 2)


def groups_needed(
    components: Components, wanted: float, raters: int, level: float = LEVEL, conditional: bool | None = None
) -> StudySize:
    """Least number of mask groups with which ``raters`` raters reach an expected half width of ``wanted``.

    Raises:
        StatisticsError: ``wanted`` is not above 0, or a number is out of its range.
    """
    if not wanted > 0:
        raise StatisticsError("the wanted half width is above 0, such as 0.05.")
    if conditional is None:
        conditional = raters < MIN_RATERS

    def reached(groups: int) -> bool:
        return (
            half_width(components, groups=groups, raters=raters, level=level, conditional=conditional)
            <= wanted
        )

    if not reached(MAX_GROUPS):
        reason = f"{raters} raters do not reach a half width of {wanted:g} with any number of mask groups: "
        return StudySize(
            raters=raters,
            groups=None,
            half_width=None,
            conditional=conditional,
            reason=reason + ("the images differ too much." if conditional else "invite more raters."),
        )
    low, high = MIN_GROUPS - 1, MAX_GROUPS  # reached at high; below MIN_GROUPS there is no interval
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) else (middle, high)
    return StudySize(
        raters,
        high,
        half_width(components, groups=high, raters=raters, level=level, conditional=conditional),
        conditional,
    )


def plans(
    components: Components,
    wanted: float,
    raters: Sequence[int] = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30),
    level: float = LEVEL,
) -> tuple[StudySize, ...]:
    """The mask groups that each number of ``raters`` needs, for a study leader to choose from."""
    return tuple(groups_needed(components, wanted, r, level) for r in raters)
