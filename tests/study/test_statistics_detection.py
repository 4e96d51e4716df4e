"""Signal detection and ROC against published examples and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from siamese.study.statistics.detection import (
    area_under_roc,
    detect,
    score_counts,
    sensitivity_and_criterion,
    signed_levels,
)


def test_d_prime_of_macmillan_and_creelman():
    """Macmillan & Creelman 2005, Detection theory, chapters 1 and 2: 20 of 25 old faces and 10 of 25 new ones called old: d' 1.095, c -0.294."""
    d_prime, criterion = sensitivity_and_criterion(20, 25, 10, 25, correct=False)
    assert d_prime == pytest.approx(1.095, abs=5e-4)
    assert criterion == pytest.approx(-0.294, abs=5e-4)


def test_d_prime_with_log_linear_correction():
    """Bonett, statpsych, signal(82, 46, 100, 100), after Wickens 2002, Elementary signal detection theory: rates (f + 0.5) / (n + 1) of
    0.8168317 and 0.460396, d' 1.002793, bias -0.4019603. The correction is Hautus's (1995)."""
    d_prime, criterion = sensitivity_and_criterion(82, 100, 46, 100)
    assert d_prime == pytest.approx(1.002793, abs=1e-6)
    assert criterion == pytest.approx(-0.4019603, abs=1e-6)


def test_correction_keeps_perfect_raters_finite():
    d_prime, criterion = sensitivity_and_criterion(
        np.array([50, 0, 5]), np.array([50, 50, 0]), np.array([0, 50, 5]), np.array([50, 50, 10])
    )
    assert d_prime[0] == pytest.approx(2 * stats.norm.ppf(50.5 / 51))
    assert d_prime[1] == -d_prime[0]
    assert np.allclose(criterion[:2], 0)
    assert np.isnan(d_prime[2])
    assert np.isnan(criterion[2])
    assert np.isinf(sensitivity_and_criterion(50, 50, 0, 50, correct=False)[0])


def test_area_of_hanley_and_mcneil():
    """Hanley & McNeil 1982, Radiology 143, table I: 58 normal and 51 abnormal CT images rated in five classes, area 0.893."""
    normal, abnormal = np.array([33, 6, 6, 11, 2]), np.array([3, 2, 2, 11, 33])
    assert area_under_roc(abnormal, normal) == pytest.approx(0.893, abs=5e-4)
    assert np.isnan(area_under_roc(np.zeros(5), normal))


def test_figures_agree_with_scipy_and_counts():
    generator = np.random.default_rng(3)
    synthetic = generator.random(200) < 0.7
    real = (generator.random(200) < np.where(synthetic, 0.4, 0.8)).astype(int)
    confidence = generator.integers(1, 11, 200)
    levels = signed_levels(real, confidence)
    sums = score_counts(real, confidence, synthetic, levels).reshape(1, 10, 20, -1).sum(2)
    found = detect(sums, levels, "", resamples=200)
    signed = np.where(real == 1, -confidence, confidence)
    u = stats.mannwhitneyu(signed[synthetic], signed[~synthetic]).statistic / (
        synthetic.sum() * (~synthetic).sum()
    )
    assert found.auc.value == pytest.approx(u)
    assert found.sensitivity.value == pytest.approx(np.mean(real[synthetic] == 0))
    assert found.specificity.value == pytest.approx(np.mean(real[~synthetic]))
    assert found.balanced_accuracy.value == pytest.approx(
        (found.sensitivity.value + found.specificity.value) / 2
    )
    assert found.auc.low < found.auc.value < found.auc.high
    assert found.d_prime.low < found.d_prime.value < found.d_prime.high


def test_overall_is_the_mean_of_raters_who_saw_both_kinds():
    levels = np.array([-5, 5])
    sums = np.zeros((3, 6, 4))
    sums[0] = [1, 0, 0, 1]  # says real of all: sensitivity 0, specificity 0
    sums[1] = [0, 1, 1, 0]  # always right
    sums[2, :, 1] = 1  # saw synthetic images only: counts in no figure of the row
    found = detect(sums, levels, "show both", resamples=200)
    assert found.balanced_accuracy.value == 0.5
    assert found.auc.value == 0.5
    assert found.sensitivity.value == 0.5 == found.specificity.value


def test_raters_of_one_kind_each_give_no_figure():
    sums = np.zeros((2, 6, 4))
    sums[0, :, 1] = sums[1, :, 2] = 1
    found = detect(sums, np.array([-5, 5]), "wait", resamples=200)
    assert {f.value for f in vars(found).values()} == {None}
    assert "wait" in found.sensitivity.reason


@pytest.mark.parametrize("kind", [0, 1])
def test_missing_kind_is_a_reason_not_a_number(kind):
    sums = np.zeros((1, 6, 4))
    sums[..., 2 * kind] = 1
    found = detect(sums, np.array([-5, 5]), "add the other images", resamples=200)
    assert found.d_prime.value is None
    assert found.balanced_accuracy.value is None
    assert "add the other images" in found.auc.reason
