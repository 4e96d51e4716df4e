"""How long a study takes a rater, said before they consent: from the answers so far, or from an assumption."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

from sqlalchemy import Connection, select

from siamese.study.config import StudyConfig
from siamese.study.rating.order import TRAINING
from siamese.study.storage.schema import answers, presentations, raters

IMAGE_SECONDS, CONFIDENCE_SECONDS = 6, 4
"""Assumed for each image of a screen, and to say how sure one is, until a study's own answers tell. Assumptions, not measured."""
ENOUGH, RECENT = 20, 400
"""Answers from which a study's own pace counts, and how many of the latest are looked at."""


@dataclass(frozen=True)
class Duration:
    """What a rater has to do, practice and repeated screens included."""

    screens: int
    """Screens with feedback before the first that counts, and all that count."""
    minutes: int
    """Expected, 1 or more; beyond 20 in steps of 5."""
    measured: bool
    """Whether answers of this study told the pace; otherwise it is assumed."""


def expected_duration(connection: Connection, config: StudyConfig) -> Duration:
    """The study's number of screens, and the minutes that they take at the median pace of its latest answers.

    The median, because a rater who leaves the page open for an hour has not judged for an hour.
    """
    query = (
        select(answers.c.client_ms)
        .join(presentations, presentations.c.id == answers.c.presentation_id)
        .join(raters, raters.c.id == answers.c.rater_id)
        .where(
            raters.c.study_id == config.id,
            presentations.c.phase != TRAINING,
            answers.c.client_ms.is_not(None),
        )
        .order_by(answers.c.id.desc())
        .limit(RECENT)
    )
    times = connection.execute(query).scalars().all()
    measured = len(times) >= ENOUGH
    seconds = median(times) / 1000 if measured else assumed_seconds(config)
    screens = config.training + config.rated
    return Duration(screens, round_minutes(screens * seconds), measured)


def assumed_seconds(config: StudyConfig) -> float:
    """Seconds that one screen of the study is assumed to take."""
    images = config.rules.images_per_screen(config.methods)
    return IMAGE_SECONDS * images + (CONFIDENCE_SECONDS if config.rules.has_confidence else 0)


def round_minutes(seconds: float) -> int:
    """Whole minutes, rounded up; beyond 20 to steps of 5, as the estimate is no better."""
    minutes = max(1, math.ceil(seconds / 60))
    return minutes if minutes <= 20 else 5 * math.ceil(minutes / 5)
