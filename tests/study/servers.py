"""Databases for the tests: SQLite always, PostgreSQL if its server's programs are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pg8000.native


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


def pg_ctl(home: str, *arguments: str) -> None:
    """Run PostgreSQL's own program for its cluster in ``home``: start or stop it."""
    subprocess.run(
        [programs() / "pg_ctl", "-D", f"{home}/data", "-w", "-l", f"{home}/log", *arguments],
        check=True,
        capture_output=True,
        cwd="/",
        **as_user(),
    )


def start_postgres(home: str) -> None:
    """Start the server of ``home`` again."""
    pg_ctl(home, "-o", f"-k {home} -c listen_addresses= -c fsync=off -c max_connections=80", "start")


def stop_postgres(home: str) -> None:
    """End the server of ``home`` at once, in the middle of what it does."""
    pg_ctl(home, "-m", "immediate", "stop")


@contextmanager
def postgres_server() -> Iterator[str]:
    """A server of its own; the folder that holds its socket."""
    with tempfile.TemporaryDirectory(prefix="pg") as home:
        os.chmod(home, 0o777)
        subprocess.run(
            [
                programs() / "initdb",
                "-D",
                f"{home}/data",
                "-U",
                "siamese",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd="/",
            **as_user(),
        )
        start_postgres(home)
        try:
            yield home
        finally:
            stop_postgres(home)


def new_database(home: str) -> str:
    """URL of an empty database of the server of ``home``."""
    name, socket = f"t{uuid.uuid4().hex}", f"{home}/.s.PGSQL.5432"
    with pg8000.native.Connection("siamese", database="postgres", unix_sock=socket) as connection:
        connection.run(f"CREATE DATABASE {name}")
    return f"postgresql+pg8000://siamese@/{name}?unix_sock={socket}"
