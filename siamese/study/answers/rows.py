"""Stored answers as the columns that ``siamese.study.statistics`` analyses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siamese.study.answers.export import Answered, StudyAnswers
from siamese.study.config import PAIRWISE, RANKING, REAL, REAL_SYNTHETIC, StudyConfig
from siamese.study.rating.order import REPEAT, TRAINING
from siamese.study.statistics.table import Pair, Ranked, Rating


def statistics_rows(given: StudyAnswers) -> list[Rating] | list[Ranked] | list[Pair]:
    """The rows of ``given``; see ``rows_of``."""
    return rows_of(given.study.config, given.answers)


def rows_of(config: StudyConfig, answers: Sequence[Answered]) -> list[Rating] | list[Ranked] | list[Pair]:
    """Current ones of ``answers``, of raters that are not excluded, as ``siamese.study.statistics`` takes them.

    The method of real images is called ``real`` there; a ranking may have several, which keep their names.
    """
    kinds = {m.name: m.kind for m in config.methods}
    reals = [m.name for m in config.real]

    def label(method: str) -> str:
        if kinds[method] != REAL:
            return f"{method} (synthetic)" if method == REAL else method
        return REAL if len(reals) == 1 else method

    rows: list[Any] = []
    for a in answers:
        if not a.current or a.excluded:
            continue
        about = {
            "seconds": None if a.client_ms is None else a.client_ms / 1000,
            "repeat": int(a.phase == REPEAT),
            "training": a.phase == TRAINING,
        }
        names = [label(m) for m in a.methods]
        if config.protocol == REAL_SYNTHETIC:
            rows.append(Rating(a.rater, a.group, names[0], a.response[0], a.confidence, **about))
        elif config.protocol == RANKING:
            rows += [Ranked(a.rater, a.group, n, r, **about) for n, r in zip(names, a.response, strict=True)]
        elif config.protocol == PAIRWISE:
            won = a.response.index(1)
            rows.append(Pair(a.rater, a.group, names[won], names[1 - won], **about))
    return rows
