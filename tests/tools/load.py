"""How long from an answer to the next image's bytes with many raters at once? ``python -m tests.tools.load``

Each simulated rater fetches the image, thinks for up to ``--think`` seconds, answers and fetches the next image; nothing is
fetched ahead, as the page would do, so this is the longest that a rater could wait. With ``--synthesis`` the server is the
studio, which samples images all the while.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.study.http_raters import Rater, Server
from tests.study.phantom_study import make_study


@dataclass(frozen=True)
class Load:
    """Times in milliseconds from sending an answer to having the next image."""

    raters: int
    answers: int
    answers_per_second: float
    median: float
    p95: float
    longest: float
    image_bytes: int


def measure(
    folder: Path, count: int, seconds: float, think: float, side: int, synthesis: bool = False
) -> Load:
    """Let ``count`` raters rate for ``seconds``; the first 3 s do not count."""
    studies = folder / "studies"
    studies.mkdir()
    store, study = make_study(studies, groups=70, display_side=side)
    with store.database.read() as connection:
        size = connection.exec_driver_sql("SELECT length(data) FROM images LIMIT 1").scalar()
    paths = [one.path for one in store.invite(study.config.id, [str(i) for i in range(count)])]
    store.database.close()
    server, stop = (
        Server(folder, "tests.study.busy_studio") if synthesis else Server(studies),
        threading.Event(),
    )
    server.start()
    raters = [Rater(path, i, pause=think) for i, path in enumerate(paths)]
    threads = [threading.Thread(target=r.run, args=(server, stop)) for r in raters]
    try:
        for thread in threads:
            thread.start()
        time.sleep(3)
        before = [len(r.waits) for r in raters]
        begun = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - begun
        waits = 1000 * np.concatenate([r.waits[b:] for r, b in zip(raters, before, strict=True)])
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        server.kill()
    return Load(
        count,
        len(waits),
        round(len(waits) / took, 1),
        *(round(float(v), 1) for v in (np.median(waits), np.percentile(waits, 95), waits.max())),
        size,
    )


def main() -> None:
    """Print the figures; exit status 1 if p95 is not under ``--limit``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--raters", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--think", type=float, default=6, help="longest thinking time in seconds; 6 means 3 on average"
    )
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument(
        "--synthesis", action="store_true", help="the studio serves, and samples all the while"
    )
    parser.add_argument("--limit", type=float, default=300, help="milliseconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        load = measure(
            Path(folder),
            arguments.raters,
            arguments.seconds,
            arguments.think,
            arguments.side,
            arguments.synthesis,
        )
    print(load)
    raise SystemExit(load.p95 >= arguments.limit)


if __name__ == "__main__":
    main()
