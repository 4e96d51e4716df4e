"""Classifier two-sample test: the regression against another solver, folds, and what the test says of known laws."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from train.evaluation import two_sample
from train.evaluation.two_sample import c2st


def draw(seed: int, count: int = 30, dim: int = 6, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, 1, (count, dim))


def names(count: int, start: int = 0) -> list[str]:
    return [str(i) for i in range(start, start + count)]


def test_the_regression_equals_another_solver():
    """What is said of held-out images is what BFGS's minimum of the documented loss says, on standardised features."""
    x, y = draw(0, 40, 3), np.arange(40) >= 20
    x[y] += 0.5
    fresh, scaled = draw(2, 200, 3), (x - x.mean(0)) / x.std(0)
    for strength in (10.0, 0.1):

        def loss(v: np.ndarray, strength: float = strength) -> float:
            return (
                np.log1p(np.exp(-np.where(y, 1, -1) * (scaled @ v[:-1] + v[-1]))).sum()
                + strength * np.square(v[:-1]).sum() / 2
            )

        other = minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-9}).x
        expected = (fresh - x.mean(0)) / x.std(0) @ other[:-1] + other[-1] > 0
        [found] = two_sample._predictions(x, y, fresh, (strength,))
        assert (found == expected).mean() > 0.99
        assert 0.1 < found.mean() < 0.9


@pytest.mark.slow
def test_the_penalty_is_chosen_within_the_learning_part():
    """A strong one suffices for what lies far apart; with many features of noise and one that tells, not the weakest, which follows the noise."""
    everything = np.concatenate([draw(0, 40), draw(1, 40, shift=6)])
    y, groups = np.arange(80) >= 40, np.array(names(80))
    assert two_sample._chosen_strength(everything, y, groups, 5, 0) >= 100
    noisy = draw(2, 80, 60)
    noisy[y, 0] += 1.5
    chosen = [two_sample._chosen_strength(noisy, y, groups, 5, seed) for seed in range(5)]
    assert np.median(chosen) > two_sample.STRENGTHS[-1]


def test_one_class_says_that_class():
    for value in (False, True):
        assert (two_sample._predictions(draw(0), np.full(30, value), draw(1), (1.0,)) == value).all()


@pytest.mark.slow
def test_one_law_gives_a_half_and_two_give_one():
    chance = [c2st(draw(2 * i, 40), draw(2 * i + 1, 40), names(40), names(40), seeds=1) for i in range(8)]
    assert abs(np.mean(chance) - 0.5) < 4 * np.std(chance) / np.sqrt(8) + 0.02
    assert np.std(chance) > 0
    assert c2st(draw(0, 40), draw(1, 40, shift=6), names(40), names(40)) == 1.0
    # A normal law moved by 2 in one of six features: no classifier is right more often than Phi(1) = 0.841.
    moved = draw(1, 200) + np.array([2.0, 0, 0, 0, 0, 0])
    assert c2st(draw(0, 200), moved, names(200), names(200), seeds=2) == pytest.approx(0.841, abs=0.04)


@pytest.mark.slow
def test_images_of_one_group_are_never_in_both_parts():
    # Each group lies at a place of its own, with ten images there, all of one set: whoever has seen the group knows the set.
    places, sets = draw(0, 12, 40) * 20, np.arange(12) % 2
    index = np.repeat(np.arange(12), 10)
    images = places[index] + draw(1, 120, 40)
    real, fake = images[sets[index] == 0], images[sets[index] == 1]
    own = [f"g{i}" for i in index[sets[index] == 0]], [f"g{i}" for i in index[sets[index] == 1]]
    assert c2st(real, fake, names(60), names(60, 60), seeds=2) > 0.97
    assert c2st(real, fake, *own, seeds=2) < 0.75


@pytest.mark.slow
def test_equal_counts_whatever_the_larger_set_has(monkeypatch):
    sizes = []
    held_out = two_sample._held_out_accuracy
    monkeypatch.setattr(
        two_sample,
        "_held_out_accuracy",
        lambda x, y, **rest: sizes.append((len(x), int(y.sum()))) or held_out(x, y, **rest),
    )
    value = c2st(draw(0, 10), draw(1, 25), names(10), names(25, 10), seeds=3)
    assert sizes == [(20, 10)] * 3
    assert value == c2st(draw(0, 10), draw(1, 25), names(10), names(25, 10), seeds=3)
    assert value != c2st(draw(0, 10), draw(1, 25), names(10), names(25, 10), seeds=3, seed=8)


@pytest.mark.slow
def test_scale_of_features_and_constant_ones_change_nothing():
    a, b = draw(0), draw(1, shift=0.4)
    scales = np.array([1e-3, 1, 1, 1e4, 1, 1])
    value = c2st(a, b, names(30), names(30), seeds=2)
    assert c2st(a * scales + 3, b * scales + 3, names(30), names(30), seeds=2) == pytest.approx(
        value, abs=0.02
    )
    padded = [np.concatenate([x, np.full((30, 2), 4.0)], 1) for x in (a, b)]
    assert c2st(*padded, names(30), names(30), seeds=2) == pytest.approx(value, abs=0.02)


def test_refuses_what_cannot_be_held_out():
    with pytest.raises(ValueError, match="one group"):
        c2st(draw(0), draw(1), ["a"] * 30, names(30))
    with pytest.raises(ValueError, match="belong together"):
        c2st(draw(0), draw(1), names(29), names(30))
    with pytest.raises(ValueError, match="belong together"):
        c2st(draw(0), draw(1, dim=5), names(30), names(30))
