"""What a rater says about one screen, and whether it fits."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from siamese.study.config import StudyConfig
from siamese.study.rating.errors import BadAnswerError

MAX_COMMENT_LENGTH = 2000
MAX_MILLISECONDS = 2**31 - 1


@dataclass(frozen=True)
class Judgement:
    """What a rater says about one screen."""

    response: dict[str, Any]
    """The protocol's own form, such as ``{"real": bool}``; see ``RatingProtocol.response_problem``."""
    confidence: int | None = None
    """1 to 10; None if the protocol has none."""
    comment: str = ""
    client_ms: int | None = None
    """Milliseconds from the image on the screen to the answer, by the browser's clock."""


def canonical(response: dict[str, Any]) -> str:
    """One text for one response."""
    return json.dumps(response, sort_keys=True, separators=(",", ":"))


def check_judgement(config: StudyConfig, shown: Sequence[str], judgement: Judgement) -> dict[str, Any]:
    """The response, if the whole judgement fits the study's protocol and the images shown.

    Raises:
        BadAnswerError: it does not fit; the message says what would.
    """
    problem = config.rules.answer_problem(shown, judgement.response, judgement.confidence)
    if problem:
        raise BadAnswerError(problem)
    if len(judgement.comment) > MAX_COMMENT_LENGTH or (judgement.comment.strip() and not config.comments):
        raise BadAnswerError(
            f"a comment has up to {MAX_COMMENT_LENGTH} characters."
            if config.comments
            else "this study takes no comments."
        )
    if "\0" in judgement.comment:
        raise BadAnswerError("a comment is text.")
    if judgement.client_ms is not None and not 0 <= judgement.client_ms <= MAX_MILLISECONDS:
        raise BadAnswerError("the response time cannot be right.")
    return judgement.response
