"""Agreement against published examples and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats import inter_rater

from siamese.study.statistics import StatisticsError
from siamese.study.statistics.agreement import (
    alpha_figure,
    fleiss_figure,
    within,
)

DIAGNOSES = np.array(
    [
        [int(c) for c in row]
        for row in [
            "00060",
            "03003",
            "01401",
            "00006",
            "03030",
            "20400",
            "00402",
            "20310",
            "20040",
            "00006",
            "10050",
            "11040",
            "03300",
            "10050",
            "02031",
            "00501",
            "30012",
            "51000",
            "02040",
            "10203",
            "00006",
            "01050",
            "02013",
            "20040",
            "10041",
            "05010",
            "40002",
            "02040",
            "10500",
            "00006",
        ]
    ]
)
"""Fleiss 1971, table 1: 30 patients, 6 psychiatrists, 5 diagnoses."""

NAN = np.nan
OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
"""Krippendorff 2011, Computing Krippendorff's alpha-reliability, section C: four observers, twelve units."""


def raters_of(counts: np.ndarray) -> np.ndarray:
    """[raters, items] categories with these ``counts`` [items, categories]; who gave which does not matter to Fleiss' kappa."""
    return np.array([np.repeat(np.arange(counts.shape[1]), row) for row in counts]).T.astype(float)


def test_kappa_of_fleiss_1971():
    assert DIAGNOSES.sum(1).tolist() == [6] * 30
    found, left_out = fleiss_figure(raters_of(DIAGNOSES), np.arange(30), resamples=200)
    assert found.value == pytest.approx(0.430, abs=5e-4)
    assert left_out == 0


def test_kappa_agrees_with_statsmodels():
    answers = np.random.default_rng(0).integers(0, 3, (40, 5))
    counts, _ = inter_rater.aggregate_raters(answers)
    found, _ = fleiss_figure(answers.T.astype(float), np.arange(40), resamples=200)
    assert found.value == pytest.approx(inter_rater.fleiss_kappa(counts))


@pytest.mark.parametrize(("level", "value"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849)])
def test_alpha_of_krippendorff_2011(level, value):
    found = alpha_figure(OBSERVERS, np.arange(12), level, resamples=200)
    assert found.value == pytest.approx(value, abs=5e-4)


def test_an_unknown_level_is_refused():
    with pytest.raises(StatisticsError, match="choose nominal"):
        alpha_figure(OBSERVERS, np.arange(12), "ratio", resamples=200)


def test_figures_hold_the_estimate_and_an_interval_over_groups():
    group = np.arange(12) // 2
    alpha = alpha_figure(OBSERVERS, group, "ordinal", resamples=500)
    assert alpha.value == pytest.approx(0.815, abs=5e-4)
    assert alpha.low < alpha.value < alpha.high <= 1
    assert alpha.basis == "conditional on these raters"
    kappa, left_out = fleiss_figure(OBSERVERS, group, resamples=500)
    counts, _ = inter_rater.aggregate_raters(OBSERVERS[:, ~np.isnan(OBSERVERS).any(0)].T)
    assert left_out == 4
    assert kappa.value == pytest.approx(inter_rater.fleiss_kappa(counts))


def test_degenerate_agreement_is_a_reason():
    group = np.arange(8)
    assert "invite another" in alpha_figure(OBSERVERS[:1, :8], group, "nominal").reason
    assert "invite another" in fleiss_figure(OBSERVERS[:1, :8], group)[0].reason
    same = alpha_figure(np.ones((3, 8)), group, "nominal")
    assert same.value is None
    assert "every answer is the same" in same.reason
    apart = np.full((2, 8), NAN)
    apart[0, :4], apart[1, 4:] = 1, 0
    assert "two raters" in alpha_figure(apart, group, "nominal").reason
    assert fleiss_figure(apart, group)[1] == 8
    few = alpha_figure(OBSERVERS[:, :4], np.arange(4), "nominal")
    assert few.value is not None
    assert few.low is None
    assert "5 or more mask groups" in few.reason


def test_within_rater_agreement():
    generator = np.random.default_rng(1)
    first = generator.integers(0, 2, 60)
    second = np.where(generator.random(60) < 0.8, first, 1 - first)
    rater, group = np.repeat(["ann", "bob"], 30), np.tile([f"g{i}" for i in range(30)], 2)
    everyone, ann, bob, eve = within(rater, group, first, second, ("ann", "bob", "eve"), resamples=500)
    assert everyone.pairs == 60
    assert everyone.same.value == pytest.approx(np.mean(first == second))
    table = np.array([[np.sum((first == i) & (second == j)) for j in (0, 1)] for i in (0, 1)])
    assert everyone.kappa.value == pytest.approx(inter_rater.cohens_kappa(table).kappa)
    assert ann.rater == "ann"
    assert ann.pairs == bob.pairs == 30
    assert ann.same.low < ann.same.value < ann.same.high
    assert eve.pairs == 0
    assert eve.same.value is None
    assert "no item was answered twice" in eve.same.reason
    assert within(rater[:0], group[:0], first[:0], second[:0], ("ann",))[0].pairs == 0
