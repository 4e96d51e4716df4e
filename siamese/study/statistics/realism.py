"""Results of the Real / Synthetic protocol: MOS, confidence, detection and agreement, by method, by rater and overall."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from siamese.study.statistics.agreement import (
    NOMINAL,
    ORDINAL,
    WithinRater,
    alpha_figure,
    fleiss_figure,
    matrix_of,
    within,
)
from siamese.study.statistics.answer_tables import Ratings
from siamese.study.statistics.bootstrap import basis_of, bootstrap, cell_sums
from siamese.study.statistics.detection import (
    Detection,
    detect,
    rater_mean,
    ratio,
    score_counts,
    signed_levels,
)
from siamese.study.statistics.figures import Figure, Quantity, missing
from siamese.study.statistics.table import CONFIDENCES, REAL, Exclusion, codes

NO_REAL = "add real images to the study"
NO_SYNTHETIC = "add a synthetic method to the study"
WAIT = "wait until this rater has answered both kinds"


@dataclass(frozen=True)
class ResponseTimes:
    """Seconds from the image to the answer; None if no time was recorded."""

    median: float | None
    lower_quartile: float | None
    upper_quartile: float | None


@dataclass(frozen=True)
class MethodRatings:
    """A method's figures over all raters."""

    method: str
    answers: int
    mos: Figure
    """Share of answers "real", 0 to 1."""
    confidence: Figure
    """Mean confidence, 1 to 10."""
    real_minus_method: Figure | None
    """MOS of the real images minus this method's; None for the real images."""
    detection: Detection | None
    """This method's images (positive) against the real ones; None for the real images."""
    times: ResponseTimes


@dataclass(frozen=True)
class RaterRatings:
    """A rater's figures over all methods. Intervals are over mask groups: they speak for this rater."""

    rater: str
    answers: int
    judged_real: Figure
    """Share of answers "real" over all images."""
    confidence: Figure
    detection: Detection
    times: ResponseTimes


@dataclass(frozen=True)
class RatingAgreement:
    """Agreement between raters; intervals over mask groups."""

    fleiss_kappa: Figure
    """Of Real / Synthetic, on items judged by every rater."""
    left_out: int
    """Items that Fleiss' kappa leaves out because a rater's answer is missing."""
    alpha: Figure
    """Krippendorff's alpha of Real / Synthetic, nominal; missing answers are allowed for."""
    alpha_confidence: Figure
    """Krippendorff's alpha of signed confidence (Synthetic +c, Real -c), ordinal."""


@dataclass(frozen=True)
class RatingSummary:
    """Everything that the Real / Synthetic protocol yields."""

    answers: int
    raters: tuple[RaterRatings, ...]
    methods: tuple[MethodRatings, ...]
    overall: Detection
    """All synthetic methods (positive) against the real images; the mean over raters, by their number of answers, of each rater's own figure."""
    agreement: RatingAgreement
    within_rater: tuple[WithinRater, ...]
    """All raters first, then each."""
    times: ResponseTimes
    groups: int
    basis: str
    """Whom the intervals by method and overall speak for."""
    exclusions: tuple[Exclusion, ...]


def response_times(seconds: np.ndarray) -> ResponseTimes:
    """Median and quartiles of ``seconds`` [N], NaN for times that were not recorded."""
    seconds = seconds[~np.isnan(seconds)]
    if not len(seconds):
        return ResponseTimes(None, None, None)
    lower, median, upper = np.quantile(seconds, (0.25, 0.5, 0.75)).tolist()
    return ResponseTimes(median, lower, upper)


def method_statistic(methods: int, has_real: bool):
    """Statistic of MOS [M], confidence [M] and, with real images (method 0), real minus each other method [M - 1].

    Features are counts, answers "real" and confidences, each [M]. Means over raters of each rater's own figure, weighted by the rater's number
    of answers; raters without an answer to some method count in none. For complete raters that is the mean over all answers, as in the
    paper. With the same weights in ``detection_statistic``, a method's MOS is 1 minus its sensitivity, and the real images' the specificity.
    """

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        count = totals[..., :methods]
        count = np.where((count > 0).all(-1, keepdims=True), count, 0)
        mos = ratio(totals[..., methods : 2 * methods], count)
        confidence = ratio(totals[..., 2 * methods :], count)
        difference = mos[..., :1] - mos[..., 1:] if has_real else mos[..., :0]
        each = np.concatenate([mos, confidence, difference], -1)
        return rater_mean(np.moveaxis(each, -1, -2), (weights * count.sum(-1))[..., None, :])

    return statistic


def method_features(table: Ratings, methods: tuple[str, ...]) -> np.ndarray:
    """[N, 3 M] for ``method_statistic``."""
    one_hot = (table.method[:, None] == np.array(methods)).astype(np.float64)
    return np.concatenate([one_hot, one_hot * table.real[:, None], one_hot * table.confidence[:, None]], 1)


def method_quantities(methods: tuple[str, ...]) -> list[Quantity]:
    """What is known of the figures of ``method_statistic``."""
    none = "no answers to this method's images yet."
    others = methods[1:] if methods[0] == REAL else ()
    return [
        *(Quantity(f"MOS {m}", none, 0, 1, average=True) for m in methods),
        *(Quantity(f"confidence {m}", none, *CONFIDENCES, average=True) for m in methods),
        *(Quantity(f"real minus {m}", none, -1, 1, average=True) for m in others),
    ]


