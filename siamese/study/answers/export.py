"""Raw answers for the record and for other programs: CSV that spreadsheets can open safely, and JSON.

Raters are numbered in the order of their invitations; links and the administrator's labels are never exported, pseudonyms only on demand.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from siamese.study.answers.export_format import FORMAT
from siamese.study.answers.raters import complete_raters
from siamese.study.answers.record import AnswerRecord
from siamese.study.rater_names import rater_name, rater_number
from siamese.study.storage.schema import answers, items, presentations, raters
from siamese.study.storage.store import Study, StudyStore, find_study

COLUMNS = (
    "number",
    "rater",
    "pseudonym",
    "role",
    "phase",
    "position",
    "repeat_of",
    "group",
    "methods",
    "response",
    "confidence",
    "comment",
    "client_ms",
    "server_ms",
    "answered_at",
    "supersedes",
    "current",
    "excluded",
    "rater_complete",
    "study",
    "config_sha256",
)
"""Of the CSV file."""
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A cell that begins with one of these is a formula to some spreadsheet."""
LEADING = ' "\u00a0\u3000\ufeff\u200b\u200c\u200d\u200e\u200f\0'
"""What spreadsheets ignore at a cell's start."""
INNER = re.compile(
    r"([,;|\t\v\f\r\n\x1c-\x1e\x85\u2028\u2029])([\s\"\x00-\x1f\ufeff\u200b-\u200f]*)(?=[=+\-@＝＋－＠])"
)
"""A separator within a cell with a formula after it: many locales separate cells by semicolons or tabs and do not mind the quotes, so that
the rest becomes a cell of its own. What a spreadsheet ignores at a cell's start may lie between."""


@dataclass(frozen=True)
class StudyAnswers:
    """A study and all its answers at one moment."""

    study: Study
    answers: tuple[AnswerRecord, ...]


def read_answers(store: StudyStore, study: str) -> StudyAnswers:
    """All answers of ``study``, superseded ones and training too.

    Raises:
        NoSuchStudyError: there is no such study.
    """
    with store.database.read() as connection:
        found = find_study(connection, study)
        people = raters_by_id(connection, study)
        methods = dict(
            connection.execute(select(items.c.id, items.c.method).where(items.c.study_id == study))
            .tuples()
            .all()
        )
        given = stored_answers(connection, study)
    numbers = {r.id: n for n, r in enumerate(given, 1)}
    superseded = {r.supersedes for r in given}
    records = []
    for row in given:
        number, person = people[row.rater_id]
        shown = json.loads(row.item_ids)
        records.append(
            AnswerRecord(
                number=numbers[row.id],
                rater=rater_name(number),
                pseudonym=person.pseudonym or "",
                role=person.role or "",
                phase=row.phase,
                position=row.position,
                repeat_of=row.repeat_of,
                group=row.group_name,
                methods=tuple(methods[i] for i in shown),
                response=found.config.rules.values(shown, json.loads(row.response)),
                confidence=row.confidence,
                comment=row.comment,
                client_ms=row.client_ms,
                server_ms=row.server_ms,
                created_at=row.created_at,
                supersedes=numbers.get(row.supersedes),
                current=row.id not in superseded,
                excluded=person.excluded_reason or "",
            )
        )
    return StudyAnswers(found, tuple(records))


def raters_by_id(connection: Connection, study: str) -> dict[str, tuple[int, Row]]:
    """The study's raters, each with the number of the invitation, from 1."""
    query = select(raters).where(raters.c.study_id == study).order_by(raters.c.created_at, raters.c.id)
    return {r.id: (n, r) for n, r in enumerate(connection.execute(query), 1)}


def stored_answers(connection: Connection, study: str) -> Sequence[Row]:
    """Rows of the study's answers with their screens, in the order of their arrival."""
    return connection.execute(
        select(
            answers,
            presentations.c.phase,
            presentations.c.position,
            presentations.c.repeat_of,
            presentations.c.group_name,
            presentations.c.item_ids,
        )
        .join(presentations, presentations.c.id == answers.c.presentation_id)
        .join(raters, raters.c.id == answers.c.rater_id)
        .where(raters.c.study_id == study)
        .order_by(answers.c.id)
    ).all()


def safe_cell(text: str) -> str:
    """``text`` so that no spreadsheet takes it or a part of it for a formula, whatever separates its cells: an apostrophe before what it could."""
    inner = INNER.sub(r"\1\2'", text)
    return f"'{inner}" if text.startswith(FORMULA) or text.lstrip(LEADING).startswith(FORMULA) else inner


def answers_csv(given: StudyAnswers, pseudonyms: bool = False) -> str:
    """One line an answer, with a header, of all raters. Lists within a cell are separated by ``|``, from the left image to the right.

    ``rater_complete`` is 1 if the rater has answered every item that counts: figures are of these unless all raters are asked for.
    """
    complete = complete_raters(given.study.config, given.answers)
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow([c for c in COLUMNS if pseudonyms or c != "pseudonym"])
    for a in given.answers:
        cells = [
            a.number,
            a.rater,
            *([a.pseudonym] if pseudonyms else []),
            a.role,
            a.phase,
            a.position,
            a.repeat_of,
            a.group,
            "|".join(a.methods),
            "|".join(map(str, a.response)),
            a.confidence,
            a.comment,
            a.client_ms,
            a.server_ms,
            iso(a.created_at),
            a.supersedes,
            int(a.current),
            a.excluded,
            int(a.rater in complete),
            given.study.config.id,
            given.study.config_hash,
        ]
        writer.writerow(["" if c is None else safe_cell(c) if isinstance(c, str) else c for c in cells])
    return buffer.getvalue()


def answers_json(store: StudyStore, given: StudyAnswers, pseudonyms: bool = False) -> str:
    """Configuration, hashes, answers of all raters, which raters are complete, and notes of withdrawals as JSON."""
    hidden = set() if pseudonyms else {"pseudonym"}
    rows: list[dict[str, Any]] = [
        {k: v for k, v in vars(a).items() if k not in hidden} | {"answered_at": iso(a.created_at)}
        for a in given.answers
    ]
    study = given.study
    return json.dumps(
        {
            "format": FORMAT,
            "config": study.config.to_dict(),
            "config_sha256": study.config_hash,
            "content_sha256": study.content_hash,
            "locked_at": None if study.locked_at is None else iso(study.locked_at),
            "answers": rows,
            "complete_raters": sorted(complete_raters(study.config, given.answers), key=rater_number),
            "withdrawals": [
                {
                    "at": iso(w.created_at),
                    "answers_deleted": w.answers_deleted,
                    "requested_by": w.requested_by,
                }
                for w in store.withdrawals(study.config.id)
            ],
        },
        indent=1,
        ensure_ascii=False,
    )


def iso(seconds: float) -> str:
    """UTC time to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
