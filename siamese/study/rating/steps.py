"""Where a rater is in a study: the screen to be judged and what comes around it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, select

from siamese.study.config import StudyConfig
from siamese.study.rating.duration import Duration
from siamese.study.rating.order import TRAINING
from siamese.study.storage.schema import answers


@dataclass(frozen=True)
class Task:
    """A screen to be judged."""

    id: str
    number: int
    """From 1, within its phase as the rater sees it: training, or all that is rated."""
    total: int
    training: bool
    items: tuple[str, ...]
    """Image ids, from left to right."""


@dataclass(frozen=True)
class RatingStep:
    """Where a rater is."""

    task: Task | None
    """None when all is done."""
    upcoming: tuple[str, ...]
    """Image ids of the screen after it, to be fetched ahead."""
    can_go_back: bool
    """Whether the last answer can be corrected."""


@dataclass(frozen=True)
class Acknowledged:
    """An answer is stored."""

    step: RatingStep
    feedback: dict[str, Any] | None
    """After a training screen: ``real``, the ids of its real images, and ``correct``."""


@dataclass(frozen=True)
class Overview:
    """What a link opens with."""

    config: StudyConfig
    registered: bool
    pseudonym: str | None
    step: RatingStep | None
    """None before registration."""
    duration: Duration | None = None
    """What there is to do; None after registration."""


def to_task(row: Row, config: StudyConfig) -> Task:
    """A presentation's row as the rater sees it. Repeated screens look like the others."""
    training = row.phase == TRAINING
    return Task(
        id=row.id,
        number=row.position + 1 - (0 if training else config.training),
        total=config.training if training else config.rated,
        training=training,
        items=tuple(json.loads(row.item_ids)),
    )


def current_answer(connection: Connection, presentation: str) -> Row:
    """The answer to ``presentation`` that no other supersedes; there is exactly one once it was answered."""
    later = answers.alias()
    return connection.execute(
        select(answers)
        .outerjoin(later, later.c.supersedes == answers.c.id)
        .where(answers.c.presentation_id == presentation, later.c.id.is_(None))
    ).one()