def summarise_ratings(ratings: Ratings, **settings: Any) -> RatingSummary:
    """All figures of the Real / Synthetic protocol, of the raters who have answered an image of each method.

    Args:
        ratings: all answers, repeats and training items included: they are set apart here.
        settings: ``seed``, ``resamples``, ``level`` and ``conditional`` of ``bootstrap``.

    Raises:
        StatisticsError: no answers to analyse.
    """
    table = ratings.counted().of_every_method()
    ratings = ratings.of_raters(table.raters)
    raters, groups, methods = table.raters, table.groups, table.methods
    rater, group = codes(table.rater, raters), codes(table.group, groups)
    shape = (len(raters), len(groups))
    synthetic = table.method != REAL
    advice = NO_REAL if synthetic.all() else NO_SYNTHETIC if not synthetic.any() else WAIT
    levels = signed_levels(table.real, table.confidence)
    scores = score_counts(table.real, table.confidence, synthetic, levels)
    cells, answers = (
        cell_sums(rater, group, scores, *shape),
        cell_sums(rater, group, np.ones((len(table), 1)), *shape)[..., 0],
    )

    def against_real(rows: np.ndarray) -> Detection:
        against = rows | ~synthetic
        own = cell_sums(rater[against], group[against], scores[against], *shape)
        return detect(own, levels, advice, answers, **settings)

    sums = cell_sums(rater, group, method_features(table, methods), *shape)
    by_method = method_ratings(table, sums, against_real, settings)
    per_rater = tuple(
        rater_ratings(
            table.take(rater == n), cells=cells[n : n + 1], levels=levels, advice=advice, settings=settings
        )
        for n in range(len(raters))
    )
    first, second = ratings.repeated()
    return RatingSummary(
        answers=len(table),
        raters=per_rater,
        methods=by_method,
        overall=detect(cells, levels, advice, answers, **settings),
        agreement=rating_agreement(table, settings),
        within_rater=within(
            ratings.rater[first],
            group=ratings.group[first],
            first=ratings.real[first],
            second=ratings.real[second],
            raters=raters,
            **settings | {"conditional": None},
        ),
        times=response_times(table.seconds),
        groups=len(groups),
        basis=basis_of(len(raters), settings),
        exclusions=table.exclusions,
    )


def method_ratings(
    table: Ratings,
    sums: np.ndarray,
    against_real: Callable[[np.ndarray], Detection],
    settings: dict[str, Any],
) -> tuple[MethodRatings, ...]:
    """Each method's figures, real images first.

    Args:
        sums: [R, G, 3 M] cell sums of ``method_features``.
        against_real: detection of the images of some rows (bool [N]) against the real ones.
    """
    methods, count = table.methods, len(table.methods)
    has_real = methods[0] == REAL
    figures = bootstrap(sums, method_statistic(count, has_real), method_quantities(methods), **settings)
    no_real = missing(f"needs answers on real images: {NO_REAL}.")
    found = []
    for n, name in enumerate(methods):
        rows = table.method == name
        difference = figures[2 * count + n - 1] if has_real else no_real
        found.append(
            MethodRatings(
                method=name,
                answers=int(rows.sum()),
                mos=figures[n],
                confidence=figures[count + n],
                real_minus_method=None if name == REAL else difference,
                detection=None if name == REAL else against_real(rows),
                times=response_times(table.seconds[rows]),
            )
        )
    return tuple(found)


def rater_ratings(
    table: Ratings, cells: np.ndarray, levels: np.ndarray, advice: str, settings: dict[str, Any]
) -> RaterRatings:
    """One rater's figures from that rater's answers and cell sums [1, G, 2 L] of scores."""
    settings = settings | {"conditional": True}
    answered = cells[:, cells[0].any(-1)]
    groups = table.groups
    features = np.column_stack([np.ones(len(table)), table.real, table.confidence]).astype(np.float64)
    sums = cell_sums(
        np.zeros(len(table), np.intp),
        group=codes(table.group, groups),
        values=features,
        raters=1,
        groups=len(groups),
    )
    quantities = [
        Quantity("judged real", "no answers.", 0, 1, average=True),
        Quantity("confidence", "no answers.", *CONFIDENCES, average=True),
    ]
    share, confidence = bootstrap(sums, method_statistic(1, False), quantities, **settings)
    return RaterRatings(
        rater=str(table.rater[0]),
        answers=len(table),
        judged_real=share,
        confidence=confidence,
        detection=detect(answered, levels, advice, **settings),
        times=response_times(table.seconds),
    )


def rating_agreement(table: Ratings, settings: dict[str, Any]) -> RatingAgreement:
    """Agreement between the raters of counted answers."""
    items = sorted(set(zip(table.group.tolist(), table.method.tolist(), strict=True)))
    place = {item: n for n, item in enumerate(items)}
    unit = np.array([place[i] for i in zip(table.group.tolist(), table.method.tolist(), strict=True)])
    group = codes(np.array([g for g, _ in items]), table.groups)
    rater = codes(table.rater, table.raters)
    answers = matrix_of(rater, unit, table.real)
    signed = matrix_of(rater, unit, np.where(table.real == 1, -table.confidence, table.confidence))
    kappa, left_out = fleiss_figure(answers, group, **settings)
    return RatingAgreement(
        kappa,
        left_out,
        alpha_figure(answers, group, NOMINAL, **settings),
        alpha_figure(signed, group, ORDINAL, **settings),
    )
