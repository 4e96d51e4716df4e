"""Import of an export's JSON: a study's configuration and answers, without its images, so that results can be had again.

The file is not trusted: every answer has to fit the protocol, the configuration its hash.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError
from sqlalchemy import Table, insert
from sqlalchemy.exc import IntegrityError

from siamese.study.answers.export import FORMAT
from siamese.study.config import PAIRWISE, RANKING, REAL_SYNTHETIC, StudyConfig
from siamese.study.rating.order import MAIN, REPEAT, TRAINING
from siamese.study.rating.session import MAX_SECONDS, BadAnswerError, Judgement, canonical, check
from siamese.study.storage.schema import answers, items, presentations, raters, studies, withdrawals
from siamese.study.storage.store import (
    ADMINISTRATOR,
    RATER,
    Study,
    StudyError,
    StudyStore,
    find_study,
    hash_token,
    random_id,
)

Seconds = Field(ge=0, le=10**11, allow_inf_nan=False)


class ImportRefusedError(StudyError):
    """The file cannot be imported; the message says why. Nothing was stored."""


class GivenAnswer(BaseModel):
    """An answer as ``siamese.study.answers.export.Answered`` writes it."""

    model_config = ConfigDict(extra="ignore")
    number: StrictInt
    rater: StrictStr = Field(pattern=r"^rater [1-9][0-9]{0,3}$")
    pseudonym: StrictStr = Field("", max_length=80)
    role: StrictStr = Field(max_length=80)
    phase: StrictStr = Field(pattern=f"^({TRAINING}|{MAIN}|{REPEAT})$")
    position: StrictInt = Field(ge=0, le=10**6)
    repeat_of: StrictInt | None = Field(ge=0, le=10**6)
    group: StrictStr = Field(min_length=1, max_length=255)
    methods: list[StrictStr] = Field(min_length=1, max_length=9)
    response: list[StrictInt] = Field(min_length=1, max_length=9)
    confidence: StrictInt | None
    comment: StrictStr
    client_ms: StrictInt | None = Field(ge=0, le=MAX_SECONDS)
    server_ms: StrictInt = Field(ge=0, le=2**62)
    created_at: float = Seconds
    supersedes: StrictInt | None
    current: StrictBool
    excluded: StrictStr = Field(max_length=20_000)


class GivenWithdrawal(BaseModel):
    """A note of a withdrawal."""

    model_config = ConfigDict(extra="ignore")
    answers_deleted: StrictInt = Field(ge=0, le=2**31 - 1)
    requested_by: StrictStr = Field(pattern=f"^({RATER}|{ADMINISTRATOR})$")


class GivenStudy(BaseModel):
    """The whole file."""

    model_config = ConfigDict(extra="ignore")
    format: StrictInt
    config: dict
    config_sha256: StrictStr
    content_sha256: StrictStr = Field(pattern=r"^[0-9a-f]{64}$")
    answers: list[GivenAnswer]
    withdrawals: list[GivenWithdrawal] = []


def import_study(store: StudyStore, text: str | bytes) -> Study:
    """Store the study of an export; it is closed, and cannot be opened to raters since it has no images.

    Raters keep their numbers. Notes of withdrawals keep who asked and how many answers were deleted, and get the time of the import.

    Raises:
        ImportRefusedError: no export, a changed one, or a study of this id is here already. Nothing is stored.
        ConfigError: its configuration cannot be used.
        StorageError: not stored.
    """
    try:
        given = GivenStudy.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ImportRefusedError(
            f"this is no export of a study: {'.'.join(map(str, first['loc'])) or 'the file'}: {first['msg']}. "
            "Choose a JSON file that Export wrote."
        ) from error
    if given.format != FORMAT:
        raise ImportRefusedError(f"the export has format {given.format}; this version reads {FORMAT}.")
    config = StudyConfig.from_json(json.dumps(given.config))
    if config.hash() != given.config_sha256:
        raise ImportRefusedError(
            "the export's configuration does not have the hash that it names: the file was changed."
        )
    planned = plan(config, given)
    try:
        with store.database.write() as connection:
            for table, rows in planned.rows.items():
                if rows:
                    connection.execute(insert(table), rows)
            stored: dict[int, int] = {}
            for one, row in zip(given.answers, planned.answers, strict=True):
                earlier = None if one.supersedes is None else stored[one.supersedes]
                stored[one.number] = connection.execute(
                    insert(answers).values(row | {"supersedes": earlier})
                ).inserted_primary_key[0]
            made = find_study(connection, config.id)
    except IntegrityError as error:
        raise ImportRefusedError(
            f"there is a study {config.id!r} already; import into another database."
        ) from error
    store.changed()
    return made


@dataclass(frozen=True)
class Plan:
    """Rows to be stored."""

    rows: dict[Table, list[dict[str, Any]]]
    """In the order in which they refer to each other."""
    answers: list[dict[str, Any]]
    """In the export's order, without ``supersedes``."""


