"""Checkpoints of a run: complete or absent, written by a thread of their own, refused where they belong to another run."""
from __future__ import annotations

import json
import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, is_dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

DRAWING = 2
"""How random numbers are drawn (``train.draws``). 1, which checkpoints do not name, drew each sample's own on the host."""
# Facts for people only: folders move.
_FREE_FACTS = {"init", "data"}


class ResumeError(RuntimeError):
    """The checkpoint in the output folder belongs to another run."""


class SaveError(RuntimeError):
    """A checkpoint could not be written."""


def plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what is saved and what is asked for compare equal."""
    return json.loads(json.dumps({k: asdict(v) if is_dataclass(v) else v for k, v in values.items()}, default=str))


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``folder/step-XXXXXXXX/state.pt`` so that it is either complete or absent, then drop the oldest."""
    final, part = folder / f"step-{step:08d}", folder / f"step-{step:08d}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with open(part / "state.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    os.replace(part, final)
    for old in _whole(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def _whole(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if p.suffix != ".part" and (p / "state.pt").is_file())


def last_whole(folder: Path) -> str:
    """A sentence that names the newest complete checkpoint."""
    found = _whole(folder)
    return f"The checkpoint of step {int(found[-1].name.split('-')[1])} is whole." if found else "There is no checkpoint yet."


def load_checkpoint(folder: Path, settings: dict[str, Any], facts: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Newest complete checkpoint, or None. Facts that the checkpoint does not know are not compared.

    Raises:
        ResumeError: it was made with other ``settings`` (``max_steps`` among them: ramp and gate depend on it), or by a
            version of this program that drew other random numbers.
    """
    for leftover in folder.glob("*.part"):  # a save that was killed; the checkpoint before it is whole
        shutil.rmtree(leftover, ignore_errors=True)  # another process may be doing the same
    found = _whole(folder)
    if not found:
        return None
    state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
    if state.get("drawing") != DRAWING:
        raise ResumeError(f"{found[-1]} was begun with a version of this program that drew its random numbers in another way, so this one cannot "
                          "continue it exactly. Continue it with that version, or begin anew with another --loop.out.")
    other = {k: (state["config"].get(k), v) for k, v in settings.items() if state["config"].get(k) != v}
    known = state.get("facts", {})
    other |= {k: (known[k], v) for k, v in (facts or {}).items() if k in known and k not in _FREE_FACTS and known[k] != v}
    if other:
        changes = ", ".join(f"{k} was {old}, now {new}" for k, (old, new) in other.items())
        raise ResumeError(f"{found[-1]} belongs to a run with other settings ({changes}). Use the same settings, or another --loop.out.")
    return state


def on_host(value: Any) -> Any:
    """A copy of a nested state whose tensors no later update changes."""
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {k: on_host(v) for k, v in value.items()}
    return type(value)(on_host(v) for v in value) if isinstance(value, (list, tuple)) else value


class CheckpointWriter:
    """Writes checkpoints while training goes on, one at a time; leaving it waits for the last.

    Each takes the state's size of host memory once more until it is written.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder, self.keep = folder, keep
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._writing: tuple[int, Future] | None = None

    def __enter__(self) -> "CheckpointWriter":
        return self

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy ``state`` to the host, and have it written.

        Raises:
            SaveError: the one before could not be written.
        """
        self.wait()
        self._writing = step, self._thread.submit(save_checkpoint, self.folder, step, on_host(state), self.keep)

    def check(self) -> None:
        """SaveError where a checkpoint has failed by now; does not wait."""
        if self._writing is not None and self._writing[1].done():
            self.wait()

    def wait(self) -> None:
        """Until nothing is being written. SaveError where it failed."""
        if self._writing is None:
            return
        (step, future), self._writing = self._writing, None
        try:
            future.result()
        except Exception as error:
            raise SaveError(f"the checkpoint of step {step} could not be written ({error}). {last_whole(self.folder)}") from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()
