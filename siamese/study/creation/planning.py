"""How many raters and mask groups a study needs, for the administrator's page and the command line alike."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import ndtri

from siamese.study.statistics.bootstrap import LEVEL
from siamese.study.statistics.sample_size import (
    Components,
    StudySize,
    difference_components,
    groups_needed,
    mos_components,
)
from siamese.study.statistics.table import StatisticsError

RATERS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 30)
MAX_RATERS = 1000


@dataclass(frozen=True)
class PlanRequest:
    """What a study should show. MOS is the share of a method's images that raters judge real, between 0 and 1.

    With ``real``, the figure is the difference of two MOS, otherwise it is the MOS of one method.
    """

    method: float = 0.5
    """Expected MOS of the synthetic method; 0.5 is the most demanding."""
    real: float | None = None
    """Expected MOS of the real images."""
    half_width: float | None = None
    """Wanted half width of the 95 % interval, such as 0.1. Not needed if ``real`` is given: ``power`` then gives it."""
    power: float = 0.8
    """Probability with which the interval of the difference excludes 0 if the expected values are the true ones."""
    raters: tuple[int, ...] = RATERS
    """Numbers of raters to plan for, each 1 or more."""
    rater_share: float = 0.1
    """Share of the variance that lies between raters; a pilot study tells."""
    group_share: float = 0.05
    """Share of the variance that lies between mask groups."""


@dataclass(frozen=True)
class StudyPlan:
    """The mask groups that each number of raters needs."""

    figure: str
    """What the interval is of, in words."""
    half_width: float
    """The wanted half width."""
    plans: tuple[StudySize, ...]

    def rows(self) -> list[tuple[str, str, str, str]]:
        """Raters, mask groups, expected half width, and whom the interval speaks for; texts for a table."""
        return [
            (
                str(plan.raters),
                "no number is enough with so few raters" if plan.groups is None else str(plan.groups),
                "" if plan.half_width is None else f"{plan.half_width:.3f}",
                "these raters only" if plan.conditional else "other raters, too",
            )
            for plan in self.plans
        ]


HEADINGS = ("Raters", "Mask groups", "Expected half width", "The interval speaks for")


def make_plan(request: PlanRequest) -> StudyPlan:
    """The mask groups that each number of raters needs for the wanted interval.

    Raises:
        StatisticsError: a value is out of its range, or neither a width nor two MOS that differ are given.
    """
    if not request.raters or not all(1 <= count <= MAX_RATERS for count in request.raters):
        raise StatisticsError(f"numbers of raters are whole numbers from 1 to {MAX_RATERS}.")
    wanted, components = wanted_half_width(request), components_of(request)
    figure = f"a method's MOS of about {request.method:g}"
    if request.real is not None:
        figure = f"the difference between a MOS of about {request.real:g} and one of about {request.method:g}"
    plans = tuple(groups_needed(components, wanted, count) for count in sorted(set(request.raters)))
    return StudyPlan(figure, wanted, plans)


def components_of(request: PlanRequest) -> Components:
    """The variances of one answer, or of the difference of two."""
    shares = {"rater_share": request.rater_share, "group_share": request.group_share}
    if request.real is None:
        return mos_components(request.method, **shares)
    return difference_components(request.real, request.method, **shares)


def wanted_half_width(request: PlanRequest) -> float:
    """The half width that is asked for, or the one that finds the difference with the wanted power.

    An interval of half width w = z(0.975) s excludes 0 with the probability ``power`` if the true difference is
    (z(0.975) + z(power)) s, by the normal approximation; so w = difference * z(0.975) / (z(0.975) + z(power)).

    Raises:
        StatisticsError: see ``make_plan``.
    """
    if request.half_width is not None:
        return request.half_width
    if request.real is None:
        raise StatisticsError(
            "a plan needs the half width that the interval should have, such as 0.1, or the expected MOS of the real images, "
            "from which the difference to find follows."
        )
    if not 0.5 <= request.power < 1:
        raise StatisticsError("the power is from 0.5 to below 1, such as 0.8.")
    difference = abs(request.real - request.method)
    if difference == 0:
        raise StatisticsError(
            "the two expected MOS are equal, and no study can find that difference; give a half width instead."
        )
    at_level, at_power = ndtri((1 + LEVEL) / 2), ndtri(request.power)
    return float(difference * at_level / (at_level + at_power))
