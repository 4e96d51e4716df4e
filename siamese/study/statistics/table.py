"""Answers of a rating study as plain columns, checked once: what counts, what is repeated, what is excluded and why.

One row per answer. The first answer to an item counts; later presentations serve within-rater agreement only; training items
never count. The method of the real images is called ``real`` here, whatever the study calls it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

REAL = "real"
CONFIDENCES = (1, 10)
TRAINING_REASON = "training item"
REPEAT_REASON = "repeated item: the first answer counts"
ORPHAN_REASON = "repeated item whose first answer is missing"
ONE_SIDED_REASON = "rater without an answer to an image of each method"


class StatisticsError(ValueError):
    """The answers cannot be analysed; the message says what to do."""


@dataclass(frozen=True)
class Rating:
    """One image judged Real or Synthetic."""

    rater: str
    group: str
    """The mask's id: the images of a group share it."""
    method: str
    real: int
    """1 judged real, 0 judged synthetic."""
    confidence: int
    """1 to 10."""
    seconds: float | None = None
    repeat: int = 0
    """Number of earlier presentations to the same rater; 0 is the first."""
    training: bool = False


@dataclass(frozen=True)
class RankedImage:
    """One image's place among the images of its group; a ranking is k of these."""

    rater: str
    group: str
    method: str
    rank: int
    """1 to k without ties; k is the best."""
    seconds: float | None = None
    repeat: int = 0
    training: bool = False


@dataclass(frozen=True)
class JudgedPair:
    """Two images of a group, one of them chosen as the real one."""

    rater: str
    group: str
    winner: str
    loser: str
    seconds: float | None = None
    repeat: int = 0
    training: bool = False


@dataclass(frozen=True)
class Exclusion:
    """Answers that are not analysed."""

    rater: str | None
    """None: of all raters."""
    answers: int
    reason: str


def codes(values: np.ndarray, order: Sequence[str]) -> np.ndarray:
    """Index in ``order`` of each of ``values`` [N], all of which ``order`` holds."""
    index = {name: i for i, name in enumerate(order)}
    return np.fromiter((index[v] for v in values.tolist()), np.intp, len(values))


