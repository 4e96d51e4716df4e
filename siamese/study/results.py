"""A study's results: its stored answers through ``siamese.study.statistics``, beside what the paper reports.

The same answers give the same figures: the resampling has a fixed seed. Up to two seconds for the paper's study; kept until an answer,
an exclusion or a withdrawal changes them.
"""
from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from siamese.study.config import PAIRWISE, RANKING, REAL_SYNTHETIC, StudyConfig
from siamese.study.export import Answered, StudyAnswers, read_answers
from siamese.study.feed import rows_of
from siamese.study.order import MAIN
from siamese.study.statistics import (Exclusion, Pairs, PairSummary, Rankings, RankingSummary, Ratings, RatingSummary, StatisticsError,
                                      summarise_pairs, summarise_rankings, summarise_ratings)
from siamese.study.statistics.paper import ISIC2016, ISIC2018, POLYPS, REPORTED, Reported
from siamese.study.statistics.realism import ResponseTimes, response_times
from siamese.study.store import Study, StudyStore, Withdrawal

SEED = 0
"""Of the resampling."""
TABLES = {REAL_SYNTHETIC: (Ratings, summarise_ratings), RANKING: (Rankings, summarise_rankings), PAIRWISE: (Pairs, summarise_pairs)}
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


def read_results(store: StudyStore, study: str) -> Results:
    """The results of ``study`` as its answers are now.

    Raises:
        NoSuchStudyError: there is no such study.
        StorageError: the database cannot be read.
    """
    given = read_answers(store, study)
    config = given.study.config
    summary, missing = summarise(config, given.answers)
    progress = tuple(RaterProgress(f"rater {n}", p.answered, p.screens, p.excluded_reason or "") for n, p in enumerate(store.progress(study), 1))
    counted = {a.rater for a in given.answers}
    left_out = [Exclusion(p.rater, sum(a.rater == p.rater and a.current for a in given.answers), p.excluded) for p in progress
                if p.excluded and p.rater in counted]
    # The statistics count a ranking's images.
    each = len(config.methods) if config.protocol == RANKING else 1
    exclusions = (*left_out, *(Exclusion(e.rater, e.answers // each, e.reason) for e in (summary.exclusions if summary else ())))
    return Results(given.study, summary, missing, progress, exclusions, sum(not a.current for a in given.answers),
                   tuple(store.withdrawals(study)), rater_times(given), tuple(r for r in REPORTED if r.dataset in PAPER[config.protocol]))


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
        rows = table.from_rows(rows_of(config, answers))
        if isinstance(rows, Rankings) and len(ranked_by_all(rows)) == 1:
            # The tests of pairs cannot do with one mask group.
            return None, "one mask group is ranked by every rater so far: figures come with the second. Exclude a rater who will not go on."
        return summarised(rows, seed=SEED), None
    except StatisticsError as error:
        return None, str(error)


def ranked_by_all(rankings: Rankings) -> set[str]:
    """Mask groups that every rater has ranked wholly; see ``Rankings.counted`` for errors."""
    table = rankings.counted().complete()
    ranked: dict[str, set[str]] = {}
    for rater, group in zip(table.rater.tolist(), table.group.tolist()):
        ranked.setdefault(rater, set()).add(group)
    return set.intersection(*ranked.values()) if ranked else set()


def rater_times(given: StudyAnswers) -> tuple[RaterTimes, ...]:
    """Response times of counted first answers, overall and by rater; a corrected answer's time is the correction's."""
    used = [a for a in given.answers if a.current and not a.excluded and a.phase == MAIN]
    raters = sorted({a.rater for a in used}, key=lambda r: int(r.split()[1]))

    def times(rows: list[Answered]) -> ResponseTimes:
        return response_times(np.array([np.nan if a.client_ms is None else a.client_ms / 1000 for a in rows], np.float64))

    return (RaterTimes(None, times(used)), *(RaterTimes(r, times([a for a in used if a.rater == r])) for r in raters))
