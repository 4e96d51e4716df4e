"""The tables of answers that are analysed: judged images, ranked images, pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from siamese.study.statistics.table import CONFIDENCES, Answers, StatisticsError, methods_in_order


@dataclass(frozen=True, eq=False)
class Ratings(Answers):
    """Answers of the Real / Synthetic protocol (supplement, section 9.1), one image at a time.

    Raises:
        StatisticsError: an answer is not 0 or 1, a confidence not 1 to 10, or a presentation was answered twice.
    """

    method: np.ndarray
    """str [N]; ``real`` for the real images."""
    real: np.ndarray
    """int64 [N]: 1 judged real, 0 judged synthetic."""
    confidence: np.ndarray
    """int64 [N], 1 to 10."""

    names: ClassVar[tuple[str, ...]] = (*Answers.names, "method")
    kinds: ClassVar[dict[str, Any]] = Answers.kinds | {"real": np.int64, "confidence": np.int64}

    def check(self) -> None:
        if not np.isin(self.real, (0, 1)).all():
            raise StatisticsError("an answer is 1 (real) or 0 (synthetic).")
        low, high = CONFIDENCES
        if np.any((self.confidence < low) | (self.confidence > high)):
            raise StatisticsError(f"a confidence is a whole number from {low} to {high}.")
        self.once()

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods, ``real`` first."""
        return methods_in_order(self.method)

    def shown(self) -> tuple[np.ndarray, ...]:
        return (self.method,)

    def item(self) -> list[tuple[Any, ...]]:
        return list(zip(self.rater.tolist(), self.group.tolist(), self.method.tolist(), strict=True))


@dataclass(frozen=True, eq=False)
class Rankings(Answers):
    """Answers of the ranking protocol (supplement, section 9.1), one row per image.

    Raises:
        StatisticsError: the ranks that a rater gave a group are not 1 to k, once each.
    """

    method: np.ndarray
    """str [N]."""
    rank: np.ndarray
    """int64 [N]; k of k images is the best."""

    names: ClassVar[tuple[str, ...]] = (*Answers.names, "method")
    kinds: ClassVar[dict[str, Any]] = Answers.kinds | {"rank": np.int64}

    def check(self) -> None:
        self.once()
        ranks: dict[tuple[Any, ...], list[int]] = {}
        for rater, group, repeat, training, rank in zip(
            self.rater.tolist(),
            self.group.tolist(),
            self.repeat.tolist(),
            self.training.tolist(),
            self.rank.tolist(),
            strict=True,
        ):
            ranks.setdefault((rater, group, repeat, training), []).append(rank)
        for (rater, group, *_), given in ranks.items():
            if sorted(given) != list(range(1, len(given) + 1)):
                raise StatisticsError(
                    f"rater {rater} gave group {group} the ranks {sorted(given)}: a ranking of {len(given)} images "
                    f"uses 1 to {len(given)} once each, {len(given)} for the best."
                )

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods, ``real`` first."""
        return methods_in_order(self.method)

    def shown(self) -> tuple[np.ndarray, ...]:
        return (self.method,)

    def item(self) -> list[tuple[Any, ...]]:
        return list(zip(self.rater.tolist(), self.group.tolist(), self.method.tolist(), strict=True))

    def complete(self) -> Rankings:
        """Without rankings that lack a method: ranks of fewer images mean something else."""
        expected = len(self.methods)
        sizes: dict[tuple[str, str, int], int] = {}
        keys = list(zip(self.rater.tolist(), self.group.tolist(), self.repeat.tolist(), strict=True))
        for key in keys:
            sizes[key] = sizes.get(key, 0) + 1
        return self.drop(
            np.array([sizes[k] < expected for k in keys], bool),
            f"ranking of fewer than the study's {expected} methods",
        )


@dataclass(frozen=True, eq=False)
class Pairs(Answers):
    """Answers of the pairwise protocol: which of two images of a group is the real one.

    Raises:
        StatisticsError: an image is paired with its own method, or a presentation was answered twice.
    """

    winner: np.ndarray
    """str [N]: the method chosen as real."""
    loser: np.ndarray
    """str [N]."""

    names: ClassVar[tuple[str, ...]] = (*Answers.names, "winner", "loser")

    def check(self) -> None:
        if np.any(self.winner == self.loser):
            raise StatisticsError("a pair shows two methods: winner and loser must differ.")
        self.once()

    @property
    def methods(self) -> tuple[str, ...]:
        """Methods, ``real`` first."""
        return methods_in_order(np.concatenate([self.winner, self.loser]))

    def shown(self) -> tuple[np.ndarray, ...]:
        return (self.winner, self.loser)

    def item(self) -> list[tuple[Any, ...]]:
        ends = zip(self.winner.tolist(), self.loser.tolist(), strict=True)
        return [
            (r, g, *sorted(e)) for r, g, e in zip(self.rater.tolist(), self.group.tolist(), ends, strict=True)
        ]
