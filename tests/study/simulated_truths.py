"""Whole studies of the three protocols drawn from known models, with what is true of every figure that has an interval.

Real / Synthetic: x = m + a_r + c_rm + b_g + d_gm + noise as in ``simulated_ratings``; "real" if x > 0, and the further x is from 0, the
greater the confidence. Rankings and pairs: worths m + a_rm + b_gm plus Gumbel noise (Plackett-Luce given rater and group). Truths are
integrals over groups and images, of the study's own raters or of a large number of other raters.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from scipy.special import ndtr, ndtri

from siamese.study.statistics import Pairs, Rankings, Ratings
from siamese.study.statistics.agreement import NOMINAL, ORDINAL, alpha_from_coincidences
from siamese.study.statistics.detection import area_under_roc, sensitivity_and_criterion
from siamese.study.statistics.luce import choices_from_orders, fit
from tests.study.simulated_ratings import Model

CUTS = np.array([-1.2, -0.5, 0, 0.5, 1.2])
SCORES = np.array([-9, -5, -2, 2, 5, 9])
"""Signed confidence (Synthetic +, Real -) of x above all cuts, ..., of x below all."""
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(30)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
LARGE = 10**7
"""Answers that stand for infinitely many if a formula asks for their number."""
NAMES = np.array(["real", "ours", "poor"])
MAX_RATERS = 20
"""More stand for all raters, of whom agreement between raters is not asked."""
Truths = dict[str, np.ndarray | float]


@dataclass(frozen=True)
class Drawn:
    """A study's answers and, by figure, what is true: of these raters, or of all if the interval speaks for others."""

    answers: Ratings | Rankings | Pairs
    truths: Truths


