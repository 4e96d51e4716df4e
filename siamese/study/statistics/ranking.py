"""Results of the ranking protocol: mean ranks, Friedman's test with pairs, Plackett-Luce strengths and agreement."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from siamese.study.statistics.agreement import ORDINAL, WithinRater, alpha_figure, matrix_of, within
from siamese.study.statistics.answer_tables import Rankings
from siamese.study.statistics.bootstrap import basis_of, bootstrap, cell_sums
from siamese.study.statistics.detection import ratio
from siamese.study.statistics.figures import Figure, Quantity, missing
from siamese.study.statistics.luce import (
    ConvergenceError,
    DisconnectedError,
    choices_from_orders,
    log_strengths,
    luce_statistic,
)
from siamese.study.statistics.table import Exclusion, StatisticsError, codes


@dataclass(frozen=True)
class Friedman:
    """Friedman's test (1937) that the methods rank alike; mask groups are the blocks. It speaks for these raters."""

    statistic: float | None
    """Chi-squared, corrected for ties."""
    freedom: int | None
    p: float | None
    kendall_w: float | None
    """Kendall's coefficient of concordance between mask groups, 0 to 1."""
    blocks: int
    """Mask groups ranked by every rater that counts."""
    reason: str | None = None


@dataclass(frozen=True)
class PairTest:
    """Wilcoxon's signed-rank test of two methods over mask groups."""

    first: str
    second: str
    mean_difference: float | None
    """Mean rank of ``first`` minus ``second``."""
    p: float | None
    p_holm: float | None
    """Holm's (1979) correction over all pairs."""
    reason: str | None = None


@dataclass(frozen=True)
class MethodRanks:
    """A method's figures over all raters."""

    method: str
    mean_rank: Figure
    """1 to k, k the best."""
    ranked_best: Figure
    """Share of rankings in which the method is the best."""
    strength: Figure
    """Plackett-Luce log strength; the methods' mean is 0."""


@dataclass(frozen=True)
class RankingSummary:
    """Everything that the ranking protocol yields."""

    rankings: int
    raters: tuple[str, ...]
    rater_means: tuple[tuple[Figure, ...], ...]
    """Mean rank by rater (outer) and method (inner), with intervals over mask groups."""
    methods: tuple[MethodRanks, ...]
    friedman: Friedman
    pairs: tuple[PairTest, ...]
    alpha: Figure
    """Krippendorff's alpha of the ranks between raters, ordinal."""
    within_rater: tuple[WithinRater, ...]
    """Same rank for the same image, on repeated groups; all raters first, then each."""
    groups: int
    basis: str
    exclusions: tuple[Exclusion, ...]


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down correction (1979, Scandinavian Journal of Statistics 6, 65-70) of p values [N]."""
    p = np.asarray(p, np.float64)
    order = np.argsort(p, kind="stable")
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected


def friedman(blocks: np.ndarray) -> Friedman:
    """Friedman's test on ``blocks`` [groups, methods] of ranks averaged over raters; ranked again in each block, ties by mid-ranks.

    Three or more methods and two or more groups; otherwise, or if all is tied, the figures are None with a reason.
    """
    count, methods = blocks.shape
    reason = None
    if methods < 3:
        reason = "Friedman's test needs three or more methods; with two, see the pair."
    elif count < 2:
        reason = "Friedman's test needs two or more mask groups that every rater has ranked."
    elif np.ptp(blocks, axis=1).max() < 1e-12:
        reason = "all methods tie in every mask group: the ranks hold no preference."
    if reason:
        return Friedman(statistic=None, freedom=None, p=None, kendall_w=None, blocks=count, reason=reason)
    from scipy import stats  # half a second to import, which a server that starts would spend for nothing

    # averages of whole ranks: rounding keeps equal averages equal
    result = stats.friedmanchisquare(*np.round(blocks, 9).T)
    statistic = float(result.statistic)
    return Friedman(
        statistic=statistic,
        freedom=methods - 1,
        p=float(result.pvalue),
        kendall_w=statistic / (count * (methods - 1)),
        blocks=count,
    )


def pair_tests(blocks: np.ndarray, methods: tuple[str, ...]) -> tuple[PairTest, ...]:
    """Wilcoxon's signed-rank test of each pair of columns of ``blocks`` [groups, methods], with Holm's correction.

    Zero differences are ranked and dropped (Pratt 1959). The p value is exact for up to 13 groups, by permutation if ranks tie, and by the normal
    approximation beyond.
    """
    from scipy import stats

    tests: list[PairTest] = []
    for i, j in combinations(range(len(methods)), 2):
        difference = np.round(blocks[:, i] - blocks[:, j], 9)
        if len(difference) < 2 or not difference.any():
            reason = (
                "no mask group was ranked by every rater."
                if not len(difference)
                else "the two methods tie in every mask group."
                if not difference.any()
                else "the test needs two or more mask groups that every rater has ranked."
            )
            tests.append(
                PairTest(
                    first=methods[i],
                    second=methods[j],
                    mean_difference=float(difference.mean()) if len(difference) else None,
                    p=None,
                    p_holm=None,
                    reason=reason,
                )
            )
            continue
        # with 2^13 sign patterns or fewer, all of them are gone through
        method: Any = stats.PermutationMethod(n_resamples=2**14) if len(difference) <= 13 else "asymptotic"
        found: Any = stats.wilcoxon(difference, zero_method="pratt", method=method)
        p = float(found.pvalue)
        tests.append(
            PairTest(
                first=methods[i],
                second=methods[j],
                mean_difference=float(difference.mean()),
                p=p,
                p_holm=None,
            )
        )
    tested = [t for t in tests if t.p is not None]
    corrected = iter(holm(np.array([t.p for t in tested])).tolist())
    return tuple(
        t
        if t.p is None
        else PairTest(
            first=t.first, second=t.second, mean_difference=t.mean_difference, p=t.p, p_holm=next(corrected)
        )
        for t in tests
    )


def averaged_blocks(table: Rankings) -> np.ndarray:
    """[groups, methods] ranks averaged over raters, of the groups that every rater has ranked."""
    raters, groups, methods = table.raters, table.groups, table.methods
    ranks = np.full((len(raters), len(groups), len(methods)), np.nan)
    ranks[codes(table.rater, raters), codes(table.group, groups), codes(table.method, methods)] = table.rank
    return ranks[:, ~np.isnan(ranks).any((0, 2))].mean(0)


def orders_of(table: Rankings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each ranking's rater [N], group [N] and method indices [N, k], the best first."""
    rater, group = codes(table.rater, table.raters), codes(table.group, table.groups)
    order = np.lexsort((-table.rank, group, rater))
    size = len(table.methods)
    return (
        rater[order][::size],
        group[order][::size],
        codes(table.method, table.methods)[order].reshape(-1, size),
    )


