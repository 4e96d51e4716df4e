"""Results of the pairwise protocol: how often each method passes for the real image, Bradley-Terry strengths and agreement."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese.study.statistics.agreement import NOMINAL, WithinRater, alpha_figure, matrix_of, within
from siamese.study.statistics.answer_tables import Pairs
from siamese.study.statistics.bootstrap import MIN_RATERS, bootstrap, cell_sums
from siamese.study.statistics.detection import ratio
from siamese.study.statistics.figures import CONDITIONAL, OVER_RATERS, Figure, Quantity
from siamese.study.statistics.luce import choices_from_pairs
from siamese.study.statistics.ranking import strengths
from siamese.study.statistics.realism import ResponseTimes, response_times
from siamese.study.statistics.table import REAL, Exclusion, codes


@dataclass(frozen=True)
class MethodPairs:
    """A method's figures over all raters."""

    method: str
    pairs: int
    chosen: Figure
    """Share of its pairs in which it was chosen as real."""
    beats_real: Figure | None
    """Share of its pairs with the real image in which it was chosen; 0.5 cannot be told from real. None for the real images."""
    strength: Figure
    """Bradley-Terry log strength; the methods' mean is 0."""


@dataclass(frozen=True)
class RaterPairs:
    """A rater's figures; intervals are over mask groups."""

    rater: str
    pairs: int
    found_real: Figure
    """Share of pairs with a real image in which it was chosen."""
    times: ResponseTimes


@dataclass(frozen=True)
class PairSummary:
    """Everything that the pairwise protocol yields."""

    pairs: int
    raters: tuple[RaterPairs, ...]
    methods: tuple[MethodPairs, ...]
    found_real: Figure
    """Share of pairs with a real image in which it was chosen; 0.5 is chance."""
    alpha: Figure
    """Krippendorff's alpha between raters, nominal."""
    within_rater: tuple[WithinRater, ...]
    groups: int
    basis: str
    exclusions: tuple[Exclusion, ...]


def share_statistic(count: int):
    """Statistic of ``count`` shares from numerators [F] and denominators [F]."""

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = (totals * weights[..., None]).sum(-2)
        return ratio(total[..., :count], total[..., count:])

    return statistic


def summarise_pairs(pairs: Pairs, **settings: Any) -> PairSummary:
    """All figures of the pairwise protocol, of the raters who have judged a pair with each method. Every pair weighs the same.

    Args:
        pairs: all answers, repeats and training items included: they are set apart here.
        settings: ``seed``, ``resamples``, ``level`` and ``conditional`` of ``bootstrap``.

    Raises:
        StatisticsError: no answers to analyse.
    """
    table = pairs.counted().of_every_method()
    pairs = pairs.of_raters(table.raters)
    raters, groups, methods = table.raters, table.groups, table.methods
    rater, group = codes(table.rater, raters), codes(table.group, groups)
    shape, size = (len(raters), len(groups)), len(methods)
    names = np.array(methods)
    won, lost = table.winner[:, None] == names, table.loser[:, None] == names
    with_real = ((table.winner == REAL) | (table.loser == REAL))[:, None]
    numerators = np.column_stack([won, won & with_real, table.winner == REAL])
    denominators = np.column_stack([won | lost, (won | lost) & with_real, with_real])
    features = np.concatenate([numerators, denominators], 1).astype(np.float64)
    no_real = "no pair with a real image: add real images to the study."
    quantities = [
        *(Quantity(f"chosen {m}", "no pairs with this method.", 0, 1, average=True) for m in methods),
        *(Quantity(f"beats real {m}", no_real, 0, 1, average=True) for m in methods),
        Quantity("found real", no_real, 0, 1, average=True),
    ]
    sums = cell_sums(rater, group, features, *shape)
    statistic = share_statistic(2 * size + 1)
    figures = bootstrap(sums, statistic, quantities, **settings)
    choices = choices_from_pairs(codes(table.winner, methods), codes(table.loser, methods), size)
    strength = strengths(choices.events, choices.members, rater, group, shape, methods, settings)
    by_method = tuple(
        MethodPairs(
            m,
            int((won | lost)[:, n].sum()),
            figures[n],
            None if m == REAL else figures[size + n],
            strength[n],
        )
        for n, m in enumerate(methods)
    )
    by_rater = []
    for n, name in enumerate(raters):
        own = sums[n : n + 1, sums[n].any(-1)]
        found = bootstrap(own, statistic, quantities, **settings | {"conditional": True})[-1]
        by_rater.append(
            RaterPairs(name, int((rater == n).sum()), found, response_times(table.seconds[rater == n]))
        )
    conditional = settings.get("conditional")
    if conditional is None:
        conditional = len(raters) < MIN_RATERS
    first, second = pairs.repeated()
    return PairSummary(
        len(table),
        tuple(by_rater),
        by_method,
        figures[-1],
        pair_alpha(table, settings),
        within(
            pairs.rater[first],
            pairs.group[first],
            side(pairs)[first],
            side(pairs)[second],
            raters,
            **settings | {"conditional": None},
        ),
        len(groups),
        CONDITIONAL if conditional else OVER_RATERS,
        table.exclusions,
    )


def side(table: Pairs) -> np.ndarray:
    """int [N]: 1 where the alphabetically first method of the pair was chosen."""
    return (table.winner < table.loser).astype(np.int64)


def pair_alpha(table: Pairs, settings: dict[str, Any]) -> Figure:
    """Krippendorff's alpha of which image of a pair was chosen; the real one, where there is one, is its first."""
    items = [i[1:] for i in table.item()]
    order = sorted(set(items))
    place = {item: n for n, item in enumerate(order)}
    chosen = np.where(table.winner == REAL, 1, np.where(table.loser == REAL, 0, side(table)))
    data = matrix_of(codes(table.rater, table.raters), np.array([place[i] for i in items]), chosen)
    return alpha_figure(data, codes(np.array([i[0] for i in order]), table.groups), NOMINAL, **settings)
