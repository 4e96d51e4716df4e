"""Stored answers as the rows that ``siamese.study.statistics`` analyses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from siamese.study.answers.record import AnswerRecord
from siamese.study.config import StudyConfig
from siamese.study.rating.order import REPEAT, TRAINING
from siamese.study.statistics.table import REAL


def rows_of(config: StudyConfig, answers: Sequence[AnswerRecord]) -> list[Any]:
    """Current ones of ``answers``, of raters that are not excluded, as the protocol's statistics take them.

    The method of real images is called ``real`` there; if a study has several real methods, they keep their names.
    """
    kinds = {m.name: m.kind for m in config.methods}
    several = len(config.real) > 1

    def label(method: str) -> str:
        if kinds[method] == REAL:
            return method if several else REAL
        return f"{method} (synthetic)" if method == REAL else method

    rows: list[Any] = []
    for a in answers:
        if a.current and not a.excluded:
            rows += config.rules.rows(
                [label(m) for m in a.methods],
                a.response,
                a.confidence,
                rater=a.rater,
                group=a.group,
                seconds=None if a.client_ms is None else a.client_ms / 1000,
                repeat=int(a.phase == REPEAT),
                training=a.phase == TRAINING,
            )
    return rows