@dataclass(frozen=True, eq=False)
class Answers(ABC):
    """Columns of equal length N that every protocol has.

    Raises:
        StatisticsError: columns differ in length, an id is empty, or a value is out of its range.
    """

    rater: np.ndarray
    """str [N]."""
    group: np.ndarray
    """str [N]."""
    seconds: np.ndarray
    """float64 [N]; NaN if it was not recorded."""
    repeat: np.ndarray
    """int64 [N]; 0 is the first presentation."""
    training: np.ndarray
    """bool [N]."""
    exclusions: tuple[Exclusion, ...] = dataclasses.field(default=(), kw_only=True)

    names: ClassVar[tuple[str, ...]] = ("rater", "group")
    kinds: ClassVar[dict[str, Any]] = {"seconds": np.float64, "repeat": np.int64, "training": np.bool_}

    def __post_init__(self) -> None:
        columns = self.columns()
        if len({len(getattr(self, c)) for c in columns}) != 1:
            raise StatisticsError("the columns of a table of answers must be equally long.")
        for name in self.names:
            if np.any(getattr(self, name) == ""):
                raise StatisticsError(
                    f"an answer has no {name}: give each answer the {name} that it belongs to."
                )
        seconds = self.seconds[~np.isnan(self.seconds)]
        if np.any(~np.isfinite(seconds)) or np.any(seconds < 0):
            raise StatisticsError(
                "response times are seconds of 0 or more; leave one that was not recorded empty (None)."
            )
        if np.any(self.repeat < 0):
            raise StatisticsError("repeat counts earlier presentations: 0, 1, 2, ...")
        self.check()

    @abstractmethod
    def check(self) -> None:
        """Raise a StatisticsError unless the columns hold what such a table asks of them."""

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns."""
        return [f.name for f in dataclasses.fields(cls) if f.name != "exclusions"]

    @classmethod
    def from_rows(cls, rows: Iterable[Any]) -> Self:
        """A table of ``rows`` (``Rating``, ``RankedImage`` or ``JudgedPair``).

        Raises:
            StatisticsError: a row holds a value of another type or out of its range.
        """
        rows = list(rows)
        columns: dict[str, Any] = {}
        for name in cls.columns():
            values = [getattr(r, name) for r in rows]
            if name in cls.names:
                if not all(isinstance(v, str) for v in values):
                    raise StatisticsError(f"{name} must be text.")
                columns[name] = np.array(values, dtype=np.str_)
                continue
            if name == "seconds":
                if not all(v is None or isinstance(v, (int, float, np.number)) for v in values):
                    raise StatisticsError("response times are numbers of seconds, or None.")
                values = [np.nan if v is None else v for v in values]
            elif name != "training" and not all(isinstance(v, (int, np.integer)) for v in values):
                raise StatisticsError(f"{name} must be a whole number.")
            columns[name] = np.array(values, dtype=cls.kinds[name])
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.rater)

    @property
    def raters(self) -> tuple[str, ...]:
        """Raters in alphabetical order."""
        return tuple(np.unique(self.rater).tolist())

    @property
    def groups(self) -> tuple[str, ...]:
        """Mask groups in alphabetical order."""
        return tuple(np.unique(self.group).tolist())

    @abstractmethod
    def item(self) -> list[tuple[Any, ...]]:
        """What was judged, by row; repeated presentations of an item share it."""

    def take(self, rows: np.ndarray, exclusions: Sequence[Exclusion] = ()) -> Self:
        """The ``rows`` (indices or bool [N]) with ``exclusions`` added to the record."""
        return dataclasses.replace(
            self,
            **{c: getattr(self, c)[rows] for c in self.columns()},
            exclusions=self.exclusions + tuple(exclusions),
        )

    def drop(self, rows: np.ndarray, reason: str) -> Self:
        """Without ``rows`` (bool [N]); the record says so, rater by rater."""
        raters, counts = np.unique(self.rater[rows], return_counts=True)
        return self.take(
            ~rows, [Exclusion(str(r), int(n), reason) for r, n in zip(raters, counts, strict=True)]
        )

    @abstractmethod
    def shown(self) -> tuple[np.ndarray, ...]:
        """The method of each image of a row: one or more str [N]."""

    def of_every_method(self) -> Self:
        """Without raters who lack an answer to an image of some method: all figures of a row are then of the same raters.

        Raises:
            StatisticsError: nothing is left.
        """
        columns = self.shown()
        methods = len(np.unique(np.concatenate(columns)))
        short = [
            r
            for r in self.raters
            if len(np.unique(np.concatenate([c[self.rater == r] for c in columns]))) < methods
        ]
        if len(short) == len(self.raters):
            raise StatisticsError("no rater has answered an image of every method yet: wait until one has.")
        return self.drop(np.isin(self.rater, short), ONE_SIDED_REASON) if short else self

    def of_raters(self, raters: Sequence[str]) -> Self:
        """Answers of ``raters`` only; the record does not change."""
        return self.take(np.isin(self.rater, raters))

    def counted(self) -> Self:
        """First answers to study items.

        Raises:
            StatisticsError: nothing is left.
        """
        table = self.drop(self.training, TRAINING_REASON)
        items = table.item()
        first = {i for i, r in zip(items, table.repeat.tolist(), strict=True) if r == 0}
        orphan = np.array(
            [r > 0 and i not in first for i, r in zip(items, table.repeat.tolist(), strict=True)], bool
        )
        table = table.drop(orphan, ORPHAN_REASON)
        table = table.drop(table.repeat > 0, REPEAT_REASON)
        if not len(table):
            raise StatisticsError(
                "no answers to analyse yet: wait for the first answer to an item that is not for training."
            )
        return table

    def repeated(self) -> tuple[np.ndarray, np.ndarray]:
        """Rows of first answers and of the same raters' second answers to the same items: two int [P]. Third ones are not used."""
        rows: dict[tuple[Any, ...], dict[int, int]] = {}
        for n, (item, repeat, training) in enumerate(
            zip(self.item(), self.repeat.tolist(), self.training.tolist(), strict=True)
        ):
            if not training:
                rows.setdefault(item, {})[repeat] = n
        pairs = [(r[0], r[1]) for r in rows.values() if 0 in r and 1 in r]
        found = np.array(pairs, np.intp).reshape(-1, 2)
        return found[:, 0], found[:, 1]

    def once(self) -> None:
        """Refuse two answers to one presentation."""
        seen: set[tuple[Any, ...]] = set()
        for item, repeat, training in zip(
            self.item(), self.repeat.tolist(), self.training.tolist(), strict=True
        ):
            if (key := (*item, repeat, training)) in seen:
                raise StatisticsError(
                    f"two answers to one presentation ({', '.join(map(str, item))}): pass only the latest correction, "
                    "and number repeated presentations with repeat = 1, 2, ..."
                )
            seen.add(key)


def methods_in_order(names: np.ndarray) -> tuple[str, ...]:
    """Distinct names, ``real`` first, the others in alphabetical order."""
    return tuple(sorted(np.unique(names).tolist(), key=lambda n: (n != REAL, n)))
