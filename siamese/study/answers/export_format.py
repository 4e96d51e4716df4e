"""The exported JSON file as it is read again: untrusted values, checked one by one and as a whole."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr

from siamese.study.config import StudyConfig
from siamese.study.protocols.base import MAX_IMAGES
from siamese.study.rater_names import PATTERN
from siamese.study.rating.judgement import MAX_MILLISECONDS
from siamese.study.rating.order import MAIN, REPEAT, TRAINING
from siamese.study.storage.store import ADMINISTRATOR, RATER, StudyError

FORMAT = 1
"""Written to every export; greater ones are refused."""
Seconds = Field(ge=0, le=10**11, allow_inf_nan=False)


class ImportRefusedError(StudyError):
    """The file cannot be imported; the message says why. Nothing was stored."""


class ExportedAnswer(BaseModel):
    """An answer as ``AnswerRecord`` writes it."""

    model_config = ConfigDict(extra="ignore")
    number: StrictInt
    rater: StrictStr = Field(pattern=PATTERN)
    pseudonym: StrictStr = Field("", max_length=80)
    role: StrictStr = Field(max_length=80)
    phase: StrictStr = Field(pattern=f"^({TRAINING}|{MAIN}|{REPEAT})$")
    position: StrictInt = Field(ge=0, le=10**6)
    repeat_of: StrictInt | None = Field(ge=0, le=10**6)
    group: StrictStr = Field(min_length=1, max_length=255)
    methods: list[StrictStr] = Field(min_length=1, max_length=MAX_IMAGES)
    response: list[StrictInt] = Field(min_length=1, max_length=MAX_IMAGES)
    confidence: StrictInt | None
    comment: StrictStr
    client_ms: StrictInt | None = Field(ge=0, le=MAX_MILLISECONDS)
    server_ms: StrictInt = Field(ge=0, le=2**62)
    created_at: float = Seconds
    supersedes: StrictInt | None
    current: StrictBool
    excluded: StrictStr = Field(max_length=20_000)


class ExportedWithdrawal(BaseModel):
    """A note of a withdrawal."""

    model_config = ConfigDict(extra="ignore")
    answers_deleted: StrictInt = Field(ge=0, le=2**31 - 1)
    requested_by: StrictStr = Field(pattern=f"^({RATER}|{ADMINISTRATOR})$")


class ExportedStudy(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="ignore")
    format: StrictInt
    config: dict
    config_sha256: StrictStr
    content_sha256: StrictStr = Field(pattern=r"^[0-9a-f]{64}$")
    answers: list[ExportedAnswer]
    withdrawals: list[ExportedWithdrawal] = []


def check_answer(config: StudyConfig, answer: ExportedAnswer) -> None:
    """Raise an ImportRefusedError unless the images and the position of an answer fit the configuration."""
    problem = None
    if any("\0" in x for x in (answer.pseudonym, answer.role, answer.group, answer.excluded, answer.comment)):
        problem = "a text holds a null character."
    elif not set(answer.methods) <= {m.name for m in config.methods}:
        problem = "a method is not the configuration's."
    elif not config.rules.shows(answer.methods, config.methods) or len(answer.response) != len(
        answer.methods
    ):
        problem = "it does not have the images and values of the protocol."
    elif answer.position >= config.training + config.rated:
        problem = "its position is beyond the study's end."
    if problem:
        raise ImportRefusedError(f"answer {answer.number}: {problem}")


def check_corrections(given: Sequence[ExportedAnswer]) -> None:
    """Raise an ImportRefusedError unless answers count from 1 and each screen has one first answer, one chain of corrections and one current one."""
    if [a.number for a in given] != list(range(1, len(given) + 1)):
        raise ImportRefusedError("the answers are not numbered 1, 2, 3, ... in their order.")
    newest: dict[tuple[str, int], int] = {}
    for a in given:
        if a.supersedes != newest.get((a.rater, a.position)):
            raise ImportRefusedError(
                f"answer {a.number}: it does not correct the answer before it to the same screen."
            )
        newest[a.rater, a.position] = a.number
    wrong = [a.number for a in given if a.current != (newest[a.rater, a.position] == a.number)]
    if wrong:
        raise ImportRefusedError(f"answer {wrong[0]}: it says wrongly whether it was corrected.")