def columns(
    raters: int, groups: int, methods: int, repeats: int, generator: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Rater, group, method and presentation [N] of all answers: every item once, then ``repeats`` items of different groups again."""
    rater, group, method = (i.ravel() for i in np.indices((raters, groups, methods)))
    if not repeats:
        return rater, group, method, np.zeros(len(rater), np.int64)
    again = [
        (r, g, m)
        for r in range(raters)
        for g, m in zip(
            generator.permutation(groups)[:repeats], generator.integers(methods, size=repeats), strict=True
        )
    ]
    more = np.array(again).T
    return (
        *(np.concatenate([a, b]) for a, b in zip((rater, group, method), more, strict=True)),
        np.concatenate([np.zeros(len(rater), np.int64), np.ones(len(again), np.int64)]),
    )


def shared(rater: np.ndarray, group: np.ndarray, repeat: np.ndarray) -> dict[str, np.ndarray]:
    """Columns that every protocol has, from indices."""
    return {
        "rater": np.char.add("r", rater.astype(str)),
        "group": np.char.add("g", group.astype(str)),
        "seconds": np.full(len(rater), np.nan),
        "repeat": repeat,
        "training": np.zeros(len(rater), bool),
    }


def leans(model: Model, raters: int, generator: np.random.Generator) -> np.ndarray:
    """How raters lean to "real" [R, M] by method."""
    centre = ndtri(np.array(model.mos)) * np.sqrt(
        1 + model.group**2 + model.image**2 + model.rater**2 + model.rater_method**2
    )
    return (
        centre
        + generator.normal(0, model.rater, (raters, 1))
        + generator.normal(0, model.rater_method, (raters, len(centre)))
    )


def draw_ratings(
    model: Model,
    raters: int,
    groups: int,
    repeats: int,
    generator: np.random.Generator,
    others: Truths | None,
) -> Drawn:
    """A Real / Synthetic study. ``others``: what is true of all raters, if it differs from what is true of these."""
    lean, methods = leans(model, raters, generator), len(model.mos)
    image = generator.normal(0, model.group, (groups, 1)) + generator.normal(
        0, model.image, (groups, methods)
    )
    rater, group, method, repeat = columns(raters, groups, methods, repeats, generator)
    x = lean[rater, method] + image[group, method] + generator.normal(size=len(rater))
    score = SCORES[::-1][np.searchsorted(CUTS, x)]
    answers = Ratings(
        **shared(rater, group, repeat),
        method=NAMES[method],
        real=(x > 0).astype(np.int64),
        confidence=np.abs(score),
    )
    own = (
        rating_truths(model, lean)
        | rating_agreement(model, lean)
        | within_truths(twice(binary_chances(model, lean)))
    )
    return Drawn(answers, own | (others or {}))


def level_chances(model: Model, lean: np.ndarray) -> np.ndarray:
    """Chance [R, M, Q, L] of each signed score, ascending, at Q nodes of the images' effects."""
    effect = lean[..., None] + NODES * np.hypot(model.group, model.image)
    below = ndtr(CUTS - effect[..., None])
    ends = np.concatenate([np.zeros_like(below[..., :1]), below, np.ones_like(below[..., :1])], -1)
    return np.diff(ends)[..., ::-1]


def rating_truths(model: Model, lean: np.ndarray) -> Truths:
    """By figure, over the raters of ``lean`` [R, M] with equal weights; ``by rater``, for each."""
    levels = np.einsum("rmql,q->rml", level_chances(model, lean), WEIGHTS)
    real = levels[..., :3].sum(-1)
    confidence = levels @ np.abs(SCORES)
    truths: Truths = {
        "mos": real.mean(0),
        "confidence": confidence.mean(0),
        "real_minus_method": (real[:, :1] - real).mean(0),
    }
    columns_of = {
        "": levels[:, 1:].mean(1),
        **{f" {NAMES[m]}": levels[:, m] for m in range(1, levels.shape[1])},
    }
    for name, positive in columns_of.items():
        for figure, each in detection(positive, levels[:, 0]).items():
            truths[figure + name] = float(each.mean())
            if not name:
                truths[f"{figure} by rater"] = each
    return truths | {"judged_real by rater": real.mean(1), "confidence by rater": confidence.mean(1)}


def detection(positive: np.ndarray, negative: np.ndarray) -> dict[str, np.ndarray]:
    """Figures [R] from chances of each score [R, L] of synthetic and of real images."""
    hits, alarms = positive[:, 3:].sum(-1), negative[:, 3:].sum(-1)
    d_prime, criterion = sensitivity_and_criterion(
        hits * LARGE, np.full(len(hits), LARGE), alarms * LARGE, np.full(len(hits), LARGE)
    )
    return {
        "balanced_accuracy": (hits + 1 - alarms) / 2,
        "sensitivity": hits,
        "specificity": 1 - alarms,
        "d_prime": d_prime,
        "criterion": criterion,
        "auc": area_under_roc(positive, negative),
    }


def rating_agreement(model: Model, lean: np.ndarray) -> Truths:
    """Coefficients of agreement between and within the raters of ``lean``."""
    levels, binary = level_chances(model, lean), binary_chances(model, lean)
    truths: Truths = {}
    raters, methods = lean.shape
    if raters > 1:
        for name, chances, level in (("alpha", binary, NOMINAL), ("alpha_confidence", levels, ORDINAL)):
            pairs = np.einsum("rmqc,smqk,q->rsck", chances, chances, WEIGHTS) / methods
            matrix = (pairs.sum((0, 1)) - np.einsum("rrck->ck", pairs)) / (raters * (raters - 1))
            truths[name] = float(alpha_from_coincidences(matrix * LARGE, np.arange(chances.shape[-1]), level))
        truths["fleiss_kappa"] = truths["alpha"]
    return truths


def binary_chances(model: Model, lean: np.ndarray) -> np.ndarray:
    """Chance [R, M, Q, 2] of the answers Real and Synthetic at Q nodes of the images' effects."""
    levels = level_chances(model, lean)
    return np.stack([levels[..., :3].sum(-1), levels[..., 3:].sum(-1)], -1)


def twice(chances: np.ndarray) -> np.ndarray:
    """Chance [R, C, C] of first and second answers from ``chances`` [R, M, Q, C] of one answer, over methods and nodes."""
    return np.einsum("rmqc,rmqk,q->rck", chances, chances, WEIGHTS) / chances.shape[1]


def within_truths(tables: np.ndarray) -> Truths:
    """Share of equal answers and Cohen's kappa from chances ``tables`` [R, C, C] of first and second answers."""

    def kappa(table: np.ndarray) -> tuple[float, float]:
        same, chance = float(np.trace(table)), float(table.sum(0) @ table.sum(1))
        return same, (same - chance) / (1 - chance)

    each = np.array([kappa(t) for t in tables])
    same, pooled = kappa(tables.mean(0))
    return {"same": same, "kappa": pooled, "same by rater": each[:, 0], "kappa by rater": each[:, 1]}


ORDERS = np.array(list(permutations(range(3))))


def order_chances(worths: np.ndarray) -> np.ndarray:
    """Chance [..., 6] of each of ``ORDERS`` by Plackett-Luce with log worths [..., 3]."""
    strength = np.exp(worths)[..., ORDERS]
    return strength[..., 0] / strength.sum(-1) * strength[..., 1] / strength[..., 1:].sum(-1)


def ranking_truths(gains: np.ndarray, image: float, generator: np.random.Generator) -> Truths:
    """By figure, over raters of log worths ``gains`` [R, 3], whose images' effects have the standard deviation ``image``."""
    chances = order_chances(gains[:, None] + generator.normal(0, image, (400, 3)))
    each, ranks = chances.mean(1), 3 - np.argsort(ORDERS, 1)
    choices = choices_from_orders(ORDERS, 3)
    counts = (choices.events * each.mean(0)[:, None]).sum(0).reshape(1, *choices.shape)
    one_hot = np.eye(3)[ranks - 1]
    again = np.einsum("rqo,rqp->rop", chances, chances) / chances.shape[1]
    table = np.einsum("rop,omc,pmk->rck", again, one_hot, one_hot) / 3
    truths: Truths = {
        "mean_rank": each.mean(0) @ ranks,
        "ranked_best": each.mean(0) @ (ranks == 3),
        "strength": fit(counts, choices.members)[0],
        "rater_means by rater": each @ ranks,
    }
    if 1 < len(gains) <= MAX_RATERS:
        joint = np.einsum("rqo,sqp->rsop", chances, chances) / chances.shape[1]
        apart = (joint.sum((0, 1)) - np.einsum("rrop->op", joint)) / (len(gains) * (len(gains) - 1))
        matrix = np.einsum("op,omc,pmk->ck", apart, one_hot, one_hot)
        truths["alpha"] = float(alpha_from_coincidences(matrix * LARGE, np.arange(3), ORDINAL))
    return truths | within_truths(table)


def draw_rankings(
    gains: np.ndarray,
    image: float,
    groups: int,
    repeats: int,
    generator: np.random.Generator,
    others: Truths | None,
) -> Drawn:
    """A ranking study of three methods by raters of log worths ``gains`` [R, 3]."""
    raters = len(gains)
    rater, group, _method, repeat = columns(raters, groups, 1, repeats, generator)
    worth = (
        gains[rater] + generator.normal(0, image, (groups, 3))[group] + generator.gumbel(size=(len(rater), 3))
    )
    ranks = np.argsort(np.argsort(worth, 1), 1) + 1
    values = shared(np.repeat(rater, 3), np.repeat(group, 3), np.repeat(repeat, 3))
    truths = ranking_truths(gains, image, np.random.default_rng(0))
    return Drawn(
        Rankings(**values, method=np.tile(NAMES, len(rater)), rank=ranks.ravel()), truths | (others or {})
    )


def pair_truths(gains: np.ndarray, image: float) -> Truths:
    """By figure, over raters with log odds ``gains`` [R, 2] that a method beats the real image."""
    chances = 1 / (1 + np.exp(-(gains[..., None] + image * NODES)))
    won = chances @ WEIGHTS
    odds = np.concatenate([[0], np.log(won.mean(0) / (1 - won.mean(0)))])
    truths: Truths = {
        "chosen": np.concatenate([[1 - won.mean()], won.mean(0)]),
        "beats_real": np.concatenate([[0.5], won.mean(0)]),
        "strength": odds - odds.mean(),
        "found_real": 1 - won.mean(),
        "found_real by rater": 1 - won.mean(1),
    }
    both = np.stack([chances, 1 - chances], -1)
    if 1 < len(gains) <= MAX_RATERS:
        pairs = np.einsum("rmqc,smqk,q->rsck", both, both, WEIGHTS)
        matrix = (pairs.sum((0, 1)) - np.einsum("rrck->ck", pairs)) / pairs.sum()
        truths["alpha"] = float(alpha_from_coincidences(matrix / matrix.sum() * LARGE, np.arange(2), NOMINAL))
    return truths | within_truths(twice(both))


def draw_pairs(
    gains: np.ndarray,
    image: float,
    groups: int,
    repeats: int,
    generator: np.random.Generator,
    others: Truths | None,
) -> Drawn:
    """A pairwise study of two methods against real images."""
    rater, group, method, repeat = columns(len(gains), groups, 2, repeats, generator)
    effect = generator.normal(0, image, (groups, 2))
    won = generator.random(len(rater)) < 1 / (1 + np.exp(-(gains[rater, method] + effect[group, method])))
    name = NAMES[1 + method]
    answers = Pairs(
        **shared(rater, group, repeat), winner=np.where(won, name, "real"), loser=np.where(won, "real", name)
    )
    return Drawn(answers, pair_truths(gains, image) | (others or {}))


def of_all(truths: Truths) -> Truths:
    """What does not belong to one rater, nor to the agreement of some, of the truths of very many raters."""
    return {name: value for name, value in truths.items() if not name.endswith(" by rater")}


def all_raters(model: Model, raters: int = 3000) -> Truths:
    """What is true of all raters of Real / Synthetic studies."""
    lean = leans(model, raters, np.random.default_rng(0))
    return of_all(rating_truths(model, lean) | within_truths(twice(binary_chances(model, lean))))
