"""Checkpoints of a run: complete or absent, written by a thread of their own, and refused if they belong to another run."""

from __future__ import annotations

import os
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from siamese.files.atomic import flush_to_disk
from train.engine.disk import is_full
from train.engine.identity import differences

DRAWING = 2
"""How random numbers are drawn (``train.engine.randomness``). 1, which checkpoints do not name, drew each sample's own on the host."""


class ResumeError(RuntimeError):
    """The checkpoint in the output folder belongs to another run."""


class SaveError(RuntimeError):
    """A checkpoint could not be written."""


def save_state(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``folder/step-XXXXXXXX/state.pt`` so that it is either complete or absent, then drop the oldest.

    What could not be written whole is removed again: on a full disk it would keep the space that is to be freed.
    """
    final, part = folder / f"step-{step:08d}", folder / f"step-{step:08d}.part"
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        with open(part / "state.pt", "wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        if final.exists():
            shutil.rmtree(final)  # of the same step of the same run: the same bytes
        os.replace(part, final)
        flush_to_disk(folder)  # the name as well, before an older one goes
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    for old in _whole(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def _whole(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if p.suffix != ".part" and (p / "state.pt").is_file())


def step_of(checkpoint: Path) -> int:
    """Updates that were done when it was made."""
    return int(checkpoint.name.split("-")[1])


def newest(folder: Path) -> Path | None:
    """The newest complete checkpoint's folder."""
    found = _whole(folder)
    return found[-1] if found else None


def last_whole(folder: Path) -> str:
    """A sentence that names the newest complete checkpoint."""
    found = newest(folder)
    return (
        f"The checkpoint of step {step_of(found)} is whole: {found}."
        if found
        else f"There is no checkpoint yet in {folder}."
    )


def go_on(folder: Path) -> str:
    """``last_whole``, and how to continue after the cause (a full or read-only disk) is removed."""
    found = newest(folder)
    size = f" (a checkpoint takes {(found / 'state.pt').stat().st_size / 1e6:.3g} MB)" if found else ""
    return f"{last_whole(folder)} Make space{size}; then the same command {'goes on from there' if found else 'starts over'}."


def load_state(
    folder: Path, settings: dict[str, Any], facts: dict[str, Any] | None = None
) -> dict[str, Any] | None:
    """Newest complete checkpoint, or None. Facts that the checkpoint does not know are not compared.

    Raises:
        ResumeError: it cannot be read, it was made with other ``settings`` (``max_steps`` among them: ramp and gate depend on
            it) or other ``facts``, or by a version of this program that drew other random numbers.
    """
    for leftover in folder.glob("*.part"):  # a save that was killed; the checkpoint before it is whole
        shutil.rmtree(leftover, ignore_errors=True)  # another process may be doing the same
    found = newest(folder)
    if found is None:
        return None
    state = _read(found)
    if state.get("drawing") != DRAWING:
        raise ResumeError(
            f"{found} was begun with a version of this program that drew its random numbers in another way, so this one cannot "
            "continue it exactly. Continue it with that version, or begin a new run with another --loop.out."
        )
    other = differences(dict.fromkeys(settings) | state["config"], settings) + differences(
        state.get("facts", {}), facts or {}
    )
    if other:
        longer = settings.get("max_steps", 0) > (state["config"].get("max_steps") or 0)
        raise ResumeError(
            f"{found} belongs to a run that was begun with other settings: {'; '.join(other)}. To continue it give what it was begun with; "
            "for a new run give another --loop.out."
            + (
                f" To train this run longer leave --loop.max-steps and add --loop.extend-to {settings['max_steps']}."
                if longer
                else ""
            )
        )
    return state


def _read(checkpoint: Path) -> dict[str, Any]:
    try:
        return torch.load(checkpoint / "state.pt", map_location="cpu", weights_only=True)
    except Exception as error:  # damage shows as errors of pickle, of zip, of torch and of the system
        before = [c for c in _whole(checkpoint.parent) if c != checkpoint]
        rest = (
            f"the checkpoint of step {step_of(before[-1])}"
            if before
            else "the beginning: there is no other checkpoint"
        )
        raise ResumeError(
            f"{checkpoint} cannot be read ({type(error).__name__}); it is damaged. Remove that folder, and the same command goes on "
            f"from {rest}."
        ) from error


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

    def __enter__(self) -> CheckpointWriter:
        return self

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Copy ``state`` to the host, and have it written.

        Raises:
            SaveError: the one before could not be written.
        """
        self.wait()
        self._writing = (
            step,
            self._thread.submit(save_state, self.folder, step, on_host(state), self.keep),
        )

    def check(self) -> None:
        """Raise SaveError if a checkpoint has failed by now; does not wait."""
        if self._writing is not None and self._writing[1].done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written. Raise SaveError if it failed."""
        if self._writing is None:
            return
        (step, future), self._writing = self._writing, None
        try:
            future.result()
        except Exception as error:
            why = "no space is left on the disk" if is_full(error) else str(error)
            raise SaveError(
                f"the checkpoint of step {step} could not be written ({why}). {go_on(self.folder)}"
            ) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._thread.shutdown(wait=True)
        if error is None:
            self.wait()
