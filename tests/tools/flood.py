"""Does a visitor's flood, or a model that hangs, silence raters? ``python -m tests.tools.flood``

The studio serves with its embedded model. One visitor joins 60 generations and calls ``suggest`` directly 45 times, then the model's
process is stopped, while a rater asks for their next image again and again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil

from tests.study.http_raters import Server
from tests.study.phantom_study import make_study

JOINS, CALLS = 60, 45
MORE, LOAD, SUGGEST = "more", "load", "suggest"


class Visitor:
    """Sends what a page would, and what it would not; ``session`` is a name that the client chooses."""

    def __init__(self, address: str, session: str) -> None:
        self.address, self.session = address, session
        # One for all: each would read the certificates again, which takes longer than what is measured.
        self.client = httpx.Client(timeout=60, verify=False, limits=httpx.Limits(max_connections=None))
        functions = self.client.get(f"{address}/config").json()["dependencies"]
        self.functions = {f["api_name"]: f for f in reversed(functions) if f["backend_fn"]}

    def body(self, name: str) -> dict:
        """A request to a function, with nothing entered: what the session has is filled in by the server."""
        function = self.functions[name]
        return {
            "data": [None] * len(function["inputs"]),
            "fn_index": function["id"],
            "session_hash": self.session,
        }

    def join(self, name: str) -> httpx.Response:
        """Into Gradio's queue, as a page does."""
        return self.client.post(f"{self.address}/gradio_api/queue/join", json=self.body(name))

    def call(self, name: str, route: str = "run") -> httpx.Response | None:
        """Past it; None if no answer comes."""
        try:
            return self.client.post(
                f"{self.address}/gradio_api/{route}/predict", json=self.body(name), timeout=30
            )
        except httpx.TimeoutException:
            return None

    def listen(self, heard: list[str], stop: threading.Event) -> None:
        """Collect what the session's page receives, until ``stop``."""
        try:
            with self.client.stream(
                "GET",
                f"{self.address}/gradio_api/queue/data",
                params={"session_hash": self.session},
                timeout=30,
            ) as stream:
                for line in stream.iter_lines():
                    if line.startswith("data:"):
                        heard.append(json.dumps(json.loads(line[5:]), ensure_ascii=False))
                    if stop.is_set():
                        return
        except httpx.TransportError:  # the server ends first
            return


def rate(address: str, path: str, seconds: float) -> np.ndarray:
    """Milliseconds of each of a rater's requests, one after the other."""
    took, end = [], time.monotonic() + seconds
    with httpx.Client(timeout=60, verify=False) as client:
        while time.monotonic() < end:
            began = time.monotonic()
            client.get(f"{address}{path}/api/state").raise_for_status()
            took.append(1000 * (time.monotonic() - began))
            time.sleep(0.05)
    return np.array(took)


@dataclass(frozen=True)
class Waits:
    """A rater's milliseconds."""

    requests: int
    median: float
    p95: float
    longest: float

    @classmethod
    def of(cls, took: np.ndarray) -> Waits:
        """Of single requests."""
        return cls(
            len(took), *(round(float(v), 1) for v in (np.median(took), np.percentile(took, 95), took.max()))
        )


def measure(folder: Path, seconds: float) -> dict[str, Waits]:
    """The rater's waits with nothing else, during the flood, and during it with a stopped model process."""
    studies = folder / "studies"
    studies.mkdir()
    store, study = make_study(studies)
    path = store.invite(study.config.id, ["Dr A"])[0].path
    store.database.close()
    server, stop = Server(folder, "app"), threading.Event()
    server.start()
    model = None
    try:
        (model,) = psutil.Process(server.process.pid).children()
        time.sleep(20)  # the model is loaded
        found = {"nothing else": Waits.of(rate(server.address, path, seconds))}
        with ThreadPoolExecutor(JOINS + CALLS + 1) as pool:

            def flood(session: str) -> None:
                visitor = Visitor(server.address, session)
                list(pool.map(lambda _: visitor.join(MORE), range(JOINS)))
                for _ in range(CALLS):
                    pool.submit(visitor.call, SUGGEST)

            pool.submit(flood, "first")
            found["flood"] = Waits.of(rate(server.address, path, seconds))
            model.suspend()
            pool.submit(flood, "second")
            found["flood, stopped model"] = Waits.of(rate(server.address, path, seconds))
            stop.set()
        return found
    finally:
        if model is not None and model.is_running():
            model.kill()
        server.kill()


def main() -> None:
    """Print the figures; exit status 1 if a p95 is not under ``--limit``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="of each part")
    parser.add_argument("--limit", type=float, default=300, help="milliseconds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.seconds)
    for what, waits in found.items():
        print(f"{what}: {waits}", flush=True)
    raise SystemExit(any(waits.p95 >= arguments.limit for waits in found.values()))


if __name__ == "__main__":
    main()
