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

import numpy as np

from siamese.study.answers.export import Answered, StudyAnswers, read_answers
from siamese.study.answers.raters import COMPLETE, items_answered, nobody_complete, raters_of, who_counts
from siamese.study.answers.rows import rows_of
from siamese.study.config import PAIRWISE, RANKING, REAL_SYNTHETIC, StudyConfig
from siamese.study.rating.order import MAIN
from siamese.study.statistics import (
    Exclusion,
    Pairs,
    PairSummary,
    Rankings,
    RankingSummary,
    Ratings,
    RatingSummary,
    StatisticsError,
    summarise_pairs,
    summarise_rankings,
    summarise_ratings,
)
from siamese.study.statistics.paper import ISIC2016, ISIC2018, POLYPS, REPORTED, Reported
from siamese.study.statistics.realism import ResponseTimes, response_times
from siamese.study.storage.store import Study, StudyStore, Withdrawal

SEED = 0
"""Of the resampling."""
TABLES = {
    REAL_SYNTHETIC: (Ratings, summarise_ratings),
    RANKING: (Rankings, summarise_rankings),
    PAIRWISE: (Pairs, summarise_pairs),
}
PAPER = {REAL_SYNTHETIC: (POLYPS,), RANKING: (ISIC2016, ISIC2018), PAIRWISE: ()}
"""Data sets that the paper rates by each protocol."""

Summary = RatingSummary | RankingSummary | PairSummary


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
    """Why the rater is left out; empty where not."""


@dataclass(frozen=True)
class RaterTimes:
    """Seconds that a rater took for a screen, practice and repeats left out."""

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
    summary: Summary | None
    missing: str | None
    """Why there is no summary."""
    progress: tuple[RaterProgress, ...]
    exclusions: tuple[Exclusion, ...]
    """Answers left out, by rater and reason."""
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
            f"rater {n}", p.answered, p.screens, items.get(f"rater {n}", 0), p.excluded_reason or ""
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
    # The statistics count a ranking's images.
    each = len(config.methods) if config.protocol == RANKING else 1
    exclusions = (
        *left_out,
        *(Exclusion(e.rater, e.answers // each, e.reason) for e in (summary.exclusions if summary else ())),
    )
    return Results(
        given.study,
        raters,
        who_counts(far, raters, names_of(summary)),
        summary,
        missing,
        progress,
        exclusions,
        sum(not a.current for a in given.answers),
        tuple(store.withdrawals(study)),
        rater_times(taken, names_of(summary)),
        tuple(r for r in REPORTED if r.dataset in PAPER[config.protocol]),
    )


def names_of(summary: Summary | None) -> tuple[str, ...]:
    """Raters whose answers a summary is of; none where there is no summary."""
    return () if summary is None else tuple(r if isinstance(r, str) else r.rater for r in summary.raters)


busy = threading.Lock()


def summarise(config: StudyConfig, answers: tuple[Answered, ...]) -> tuple[Summary | None, str | None]:
    """The summary of ``answers``, or None and why there is none. One is computed at a time: raters need the processor too."""
    with busy:
        return compute(config, answers)


@lru_cache(maxsize=4)
def compute(config: StudyConfig, answers: tuple[Answered, ...]) -> tuple[Summary | None, str | None]:
    """See ``summarise``; kept by what the answers are, not by how many."""
    table, summarised = TABLES[config.protocol]
    try:
        return summarised(table.from_rows(rows_of(config, answers)), seed=SEED), None
    except StatisticsError as error:
        return None, str(error)


def rater_times(given: StudyAnswers, raters: Sequence[str]) -> tuple[RaterTimes, ...]:
    """Response times of the counted first answers of ``raters``, overall and by rater; a corrected answer's time is the correction's."""
    used = [a for a in given.answers if a.current and a.rater in raters and a.phase == MAIN]
    raters = sorted({a.rater for a in used}, key=lambda r: int(r.split()[1]))

    def times(rows: list[Answered]) -> ResponseTimes:
        return response_times(
            np.array([np.nan if a.client_ms is None else a.client_ms / 1000 for a in rows], np.float64)
        )

    return (
        RaterTimes(None, times(used)),
        *(RaterTimes(r, times([a for a in used if a.rater == r])) for r in raters),
    )
