"""Distances between sets of image features: Frechet, kernel (unbiased), and the former at a fixed number of images.

Frechet distance: Heusel et al. 2017, arXiv:1706.08500. Kernel distance: Binkowski et al. 2018, arXiv:1801.01401. With
Inception's features they are called FID and KID; with any other features they must be named by those, and are not comparable.
"""

from __future__ import annotations

import numpy as np


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^1/2) of features [N, D] and [M, D], in float64; 0 or more.

    With centred features A, B (C = A'A), tr (A'A B'B)^1/2 is the sum of singular values of A B'. No root of the
    rank-deficient covariances of N < D images has to be taken, which loses digits and turns complex.

    Raises:
        ValueError: see ``_checked``; fewer than two images.
    """
    a, b = _checked(features_a, features_b)
    mean_a, mean_b = a.mean(0), b.mean(0)
    root_a, root_b = _root(a - mean_a), _root(b - mean_b)
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(
        max(
            0.0,
            np.square(mean_a - mean_b).sum() + np.square(root_a).sum() + np.square(root_b).sum() - 2 * cross,
        )
    )


def _root(centred: np.ndarray) -> np.ndarray:
    """A [min(N, D), D] with A'A = the unbiased covariance of ``centred`` [N, D]."""
    scaled = centred / np.sqrt(len(centred) - 1)
    return np.asarray(np.linalg.qr(scaled, mode="r")) if scaled.shape[0] > scaled.shape[1] else scaled


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Unbiased squared MMD of features [N, D] and [M, D] with kernel (x.y / D + 1)^3; near 0, possibly below, for equal laws.

    Raises:
        ValueError: see ``_checked``.
    """
    a, b = _checked(features_a, features_b)
    n, m, dim = len(a), len(b), a.shape[1]
    own_a, own_b = np.power(a @ a.T / dim + 1, 3), np.power(b @ b.T / dim + 1, 3)
    cross = np.power(a @ b.T / dim + 1, 3)
    within = (own_a.sum() - np.trace(own_a)) / (n * (n - 1)) + (own_b.sum() - np.trace(own_b)) / (m * (m - 1))
    return float(within - 2 * cross.mean())


def fd_at_n(real: np.ndarray, fake: np.ndarray, n: int, draws: int = 20, seed: int = 0) -> float:
    """Frechet distance between ``n`` of ``real`` and ``n`` of ``fake``, averaged over ``draws`` random choices.

    The distance's bias depends on the number of images, so figures can be compared at the same ``n`` only. Where a set has
    exactly ``n`` features [n, D] it is used whole each time.

    Raises:
        ValueError: a set has fewer than ``n``, ``draws`` is not positive, or see ``frechet_distance``.
    """
    if min(len(real), len(fake)) < n or draws < 1:
        raise ValueError(
            f"{len(real)} real and {len(fake)} synthetic features cannot give {draws} draws of {n}."
        )
    rng = np.random.default_rng(seed)
    return float(
        np.mean(
            [
                frechet_distance(real[rng.permutation(len(real))[:n]], fake[rng.permutation(len(fake))[:n]])
                for _ in range(draws)
            ]
        )
    )


def _checked(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64.

    Raises:
        ValueError: not [N, D] and [M, D] with N, M of two or more, or not finite.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features must be [N, D] and [M, D] of two images or more each, not {a.shape} and {b.shape}."
        )
    a, b = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("features are not finite.")
    return a, b
