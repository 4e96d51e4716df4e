"""How well raters tell real from synthetic: accuracy, signal detection, ROC. Positive, the signal, is synthetic throughout.

All functions work on arrays with any leading dimensions, so that resamples are computed at once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from siamese.study.statistics.bootstrap import bootstrap
from siamese.study.statistics.figures import Figure, Quantity, missing

NEEDS_BOTH = "needs answers on real and on synthetic images: {}."
QUANTITIES = (
    Quantity("balanced accuracy", NEEDS_BOTH, 0, 1, average=True),
    Quantity("sensitivity", "needs answers on synthetic images: {}.", 0, 1, average=True),
    Quantity("specificity", "needs answers on real images: {}.", 0, 1, average=True),
    Quantity("d'", NEEDS_BOTH),
    Quantity("criterion", NEEDS_BOTH),
    Quantity("ROC-AUC", NEEDS_BOTH, 0, 1),
)


@dataclass(frozen=True)
class Detection:
    """Figures of telling synthetic (positive) from real images."""

    balanced_accuracy: Figure
    """Mean of sensitivity and specificity; 0.5 is chance."""
    sensitivity: Figure
    """Share of synthetic images judged synthetic."""
    specificity: Figure
    """Share of real images judged real."""
    d_prime: Figure
    """Distance of synthetic and real in standard deviations; 0 is chance. Log-linear correction."""
    criterion: Figure
    """c: above 0 the rater leans to "real", below 0 to "synthetic"."""
    auc: Figure
    """Area under the ROC curve of signed confidence; 0.5 is chance."""


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Quotient, NaN if the denominator is 0."""
    return np.divide(
        numerator,
        denominator,
        out=np.full(np.broadcast(numerator, denominator).shape, np.nan),
        where=np.asarray(denominator) > 0,
    )


