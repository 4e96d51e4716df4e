"""Classifier two-sample test: how well a linear classifier tells two sets of image features apart.

Lopez-Paz and Oquab 2017, arXiv:1610.06545: the held-out accuracy of a classifier of the two sets, 0.5 where they follow one
law and 1 where no image is taken for one of the other set. Here the classifier is a logistic regression with an L2 penalty.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve

STRENGTHS = (1e4, 1e3, 1e2, 1e1, 1e0)
"""Weights of the penalty |w|^2 / 2 beside the sum of the images' losses, from which the inner folds choose; the strongest first."""


class LogisticRegression:
    """Minimises sum_i log(1 + exp(-y_i (w.x_i + b))) + strength |w|^2 / 2 over w and b, by Newton's method from w = 0.

    Args:
        x: features float64 [N, D].
        y: bool [N]; where all are equal, ``predict`` gives that value.

    With N < D, w lies in the span of x, so that a problem of N unknowns is solved instead of one of D.
    """

    def __init__(self, x: np.ndarray, y: np.ndarray) -> None:
        self.only = bool(y[0]) if (y == y[0]).all() else None
        self.basis = np.linalg.qr(x.T)[0] if x.shape[0] < x.shape[1] else np.eye(x.shape[1])
        self.inputs = np.column_stack([x @ self.basis, np.ones(len(x))])
        self.targets = y.astype(np.float64)
        self.solution = np.zeros(self.inputs.shape[1])

    def fit(self, strength: float, tolerance: float = 1e-6, steps: int = 100) -> LogisticRegression:
        """Solve for ``strength``, from the solution before; at the end each slope is below ``tolerance`` times the number of images.

        Raises:
            ArithmeticError: not reached in ``steps`` steps.
        """
        if self.only is not None:
            return self
        penalty = np.append(np.full(len(self.solution) - 1, strength), 0.0)  # the intercept is free
        loss, solution = self._loss(self.solution, penalty), self.solution
        for _ in range(steps):
            chance = 1 / (1 + np.exp(-np.clip(self.inputs @ solution, -500, 500)))
            slope = self.inputs.T @ (chance - self.targets) + penalty * solution
            if np.abs(slope).max() <= tolerance * len(self.targets):
                self.solution = solution
                return self
            curvature = (self.inputs * (chance * (1 - chance))[:, None]).T @ self.inputs + np.diag(penalty + 1e-12)
            direction, length = cho_solve(cho_factor(curvature), slope), 1.0
            while (other := self._loss(solution - length * direction, penalty)) > loss and length > 1e-10:
                length /= 2
            solution, loss = solution - length * direction, other
        raise ArithmeticError(f"no logistic regression of strength {strength} after {steps} steps.")

    def _loss(self, solution: np.ndarray, penalty: np.ndarray) -> float:
        scores = self.inputs @ solution
        return float((np.logaddexp(0, scores) - self.targets * scores).sum() + (penalty * solution ** 2).sum() / 2)

    @property
    def weights(self) -> np.ndarray:
        """w [D]."""
        return self.basis @ self.solution[:-1]

    @property
    def intercept(self) -> float:
        """b."""
        return float(self.solution[-1])

    def predict(self, x: np.ndarray) -> np.ndarray:
        """bool [M] of features [M, D]."""
        return np.full(len(x), self.only) if self.only is not None else x @ self.weights + self.intercept > 0


def assign_folds(groups: Sequence[str], folds: int, rng: np.random.Generator) -> np.ndarray:
    """Fold 0 to ``folds`` - 1 of each image: a group's images share one; folds are as equal as groups allow.

    Groups in random order, then the larger before the smaller, each goes to the fold that has the fewest images.
    """
    names, index, counts = np.unique(np.asarray(groups), return_inverse=True, return_counts=True)
    order = rng.permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    fold_of, sizes = np.empty(len(names), int), np.zeros(folds, int)
    for group in order:
        fold_of[group] = np.argmin(sizes)
        sizes[fold_of[group]] += counts[group]
    return fold_of[index]


