"""A study as files: JSON lines for each table, and its images in one ZIP file. All that raters and results need is in them.

The files hold the source of every image, and hashes of the raters' links: whoever has them has the study's key.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Select, Table, insert, select
from sqlalchemy.exc import StatementError

from siamese.study.storage.database import Database, StorageError
from siamese.study.storage.entities import NewItem, content_hash, find_study
from siamese.study.storage.schema import (
    answers,
    images,
    items,
    new_number,
    presentations,
    raters,
    studies,
    withdrawals,
)

TABLES = (studies, items, raters, presentations, answers, withdrawals)
"""In the order in which they refer to each other."""
IMAGES = "images.zip"
LATER = {studies: {"text_accepted_at"}, items: {"text_boxes"}}
"""Columns that copies of earlier versions lack; nothing is in them there."""
Rows = dict[Table, list[dict[str, Any]]]


class SnapshotError(StorageError):
    """The files are not what a study was written to; nothing of it is stored."""


def file_name(table: Table) -> str:
    """The table's file."""
    return f"{table.name}.jsonl"


def query(table: Table, study: str) -> Select:
    """The study's rows of a table, in an order that does not change."""
    if table is studies:
        return select(studies).where(studies.c.id == study)
    if "study_id" in table.c:
        return select(table).where(table.c.study_id == study).order_by(table.c.id)
    own = select(raters.c.id).where(raters.c.study_id == study)
    return select(table).where(table.c.rater_id.in_(own)).order_by(table.c.id)


def dump(database: Database, study: str) -> dict[str, bytes]:
    """The study's tables at one moment: a file's bytes by its name."""
    with database.read(one_moment=True) as connection:  # otherwise an answer could be read without its rater
        return {
            file_name(table): "".join(
                json.dumps(dict(row)) + "\n" for row in connection.execute(query(table, study)).mappings()
            ).encode("utf-8")
            for table in TABLES
        }


def dump_images(database: Database, study: str, file: Path) -> None:
    """Write the study's images; they never change. An imported study has none."""
    with database.read() as connection, zipfile.ZipFile(file, "w") as archive:
        for row in connection.execute(
            select(images)
            .join(items, items.c.id == images.c.item_id)
            .where(items.c.study_id == study)
            .order_by(items.c.id)
        ):
            archive.writestr(zipfile.ZipInfo(f"{row.item_id}.png"), row.data)


def read_tables(folder: Path) -> Rows:
    """All tables of a study's folder.

    Raises:
        SnapshotError: a file is missing, damaged, or of another version of the schema.
    """
    found: Rows = {}
    for table in TABLES:
        file, columns = folder / file_name(table), set(table.c.keys())
        try:
            with file.open(encoding="utf-8", newline="\n") as stream:
                rows = [json.loads(line) for line in stream]
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{folder.name}/{file.name} cannot be read ({error}).") from error
        for number, row in enumerate(rows, 1):
            if not isinstance(row, dict) or not columns - LATER.get(table, set()) <= set(row) <= columns:
                raise SnapshotError(
                    f"{folder.name}/{file.name}, line {number}: these are not the columns of this version."
                )
        found[table] = [dict.fromkeys(LATER.get(table, ())) | row for row in rows]
    if [row["id"] for row in found[studies]] != [folder.name]:
        raise SnapshotError(
            f"{folder.name}/{file_name(studies)} does not describe the study {folder.name!r}."
        )
    return found


def restore(database: Database, folder: Path) -> bool:
    """Store the study of ``folder`` whole, so that raters can continue; False if the database has it already.

    Raises:
        SnapshotError: see ``read_tables``; or the files do not fit each other, the configuration's hash or the contents' hash.
        StorageError: not stored.
    """
    rows = read_tables(folder)
    study = rows[studies][0]
    try:
        with database.write() as connection:
            if connection.execute(select(studies.c.id).where(studies.c.id == study["id"])).one_or_none():
                return False
            for table in (studies, items, raters, presentations):
                if rows[table]:
                    connection.execute(insert(table), rows[table])
            restore_images(connection, folder / IMAGES, rows)
            restore_answers(connection, rows[answers])
            if rows[withdrawals]:
                connection.execute(insert(withdrawals), [without_id(row) for row in rows[withdrawals]])
            find_study(connection, study["id"])  # holds the configuration against its hash
            return True
    except StatementError as error:  # a constraint, or a value of the wrong kind
        raise SnapshotError(
            f"the files of study {folder.name} contradict each other or the database ({error.orig or error})."
        ) from error


def without_id(row: dict[str, Any]) -> dict[str, Any]:
    """A row of a table that counts its rows itself."""
    return {name: value for name, value in row.items() if name != "id"}


def restore_answers(connection: Connection, rows: list[dict[str, Any]]) -> None:
    """Store answers in their order, with the database's own numbers: another study may have theirs."""
    stored: dict[int, int] = {}
    for row in rows:
        earlier = row["supersedes"]
        if earlier is not None and earlier not in stored:
            raise SnapshotError(f"answer {row['id']} corrects an answer that is not before it.")
        values = without_id(row) | {"supersedes": None if earlier is None else stored[earlier]}
        stored[row["id"]] = new_number(connection.execute(insert(answers).values(values)))


def restore_images(connection: Connection, file: Path, rows: Rows) -> None:
    """Store images once they are those that the study was made of."""
    study = rows[studies][0]
    try:
        with zipfile.ZipFile(file) as archive:
            found = {name.removesuffix(".png"): archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile) as error:
        raise SnapshotError(f"{study['id']}/{file.name} cannot be read ({error}).") from error
    if not found:
        return  # imported for its results
    if set(found) != {row["id"] for row in rows[items]}:
        raise SnapshotError(f"{study['id']}/{file.name} does not hold the images of the study's items.")
    contents = [
        NewItem(row["group_name"], row["method"], row["training"], found[row["id"]]) for row in rows[items]
    ]
    if content_hash(contents) != study["content_hash"]:
        raise SnapshotError(
            f"the images of study {study['id']} are not those that it was made of: their hash differs."
        )
    for item, data in found.items():
        connection.execute(insert(images).values(item_id=item, data=data))


def lacking(database: Database, rows: Rows) -> int:
    """How many raters and answers of ``rows`` the database does not have, those who withdrew from it left out."""
    study = rows[studies][0]["id"]
    with database.read() as connection:
        gone = set(
            connection.execute(
                select(withdrawals.c.token_hash).where(withdrawals.c.study_id == study)
            ).scalars()
        )
        people = set(connection.execute(select(raters.c.id).where(raters.c.study_id == study)).scalars())
        given = set(connection.execute(select(answers.c.rater_id, answers.c.idempotency_key)).tuples())
    wanted = {row["id"] for row in rows[raters] if row["token_hash"] not in gone}
    return len(wanted - people) + sum(
        row["rater_id"] in wanted and (row["rater_id"], row["idempotency_key"]) not in given
        for row in rows[answers]
    )
