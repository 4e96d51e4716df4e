"""What a run prints: the step at which it continues, the path of its model, and the command that continues it."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from train.engine.checkpoints import last_whole, newest

STOPPED = 130
"""Exit status after Ctrl-C or SIGTERM, as shells have it."""
EXTEND = "--loop.extend-to"


def typed(extend_to: int | None = None) -> str:
    """The command that started this process, for a shell; ``extend_to`` becomes the option's value if it is given.

    A program that calls the stages has no such command, so the words are "the same again".
    """
    if Path(sys.argv[0]).parts[-2:] != ("train", "__main__.py"):
        return "the same again" + (f" with {EXTEND} {extend_to}" if extend_to else "")
    arguments = sys.argv[1:]
    if extend_to:
        arguments = [*_without(arguments, EXTEND), EXTEND, str(extend_to)]
    world = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    start = f"torchrun --nproc-per-node {world} -m train" if world > 1 else "python -m train"
    return f"{start} {shlex.join(arguments)}"


def _without(arguments: list[str], option: str) -> list[str]:
    """``arguments`` without an option and its value, in either spelling."""
    kept, skip = [], False
    for argument in arguments:
        name, given, _ = argument.partition("=")
        if skip:
            skip = False
        elif name.replace("_", "-") == option:
            skip = not given
        else:
            kept.append(argument)
    return kept


def continues(
    out: Path, *, step: int, ends: list[int], max_steps: int, schedule: Callable[[int], str]
) -> str:
    """Where a run continues that has been trained before.

    Args:
        ends: number of updates at the end of the run's first plan, and of each extension.
        schedule: the losses' schedule at a step, in words; empty if nothing depends on the step.
    """
    end, from_ = ends[-1], newest(out / "checkpoints")
    if step >= end:
        return f"The run in {out} is complete, {step} of {end} updates: nothing is left to train. The model is written again."
    said = [f"Continues after {step} of {end} updates, from {from_}."]
    if end > max_steps:
        said.append(
            f"It was begun for {max_steps} updates and has that schedule; updates beyond them keep its end"
            + (f" ({schedule(max_steps)})." if schedule(max_steps) else ".")
        )
    if schedule(step) and step < max_steps:
        said.append(f"Now: {schedule(step)}.")
    return " ".join(said)


def ended(out: Path, step: int, end: int, then: str) -> str:
    """Where the model is after a run or a part of it, and what to do next.

    Args:
        then: what to do with the model of a whole run.
    """
    if step < end:
        return (
            f"Stopped after {step} of {end} updates. {last_whole(out / 'checkpoints')} The model as it is now: {out / 'model'}. "
            f"To go on from there:\n  {typed()}"
        )
    return f"Done: {step} of {end} updates. The model: {out / 'model'}. {then}\nTo train it further, for example twice as long:\n  {typed(2 * end)}"


def broken_off(out: Path) -> str:
    """What is left of a run that was stopped at once, without saving."""
    return f"Stopped at once, without saving. {last_whole(out / 'checkpoints')} To go on:\n  {typed()}"
