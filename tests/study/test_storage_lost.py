"""The database goes away or is damaged while raters rate: they are asked to wait, and nothing is acknowledged that a restart does not see."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event, select

from siamese.study.rating.session import RaterSessions
from siamese.study.storage import database
from siamese.study.storage.database import Database, StorageError, StorageFullError
from siamese.study.storage.faults import named_errors
from siamese.study.storage.schema import answers
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from tests.study.admin_pages import PASSWORD, log_in
from tests.study.http_raters import ROOT
from tests.study.phantom_study import make_study
from tests.study.servers import new_database, start_postgres, stop_postgres

FILE = "studies.sqlite3"
HOME = "/study/admin"


class Rated:
    """A served study with a rater who has begun."""

    def __init__(self, data: Path, path: str, url: str | None = None) -> None:
        self.data, self.path, self.url = data, path, url or f"sqlite:///{data / FILE}"
        self.client = TestClient(
            study_app(data, url),
            base_url="https://testserver",
            raise_server_exceptions=False,
            follow_redirects=False,
        )
        log_in(self.client)
        self.task, self.acknowledged = self.client.get(f"{self.path}/api/state").json()["step"]["task"], []

    def answer(self):
        """Answer the current item; the reply."""
        body = {
            "task": self.task["id"],
            "key": self.task["id"],
            "response": {"real": True},
            "confidence": 5,
            "client_ms": 100,
        }
        reply = self.client.post(f"{self.path}/api/answer", json=body)
        if reply.status_code == 200:
            self.acknowledged.append(self.task["id"])
            self.task = reply.json()["step"]["task"]
        return reply

    def refused(self, says: str) -> None:
        """Every kind of request is refused with a sentence, and a request to come again."""
        got = [
            self.answer(),
            self.client.get(f"{self.path}/api/state"),
            self.client.get(f"{self.path}/image/{self.task['items'][0]}"),
            self.client.get(HOME),
            self.client.get(f"{HOME}/studies/phantoms/answers.csv"),
        ]
        assert [r.status_code for r in got] == [503] * 5, [r.text[:200] for r in got]
        assert all(
            says.lower() in r.text.lower() and "Traceback" not in r.text and r.headers["retry-after"]
            for r in got
        ), [r.text[:2000] for r in got]
        assert "saved" not in got[0].json()

    def stored(self) -> list[str]:
        """What a new start sees."""
        store = StudyStore(Database(self.url))
        with store.database.read() as connection:
            return list(
                connection.execute(select(answers.c.presentation_id).order_by(answers.c.id)).scalars()
            )


def begun(images: Path, url: str) -> str:
    """Path of a rater's link who has begun a study at ``url``."""
    store, _ = make_study(images, url)
    path = store.invite("phantoms", ["Dr A"])[0].path
    RaterSessions(store).register(path.split("/")[-1], "owl", "x", True)
    store.database.close()
    return path


@pytest.fixture(scope="module")
def begun_study(tmp_path_factory) -> tuple[Path, str]:
    """A database file that no one has open, and the link's path."""
    folder = tmp_path_factory.mktemp("begun")
    return folder / FILE, begun(folder, f"sqlite:///{folder / FILE}")


@pytest.fixture
def rated(begun_study, tmp_path, monkeypatch) -> Rated:
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    (tmp_path / "data").mkdir()
    shutil.copy(begun_study[0], tmp_path / "data" / FILE)
    made = Rated(tmp_path / "data", begun_study[1])
    assert made.answer().status_code == 200
    return made


@pytest.fixture
def rated_on_server(postgres, tmp_path, monkeypatch) -> Rated:
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    url = new_database(postgres)
    return Rated(tmp_path, begun(tmp_path / "images", url), url)


@pytest.mark.slow
def test_postgresql_goes_and_comes_back(postgres, rated_on_server):
    rated = rated_on_server
    for _ in range(2):
        assert rated.answer().status_code == 200
        stop_postgres(postgres)
        try:
            rated.refused("the database did not answer")
            rated.refused("the database did not answer")
            with pytest.raises(StorageError, match=r"cannot be used.*Check that the database server runs"):
                Database(rated.url)
        finally:
            start_postgres(postgres)
        assert rated.answer().status_code == 200  # at once, although the pool's connections are stale
    assert rated.stored() == rated.acknowledged
    assert len(rated.acknowledged) == 4


@pytest.mark.slow
def test_postgresql_goes_while_it_commits(postgres, rated_on_server):
    rated = rated_on_server

    def stop(connection):
        stop_postgres(postgres)

    event.listen(Engine, "commit", stop)
    try:
        reply = rated.answer()
    finally:
        event.remove(Engine, "commit", stop)
        start_postgres(postgres)
    assert reply.status_code == 503
    assert "may be stored or not" in reply.json()["error"]
    assert rated.answer().status_code == 200
    assert rated.stored() == rated.acknowledged