def plan(config: StudyConfig, given: GivenStudy) -> Plan:
    """Rows with new random ids.

    Raises:
        ImportRefusedError: an answer does not fit the configuration, or another answer.
    """
    now = time.time()
    begun = min((a.created_at for a in given.answers), default=now)
    people: dict[str, dict[str, Any]] = {}
    shown: dict[tuple[str, str], dict[str, Any]] = {}
    screens: dict[tuple[str, int], dict[str, Any]] = {}
    practice: dict[str, bool] = {}
    rows = []
    if given.answers:
        # Those between who gave no answer: without them others would change their numbers.
        for n in range(1, max(int(a.rater.split()[1]) for a in given.answers) + 1):
            people[f"rater {n}"] = {
                "id": random_id(),
                "study_id": config.id,
                "label": "imported",
                "token_hash": hash_token(random_id()),
                "order_seed": 0,
                "created_at": begun + n / 1000,
                "revoked_at": now,
                "pseudonym": None,
                "role": None,
                "consented_at": None,
                "excluded_at": None,
                "excluded_reason": None,
            }
    for a in given.answers:
        problem = problem_of(config, a)
        if problem:
            raise ImportRefusedError(f"answer {a.number}: {problem}")
        about = {
            "pseudonym": a.pseudonym,
            "role": a.role,
            "excluded_at": now if a.excluded else None,
            "excluded_reason": a.excluded or None,
        }
        person = people[a.rater]
        if person["consented_at"] is None:
            person |= about | {"consented_at": a.created_at}
        elif any(person[k] != v for k, v in about.items()):
            raise ImportRefusedError(
                f"answer {a.number}: {a.rater} is not described as in an earlier answer."
            )
        if practice.setdefault(a.group, a.phase == TRAINING) != (a.phase == TRAINING):
            raise ImportRefusedError(
                f"answer {a.number}: the group {a.group!r} is for practice and is rated."
            )
        for method in a.methods:
            shown.setdefault(
                (a.group, method),
                {
                    "id": random_id(),
                    "study_id": config.id,
                    "group_name": a.group,
                    "method": method,
                    "training": a.phase == TRAINING,
                },
            )
        ids = [shown[a.group, m]["id"] for m in a.methods]
        screen = {
            "rater_id": person["id"],
            "position": a.position,
            "phase": a.phase,
            "group_name": a.group,
            "item_ids": json.dumps(ids),
            "repeat_of": a.repeat_of,
        }
        known = screens.setdefault((a.rater, a.position), screen | {"id": random_id(), "shown_at": None})
        if any(known[k] != v for k, v in screen.items()):
            raise ImportRefusedError(
                f"answer {a.number}: position {a.position} of {a.rater} showed something else in an earlier answer."
            )
        try:
            response = check(
                config,
                ids,
                Judgement(response_of(config, ids, a.response), a.confidence, a.comment, a.client_ms),
            )
        except BadAnswerError as error:
            raise ImportRefusedError(f"answer {a.number}: {error}") from error
        rows.append(
            {
                "rater_id": person["id"],
                "presentation_id": known["id"],
                "idempotency_key": random_id(),
                "response": canonical(response),
                "confidence": a.confidence,
                "comment": a.comment,
                "client_ms": a.client_ms,
                "server_ms": a.server_ms,
                "created_at": a.created_at,
            }
        )
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
    return Plan(
        {
            studies: [study],
            items: list(shown.values()),
            raters: list(people.values()),
            presentations: list(screens.values()),
            withdrawals: notes,
        },
        rows,
    )


def problem_of(config: StudyConfig, answer: GivenAnswer) -> str | None:
    """What is wrong with the images of an answer, or None."""
    names, real = {m.name for m in config.methods}, {m.name for m in config.real}
    if any("\0" in x for x in (answer.pseudonym, answer.role, answer.group, answer.excluded, answer.comment)):
        return "a text holds a null character."
    if not set(answer.methods) <= names:
        return "a method is not the configuration's."
    fits = {
        REAL_SYNTHETIC: len(answer.methods) == 1,
        RANKING: sorted(answer.methods) == sorted(names),
        PAIRWISE: len(answer.methods) == 2
        and len(set(answer.methods) & real) == 1
        and len(set(answer.methods)) == 2,
    }[config.protocol]
    if not fits or len(answer.response) != len(answer.methods):
        return "it does not have the images and values of the protocol."
    if answer.position >= config.training + config.rated:
        return "its position is beyond the study's end."
    return None


def response_of(config: StudyConfig, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
    """The stored form of ``Answered.response``; what does not fit, ``siamese.study.rating.session.check`` refuses."""
    if config.protocol == REAL_SYNTHETIC:
        return {"real": {0: False, 1: True}.get(values[0])}
    if config.protocol == RANKING:
        return {"ranks": dict(zip(shown, values, strict=True))}
    return {"chosen": shown[list(values).index(1)] if sorted(values) == [0, 1] else None}


def check_corrections(given: Sequence[GivenAnswer]) -> None:
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
