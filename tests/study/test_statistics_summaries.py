"""Whole studies of the three protocols: from rows to figures, by hand-made data with known results."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from siamese.study.statistics import (
    CONDITIONAL,
    OVER_RATERS,
    JudgedPair,
    Pairs,
    RankedImage,
    Rankings,
    Rating,
    Ratings,
    StatisticsError,
    summarise_pairs,
    summarise_rankings,
    summarise_ratings,
)
from tests.study.simulated_ratings import Model, draw

METHODS = ("real", "ours", "poor")
FAST = {"resamples": 200}


def rating_rows(raters=3, groups=12, seed=0):
    """Answers with a confidence that depends on the rater, 2 seconds for real and 4 for others, and the first groups repeated."""
    answers = draw(Model((0.85, 0.6, 0.2)), raters, groups, np.random.default_rng(seed)).answers
    rows = [
        Rating(f"r{r}", f"g{g:02}", m, int(answers[r, g, n]), r + 3, 2.0 if n == 0 else 4.0)
        for r in range(raters)
        for g in range(groups)
        for n, m in enumerate(METHODS)
    ]
    return rows, answers


def plain(value):
    """JSON text of a summary; fails on NaN."""
    return json.dumps(dataclasses.asdict(value), allow_nan=False)


def test_ratings():
    rows, answers = rating_rows()
    extra = [dataclasses.replace(r, repeat=1) for r in rows[:6]] + [
        dataclasses.replace(rows[0], group="t", training=True)
    ]
    table = Ratings.from_rows(rows + extra)
    found = summarise_ratings(table, **FAST)
    assert found.answers == 108
    assert found.groups == 12
    assert found.basis == CONDITIONAL
    means = answers.mean((0, 1))
    assert [m.method for m in found.methods] == list(METHODS)
    assert [m.mos.value for m in found.methods] == pytest.approx(means.tolist())
    assert [m.confidence.value for m in found.methods] == pytest.approx([4, 4, 4])
    assert found.methods[0].answers == 36
    assert found.methods[0].real_minus_method is None
    assert found.methods[2].real_minus_method.value == pytest.approx(means[0] - means[2])
    assert found.methods[2].detection.balanced_accuracy.value == pytest.approx((means[0] + 1 - means[2]) / 2)
    assert found.methods[0].times.median == 2
    assert found.methods[1].times.median == 4
    assert found.times.median == 4
    rater = found.raters[1]
    assert rater.detection.specificity.value == pytest.approx(answers[1, :, 0].mean())
    assert rater.confidence.value == 4
    assert rater.detection.sensitivity.value == pytest.approx(1 - answers[1, :, 1:].mean())
    assert rater.judged_real.basis == CONDITIONAL
    assert found.overall.sensitivity.value == pytest.approx(1 - answers[..., 1:].mean())
    assert [w.pairs for w in found.within_rater] == [6, 6, 0, 0]
    assert found.within_rater[0].same.value == 1
    assert {(e.answers, e.reason) for e in found.exclusions} == {
        (6, "repeated item: the first answer counts"),
        (1, "training item"),
    }
    assert found.agreement.left_out == 0
    assert -1 < found.agreement.alpha.value < 1
    assert found.agreement.alpha_confidence.value is not None
    assert "NaN" not in plain(found)
    assert plain(found) == plain(summarise_ratings(table, **FAST))


def test_six_raters_speak_for_others():
    found = summarise_ratings(Ratings.from_rows(rating_rows(6, 8)[0]), **FAST)
    assert found.basis == OVER_RATERS == found.methods[1].mos.basis == found.overall.d_prime.basis
    assert found.raters[0].detection.auc.basis == CONDITIONAL == found.agreement.fleiss_kappa.basis


def test_order_of_rows_does_not_matter():
    rows, _ = rating_rows()
    mixed = [rows[i] for i in np.random.default_rng(1).permutation(len(rows))]
    assert plain(summarise_ratings(Ratings.from_rows(mixed), **FAST)) == plain(
        summarise_ratings(Ratings.from_rows(rows), **FAST)
    )


def test_ratings_without_real_images():
    rows = [r for r in rating_rows()[0] if r.method != "real"]
    found = summarise_ratings(Ratings.from_rows(rows), **FAST)
    assert found.methods[0].mos.value is not None
    assert found.methods[0].real_minus_method.value is None
    assert "add real images" in found.methods[0].real_minus_method.reason
    assert "add real images" in found.overall.d_prime.reason
    assert found.overall.specificity.value is None
    assert found.overall.sensitivity.value is not None
    plain(found)


def test_ratings_of_real_images_only():
    found = summarise_ratings(Ratings.from_rows([r for r in rating_rows()[0] if r.method == "real"]), **FAST)
    assert len(found.methods) == 1
    assert "add a synthetic method" in found.overall.sensitivity.reason


def test_one_rater_half_way():
    rows = [dataclasses.replace(r, seconds=None) for r in rating_rows()[0] if r.rater == "r0"][:2]
    found = summarise_ratings(Ratings.from_rows(rows), **FAST)
    assert "invite another" in found.agreement.alpha.reason
    assert "invite another" in found.agreement.fleiss_kappa.reason
    assert found.methods[0].mos.low is None
    assert "5 or more mask groups" in found.methods[0].mos.reason
    assert found.times.median is None
    assert "no item was answered twice" in found.within_rater[0].same.reason
    plain(found)


def test_all_answers_alike():
    rows = [dataclasses.replace(r, real=1, confidence=5) for r in rating_rows()[0]]
    found = summarise_ratings(Ratings.from_rows(rows), **FAST)
    assert found.methods[1].mos.value == 1 == found.methods[1].mos.high
    assert 0.7 < found.methods[1].mos.low < 0.75
    assert found.agreement.alpha.value is None
    assert "every answer is the same" in found.agreement.fleiss_kappa.reason
    assert found.overall.balanced_accuracy.value == 0.5 == found.overall.auc.value
    assert "do not vary" in found.overall.auc.reason
    plain(found)


def ranking_rows(raters=2, groups=20, seed=0, gain=(0.8, 0.3, -0.8)):
    generator = np.random.default_rng(seed)
    ranks = np.argsort(np.argsort(np.array(gain) + generator.gumbel(size=(raters, groups, 3)), -1), -1) + 1
    rows = [
        RankedImage(f"r{r}", f"g{g:02}", m, int(ranks[r, g, n]))
        for r in range(raters)
        for g in range(groups)
        for n, m in enumerate(METHODS)
    ]
    return rows, ranks


def test_rankings():
    rows, ranks = ranking_rows()
    extra = [dataclasses.replace(r, repeat=1) for r in rows[:3]]
    found = summarise_rankings(Rankings.from_rows(rows + extra), **FAST)
    means = ranks.mean((0, 1))
    assert found.rankings == 40
    assert [m.mean_rank.value for m in found.methods] == pytest.approx(means.tolist())
    assert sum(means) == pytest.approx(6)
    assert [m.ranked_best.value for m in found.methods] == pytest.approx((ranks == 3).mean((0, 1)).tolist())
    assert found.rater_means[1][0].value == pytest.approx(ranks[1, :, 0].mean())
    assert sum(m.strength.value for m in found.methods) == pytest.approx(0)
    assert found.methods[0].strength.value > found.methods[2].strength.value
    assert all(m.strength.low < m.strength.value < m.strength.high for m in found.methods)
    assert found.friedman.blocks == 20
    assert 0 < found.friedman.p < 1
    assert len(found.pairs) == 3
    assert found.pairs[1].mean_difference == pytest.approx(means[0] - means[2])
    assert found.within_rater[1].pairs == 3
    assert found.within_rater[1].same.value == 1
    assert found.alpha.value is not None
    assert found.basis == CONDITIONAL
    plain(found)


@pytest.mark.slow
def test_ranking_with_one_rater_and_a_method_that_never_wins():
    rows = [
        RankedImage("r", f"g{g}", m, 3 - n if g % 2 or n == 2 else 2 + n)
        for g in range(8)
        for n, m in enumerate(METHODS)
    ]
    found = summarise_rankings(Rankings.from_rows(rows), **FAST)
    assert found.methods[2].mean_rank.value == 1
    assert found.methods[0].strength.value is None
    assert "poor never won against real, ours" in found.methods[0].strength.reason
    assert "invite another" in found.alpha.reason
    plain(found)


def test_friedman_takes_groups_that_every_rater_ranked():
    rows, _ = ranking_rows()
    found = summarise_rankings(
        Rankings.from_rows([r for r in rows if (r.rater, r.group) != ("r1", "g03")]), **FAST
    )
    assert found.rankings == 39
    assert found.friedman.blocks == 19


def test_ranking_needs_two_methods_and_a_whole_group():
    with pytest.raises(StatisticsError, match="two or more methods"):
        summarise_rankings(Rankings.from_rows([RankedImage("r", "g", "ours", 1)]))
    parts = [
        RankedImage("r", "g1", "real", 2),
        RankedImage("r", "g1", "ours", 1),
        RankedImage("r", "g2", "ours", 1),
        RankedImage("r", "g2", "poor", 2),
    ]
    with pytest.raises(StatisticsError, match="no complete ranking yet"):
        summarise_rankings(Rankings.from_rows(parts))


def test_pairs():
    generator = np.random.default_rng(0)
    rows, fooled = [], []
    for r in range(6):
        for g in range(15):
            for method, chance in (("ours", 0.4), ("poor", 0.1)):
                fooled.append((method, generator.random() < chance))
                rows.append(
                    JudgedPair(
                        f"r{r}",
                        f"g{g:02}",
                        *((method, "real") if fooled[-1][1] else ("real", method)),
                        seconds=3.0,
                    )
                )
    found = summarise_pairs(Pairs.from_rows([*rows, dataclasses.replace(rows[0], repeat=1)]), **FAST)
    share = {m: np.mean([f for n, f in fooled if n == m]) for m in ("ours", "poor")}
    assert found.pairs == 180
    assert found.basis == OVER_RATERS
    assert found.found_real.value == pytest.approx(1 - np.mean([f for _, f in fooled]))
    real, ours, poor = found.methods
    assert real.beats_real is None
    assert ours.beats_real.value == pytest.approx(share["ours"]) == pytest.approx(ours.chosen.value)
    # without a pair of ours and poor, each strength is its own log odds against real
    for method in (ours, poor):
        p = share[method.method]
        assert method.strength.value - real.strength.value == pytest.approx(math.log(p / (1 - p)), abs=1e-4)
    assert found.raters[0].found_real.basis == CONDITIONAL
    assert found.raters[0].pairs == 30
    assert found.raters[0].times.median == 3
    assert found.within_rater[0].pairs == 1
    assert found.alpha.value is not None
    plain(found)


def test_pairs_without_real_images():
    rows = [JudgedPair("r", f"g{g}", *(("ours", "poor") if g % 3 else ("poor", "ours"))) for g in range(9)]
    found = summarise_pairs(Pairs.from_rows(rows), **FAST)
    assert "add real images" in found.found_real.reason
    assert found.methods[0].chosen.value == pytest.approx(2 / 3)
    plain(found)