@pytest.mark.slow
def test_postgresql_that_says_nothing(postgres, monkeypatch):
    """As a server that vanished from the network, or a row that another request holds: the wait ends, and its connection is not used again."""
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.5)
    base = Database(new_database(postgres))
    for _ in range(2):
        with (
            pytest.raises(StorageError, match="the database did not answer") as caught,
            base.write() as connection,
        ):
            connection.exec_driver_sql("SELECT pg_sleep(60)")
        assert not isinstance(caught.value, StorageFullError)
        with base.read() as connection:
            assert connection.exec_driver_sql("SELECT 7").scalar() == 7
    base.close()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), StorageFullError),
        (TimeoutError("timed out"), StorageError),
    ],
)
def test_errors_of_the_system_have_their_names(error, kind):
    with pytest.raises(StorageError) as caught, named_errors():
        raise error
    assert type(caught.value) is kind
    assert "None" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["file", "file and log", "folder"])
def test_moved_away_and_back(rated, lost):
    moved = rated.data.parent / "moved"
    names = {"file": [FILE], "file and log": [f.name for f in rated.data.glob(f"{FILE}*")]}.get(lost)
    assert rated.answer().status_code == 200
    if names is None:
        rated.data.rename(moved)
    else:
        moved.mkdir()
        for name in names:
            (rated.data / name).rename(moved / name)
    rated.refused("the database file is gone")
    assert not (rated.data / FILE).exists()  # no empty database is made in its place
    if names is None:
        moved.rename(rated.data)
    else:
        for name in names:
            (moved / name).rename(rated.data / name)
    assert rated.answer().status_code == 200
    assert rated.answer().status_code == 200
    assert rated.stored() == rated.acknowledged
    assert len(rated.acknowledged) == 4


@pytest.mark.slow
def test_deleted(rated):
    for file in rated.data.glob(f"{FILE}*"):
        file.unlink()
    rated.refused("the database file is gone")
    rated.refused("the database file is gone")
    assert not list(rated.data.glob(f"{FILE}*"))


@pytest.mark.slow
@pytest.mark.parametrize("other", ["copy", "empty database", "empty file"])
def test_replaced_by_another_file(rated, other, tmp_path):
    new = tmp_path / "new.sqlite3"
    if other == "copy":
        shutil.copy(rated.data / FILE, new)
    elif other == "empty database":
        Database(f"sqlite:///{new}").close()
    else:
        new.touch()
    before = new.read_bytes()
    os.replace(new, rated.data / FILE)
    rated.refused("another file is in the place of the database")
    assert (rated.data / FILE).read_bytes() == before  # nothing was written to it either


