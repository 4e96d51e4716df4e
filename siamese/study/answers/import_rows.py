"""The database rows of an export, with new random ids."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Table

from siamese.study.answers.export_format import (
    ExportedAnswer,
    ExportedStudy,
    ImportRefusedError,
    check_answer,
    check_corrections,
)
from siamese.study.config import StudyConfig
from siamese.study.rater_names import rater_name, rater_number
from siamese.study.rating.errors import BadAnswerError
from siamese.study.rating.judgement import Judgement, canonical, check_judgement
from siamese.study.rating.order import TRAINING
from siamese.study.storage.schema import items, presentations, raters, studies, withdrawals
from siamese.study.storage.store import hash_token, random_id

Values = dict[str, Any]
"""A row's values by column."""


@dataclass(frozen=True)
class ImportedRows:
    """Rows to be stored."""

    rows: dict[Table, list[Values]]
    """In the order in which they refer to each other."""
    answers: list[Values]
    """In the export's order, without ``supersedes``."""


@dataclass
class RowBuilder:
    """Collects the rows that answers refer to while the answers are gone through."""

    config: StudyConfig
    now: float
    people: dict[str, Values]
    """By the rater's name."""
    images: dict[tuple[str, str], Values] = field(default_factory=dict)
    """By mask group and method."""
    screens: dict[tuple[str, int], Values] = field(default_factory=dict)
    """By the rater's name and position."""
    practice: dict[str, bool] = field(default_factory=dict)
    """Whether a mask group is for practice."""

    def add(self, a: ExportedAnswer) -> Values:
        """The answer's row; what it refers to is collected.

        Raises:
            ImportRefusedError: it does not fit the configuration, or an earlier answer.
        """
        check_answer(self.config, a)
        person = self._describe(a)
        screen, images = self._screen(a, person)
        given = self.config.rules.response_of(images, a.response)
        try:
            response = check_judgement(
                self.config, images, Judgement(given, a.confidence, a.comment, a.client_ms)
            )
        except BadAnswerError as error:
            raise ImportRefusedError(f"answer {a.number}: {error}") from error
        return {
            "rater_id": person["id"],
            "presentation_id": screen["id"],
            "idempotency_key": random_id(),
            "response": canonical(response),
            "confidence": a.confidence,
            "comment": a.comment,
            "client_ms": a.client_ms,
            "server_ms": a.server_ms,
            "created_at": a.created_at,
        }

    def _describe(self, a: ExportedAnswer) -> Values:
        """The answer's rater, described as by this answer and all earlier ones."""
        about = {
            "pseudonym": a.pseudonym,
            "role": a.role,
            "excluded_at": self.now if a.excluded else None,
            "excluded_reason": a.excluded or None,
        }
        person = self.people[a.rater]
        if person["consented_at"] is None:
            person |= about | {"consented_at": a.created_at}
        elif any(person[k] != v for k, v in about.items()):
            raise ImportRefusedError(
                f"answer {a.number}: {a.rater} is not described as in an earlier answer."
            )
        return person

    def _screen(self, a: ExportedAnswer, person: Values) -> tuple[Values, list[str]]:
        """The answer's screen and the ids of its images from left to right."""
        if self.practice.setdefault(a.group, a.phase == TRAINING) != (a.phase == TRAINING):
            raise ImportRefusedError(
                f"answer {a.number}: the group {a.group!r} is for practice and is rated."
            )
        for method in a.methods:
            image = {
                "id": random_id(),
                "study_id": self.config.id,
                "group_name": a.group,
                "method": method,
                "training": a.phase == TRAINING,
            }
            self.images.setdefault((a.group, method), image)
        ids = [self.images[a.group, m]["id"] for m in a.methods]
        screen = {
            "rater_id": person["id"],
            "position": a.position,
            "phase": a.phase,
            "group_name": a.group,
            "item_ids": json.dumps(ids),
            "repeat_of": a.repeat_of,
        }
        known = self.screens.setdefault((a.rater, a.position), screen | {"id": random_id(), "shown_at": None})
        if any(known[k] != v for k, v in screen.items()):
            raise ImportRefusedError(
                f"answer {a.number}: position {a.position} of {a.rater} showed something else in an earlier answer."
            )
        return known, ids


def rows_of_export(config: StudyConfig, given: ExportedStudy) -> ImportedRows:
    """Rows with new random ids.

    Raises:
        ImportRefusedError: an answer does not fit the configuration, or another answer.
    """
    now = time.time()
    begun = min((a.created_at for a in given.answers), default=now)
    # Raters in between who gave no answer are kept: without them the later ones would change their numbers.
    last = max((rater_number(a.rater) for a in given.answers), default=0)
    people = {rater_name(n): new_rater(config, begun + n / 1000, now) for n in range(1, last + 1)}
    builder = RowBuilder(config, now, people)
    answers = [builder.add(a) for a in given.answers]
    check_corrections(given.answers)
    study = {
        "id": config.id,
        "config": config.canonical(),
        "config_hash": config.hash(),
        "content_hash": given.content_sha256,
        "created_at": begun,
        "opened_at": begun,
        "closed_at": now,
        "locked_at": begun,
    }
    notes = [
        {
            "study_id": config.id,
            "token_hash": hash_token(random_id()),
            "created_at": now,
            "answers_deleted": w.answers_deleted,
            "requested_by": w.requested_by,
        }
        for w in given.withdrawals
    ]
    rows = {
        studies: [study],
        items: list(builder.images.values()),
        raters: list(builder.people.values()),
        presentations: list(builder.screens.values()),
        withdrawals: notes,
    }
    return ImportedRows(rows, answers)


def new_rater(config: StudyConfig, created_at: float, revoked_at: float) -> Values:
    """A rater without answers, whose link does not work."""
    return {
        "id": random_id(),
        "study_id": config.id,
        "label": "imported",
        "token_hash": hash_token(random_id()),
        "order_seed": 0,
        "created_at": created_at,
        "revoked_at": revoked_at,
        "pseudonym": None,
        "role": None,
        "consented_at": None,
        "excluded_at": None,
        "excluded_reason": None,
    }
