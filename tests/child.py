"""A training run in a process of its own: ``python -m tests.child MODE (base|siamese) DATA MODEL OUT STEPS EVERY``.

MODE is run, killed, asked-while-agreeing or asked-while-saving. Tests that need the process, and not the launcher, start
it by ``start``: a server process imports torch once and forks each run, which saves the seconds of importing.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import socket
import sys
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import IO, Any

import torch

from tests.train.stages import real_stage
from train.engine import loop, signals

WHOLE_SAVES = 1


def die_while_saving() -> None:
    """From the second save on: half of the bytes, then SIGKILL."""
    save, done = torch.save, [0]

    def half(state: Any, file: IO[bytes]) -> None:
        done[0] += 1
        if done[0] <= WHOLE_SAVES:
            save(state, file)
            return
        buffer = io.BytesIO()
        save(state, buffer)
        file.write(buffer.getvalue()[: buffer.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def be_asked_to_stop(owner: Any, name: str, rank: str) -> None:
    """The process of that rank gets SIGINT just after its second call of ``owner.name``."""
    call, done = getattr(owner, name), [0]

    def then_ask(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        done[0] += 1
        if done[0] == 2 and os.environ["RANK"] == rank:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    setattr(owner, name, then_ask)


def main(arguments: list[str]) -> None:
    """The run that the command line describes."""
    mode, kind, data, model, out, steps, every = arguments
    torch.set_num_threads(1)
    if mode == "killed":
        die_while_saving()
    if mode == "asked-while-agreeing":
        be_asked_to_stop(signals.StopAgreement, "any_process", rank="1")
    if mode == "asked-while-saving":
        be_asked_to_stop(torch, "save", rank="0")
    loop.run(
        *real_stage(
            kind, Path(data), Path(model), Path(out), max_steps=int(steps), checkpoint_every=int(every)
        )
    )


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.child"])


@dataclass
class Child:
    """A process that was started, and the file of what it writes to standard error."""

    process: ForkServerProcess
    errors: Path

    @property
    def said(self) -> str:
        return self.errors.read_text(errors="replace")

    def wait(self, seconds: float) -> int:
        """Exit status, negative for a signal. A process that takes longer is killed and fails the test."""
        self.process.join(seconds)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"the process did not end in {seconds} s:\n{self.said}")
        return self.process.exitcode


def start(arguments: list[str], errors: Path, environment: dict[str, str] | None = None) -> Child:
    """``main`` in a forked process, with ``environment`` added to its variables."""
    process = FORKS.Process(target=_forked, args=(arguments, str(errors), environment or {}))
    process.start()
    return Child(process, errors)


def start_group(arguments: list[str], errors: Path, processes: int = 2) -> list[Child]:
    """One run on several processes that find each other, with the variables that torch's launcher sets."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        start(
            arguments,
            errors.with_suffix(f".{rank}"),
            group | {"RANK": str(rank), "LOCAL_RANK": str(rank), "ACCELERATE_USE_CPU": "true"},
        )
        for rank in range(processes)
    ]


def _forked(arguments: list[str], errors: str, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    descriptor = os.open(errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(descriptor, 2)
    os.dup2(descriptor, 1)
    main(arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