def c2st(real: np.ndarray, fake: np.ndarray, real_groups: Sequence[str], fake_groups: Sequence[str], seeds: int = 5, folds: int = 5,
         seed: int = 0) -> float:
    """Accuracy, 0 to 1, with which images of held-out groups are told to be ``real`` or ``fake``; the mean over ``seeds``.

    Each fold is classified by a logistic regression on the others', on features of mean 0 and variance 1 there, whose penalty
    is the one of ``STRENGTHS`` with the highest accuracy in ``folds`` inner folds of these others, grouped likewise (of equals, the
    strongest). Where one set is larger, each seed draws as many of it as the smaller has.

    Args:
        real, fake: features [N, D] and [M, D].
        real_groups, fake_groups: name of each image's group; images of one name are never parted, also across the two sets.
        seeds: further random choices of images and folds, from ``seed`` on.
        folds: number of folds, fewer where there are fewer groups.

    Raises:
        ValueError: a set has images of one group only (nothing is held out then), or shapes do not agree.
    """
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or (len(real), len(fake)) != (len(real_groups), len(fake_groups)):
        raise ValueError(f"features {real.shape} and {fake.shape} with {len(real_groups)} and {len(fake_groups)} groups do not belong together.")
    if min(len(set(real_groups)), len(set(fake_groups))) < 2:
        raise ValueError("a set's images are all of one group: none can be held out.")
    count, scores = min(len(real), len(fake)), []
    for s in range(seed, seed + seeds):
        rng = np.random.default_rng(s)
        picked = [np.sort(rng.permutation(len(x))[:count]) for x in (real, fake)]
        x = np.concatenate([real[picked[0]], fake[picked[1]]]).astype(np.float64)
        groups = [real_groups[i] for i in picked[0]] + [fake_groups[i] for i in picked[1]]
        scores.append(_held_out_accuracy(x, np.arange(2 * count) >= count, groups, folds, rng))
    return float(np.mean(scores))


def _held_out_accuracy(x: np.ndarray, y: np.ndarray, groups: list[str], folds: int, rng: np.random.Generator) -> float:
    """Share of all images that are classified rightly when their fold is held out."""
    fold, right = assign_folds(groups, min(folds, len(set(groups))), rng), np.zeros(len(y), bool)
    for held in range(fold.max() + 1):
        inside = fold != held
        strength = _chosen_strength(x[inside], y[inside], [g for g, i in zip(groups, inside) if i], folds, rng)
        right[~inside] = _predictions(x[inside], y[inside], x[~inside], (strength,))[0] == y[~inside]
    return float(right.mean())


def _chosen_strength(x: np.ndarray, y: np.ndarray, groups: list[str], folds: int, rng: np.random.Generator) -> float:
    """The one of ``STRENGTHS`` with the highest accuracy on held-out folds; the strongest where one group leaves none to hold out."""
    if len(set(groups)) < 2:
        return STRENGTHS[0]
    fold, right = assign_folds(groups, min(folds, len(set(groups))), rng), np.zeros(len(STRENGTHS))
    for held in range(fold.max() + 1):
        inside = fold != held
        right += (_predictions(x[inside], y[inside], x[~inside], STRENGTHS) == y[~inside]).sum(1)
    return STRENGTHS[int(np.argmax(right))]


def _predictions(x: np.ndarray, y: np.ndarray, others: np.ndarray, strengths: Sequence[float]) -> np.ndarray:
    """bool [len(strengths), M]: what regressions on ``x`` [N, D] and ``y`` [N] say of ``others`` [M, D], all standardised by ``x``."""
    mean, deviation = x.mean(0), x.std(0)
    deviation[deviation < 1e-12] = 1  # a feature that is constant here says nothing
    model = LogisticRegression((x - mean) / deviation, y)
    return np.stack([model.fit(strength).predict((others - mean) / deviation) for strength in strengths])
