"""Durable settings, migrations, and a disk that is full."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import insert, select, text, update
from sqlalchemy.exc import DBAPIError, IntegrityError

from siamese.study.storage import database
from siamese.study.storage.database import PRAGMAS, Database, StorageError, StorageFullError
from siamese.study.storage.location import data_directory, database_url
from siamese.study.storage.schema import answers, metadata, presentations, raters, studies
from siamese.web.settings import SetupError

STUDY = {"id": "s", "config": "{}", "config_hash": "", "content_hash": "", "created_at": 0.0}


def url(folder: Path) -> str:
    return f"sqlite:///{folder / 'x.sqlite3'}"


@pytest.mark.slow
def test_migrations_make_the_schema(any_database):
    base = Database(any_database)
    with base.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    base.close()
    Database(any_database).close()  # a second start changes nothing


def test_sqlite_is_durable(tmp_path):
    base = Database(url(tmp_path))
    with base.read() as connection:
        assert {n: connection.execute(text(f"PRAGMA {n}")).scalar() for n in PRAGMAS} == PRAGMAS
    assert (tmp_path / "x.sqlite3-wal").exists()


def test_says_that_the_log_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(
        database, "PRAGMAS", {"journal_mode": "wal", "page_size": 12345}
    )  # SQLite refuses without an error
    with pytest.raises(StorageError, match="page_size=12345"):
        Database(url(tmp_path))


@pytest.mark.slow
def test_answers_cannot_be_changed(any_database):
    base = Database(any_database)
    with base.write() as connection:
        connection.execute(insert(studies).values(**STUDY))
        connection.execute(
            insert(raters).values(
                id="r", study_id="s", label="", token_hash="t", order_seed=2**62, created_at=0.0
            )
        )
        connection.execute(
            insert(presentations).values(
                id="p", rater_id="r", position=0, phase="main", group_name="g", item_ids="[]"
            )
        )
        row = {
            "rater_id": "r",
            "presentation_id": "p",
            "response": "{}",
            "comment": "",
            "server_ms": 1,
            "created_at": 0.0,
        }
        connection.execute(insert(answers).values(idempotency_key="k", **row))
    with pytest.raises(DBAPIError, match="append-only"), base.write() as connection:
        connection.execute(update(answers).values(confidence=3))
    with pytest.raises(IntegrityError), base.write() as connection:  # a second first answer
        connection.execute(insert(answers).values(idempotency_key="l", **row))
    with pytest.raises(IntegrityError), base.write() as connection:  # the key again
        connection.execute(insert(answers).values(idempotency_key="k", supersedes=1, **row))
    with base.write() as connection:
        connection.execute(insert(answers).values(idempotency_key="l", supersedes=1, **row))
    with pytest.raises(IntegrityError), base.write() as connection:  # the first is superseded already
        connection.execute(insert(answers).values(idempotency_key="m", supersedes=1, **row))
    with base.read() as connection:
        assert connection.execute(select(answers.c.supersedes).order_by(answers.c.id)).scalars().all() == [
            None,
            1,
        ]
    base.close()


def test_full_disk_is_named_and_stores_nothing(tmp_path):
    Database(url(tmp_path)).close()
    with sqlite3.connect(tmp_path / "x.sqlite3") as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    base = Database(url(tmp_path), page_limit=pages)
    with pytest.raises(StorageFullError, match="disk is full"), base.write() as connection:
        for i in range(1000):
            connection.execute(insert(studies).values(**STUDY | {"id": str(i), "config": "x" * 5000}))
    with base.read() as connection:
        assert connection.execute(select(studies)).all() == []


def test_locked_database_is_an_error_not_a_hang(tmp_path, monkeypatch):
    monkeypatch.setattr(database, "PRAGMAS", PRAGMAS | {"busy_timeout": 50})
    base = Database(url(tmp_path))
    with base.write() as first:
        first.execute(insert(studies).values(**STUDY))
        with pytest.raises(StorageError, match="nothing was stored"), base.write():
            pytest.fail("two writers at once")
    with base.read() as connection:
        assert connection.execute(select(studies.c.id)).scalars().all() == ["s"]


def test_data_lies_outside_what_may_be_served(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for inside in (".", "data", str(tmp_path / "a" / "b"), "../" + tmp_path.name, str(Path(__file__).parent)):
        with pytest.raises(SetupError, match="might serve"):
            data_directory(inside)
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    folder = data_directory(tmp_path / "data" / "deep")
    assert folder.is_dir()
    assert folder.stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be made"):
        data_directory(tmp_path / "file" / "below")
    (tmp_path / "link").symlink_to(tmp_path / "cwd")
    with pytest.raises(SetupError, match="might serve"):
        data_directory(tmp_path / "link" / "data")


def test_data_directory_by_variable_and_platform(tmp_path, monkeypatch):
    monkeypatch.setenv("SIAMESE_STUDY_DATA", str(tmp_path / "v"))
    assert data_directory() == (tmp_path / "v").resolve()
    monkeypatch.delenv("SIAMESE_STUDY_DATA")
    monkeypatch.setattr("platformdirs.user_data_path", lambda name, appauthor: tmp_path / "p" / name)
    assert data_directory() == (tmp_path / "p" / "siamese-studio" / "studies").resolve()


def test_database_urls(tmp_path, monkeypatch):
    monkeypatch.delenv("SIAMESE_STUDY_DATABASE", raising=False)
    assert database_url(tmp_path) == f"sqlite:///{tmp_path / 'studies.sqlite3'}"
    assert database_url(tmp_path, "postgres://u:p@h/d") == "postgresql+pg8000://u:p@h/d"
    monkeypatch.setenv("SIAMESE_STUDY_DATABASE", "postgresql://h/d")
    assert database_url(tmp_path) == "postgresql+pg8000://h/d"
    for wrong in ("mysql://h/d", "studies.db"):
        with pytest.raises(SetupError, match="postgresql://"):
            database_url(tmp_path, wrong)
