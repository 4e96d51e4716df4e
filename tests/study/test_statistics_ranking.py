"""Friedman, Wilcoxon, Holm, Bradley-Terry and Plackett-Luce against published examples, scipy, statsmodels and choix."""

from __future__ import annotations

import choix
import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from siamese.study.statistics.luce import (
    ConvergenceError,
    DisconnectedError,
    beaten,
    choices_from_orders,
    choices_from_pairs,
    connected,
    fit,
    log_strengths,
)
from siamese.study.statistics.ranking import friedman, holm, pair_tests

FIRST_BASE = np.array(
    [
        5.40,
        5.50,
        5.55,
        5.85,
        5.70,
        5.75,
        5.20,
        5.60,
        5.50,
        5.55,
        5.50,
        5.40,
        5.90,
        5.85,
        5.70,
        5.45,
        5.55,
        5.60,
        5.40,
        5.40,
        5.35,
        5.45,
        5.50,
        5.35,
        5.25,
        5.15,
        5.00,
        5.85,
        5.80,
        5.70,
        5.25,
        5.20,
        5.10,
        5.65,
        5.55,
        5.45,
        5.60,
        5.35,
        5.45,
        5.05,
        5.00,
        4.95,
        5.50,
        5.50,
        5.40,
        5.45,
        5.55,
        5.50,
        5.55,
        5.55,
        5.35,
        5.45,
        5.50,
        5.55,
        5.50,
        5.45,
        5.25,
        5.65,
        5.60,
        5.40,
        5.70,
        5.65,
        5.55,
        6.30,
        6.30,
        6.25,
    ]
).reshape(22, 3)
"""Hollander & Wolfe 1973, Nonparametric statistical methods, p. 140: seconds to round first base, 22 players, three ways."""

LEAGUE = np.array(
    [
        [0, 7, 9, 7, 7, 9, 11],
        [6, 0, 7, 5, 11, 9, 9],
        [4, 6, 0, 7, 7, 8, 12],
        [6, 8, 6, 0, 6, 7, 10],
        [6, 2, 6, 7, 0, 7, 12],
        [4, 4, 5, 6, 6, 0, 6],
        [2, 4, 1, 3, 1, 7, 0],
    ]
)
"""Agresti 2002, Categorical data analysis, 2nd ed., table 10.10: American League 1987, wins of row against column. Milwaukee, Detroit, Toronto,
New York, Boston, Cleveland, Baltimore."""


def test_friedman_of_hollander_and_wolfe():
    """Hollander & Wolfe's statistic, corrected for ties, is 11.14 with p 0.0038 (R's friedman.test: 11.143, 0.003805)."""
    result = friedman(FIRST_BASE)
    assert result.statistic == pytest.approx(11.143, abs=5e-4)
    assert result.p == pytest.approx(0.003805, abs=5e-7)
    assert result.freedom == 2
    assert result.blocks == 22
    assert result.kendall_w == pytest.approx(11.143 / 44, abs=1e-4)


def test_friedman_agrees_with_scipy():
    blocks = np.random.default_rng(2).integers(1, 5, (30, 4)).astype(float)
    found = stats.friedmanchisquare(*blocks.T)
    assert friedman(blocks).statistic == pytest.approx(found.statistic)
    assert friedman(blocks).p == pytest.approx(found.pvalue)


@pytest.mark.parametrize(
    ("blocks", "reason"),
    [
        (np.ones((9, 2)), "three or more methods"),
        (np.ones((1, 3)), "two or more mask groups"),
        (np.full((9, 3), 2.0), "all methods tie"),
    ],
)
def test_friedman_needs_blocks_methods_and_differences(blocks, reason):
    result = friedman(blocks)
    assert result.p is None
    assert reason in result.reason


def test_wilcoxon_of_hollander_and_wolfe():
    """Hollander & Wolfe 1973, p. 29: Hamilton depression factor IV of nine patients; V = 40, one-sided exact p 0.01953, two-sided twice that."""
    before = [1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30]
    after = [0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29]
    (test,) = pair_tests(np.column_stack([before, after]), ("before", "after"))
    assert test.p == pytest.approx(0.03906, abs=5e-6)
    assert test.p_holm == test.p


