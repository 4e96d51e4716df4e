"""Log-in and uploads of the administrator's pages, for tests."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from tests.study.phantom_study import make_study

PASSWORD = "correct horse"


@contextmanager
def administration(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[StudyStore, FastAPI, TestClient]]:
    """The store, the application and a client of a server with one study, whose password is ``PASSWORD``."""
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    store, _ = make_study(folder)
    app = study_app(folder)
    with TestClient(app, follow_redirects=False) as client:
        yield store, app, client
    store.database.close()


def log_in(client) -> str:
    assert client.post("/study/admin/login", data={"password": PASSWORD}).status_code == 303
    return re.search(r'name="csrf" value="(\w+)"', client.get("/study/admin").text)[1]


def admin_routes(app: FastAPI) -> list[tuple[str, str]]:
    """Every method and path under the administrator's prefix, whatever the version nests."""
    found, waiting = [], list(app.router.routes)
    while waiting:
        route = waiting.pop()
        waiting += getattr(getattr(route, "original_router", None), "routes", [])
        if getattr(route, "path", "").startswith("/study/admin"):
            found += [(m, route.path) for m in route.methods]
    return found


def zipped(folder, prefix: str = "") -> io.BytesIO:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file in folder.rglob("*.png"):
            archive.write(file, prefix + str(file.relative_to(folder)))
    buffer.seek(0)
    return buffer