@pytest.mark.slow
@pytest.mark.parametrize("how", ["noise", "shorter", "empty"])
def test_overwritten_and_restored(rated, how):
    file = rated.data / FILE
    before = file.read_bytes()
    file.write_bytes(
        {"noise": os.urandom(len(before)), "shorter": before[: len(before) // 2], "empty": b""}[how]
    )
    rated.refused("overwritten or cut off")
    file.write_bytes(before)
    assert rated.answer().status_code == 200
    assert rated.stored() == rated.acknowledged


def killed_in_a_checkpoint(file: Path) -> None:
    """Leave ``file`` with 100 studies' worth of rows in its log and of the log's pages only the first one in it.

    SQLite writes pages in their order: the first, which has the new length, before those that make the file longer.
    """
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("PRAGMA wal_autocheckpoint=0")
    connection.execute(
        "CREATE TABLE filler AS WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i+1 FROM n WHERE i<100) "
        "SELECT i, randomblob(2000) AS bytes FROM n"
    )
    kept = {suffix: Path(f"{file}{suffix}").read_bytes() for suffix in ("", "-wal")}
    connection.close()
    page, log = int.from_bytes(kept[""][16:18], "big"), kept["-wal"]
    frames = range(32, len(log), 24 + page)
    first = [log[at + 24 : at + 24 + page] for at in frames if int.from_bytes(log[at : at + 4], "big") == 1][
        -1
    ]
    Path(f"{file}-shm").unlink(missing_ok=True)
    file.write_bytes(first + kept[""][page:])
    Path(f"{file}-wal").write_bytes(log)
    assert file.stat().st_size < int.from_bytes(first[28:32], "big") * page


def test_a_server_killed_while_its_file_grew_starts_again(tmp_path):
    file = tmp_path / FILE
    Database(f"sqlite:///{file}").close()
    killed_in_a_checkpoint(file)
    database = Database(f"sqlite:///{file}")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM filler").scalar() == 100
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    database.close()


@pytest.mark.parametrize("log", ["without frames", "without the lost pages", "of another time"])
def test_a_cut_file_whose_log_does_not_have_the_rest_is_refused_and_left_as_it_is(tmp_path, log):
    file = tmp_path / FILE
    Database(f"sqlite:///{file}").close()
    killed_in_a_checkpoint(file)
    wal, page = Path(f"{file}-wal"), int.from_bytes(file.read_bytes()[16:18], "big")
    content = wal.read_bytes()
    if log == "without frames":
        wal.write_bytes(content[:32])
    elif log == "without the lost pages":
        file.write_bytes(file.read_bytes()[: 3 * page])  # the log never had the fourth
    else:
        wal.write_bytes(content[:16] + os.urandom(8) + content[24:])
    before = [path.read_bytes() for path in (file, wal)]
    with pytest.raises(StorageError, match="overwritten or cut off"):
        Database(f"sqlite:///{file}")
    assert [path.read_bytes() for path in (file, wal)] == before


def test_damaged_inside(rated):
    file = rated.data / FILE
    rated.client.get(HOME)
    with sqlite3.connect(file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before = file.read_bytes()
    file.write_bytes(before[:100] + os.urandom(len(before) - 100))
    got = [rated.answer(), rated.client.get(f"{rated.path}/api/state"), rated.client.get(HOME)]
    assert {r.status_code for r in got} <= {200, 503}, [r.text[:300] for r in got]
    assert got[0].status_code == 503, [r.text[:300] for r in got]


@pytest.mark.slow
@pytest.mark.parametrize("suffixes", [["-wal"], ["-shm"], ["-wal", "-shm"]])
def test_log_deleted(rated, suffixes):
    """What was acknowledged is only in the log until its checkpoint: it is brought to the file before the log is opened again."""
    assert rated.answer().status_code == 200
    assert (rated.data / f"{FILE}-wal").stat().st_size
    for suffix in suffixes:
        (rated.data / f"{FILE}{suffix}").unlink()
    assert rated.answer().status_code == 503
    assert rated.answer().status_code == 200  # opened again
    assert rated.stored() == rated.acknowledged
    assert len(rated.acknowledged) == 3


@pytest.mark.slow
def test_another_log_in_the_place(rated):
    (rated.data / f"{FILE}-wal").rename(rated.data / "away")
    (rated.data / f"{FILE}-wal").write_bytes(b"another's")
    rated.refused("log is another one")
    assert (rated.data / f"{FILE}-wal").read_bytes() == b"another's"


def test_lost_between_commit_and_acknowledgement(tmp_path):
    base = Database(f"sqlite:///{tmp_path / FILE}")
    event.listen(
        base.engine,
        "commit",
        lambda connection: (tmp_path / FILE).exists() and (tmp_path / FILE).rename(tmp_path / "away"),
    )
    with pytest.raises(StorageError, match="is gone"), base.write() as connection:
        connection.exec_driver_sql("CREATE TABLE t (n INTEGER)")
    base.close()


@pytest.mark.slow
def test_no_database_at_the_start_is_a_sentence(tmp_path):
    (tmp_path / FILE).write_bytes(b"these are no tables " * 500)
    done = subprocess.run(
        [sys.executable, "-m", "siamese.study", "serve", "--port", "0", "--data", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert FILE in done.stderr
    assert "Traceback" not in done.stderr
    assert "Move the file away" in done.stderr
    assert (tmp_path / FILE).read_bytes().startswith(b"these are no tables")
    (tmp_path / FILE).write_bytes(b"SQLite format 3\0" + os.urandom(8000))
    with pytest.raises(StorageError, match="cannot be used"):
        Database(f"sqlite:///{tmp_path / FILE}")


@pytest.mark.slow
def test_newer_schema_is_a_sentence(tmp_path):
    Database(f"sqlite:///{tmp_path / FILE}").close()
    with sqlite3.connect(tmp_path / FILE) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'from-the-future'")
    with pytest.raises(StorageError, match="another version of this program"):
        Database(f"sqlite:///{tmp_path / FILE}")


def test_only_the_owner_reads_the_files(tmp_path):
    names = [FILE, f"{FILE}-wal", f"{FILE}-shm"]
    base = Database(f"sqlite:///{tmp_path / FILE}")
    assert [(tmp_path / n).stat().st_mode & 0o777 for n in names] == [0o600] * 3
    for name in names:
        (tmp_path / name).chmod(0o644)  # as an earlier version left them
    second = Database(f"sqlite:///{tmp_path / FILE}")
    assert [(tmp_path / n).stat().st_mode & 0o777 for n in names] == [0o600] * 3
    second.close()
    base.close()
