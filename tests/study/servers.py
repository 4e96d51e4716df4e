"""Databases for the tests: SQLite always, PostgreSQL where its server's programs are installed."""
from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pg8000.native
import pytest


def programs() -> Path | None:
    """Folder of PostgreSQL's own programs, as Debian or the path has them."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[4]))
    found = shutil.which("initdb")
    return debian[-1].parent if debian else Path(found).resolve().parent if found else None


def as_user() -> dict[str, object]:
    """The server refuses to run as root: become nobody there."""
    if os.geteuid():
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """``user@/cluster socket`` of a server of this test session's own; skips where there is none, fails in continuous integration."""
    folder = programs()
    if folder is None:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("no PostgreSQL server; run: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="pg") as home:
        os.chmod(home, 0o777)
        options = dict(check=True, capture_output=True, cwd="/", **as_user())
        data = str(Path(home) / "data")
        subprocess.run([folder / "initdb", "-D", data, "-U", "siamese", "-A", "trust", "-E", "UTF8", "--no-sync"], **options)
        settings = f"-k {home} -c listen_addresses= -c fsync=off -c max_connections=80"
        subprocess.run([folder / "pg_ctl", "-D", data, "-w", "-l", f"{home}/log", "-o", settings, "start"], **options)
        try:
            yield home
        finally:
            subprocess.run([folder / "pg_ctl", "-D", data, "-m", "immediate", "stop"], **options)


@pytest.fixture(params=["sqlite", "postgresql"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of an empty database of each kind, in its turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'any.sqlite3'}"
    home, name = request.getfixturevalue("postgres"), f"t{uuid.uuid4().hex}"
    socket = f"{home}/.s.PGSQL.5432"
    with pg8000.native.Connection("siamese", database="postgres", unix_sock=socket) as connection:
        connection.run(f"CREATE DATABASE {name}")
    return f"postgresql+pg8000://siamese@/{name}?unix_sock={socket}"