@pytest.mark.slow
def test_pairs_are_corrected_together_and_ties_have_a_reason():
    blocks = np.random.default_rng(4).normal(size=(40, 3)) + [0, 0.3, 0.8]
    tests = pair_tests(blocks, ("a", "b", "c"))
    assert [(t.first, t.second) for t in tests] == [("a", "b"), ("a", "c"), ("b", "c")]
    differences = [np.round(blocks[:, i] - blocks[:, j], 9) for i, j in ((0, 1), (0, 2), (1, 2))]
    raw = [stats.wilcoxon(d, zero_method="pratt", method="asymptotic").pvalue for d in differences]
    assert [t.p for t in tests] == pytest.approx(raw)
    assert [t.p_holm for t in tests] == pytest.approx(multipletests(raw, method="holm")[1])
    tied = pair_tests(blocks[:, [0, 0, 2]], ("a", "b", "c"))
    assert tied[0].p is None
    assert "tie in every mask group" in tied[0].reason
    assert tied[1].p_holm == pytest.approx(2 * tied[1].p)
    assert "no mask group" in pair_tests(np.zeros((0, 2)), ("a", "b"))[0].reason


@pytest.mark.slow
def test_holm_agrees_with_statsmodels():
    p = np.random.default_rng(5).random(12) ** 3
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1])
    assert holm(np.array([])).size == 0


def pairs_of(wins):
    return [(i, j) for i in range(len(wins)) for j in range(len(wins)) for _ in range(wins[i, j])]


def test_bradley_terry_of_agresti():
    """Agresti 2002, section 10.6: 1.58, 1.44, 1.29, 1.25, 1.11, 0.68 above Baltimore."""
    won, lost = np.array(pairs_of(LEAGUE)).T
    choices = choices_from_pairs(won, lost, 7)
    scores = log_strengths(choices.events.sum(0).reshape(choices.shape), choices.members, tuple("MDTNBCO"))
    assert scores - scores[-1] == pytest.approx([1.58, 1.44, 1.29, 1.25, 1.11, 0.68, 0], abs=6e-3)
    assert scores == pytest.approx(choix.opt_pairwise(7, pairs_of(LEAGUE)), abs=1e-5)
    assert abs(scores.mean()) < 1e-12


def test_plackett_luce_agrees_with_choix():
    generator = np.random.default_rng(6)
    truth = np.array([0.8, 0.2, -0.1, -0.9])
    orders = np.argsort(-(truth + generator.gumbel(size=(300, 4))), 1)
    choices = choices_from_orders(orders, 4)
    scores = log_strengths(choices.events.sum(0).reshape(choices.shape), choices.members, tuple("abcd"))
    assert scores == pytest.approx(choix.ilsr_rankings(4, [tuple(o) for o in orders], tol=1e-10), abs=1e-5)
    assert np.abs(scores - truth).max() < 0.3


def test_many_tables_at_once_give_what_each_gives_alone():
    generator = np.random.default_rng(7)
    choices = choices_from_orders(np.argsort(generator.random((60, 3)), 1), 3)
    counts = np.stack(
        [(choices.events * generator.integers(0, 3, (60, 1))).sum(0).reshape(choices.shape) for _ in range(5)]
    )
    together = fit(counts, choices.members)
    for one, scores in zip(counts, together, strict=True):
        assert scores == pytest.approx(log_strengths(one, choices.members, tuple("abc")), abs=1e-6)


def test_a_method_that_never_wins_has_no_finite_strength():
    wins = np.array([[0, 3, 4], [2, 0, 5], [0, 0, 0]])
    won, lost = np.array(pairs_of(wins)).T
    choices = choices_from_pairs(won, lost, 3)
    counts = choices.events.sum(0).reshape(choices.shape)
    assert beaten(counts, choices.members).tolist() == wins.tolist()
    assert not connected(counts[None], choices.members)[0]
    with pytest.raises(DisconnectedError, match="ours never won against real, other"):
        log_strengths(counts, choices.members, ("real", "other", "ours"))
    assert np.isnan(fit(counts[None], choices.members)).all()


def test_methods_that_never_meet_have_no_common_scale():
    choices = choices_from_pairs(np.array([0, 1, 2, 3]), np.array([1, 0, 3, 2]), 4)
    with pytest.raises(DisconnectedError, match="never won against"):
        log_strengths(choices.events.sum(0).reshape(choices.shape), choices.members, tuple("abcd"))


def test_too_few_steps_are_said():
    won, lost = np.array(pairs_of(LEAGUE)).T
    choices = choices_from_pairs(won, lost, 7)
    with pytest.raises(ConvergenceError, match="2 steps"):
        log_strengths(
            choices.events.sum(0).reshape(choices.shape), choices.members, tuple("MDTNBCO"), max_steps=2
        )
