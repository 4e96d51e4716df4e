"""A study's results: its stored answers through ``siamese.study.statistics``, beside what the paper reports.

Figures are of complete raters unless all are asked for; see ``siamese.study.answers.raters``. The same answers give the same figures: the
resampling has a fixed seed. Up to two seconds for the paper's study; kept until an answer, an exclusion or a withdrawal changes them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from siamese.study.answers.export import StudyAnswers, read_answers
from siamese.study.answers.raters import COMPLETE, items_answered, nobody_complete, raters_of, who_counts
from siamese.study.answers.record import AnswerRecord
from siamese.study.answers.rows import rows_of
from siamese.study.config import StudyConfig
from siamese.study.rater_names import rater_name, rater_number
from siamese.study.rating.order import MAIN
from siamese.study.statistics import Exclusion, StatisticsError
from siamese.study.statistics.paper import REPORTED, Reported
from siamese.study.statistics.realism import ResponseTimes, response_times
from siamese.study.storage.store import Study, StudyStore, Withdrawal

SEED = 0
"""Of the resampling."""


@dataclass(frozen=True)
class RaterProgress:
    """How far a rater is."""

    rater: str
    """``rater 1``, ...: never the administrator's note nor the pseudonym."""
    answered: int
    """Screens, practice included."""
    screens: int
    counted: int
    """Items answered that count: neither practice nor repeats."""
    excluded: str
    """Why the rater is excluded; empty if not."""


@dataclass(frozen=True)
class RaterTimes:
    """Seconds that a rater took for a screen, without practice and repeats."""

    rater: str | None
    """None: all raters."""
    times: ResponseTimes


@dataclass(frozen=True)
class Results:
    """Everything that results pages and reports show, anonymised."""

    study: Study
    raters: str
    """Whose answers the figures are of: ``COMPLETE`` or ``ALL`` of ``siamese.study.answers.raters``."""
    who: tuple[str, ...]
    """Sentences that say which raters and how many count, and how much each weighs."""
    summary: Any
    """Figures of the study's protocol (see ``RatingProtocol.summarise``), or None."""
    missing: str | None
    """Why there is no summary."""
    progress: tuple[RaterProgress, ...]
    exclusions: tuple[Exclusion, ...]
    """Answers that do not count, by rater and reason."""
    corrections: int
    """Answers that a later one corrects; they are kept and not counted."""
    withdrawals: tuple[Withdrawal, ...]
    times: tuple[RaterTimes, ...]
    """All raters first, then each."""
    reported: tuple[Reported, ...]
    """What the paper reports for this protocol."""


def read_results(store: StudyStore, study: str, raters: str = COMPLETE) -> Results:
    """The results of ``study`` as its answers are now.

    Args:
        raters: ``COMPLETE`` takes the raters who answered every item that counts, ``ALL`` takes all with an answer.

    Raises:
        NoSuchStudyError: there is no such study.
        StorageError: the database cannot be read.
    """
    given = read_answers(store, study)
    config = given.study.config
    far, items = raters_of(config, given.answers), items_answered(given.answers)
    partial = dict(far.partial) if raters == COMPLETE else {}
    taken = StudyAnswers(given.study, tuple(a for a in given.answers if a.rater not in partial))
    missing = nobody_complete(far) if raters == COMPLETE else None
    summary, missing = (None, missing) if missing else summarise(config, taken.answers)
    progress = tuple(
        RaterProgress(
            rater=rater_name(n),
            answered=p.answered,
            screens=p.screens,
            counted=items.get(rater_name(n), 0),
            excluded=p.excluded_reason or "",
        )
        for n, p in enumerate(store.progress(study), 1)
    )
    current = Counter(a.rater for a in given.answers if a.current)
    left_out = [
        Exclusion(p.rater, current[p.rater], p.excluded) for p in progress if p.excluded and current[p.rater]
    ]
    left_out += [
        Exclusion(rater, current[rater], f"answered {count} of {far.items} items that count")
        for rater, count in partial.items()
    ]
    # The statistics count rows, such as a ranking's images.
    each = config.rules.rows_per_answer(config.methods)
    exclusions = (
        *left_out,
        *(Exclusion(e.rater, e.answers // each, e.reason) for e in (summary.exclusions if summary else ())),
    )
    return Results(
        study=given.study,
        raters=raters,
        who=who_counts(far, raters, summarised_raters(summary)),
        summary=summary,
        missing=missing,
        progress=progress,
        exclusions=exclusions,
        corrections=sum(not a.current for a in given.answers),
        withdrawals=tuple(store.withdrawals(study)),
        times=rater_times(taken, summarised_raters(summary)),
        reported=tuple(r for r in REPORTED if r.dataset in config.rules.datasets),
    )


def summarised_raters(summary: Any) -> tuple[str, ...]:
    """Raters whose answers a summary is of; empty if there is no summary."""
    return () if summary is None else tuple(r if isinstance(r, str) else r.rater for r in summary.raters)


busy = threading.Lock()


def summarise(config: StudyConfig, answers: tuple[AnswerRecord, ...]) -> tuple[Any, str | None]:
    """The summary of ``answers``, or None and why it cannot be made. One is computed at a time: raters need the processor too."""
    with busy:
        return compute(config, answers)


@lru_cache(maxsize=4)
def compute(config: StudyConfig, answers: tuple[AnswerRecord, ...]) -> tuple[Any, str | None]:
    """See ``summarise``; kept by what the answers are, not by how many."""
    try:
        return config.rules.summarise(rows_of(config, answers), SEED), None
    except StatisticsError as error:
        return None, str(error)


def rater_times(given: StudyAnswers, raters: Sequence[str]) -> tuple[RaterTimes, ...]:
    """Response times of the counted first answers of ``raters``, overall and by rater; a corrected answer's time is the correction's."""
    used = [a for a in given.answers if a.current and a.rater in raters and a.phase == MAIN]
    raters = sorted({a.rater for a in used}, key=rater_number)

    def times(rows: list[AnswerRecord]) -> ResponseTimes:
        return response_times(
            np.array([np.nan if a.client_ms is None else a.client_ms / 1000 for a in rows], np.float64)
        )

    return (
        RaterTimes(None, times(used)),
        *(RaterTimes(r, times([a for a in used if a.rater == r])) for r in raters),
    )
