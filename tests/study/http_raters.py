"""A study server as a process of its own, and simulated raters that answer it over HTTP."""

from __future__ import annotations

import os
import random
import re
import select
import signal
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[2]
STARTING = 60
"""Seconds that a server may take to start on a busy machine."""


class Server:
    """A study server on one port for all its lives.

    Args:
        module: what ``python -m`` runs: it takes --port and --data, and prints its address once it serves.
    """

    def __init__(self, data: Path, *module: str) -> None:
        self.data, self.port = data, 0
        self.module = module or ("siamese.study", "serve")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when it accepts connections."""
        command = [sys.executable, "-m", *self.module, "--port", str(self.port), "--data", str(self.data)]
        # Without a buffer: lines that came together would wait in it unseen by select.
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0, env=os.environ | {"PYTHONUNBUFFERED": "1"}
        )
        end, said = time.monotonic() + STARTING, ""
        while time.monotonic() < end and self.process.poll() is None:
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                said = self.process.stdout.readline().decode()
                found = re.search(r"http://127\.0\.0\.1:(\d+)", said)
                if found:
                    self.port = int(found[1])
                    return
        self.kill()
        raise RuntimeError(f"the server did not start within {STARTING} s; it said {said!r}.")

    def kill(self) -> None:
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()


@dataclass
class Rater:
    """Answers at random until nothing is left; keeps what the server acknowledged."""

    path: str
    seed: int
    pause: float = 0.0
    """Longest thinking time in seconds."""
    acknowledged: dict[str, tuple[str, bool, int]] = field(default_factory=dict)
    """Task, response and confidence by idempotency key."""
    superseded: set[str] = field(default_factory=set)
    """Tasks that were corrected."""
    retries: int = 0
    waits: list[float] = field(default_factory=list)
    """Seconds from sending an answer to having the next image's bytes."""
    done: bool = False

    def run(self, server: Server, stop: threading.Event) -> None:
        """Rate until done or ``stop``; a request is repeated with the same key until it is acknowledged."""
        rng = random.Random(self.seed)
        with httpx.Client(timeout=30) as client:
            self._ask(
                client,
                server,
                stop,
                "POST",
                "/api/register",
                {"pseudonym": f"rater {self.seed}", "role": "simulated", "consent": True},
            )
            state = self._ask(client, server, stop, "GET", "/api/state")
            step, correcting = state and state["step"], False
            while step and step["task"] and not stop.is_set():
                task = step["task"]
                for item in task["items"]:
                    self._ask(client, server, stop, "GET", f"/image/{item}")
                stop.wait(rng.uniform(0, self.pause))
                if step["can_go_back"] and rng.random() < 0.15:
                    previous = self._ask(client, server, stop, "GET", "/api/previous")
                    if previous is not None:
                        self._answer(client, server, stop, rng, previous["task"], True)
                begun = time.monotonic()
                reply = self._answer(client, server, stop, rng, task, correcting)
                if reply is None:
                    return
                step = reply["step"]
                if step["task"]:
                    self._ask(client, server, stop, "GET", f"/image/{step['task']['items'][0]}")
                    self.waits.append(time.monotonic() - begun)
            self.done = bool(step) and step["task"] is None

    def _answer(
        self,
        client: httpx.Client,
        server: Server,
        stop: threading.Event,
        rng: random.Random,
        task: dict,
        correction: bool,
    ) -> dict | None:
        key, real, confidence = (
            uuid.UUID(int=rng.getrandbits(128)).hex,
            rng.random() < 0.5,
            rng.randint(1, 10),
        )
        body = {
            "task": task["id"],
            "key": key,
            "response": {"real": real},
            "confidence": confidence,
            "client_ms": 100,
            "correction": correction,
        }
        reply = self._ask(client, server, stop, "POST", "/api/answer", body)
        if reply is not None:
            assert reply["saved"] is True
            self.acknowledged[key] = (task["id"], real, confidence)
            if correction:
                self.superseded.add(task["id"])
            if rng.random() < 0.1:  # a double click
                again = self._ask(client, server, stop, "POST", "/api/answer", body)
                assert again is None or again["saved"] is True
        return reply

    def _ask(
        self,
        client: httpx.Client,
        server: Server,
        stop: threading.Event,
        method: str,
        path: str,
        body: dict | None = None,
    ) -> dict | None:
        while not stop.is_set():
            try:
                reply = client.request(method, f"{server.address}{self.path}{path}", json=body)
            except httpx.TransportError:
                self.retries += 1
                stop.wait(0.05)
                continue
            if reply.status_code == 503:
                self.retries += 1
                continue
            reply.raise_for_status()
            return reply.json() if reply.headers["content-type"] == "application/json" else {}
        return None
