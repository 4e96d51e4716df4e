"""Does an acknowledged answer survive ``kill -9``? ``python -m tests.tools.kill --kills 200``, with ``--postgresql`` on a server of its own.

Eight simulated raters answer over HTTP, correct and double-click now and then, while the server is killed at random moments and
started again. Afterwards the database is held against what was acknowledged. With ``--forked`` each life is a fork of a process that
has imported everything, which saves most of a start's time.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from siamese.study.storage.database import Database
from siamese.study.storage.entities import NewItem, Study
from siamese.study.storage.images import blind
from siamese.study.storage.schema import answers
from siamese.study.storage.store import StudyStore
from tests.phantoms import phantom
from tests.study.http_raters import ROOT, Rater, Server
from tests.study.phantom_study import config
from tests.study.servers import new_database, postgres_server

RATERS = 8
PARENT = """import json, os, sys
from siamese.study.__main__ import main
for line in sys.stdin:
    process = os.fork()
    if not process:
        main(json.loads(line))
        os._exit(0)
    print("process", process, flush=True)
    os.waitpid(process, 0)
    print("ended", flush=True)
"""


class ForkedServer(Server):
    """A server whose lives are forks of one process."""

    def __init__(self, data: Path, *arguments: str) -> None:
        super().__init__(data)
        self.arguments, self.life = arguments, 0
        self.parent = subprocess.Popen(
            [sys.executable, "-c", PARENT], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )

    def _until(self, pattern: str) -> str:
        """What is found in the first line that has ``pattern``."""
        for line in self.parent.stdout:
            if found := re.search(pattern, line.decode()):
                return found[1]
        raise RuntimeError("the server's parent ended.")

    def start(self) -> None:
        """See ``Server``."""
        self.parent.stdin.write(
            json.dumps(
                ["serve", *self.arguments, "--port", str(self.port), "--data", str(self.data)]
            ).encode()
            + b"\n"
        )
        self.life = int(self._until(r"^process (\d+)"))
        self.port = int(self._until(r"http://127\.0\.0\.1:(\d+)"))

    def kill(self) -> None:
        """kill -9."""
        os.kill(self.life, signal.SIGKILL)
        self._until("^(ended)")

    def close(self) -> None:
        """End the parent."""
        self.parent.stdin.close()
        self.parent.wait()
        self.parent.stdout.close()


@dataclass(frozen=True)
class Outcome:
    """What the kills did."""

    kills: int
    acknowledged: int
    stored: int
    lost: int
    """Acknowledged answers that are not in the database, or not as they were acknowledged."""
    duplicated: int
    """Answers that are stored twice: keys that occur twice, or screens with two answers that correct none."""
    retries: int
    """Requests that a kill cut off, and that were repeated."""
    integrity: str
    """SQLite's own check of the file; "ok" on PostgreSQL, which is not killed."""
    seconds: float


def long_study(url: str, groups: int) -> tuple[StudyStore, Study]:
    """An open study of the same picture throughout, long enough that no rater is done before the last kill."""
    store, png = StudyStore(Database(url)), blind(phantom(0)[0], (64, 48), 64)
    wanted = config(groups=groups)
    study = store.add(
        wanted, [NewItem(f"mask {g}", m.name, False, png) for g in range(groups) for m in wanted.methods]
    )
    store.open(wanted.id)
    return store, study


def kill_often(folder: Path, kills: int, seed: int, url: str | None = None, forked: bool = False) -> Outcome:
    """Run the experiment in ``folder``, which must be empty; with the empty PostgreSQL database at ``url`` if one is given."""
    rng, begun = random.Random(seed), time.monotonic()
    place = url or f"sqlite:///{folder / 'studies.sqlite3'}"
    store, study = long_study(place, groups=60 + 8 * kills)
    paths = [one.path for one in store.invite(study.config.id, [f"rater {i}" for i in range(RATERS)])]
    store.database.close()
    place_option, stop = ["--database", url] if url else [], threading.Event()
    server = (
        ForkedServer(folder, *place_option)
        if forked
        else Server(folder, "siamese.study", "serve", *place_option)
    )
    server.start()
    raters = [Rater(path, i, pause=0.05) for i, path in enumerate(paths)]
    failed: list[BaseException] = []

    def run(rater: Rater) -> None:
        try:
            rater.run(server, stop)
        except BaseException as error:  # reported below: a thread's exception is otherwise only printed
            failed.append(error)

    threads = [threading.Thread(target=run, args=(rater,)) for rater in raters]
    for thread in threads:
        thread.start()
    try:
        for _ in range(kills):
            before, end = sum(len(r.acknowledged) for r in raters), time.monotonic() + 60
            # At least one answer in each life, so that every kill can cost something; then any moment.
            while (
                sum(len(r.acknowledged) for r in raters) == before and time.monotonic() < end and not failed
            ):
                time.sleep(0.01)
            time.sleep(rng.uniform(0, 0.6))
            server.kill()
            server.start()
        time.sleep(1)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.kill()
        if forked:
            server.close()
    if failed:
        raise failed[0]
    return verify(place, raters, kills, time.monotonic() - begun)


def verify(url: str, raters: list[Rater], kills: int, seconds: float) -> Outcome:
    """Hold the database against what was acknowledged to raters."""
    store = StudyStore(Database(url))
    with store.database.read() as connection:
        rows = connection.execute(select(answers)).all()
        integrity = (
            connection.exec_driver_sql("PRAGMA integrity_check").scalar() if store.database.sqlite else "ok"
        )
    store.database.close()
    stored: dict[str, list] = {}
    for row in rows:
        stored.setdefault(row.idempotency_key, []).append(
            (row.presentation_id, json.loads(row.response)["real"], row.confidence)
        )
    acknowledged = {key: value for rater in raters for key, value in rater.acknowledged.items()}
    lost = sum(stored.get(key, [None])[0] != value for key, value in acknowledged.items())
    first = [row.presentation_id for row in rows if row.supersedes is None]
    duplicated = sum(len(found) - 1 for found in stored.values()) + len(first) - len(set(first))
    return Outcome(
        kills,
        len(acknowledged),
        len(rows),
        lost,
        duplicated,
        sum(r.retries for r in raters),
        integrity,
        seconds,
    )


def main() -> None:
    """Print the outcome; exit status 1 if an answer was lost or duplicated."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true")
    parser.add_argument("--forked", action="store_true")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        postgres_server() if arguments.postgresql else nullcontext() as home,
    ):
        outcome = kill_often(
            Path(folder),
            arguments.kills,
            arguments.seed,
            new_database(home) if home else None,
            arguments.forked,
        )
    print(outcome)
    raise SystemExit(bool(outcome.lost or outcome.duplicated or outcome.integrity != "ok"))


if __name__ == "__main__":
    main()
