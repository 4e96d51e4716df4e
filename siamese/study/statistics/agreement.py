"""Agreement: between raters (Fleiss' kappa, Krippendorff's alpha) and of a rater with themselves on repeated items.

Intervals of agreement between raters come from resampling mask groups only: a rater drawn twice agrees perfectly with their copy, so
that resampling raters would raise the agreement. They are conditional on these raters, however many there are.

Each coefficient has two limits. Cohen's kappa is -1 or more: with shares p and q of the answers in each category and the share x of items
with the same answer, p_i + q_i <= 1 + x_ii, so that the agreement by chance is at most (1 + x) / 2. Fleiss' kappa of m raters is
-1 / (m - 1) or more, since the squared share of a category averaged over items is at least its squared average. Krippendorff's alpha has
the same limit with the least number m of answers to an item that has two: its disagreement within items is the squared distance within
items, which is no more than all of it (nominal and ordinal distances are squared Euclidean ones of scores given to the values).

Measured coverage of the nominal 95 % (``tests/study/test_statistics_intervals.py``): between raters 89 to 97 % with 12 to 50 items, the least
if one answer is rare or many raters judge few items, since the coefficient is then skewed; a variance by the jackknife (Fleiss &
Davies 1982, American Journal of Epidemiology 115) covers no better. Cohen's kappa 91 to 100 % with 12 to 24 repeated items, 94 to 97 % with 50.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from siamese.study.statistics.bootstrap import bootstrap, cell_sums
from siamese.study.statistics.detection import ratio
from siamese.study.statistics.figures import Figure, Quantity, missing
from siamese.study.statistics.table import StatisticsError, codes

NOMINAL, ORDINAL, INTERVAL = "nominal", "ordinal", "interval"
ONE_RATER = "agreement between raters needs two or more raters: invite another."
NO_REPEATS = "no item was answered twice."


@dataclass(frozen=True)
class WithinRater:
    """Agreement of first and second answers to the same items."""

    rater: str | None
    """None: all raters."""
    pairs: int
    """Items answered twice."""
    same: Figure
    """Share of items with the same answer."""
    kappa: Figure
    """Cohen's kappa (1960) of first and second answers."""