def rank_statistic(methods: int):
    """Statistic of mean rank [M] and share ranked best [M] from counts [1], ranks [M] and firsts [M]."""

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = (totals * weights[..., None]).sum(-2)
        return ratio(total[..., 1:], total[..., :1])

    return statistic


def rank_quantities(methods: tuple[str, ...]) -> list[Quantity]:
    """What is known of the figures of ``rank_statistic``."""
    return [
        *(Quantity(f"mean rank {m}", "no rankings.", 1, len(methods), average=True) for m in methods),
        *(Quantity(f"ranked best {m}", "no rankings.", 0, 1, average=True) for m in methods),
    ]


def strengths(
    events: np.ndarray,
    members: np.ndarray,
    rater: np.ndarray,
    group: np.ndarray,
    shape: tuple[int, int],
    names: tuple[str, ...],
    settings: dict[str, Any],
) -> tuple[Figure, ...]:
    """Log strength of each of ``names`` with interval, or the reason why it has none."""
    try:
        log_strengths(events.sum(0).reshape(members.shape), members, names)
    except (DisconnectedError, ConvergenceError) as error:
        return tuple(missing(str(error)) for _ in names)
    quantities = [Quantity(f"strength {n}", "the strengths have no finite estimate.") for n in names]
    return bootstrap(cell_sums(rater, group, events, *shape), luce_statistic(members), quantities, **settings)


def summarise_rankings(rankings: Rankings, **settings: Any) -> RankingSummary:
    """All figures of the ranking protocol. Every ranking weighs the same.

    Args:
        rankings: all answers, repeats and training items included: they are set apart here.
        settings: ``seed``, ``resamples``, ``level`` and ``conditional`` of ``bootstrap``.

    Raises:
        StatisticsError: no answers to analyse, or fewer than two methods.
    """
    table = rankings.counted().complete()
    raters, groups, methods = table.raters, table.groups, table.methods
    if not len(table):
        raise StatisticsError("no complete ranking yet: wait until a rater has ranked a whole group.")
    if len(methods) < 2:
        raise StatisticsError("a ranking needs two or more methods: add one to the study.")
    rankings = rankings.of_raters(raters)
    rater, group, orders = orders_of(table)
    shape, size = (len(raters), len(groups)), len(methods)
    ranks = size - np.argsort(orders, 1).astype(np.float64)
    features = np.column_stack([np.ones(len(ranks)), ranks, ranks == size])
    sums = cell_sums(rater, group, features, *shape)
    quantities = rank_quantities(methods)
    figures = bootstrap(sums, rank_statistic(size), quantities, **settings)

    def mean_ranks(n: int) -> tuple[Figure, ...]:
        own = sums[n : n + 1, sums[n].any(-1)]
        return bootstrap(own, rank_statistic(size), quantities, **settings | {"conditional": True})[:size]

    means = tuple(mean_ranks(n) for n in range(len(raters)))
    choices = choices_from_orders(orders, size)
    strength = strengths(
        choices.events, choices.members, rater, group, shape=shape, names=methods, settings=settings
    )
    blocks = averaged_blocks(table)
    unit = group[:, None] * size + np.arange(size)
    data = matrix_of(np.repeat(rater, size), unit.ravel(), ranks.ravel())
    first, second = rankings.repeated()
    return RankingSummary(
        rankings=len(ranks),
        raters=raters,
        rater_means=means,
        methods=tuple(
            MethodRanks(m, figures[n], figures[size + n], strength[n]) for n, m in enumerate(methods)
        ),
        friedman=friedman(blocks),
        pairs=pair_tests(blocks, methods),
        alpha=alpha_figure(data, np.repeat(np.arange(len(groups)), size), ORDINAL, **settings),
        within_rater=within(
            rankings.rater[first],
            group=rankings.group[first],
            first=rankings.rank[first],
            second=rankings.rank[second],
            raters=raters,
            **settings | {"conditional": None},
        ),
        groups=len(groups),
        basis=basis_of(len(raters), settings),
        exclusions=table.exclusions,
    )
