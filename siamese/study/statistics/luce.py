"""Strengths of methods from choices: Bradley-Terry for pairs and Plackett-Luce for rankings, by the MM algorithm (Hunter 2004).

Both models are Luce's choice axiom: out of a set A, i is chosen with probability g_i / sum of g_j over A. A pair is one choice out of two
images; a ranking is a choice of the best, then of the best of the rest, and so on. One algorithm therefore serves both.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from siamese.study.statistics.table import StatisticsError

TOLERANCE = 1e-9
MAX_STEPS = 20_000


class DisconnectedError(StatisticsError):
    """The methods fall into two parts, one of which never wins against the other: the strengths have no finite estimate."""


class ConvergenceError(StatisticsError):
    """The algorithm did not reach its tolerance."""


@dataclass(frozen=True)
class Choices:
    """Choices counted by the set that was chosen from."""

    members: np.ndarray
    """bool [S, M]: which methods are in each set."""
    events: np.ndarray
    """float64 [N, S M], one-hot: the set and the method chosen from it, one row per answer (several ones for a ranking)."""

    @property
    def shape(self) -> tuple[int, int]:
        """Number of sets and of methods."""
        return self.members.shape


def choices_from_pairs(winner: np.ndarray, loser: np.ndarray, methods: int) -> Choices:
    """Choices from the indices [N] of winners and losers."""
    return choices_from_orders(np.column_stack([winner, loser]), methods)


def choices_from_orders(orders: np.ndarray, methods: int) -> Choices:
    """Choices from rankings [N, k] of method indices, the best first."""
    count, places = orders.shape
    bits = 1 << orders.astype(np.int64)
    # the set faced at each stage: all that are not yet placed; the last image is not a choice
    faced = np.cumsum(bits[:, ::-1], 1)[:, ::-1][:, : places - 1]
    sets, index = np.unique(faced, return_inverse=True)
    index = index.reshape(faced.shape)
    events = np.zeros((count, len(sets) * methods))
    np.add.at(events, (np.arange(count)[:, None], index * methods + orders[:, : places - 1]), 1)
    return Choices((sets[:, None] >> np.arange(methods) & 1).astype(bool), events)


def beaten(counts: np.ndarray, members: np.ndarray) -> np.ndarray:
    """[..., M, M]: how often i was chosen while j was there, from counts [..., S, M]."""
    times = np.swapaxes(counts, -1, -2) @ members.astype(np.float64)
    return times * (1 - np.eye(members.shape[1]))


def connected(counts: np.ndarray, members: np.ndarray) -> np.ndarray:
    """bool [...]: in every division of the methods into two parts, each part wins against the other at least once.

    This is the condition for a unique finite estimate (Ford 1957; Hunter 2004, assumption 1): the graph of wins is strongly connected.
    """
    methods = members.shape[1]
    reach = (beaten(counts, members) > 0) | np.eye(methods, dtype=bool)
    for _ in range(max(1, methods.bit_length())):
        reach = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
    return np.asarray(reach.all((-1, -2)))


def fit(
    counts: np.ndarray, members: np.ndarray, tolerance: float = TOLERANCE, max_steps: int = MAX_STEPS
) -> np.ndarray:
    """Maximum likelihood strengths by MM (Hunter 2004, Annals of Statistics 32, equations 3 and 30), many tables at once.

    Args:
        counts: [B, S, M] how often each method was chosen from each set.
        members: bool [S, M].
        tolerance: largest gradient of the log-likelihood, as a share of the choices, at which a table is done.
        max_steps: steps after which a table is given up.

    Returns:
        [B, M] log strengths with mean 0; NaN for tables that are not connected or were given up.
    """
    inside = members.astype(np.float64)
    result = np.full((len(counts), members.shape[1]), np.nan)
    rows = np.flatnonzero(connected(counts, members))
    wins, faced = counts[rows].sum(1), counts[rows].sum(2)
    strength = np.ones_like(wins)
    for _ in range(max_steps):
        if not len(rows):
            break
        denominator = (faced / (strength @ inside.T)) @ inside
        done = np.abs(wins - strength * denominator).max(1) <= tolerance * wins.sum(1)
        if done.any():
            result[rows[done]] = np.log(strength[done])
            rows, wins, faced, strength, denominator = (
                x[~done] for x in (rows, wins, faced, strength, denominator)
            )
        strength = wins / denominator
        strength /= np.exp(np.log(strength).mean(1, keepdims=True))
    return result - result.mean(1, keepdims=True)


def log_strengths(
    counts: np.ndarray, members: np.ndarray, names: tuple[str, ...], max_steps: int = MAX_STEPS
) -> np.ndarray:
    """Log strengths [M] with mean 0 from counts [S, M].

    Raises:
        DisconnectedError: some methods never win against the others, or are never compared with them.
        ConvergenceError: ``max_steps`` were not enough.
    """
    if not connected(counts[None], members)[0]:
        reach = (beaten(counts, members) > 0) | np.eye(len(names), dtype=bool)
        for _ in names:
            reach = (reach.astype(np.float64) @ reach.astype(np.float64)) > 0
        least = int(reach.sum(1).argmin())
        below = [n for n, r in zip(names, reach[least], strict=True) if r]
        above = [n for n, r in zip(names, reach[least], strict=True) if not r]
        raise DisconnectedError(
            f"strengths have no finite estimate: {', '.join(below)} never won against {', '.join(above)}. "
            "Collect more answers, or leave these methods out."
        )
    value = fit(counts[None], members, max_steps=max_steps)[0]
    if np.isnan(value).any():
        raise ConvergenceError(
            f"the strengths did not converge in {max_steps} steps: collect more answers, or allow more steps."
        )
    return value


def luce_statistic(members: np.ndarray):
    """Statistic (see ``bootstrap``) of the M log strengths from sums of ``Choices.events``; raters' answers are pooled by weight."""

    def statistic(totals: np.ndarray, weights: np.ndarray) -> np.ndarray:
        counts = (totals * weights[..., None]).sum(-2)
        flat = counts.reshape(-1, *members.shape)
        # replicates need less precision than the estimate
        precise = TOLERANCE if len(flat) == 1 else 1e-6
        return fit(flat, members, precise).reshape(*counts.shape[:-1], members.shape[1])

    return statistic