def kappa_from_sums(observed: np.ndarray, items: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Fleiss' kappa [...] from the summed agreement of items [...], their number [...] and answers by category [..., C]; NaN if undefined."""
    chance = (ratio(answers, answers.sum(-1, keepdims=True)) ** 2).sum(-1)
    return ratio(ratio(observed, items) - chance, np.where(chance < 1 - 1e-12, 1 - chance, 0))


def item_agreement(counts: np.ndarray) -> np.ndarray:
    """Share [N] of agreeing pairs of raters on each item of ``counts`` [N, C] (two or more answers each)."""
    answers = counts.sum(1)
    return ((counts**2).sum(1) - answers) / (answers * (answers - 1))


def coincidences(counts: np.ndarray) -> np.ndarray:
    """Coincidence matrices [N, C, C] of units from their answers by value [N, C]; zero for units with fewer than two answers."""
    answers = counts.sum(1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(counts.shape[1])
    return pairs / np.maximum(answers - 1, 1)[:, None, None] * (answers > 1)[:, None, None]


def alpha_from_coincidences(matrix: np.ndarray, values: np.ndarray, level: str) -> np.ndarray:
    """Krippendorff's alpha [...] of summed coincidence matrices [..., C, C] of ``values`` [C] ascending; NaN if all answers are alike.

    Source: Krippendorff 2011, Computing Krippendorff's alpha-reliability, University of Pennsylvania.
    """
    totals = matrix.sum(-1)
    if level == NOMINAL:
        distance = 1 - np.eye(len(values))
    elif level == ORDINAL:
        # sum of the totals from c to k, with c and k themselves counted half
        middle = np.cumsum(totals, -1) - totals / 2
        distance = (middle[..., :, None] - middle[..., None, :]) ** 2
    elif level == INTERVAL:
        distance = (values[:, None] - values[None, :]).astype(np.float64) ** 2
    else:
        raise StatisticsError(
            f"unknown level of measurement {level!r}: choose {NOMINAL}, {ORDINAL} or {INTERVAL}."
        )
    expected = (totals[..., :, None] * totals[..., None, :] * distance).sum((-2, -1))
    return 1 - ratio((totals.sum(-1) - 1) * (matrix * distance).sum((-2, -1)), expected)


def value_counts(data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct values [C], ascending, of ``data`` [raters, units] and how often [units, C] each was given."""
    values = np.unique(data[~np.isnan(data)])
    return values, (data.T[:, :, None] == values).sum(1).astype(np.float64)


def matrix_of(rater: np.ndarray, unit: np.ndarray, value: np.ndarray) -> np.ndarray:
    """[raters, units] float with NaN for missing answers, from columns of indices and values."""
    data = np.full((rater.max() + 1, unit.max() + 1), np.nan)
    data[rater, unit] = value
    return data


def fleiss_figure(data: np.ndarray, group: np.ndarray, **settings) -> tuple[Figure, int]:
    """Fleiss' kappa (1971, Psychological Bulletin 76, 378-382) with interval, and the number of units excluded because a rater's answer is missing.

    Args:
        data: [raters, units] float with NaN for missing answers.
        group: [units] index of each unit's mask group.
        settings: of ``bootstrap``.
    """
    if len(data) < 2:
        return missing(ONE_RATER), 0
    full = ~np.isnan(data).any(0)
    if not full.any():
        return missing(
            "no item was answered by every rater; Krippendorff's alpha allows for missing answers."
        ), int((~full).sum())
    _values, counts = value_counts(data[:, full])
    features = np.column_stack([item_agreement(counts), np.ones(len(counts)), counts])

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        totals = totals[..., 0, :]
        return kappa_from_sums(totals[..., 0], totals[..., 1], totals[..., 2:])[..., None]

    more = len(data) - 1
    quantity = Quantity(
        "Fleiss' kappa",
        "every answer is the same: kappa is undefined.",
        -1 / more,
        1,
        comparisons=more * len(counts),
    )
    return over_groups(
        features, group=group[full], statistic=statistic, quantity=quantity, settings=settings
    ), int((~full).sum())


def alpha_figure(data: np.ndarray, group: np.ndarray, level: str, **settings) -> Figure:
    """Krippendorff's alpha with interval; arguments as of ``fleiss_figure``."""
    if len(data) < 2:
        return missing(ONE_RATER)
    values, counts = value_counts(data)
    features = coincidences(counts).reshape(len(counts), -1)
    if not features.any():
        return missing("no item was answered by two raters.")

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        square = totals[..., 0, :].reshape(*totals.shape[:-2], len(values), len(values))
        return alpha_from_coincidences(square, values, level)[..., None]

    more = counts.sum(1) - 1
    more = more[more > 0]
    quantity = Quantity(
        "Krippendorff's alpha",
        "every answer is the same: alpha is undefined.",
        -1 / float(more.min()),
        1,
        comparisons=float(more.sum()),
    )
    return over_groups(features, group=group, statistic=statistic, quantity=quantity, settings=settings)


def over_groups(
    features: np.ndarray, group: np.ndarray, statistic: Callable, quantity: Quantity, settings: dict
) -> Figure:
    """One figure from ``features`` [units, K], resampled over mask groups only."""
    _, place = np.unique(group, return_inverse=True)
    sums = cell_sums(
        np.zeros(len(group), np.intp), group=place, values=features, raters=1, groups=int(place.max()) + 1
    )
    return bootstrap(sums, statistic, [quantity], **settings | {"conditional": True})[0]


def within(
    rater: np.ndarray,
    group: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    raters: tuple[str, ...],
    **settings,
) -> tuple[WithinRater, ...]:
    """Within-rater agreement of all raters and of each of ``raters``.

    Args:
        rater: str [P], the rater of each item that was answered twice.
        group: str [P], its mask group.
        first: int [P], first answers as categories.
        second: int [P], second answers.
        settings: of ``bootstrap``.
    """
    values = np.unique(np.concatenate([first, second]))
    features = np.column_stack(
        [first == second, np.ones(len(first)), first[:, None] == values, second[:, None] == values]
    ).astype(np.float64)
    split = 2 + len(values)

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        total = (totals * weights[..., None]).sum(-2)
        same, items = total[..., 0], total[..., 1]
        chance = ratio((total[..., 2:split] * total[..., split:]).sum(-1), items**2)
        share = ratio(same, items)
        return np.stack([share, ratio(share - chance, np.where(chance < 1 - 1e-12, 1 - chance, 0))], -1)

    def one(name: str | None, rows: np.ndarray) -> WithinRater:
        if not rows.any():
            return WithinRater(name, 0, missing(NO_REPEATS), missing(NO_REPEATS))
        names, groups = np.unique(rater[rows]).tolist(), np.unique(group[rows]).tolist()
        sums = cell_sums(
            codes(rater[rows], names),
            group=codes(group[rows], groups),
            values=features[rows],
            raters=len(names),
            groups=len(groups),
        )
        quantities = [
            Quantity("same", NO_REPEATS, 0, 1, average=True),
            Quantity(
                "kappa",
                "every repeated answer is the same: kappa is undefined.",
                -1,
                1,
                comparisons=int(rows.sum()),
            ),
        ]
        return WithinRater(name, int(rows.sum()), *bootstrap(sums, statistic, quantities, **settings))

    return (one(None, np.ones(len(rater), bool)), *(one(r, rater == r) for r in raters))