def sensitivity_and_criterion(
    hits: np.ndarray, signals: np.ndarray, false_alarms: np.ndarray, noises: np.ndarray, correct: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """d' = z(H) - z(F) and c = -(z(H) + z(F)) / 2 (Macmillan & Creelman 2005, Detection theory, 2nd ed., equations 1.5 and 2.1).

    Args:
        hits: signal trials answered "signal" (here: synthetic images judged synthetic).
        signals: signal trials.
        false_alarms: noise trials answered "signal".
        noises: noise trials.
        correct: use H = (hits + 0.5) / (signals + 1) and F likewise, for every table, whether or not a rate is 0 or 1: the log-linear
            correction (Hautus 1995, Behavior Research Methods, Instruments & Computers 27, 46-51).

    Returns:
        d' and c; NaN without signal or noise trials, infinite for rates of 0 or 1 without the correction.
    """
    half, one = (0.5, 1.0) if correct else (0.0, 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        h = ndtri(np.where(np.asarray(signals) > 0, ratio(np.add(hits, half), np.add(signals, one)), np.nan))
        f = ndtri(
            np.where(np.asarray(noises) > 0, ratio(np.add(false_alarms, half), np.add(noises, one)), np.nan)
        )
        return h - f, -(h + f) / 2


def rate_variance(hits: np.ndarray, trials: np.ndarray) -> np.ndarray:
    """Variance of z of a rate with the log-linear correction, of independent trials (Gourevitch & Galanter 1967, Psychometrika 32, 25-33).

    d' has the sum of this of hits and of false alarms, and c a quarter of it. Resampling shows no variation of a rate of 0 or 1.
    """
    rate = ratio(np.add(hits, 0.5), np.add(trials, 1.0))
    density = np.exp(-(ndtri(rate) ** 2) / 2) / math.sqrt(2 * math.pi)
    return ratio(rate * (1 - rate), trials * density**2)


def area_under_roc(positives: np.ndarray, negatives: np.ndarray) -> np.ndarray:
    """Chance that a positive scores above a negative, ties counting half (Hanley & McNeil 1982, Radiology 143, 29-36).

    Args:
        positives: [..., L] number of positives at each score, scores ascending.
        negatives: likewise.

    Returns:
        [...]; NaN without positives or negatives.
    """
    below = np.cumsum(negatives, -1) - negatives / 2
    return ratio((positives * below).sum(-1), positives.sum(-1) * negatives.sum(-1))


def score_counts(
    real: np.ndarray, confidence: np.ndarray, is_synthetic: np.ndarray, levels: np.ndarray
) -> np.ndarray:
    """[N, 2 L] one-hot of signed confidence (Synthetic +c, Real -c) among ``levels``; the first L for synthetic images, then real ones."""
    place = np.searchsorted(levels, np.where(real == 1, -confidence, confidence))
    features = np.zeros((len(real), 2 * len(levels)))
    features[np.arange(len(real)), place + np.where(is_synthetic, 0, len(levels))] = 1
    return features


def signed_levels(real: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """Distinct signed confidences, ascending."""
    return np.unique(np.where(real == 1, -confidence, confidence))


def rater_mean(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted mean [...] over the last axis of ``values`` [..., R], leaving out NaN; NaN if nothing is left."""
    there = ~np.isnan(values)
    weights = np.where(there, weights, 0.0)
    return ratio((np.where(there, values, 0.0) * weights).sum(-1), weights.sum(-1))


def detection_statistic(levels: np.ndarray, both: bool):
    """Statistic of the six ``QUANTITIES`` from features of ``score_counts`` and the number of answers that a rater weighs by.

    Means over raters of each rater's own figure, the same raters with the same weights in all six, so that balanced accuracy is the mean of
    the sensitivity and the specificity beside it. Raters are not pooled into one table: pooling raters of different criteria lowers d' and
    AUC (Macmillan & Creelman 2005, chapter 13).

    Args:
        levels: see ``signed_levels``.
        both: raters without an answer to one of the two kinds of image count in no figure; else the answers are of one kind only.
    """
    split, says_synthetic = len(levels), levels > 0

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        positives, negatives, answers = totals[..., :split], totals[..., split:-1], totals[..., -1]
        signals, noises = positives.sum(-1), negatives.sum(-1)
        hits, alarms = positives[..., says_synthetic].sum(-1), negatives[..., says_synthetic].sum(-1)
        sensitivity, specificity = ratio(hits, signals), ratio(noises - alarms, noises)
        d_prime, criterion = sensitivity_and_criterion(hits, signals, alarms, noises)
        each = (
            (sensitivity + specificity) / 2,
            sensitivity,
            specificity,
            d_prime,
            criterion,
            area_under_roc(positives, negatives),
        )
        figures = np.stack(each, -2)
        if both:
            figures = np.where(((signals > 0) & (noises > 0))[..., None, :], figures, np.nan)
        return rater_mean(figures, (weights * answers)[..., None, :])

    return statistic


def d_prime_variance(totals: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Variance of the raters' mean d' from independent trials; ``totals`` [R, 2 L + 1] as in ``detection_statistic``."""
    split, says_synthetic = len(levels), levels > 0
    positives, negatives, answers = totals[:, :split], totals[:, split:-1], totals[:, -1]
    variance = rate_variance(positives[:, says_synthetic].sum(-1), positives.sum(-1)) + rate_variance(
        negatives[:, says_synthetic].sum(-1), negatives.sum(-1)
    )
    return (variance * (answers / answers.sum()) ** 2).sum()


def detect(
    sums: np.ndarray, levels: np.ndarray, advice: str, answers: np.ndarray | None = None, **settings
) -> Detection:
    """Detection figures from cell sums [R, G, 2 L] of ``score_counts``; the raters' mean if R > 1.

    Raters who have judged one kind of image only count in none of the figures, unless nobody has judged the other.

    Args:
        advice: what to do if a kind of image has no answers.
        answers: [R, G] numbers of answers that a rater weighs by; None: those in ``sums``.
        settings: of ``bootstrap``.
    """
    quantities = [dataclasses.replace(q, missing=q.missing.format(advice)) for q in QUANTITIES]
    split = len(levels)
    signals, noises = sums[..., :split].sum((1, 2)) > 0, sums[..., split:].sum((1, 2)) > 0
    both = bool(signals.any() and noises.any())
    sums = np.concatenate([sums, (sums.sum(-1) if answers is None else answers)[..., None]], -1)
    if both:
        if not (signals & noises).any():
            return Detection(*(missing(q.missing) for q in quantities))
        sums = sums[signals & noises]
        d_prime = float(d_prime_variance(sums.sum(1), levels))
        quantities[3], quantities[4] = (
            dataclasses.replace(q, min_variance=v)
            for q, v in zip(quantities[3:5], (d_prime, d_prime / 4), strict=True)
        )
    return Detection(*bootstrap(sums, detection_statistic(levels, both), quantities, **settings))
