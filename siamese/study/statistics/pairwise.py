"""Results of the pairwise protocol: how often each method passes for the real image, Bradley-Terry strengths and agreement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese.study.statistics.agreement import NOMINAL, WithinRater, alpha_figure, matrix_of, within
from siamese.study.statistics.answer_tables import Pairs
from siamese.study.statistics.bootstrap import basis_of, bootstrap, cell_sums
from siamese.study.statistics.detection import ratio
from siamese.study.statistics.figures import Figure, Quantity
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
    """Share of its pairs with the real image in which it was chosen; at 0.5 it cannot be distinguished from real. None for the real images."""
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
    raters, groups, methods = table.raters, table.groups, table.methods
    pairs = pairs.of_raters(raters)
    rater, group = codes(table.rater, raters), codes(table.group, groups)
    shape, size, names = (len(raters), len(groups)), len(methods), np.array(methods)
    won, lost = table.winner[:, None] == names, table.loser[:, None] == names
    features = pair_features(table, won, lost)
    quantities = pair_quantities(methods)
    sums = cell_sums(rater, group, features, *shape)
    statistic = share_statistic(2 * size + 1)
    figures = bootstrap(sums, statistic, quantities, **settings)
    choices = choices_from_pairs(codes(table.winner, methods), codes(table.loser, methods), size)
    strength = strengths(
        choices.events, choices.members, rater, group, shape=shape, names=methods, settings=settings
    )
    by_method = tuple(
        MethodPairs(
            method=m,
            pairs=int((won | lost)[:, n].sum()),
            chosen=figures[n],
            beats_real=None if m == REAL else figures[size + n],
            strength=strength[n],
        )
        for n, m in enumerate(methods)
    )
    found = [
        bootstrap(
            sums[n : n + 1, sums[n].any(-1)], statistic, quantities, **settings | {"conditional": True}
        )[-1]
        for n in range(len(raters))
    ]
    first, second = pairs.repeated()
    return PairSummary(
        pairs=len(table),
        raters=rater_pairs(table, found),
        methods=by_method,
        found_real=figures[-1],
        alpha=pair_alpha(table, settings),
        within_rater=within(
            pairs.rater[first],
            group=pairs.group[first],
            first=side(pairs)[first],
            second=side(pairs)[second],
            raters=raters,
            **settings | {"conditional": None},
        ),
        groups=len(groups),
        basis=basis_of(len(raters), settings),
        exclusions=table.exclusions,
    )


def rater_pairs(table: Pairs, found: Sequence[Figure]) -> tuple[RaterPairs, ...]:
    """Each rater's figures; ``found`` is the share of real images found by each."""
    rater = codes(table.rater, table.raters)
    return tuple(
        RaterPairs(name, int((rater == n).sum()), found[n], response_times(table.seconds[rater == n]))
        for n, name in enumerate(table.raters)
    )


def pair_features(table: Pairs, won: np.ndarray, lost: np.ndarray) -> np.ndarray:
    """[N, 2 (2 M + 1)] for ``share_statistic``: of the figures of ``pair_quantities`` the numerators, then the denominators.

    Args:
        won: bool [N, M], the method chosen.
        lost: bool [N, M], the other one.
    """
    with_real = ((table.winner == REAL) | (table.loser == REAL))[:, None]
    numerators = np.column_stack([won, won & with_real, table.winner == REAL])
    denominators = np.column_stack([won | lost, (won | lost) & with_real, with_real])
    return np.concatenate([numerators, denominators], 1).astype(np.float64)


def pair_quantities(methods: tuple[str, ...]) -> list[Quantity]:
    """What is known of the shares by method, chosen and against the real image, and of the share of real images found."""
    no_real = "no pair with a real image: add real images to the study."
    return [
        *(Quantity(f"chosen {m}", "no pairs with this method.", 0, 1, average=True) for m in methods),
        *(Quantity(f"beats real {m}", no_real, 0, 1, average=True) for m in methods),
        Quantity("found real", no_real, 0, 1, average=True),
    ]


def side(table: Pairs) -> np.ndarray:
    """int [N]: 1 if the alphabetically first method of the pair was chosen, otherwise 0."""
    return (table.winner < table.loser).astype(np.int64)


def pair_alpha(table: Pairs, settings: dict[str, Any]) -> Figure:
    """Krippendorff's alpha of which image of a pair was chosen; a real one counts as the first."""
    items = [i[1:] for i in table.item()]
    order = sorted(set(items))
    place = {item: n for n, item in enumerate(order)}
    chosen = np.where(table.winner == REAL, 1, np.where(table.loser == REAL, 0, side(table)))
    data = matrix_of(codes(table.rater, table.raters), np.array([place[i] for i in items]), chosen)
    return alpha_figure(data, codes(np.array([i[0] for i in order]), table.groups), NOMINAL, **settings)
