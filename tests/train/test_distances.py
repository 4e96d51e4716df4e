"""Frechet and kernel distances: closed forms, invariances, and the textbook formula with a matrix root."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from train.evaluation.distances import fd_at_n, frechet_distance, kernel_distance


def draw(seed: int, count: int = 60, dim: int = 5, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(shift, scale, (count, dim))


def textbook(a: np.ndarray, b: np.ndarray) -> float:
    root = sqrtm(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    means = np.square(a.mean(0) - b.mean(0)).sum()
    return float(means + np.trace(np.cov(a, rowvar=False) + np.cov(b, rowvar=False) - 2 * root))


def exactly(mean: np.ndarray, deviations: np.ndarray) -> np.ndarray:
    """Points whose sample mean and covariance are exactly ``mean`` and diag(deviations^2)."""
    dim = len(mean)
    points = np.concatenate([np.eye(dim), -np.eye(dim)]) * np.sqrt((2 * dim - 1) / 2)
    return mean + points * deviations


def test_frechet_of_gaussians_in_closed_form():
    a = exactly(np.array([0.0, 0.0, 0.0]), np.array([1.0, 2.0, 3.0]))
    b = exactly(np.array([1.0, -2.0, 0.5]), np.array([2.0, 2.0, 0.5]))
    assert frechet_distance(a, b) == pytest.approx(1 + 4 + 0.25 + 1 + 0 + 2.5**2, rel=1e-12)


@pytest.mark.parametrize("counts", [(60, 60), (60, 31), (7, 90)])
def test_frechet_equals_the_formula_with_a_matrix_root(counts):
    a, b = draw(0, counts[0]), draw(1, counts[1], shift=0.3, scale=1.7) @ np.triu(np.ones((5, 5)))
    assert frechet_distance(a, b) == pytest.approx(textbook(a, b), rel=1e-9)


def test_frechet_with_fewer_images_than_dimensions():
    a, b = draw(0, 12, 40), draw(1, 15, 40, shift=0.5)
    assert frechet_distance(a, b) == pytest.approx(
        textbook(a, b), rel=1e-4
    )  # the matrix root of singular products is the inexact one
    padded = [np.concatenate([x, np.zeros((len(x), 30))], 1) for x in (a, b)]
    assert frechet_distance(*padded) == pytest.approx(frechet_distance(a, b), rel=1e-10)


def test_frechet_invariances():
    a, b = draw(0), draw(1, shift=1.0, scale=2.0)
    value = frechet_distance(a, b)
    turn, _ = np.linalg.qr(draw(2, 5))
    assert value > 1
    assert frechet_distance(b, a) == pytest.approx(value)
    assert frechet_distance(a @ turn + 3, b @ turn + 3) == pytest.approx(value)
    assert frechet_distance(10 * a, 10 * b) == pytest.approx(100 * value)
    assert frechet_distance(a, a[::-1]) == pytest.approx(0, abs=1e-10)
    assert frechet_distance(a, a + np.array([3.0, 0, 0, 0, 4.0])) == pytest.approx(25)


def kernel_by_hand(a: np.ndarray, b: np.ndarray) -> float:
    def k(x, y):
        return (x @ y / len(x) + 1) ** 3

    within = [np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j]) for s in (a, b)]
    return within[0] + within[1] - 2 * np.mean([k(x, y) for x in a for y in b])


def test_kernel_distance_equals_the_double_sum():
    a, b = draw(0, 8), draw(1, 11, shift=0.4)
    assert kernel_distance(a, b) == pytest.approx(kernel_by_hand(a, b), rel=1e-10)


def test_kernel_distance_is_unbiased():
    same = [kernel_distance(draw(2 * i, 20), draw(2 * i + 1, 20)) for i in range(300)]
    other = [kernel_distance(draw(2 * i, 20), draw(2 * i + 1, 20, shift=0.5)) for i in range(300)]
    assert abs(np.mean(same)) < 4 * np.std(same) / np.sqrt(len(same))
    assert min(same) < 0 < np.mean(other) - 10 * np.std(other) / np.sqrt(len(other))


def test_fd_at_n_uses_n_of_each_and_the_seed():
    real, fake = draw(0, 90), draw(1, 20, shift=0.2)
    assert (
        fd_at_n(real, fake, 20, 5, seed=3)
        == fd_at_n(real, fake, 20, 5, seed=3)
        != fd_at_n(real, fake, 20, 5, seed=4)
    )
    assert fd_at_n(fake, fake, 20, 3) == pytest.approx(0, abs=1e-10)  # all of both: no draw differs
    # Fewer images: a larger bias, even of one and the same distribution.
    assert fd_at_n(real, draw(5, 90), 8, 20) > 2 * fd_at_n(real, draw(5, 90), 80, 20)


def test_refuses_what_has_no_distance():
    with pytest.raises(ValueError, match="two images"):
        frechet_distance(draw(0, 1), draw(1))
    with pytest.raises(ValueError, match="two images"):
        kernel_distance(draw(0, dim=4), draw(1, dim=5))
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(draw(0), np.full((5, 5), np.nan))
    with pytest.raises(ValueError, match="cannot give"):
        fd_at_n(draw(0, 10), draw(1, 9), 10)
