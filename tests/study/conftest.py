"""What all tests of the studies share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from siamese.study.storage import mounts
from siamese.study.storage.store import StudyStore
from tests.study.admin_pages import PASSWORD, administration
from tests.study.hub import serve_hub
from tests.study.servers import new_database, postgres_server, programs


@pytest.fixture(autouse=True)
def unknown_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests run in temporary folders, which lie in memory on some machines: a study there would have to be accepted before it opens."""
    monkeypatch.setattr(mounts, "MOUNTINFO", Path("/nonexistent/mountinfo"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """See ``postgres_server``; skips where there is none, fails in continuous integration."""
    if programs() is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "no PostgreSQL server; run: apt-get install postgresql"
        )
    with postgres_server() as home:
        yield home


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind, in its turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'any.sqlite3'}"
    return new_database(request.getfixturevalue("postgres"))


@pytest.fixture
def served(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[StudyStore, FastAPI, TestClient]]:
    """See ``administration``."""
    with administration(tmp_path, monkeypatch) as serving:
        yield serving


@pytest.fixture
def on_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Hugging Face Space without a volume."""
    monkeypatch.setenv("SPACE_ID", "clinic/studio")
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)


@pytest.fixture
def hub():
    with serve_hub() as hub:
        yield hub
