"""Raw answers for the record and for other programs: CSV that spreadsheets can open safely, and JSON.

Raters are numbered in the order of their invitations; links and the administrator's labels are never exported, pseudonyms only on demand.
"""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select

from siamese.study.answers.raters import complete_raters
from siamese.study.config import RANKING, REAL_SYNTHETIC
from siamese.study.storage.schema import answers, items, presentations, raters
from siamese.study.storage.store import Study, StudyStore, find_study

FORMAT = 1
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A cell that begins with one of these is a formula to some spreadsheet."""
LEADING = ' "\u00a0\u3000\ufeff\u200b\u200c\u200d\u200e\u200f\0'
"""What may be passed over at a cell's start."""
INNER = re.compile(
    r"([,;|\t\v\f\r\n\x1c-\x1e\x85\u2028\u2029])([\s\"\x00-\x1f\ufeff\u200b-\u200f]*)(?=[=+\-@＝＋－＠])"
)
"""Where a cell goes on like that after a separator, which may begin a cell of its own: many locales separate cells by semicolons or tabs,
quotes then do not hold the cell together, and what a spreadsheet passes over at a cell's start may lie between."""


@dataclass(frozen=True)
class Answered:
    """One answer with everything that is known about it."""

    number: int
    """Counts the study's answers, from 1, in the order of their arrival."""
    rater: str
    """``rater 1``, ``rater 2``, ..."""
    pseudonym: str
    role: str
    phase: str
    position: int
    repeat_of: int | None
    group: str
    methods: tuple[str, ...]
    """From left to right."""
    response: tuple[int, ...]
    """For each image: 1 judged real and 0 synthetic, its rank, or 1 for the chosen one and 0 for the other."""
    confidence: int | None
    comment: str
    client_ms: int | None
    server_ms: int
    created_at: float
    supersedes: int | None
    """Number of the answer that this one corrects."""
    current: bool
    """Whether no later answer corrects it."""
    excluded: str
    """Why its rater is left out; empty where not."""


@dataclass(frozen=True)
class StudyAnswers:
    """A study and all its answers at one moment."""

    study: Study
    answers: tuple[Answered, ...]


def read_answers(store: StudyStore, study: str) -> StudyAnswers:
    """All answers of ``study``, superseded ones and training too.

    Raises:
        NoSuchStudyError: there is no such study.
    """
    with store.database.read() as connection:
        found = find_study(connection, study)
        people = {
            r.id: (n, r)
            for n, r in enumerate(
                connection.execute(
                    select(raters)
                    .where(raters.c.study_id == study)
                    .order_by(raters.c.created_at, raters.c.id)
                ),
                1,
            )
        }
        methods = dict(
            connection.execute(select(items.c.id, items.c.method).where(items.c.study_id == study))
            .tuples()
            .all()
        )
        given = connection.execute(
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
    numbers = {r.id: n for n, r in enumerate(given, 1)}
    superseded = {r.supersedes for r in given}
    rows = []
    for row in given:
        number, person = people[row.rater_id]
        shown, response = json.loads(row.item_ids), json.loads(row.response)
        if found.config.protocol == REAL_SYNTHETIC:
            values = (int(response["real"]),)
        elif found.config.protocol == RANKING:
            values = tuple(response["ranks"][i] for i in shown)
        else:
            values = tuple(int(i == response["chosen"]) for i in shown)
        rows.append(
            Answered(
                numbers[row.id],
                f"rater {number}",
                person.pseudonym or "",
                person.role or "",
                row.phase,
                row.position,
                row.repeat_of,
                row.group_name,
                tuple(methods[i] for i in shown),
                values,
                row.confidence,
                row.comment,
                row.client_ms,
                row.server_ms,
                row.created_at,
                numbers.get(row.supersedes),
                row.id not in superseded,
                person.excluded_reason or "",
            )
        )
    return StudyAnswers(found, tuple(rows))


def safe_cell(text: str) -> str:
    """``text`` so that no spreadsheet takes it or a part of it for a formula, whatever separates its cells: an apostrophe before what it could."""
    inner = INNER.sub(r"\1\2'", text)
    return f"'{inner}" if text.startswith(FORMULA) or text.lstrip(LEADING).startswith(FORMULA) else inner


def answers_csv(given: StudyAnswers, pseudonyms: bool = False) -> str:
    """One line an answer, with a header, of all raters. Lists within a cell are separated by ``|``, from the left image to the right.

    ``rater_complete`` is 1 where the rater has answered every item that counts: figures are of these unless all raters are asked for.
    """
    complete = complete_raters(given.study.config, given.answers)
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    writer.writerow(
        [
            "number",
            "rater",
            *(["pseudonym"] if pseudonyms else []),
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
        ]
    )
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
            "complete_raters": sorted(
                complete_raters(study.config, given.answers), key=lambda rater: int(rater.split()[1])
            ),
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
