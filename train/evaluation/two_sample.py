"""Classifier two-sample test: how well a linear classifier tells two sets of image features apart.

Lopez-Paz and Oquab 2017, arXiv:1610.06545: the held-out accuracy of a classifier of the two sets, 0.5 if they follow one
law and 1 if no image is taken for one of the other set. Here the classifier is a logistic regression with an L2 penalty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

STRENGTHS = (1e4, 1e3, 1e2, 1e1, 1e0)
"""Weights of the penalty |w|^2 / 2 beside the sum of the images' losses, from which the inner folds choose; the strongest first."""


def c2st(
    real: np.ndarray,
    fake: np.ndarray,
    real_groups: Sequence[str],
    fake_groups: Sequence[str],
    seeds: int = 5,
    folds: int = 5,
    seed: int = 0,
) -> float:
    """Accuracy, 0 to 1, with which images of held-out groups are classified as ``real`` or ``fake``; the mean over ``seeds``.

    Each fold is classified by a logistic regression on the others', on features of mean 0 and variance 1 there, whose penalty
    is the one of ``STRENGTHS`` with the highest accuracy in ``folds`` inner folds of these others, grouped likewise (of equals, the
    strongest). Where one set is larger, each seed draws as many of it as the smaller has.

    Args:
        real, fake: features [N, D] and [M, D].
        real_groups, fake_groups: name of each image's group; images of one name are never parted, also across the two sets.
        seeds: further random choices of images and folds, from ``seed`` on.
        folds: number of folds, fewer if there are fewer groups.

    Raises:
        ValueError: a set has images of one group only (nothing is held out then), or shapes do not agree.
    """
    if (
        real.ndim != 2
        or fake.ndim != 2
        or real.shape[1] != fake.shape[1]
        or (len(real), len(fake)) != (len(real_groups), len(fake_groups))
    ):
        raise ValueError(
            f"features {real.shape} and {fake.shape} with {len(real_groups)} and {len(fake_groups)} groups do not belong together."
        )
    if min(len(set(real_groups)), len(set(fake_groups))) < 2:
        raise ValueError("a set's images are all of one group: none can be held out.")
    count, scores = min(len(real), len(fake)), []
    with threadpool_limits(1):  # the matrices are small: threads would wait for each other
        for s in range(seed, seed + seeds):
            rng = np.random.default_rng(s)
            picked = [np.sort(rng.permutation(len(x))[:count]) for x in (real, fake)]
            x = np.concatenate([real[picked[0]], fake[picked[1]]]).astype(np.float64)
            groups = np.array([real_groups[i] for i in picked[0]] + [fake_groups[i] for i in picked[1]])
            scores.append(
                _held_out_accuracy(x, y=np.arange(2 * count) >= count, groups=groups, folds=folds, seed=s)
            )
    return float(np.mean(scores))


def _held_out_accuracy(x: np.ndarray, y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> float:
    """Share of all images that are classified rightly when their fold is held out."""
    right = np.zeros(len(y), bool)
    for inside, held in _folds(groups, folds, seed):
        strength = _chosen_strength(x[inside], y=y[inside], groups=groups[inside], folds=folds, seed=seed)
        right[held] = _predictions(x[inside], y[inside], x[held], (strength,))[0] == y[held]
    return float(right.mean())


def _folds(groups: np.ndarray, folds: int, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices of what is learnt from and of what is held out, for each fold; a group's images are on one side."""
    return GroupKFold(min(folds, len(set(groups))), shuffle=True, random_state=seed).split(
        groups, groups=groups
    )


def _chosen_strength(x: np.ndarray, y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> float:
    """The one of ``STRENGTHS`` with the highest accuracy on held-out folds; the strongest if there is only one group."""
    if len(set(groups)) < 2:
        return STRENGTHS[0]
    right = sum(
        (_predictions(x[inside], y[inside], x[held], STRENGTHS) == y[held]).sum(1)
        for inside, held in _folds(groups, folds, seed)
    )
    return STRENGTHS[int(np.argmax(right))]


def _predictions(x: np.ndarray, y: np.ndarray, others: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """bool [len(strengths), M]: what regressions on ``x`` [N, D] and ``y`` [N] say of ``others`` [M, D], all standardised by ``x``."""
    if (y == y[0]).all():  # every image of one set is held out
        return np.full((len(strengths), len(others)), y[0])
    # Principal components only turn the features, which an L2 penalty does not see: with fewer images than features it saves time.
    prepare = make_pipeline(StandardScaler(), PCA(svd_solver="full")).fit(x)
    x, others = prepare.transform(x), prepare.transform(others)
    return np.stack([LogisticRegression(C=1 / s, max_iter=2000).fit(x, y).predict(others) for s in strengths])
