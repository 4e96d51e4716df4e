"""How long a run is and how its learning rate changes, with the extensions that it was given.

By hand and not torch's schedulers: the rate is a function of the step alone, so nothing of it has to be saved or restored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from train.engine.checkpoints import ResumeError
from train.engine.config import LoopConfig
from train.engine.messages import EXTEND


def learning_rate(config: LoopConfig, step: int, ends: Sequence[int] = ()) -> float:
    """Warm-up, then constant or half a cosine to zero at ``max_steps``.

    ``ends`` are those of a run that was extended: to each of them the cosine falls again (a warm restart, Loshchilov and Hutter
    2017, arXiv:1608.03983), as nothing would be learnt at rate 0.
    """
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule != "cosine":
        return rate
    start, end = 0, config.max_steps
    for later in ends[1:]:
        if step >= end:
            start, end = end, later
    return rate * 0.5 * (1 + math.cos(math.pi * (step - start) / (end - start)))


def ends_of(config: LoopConfig, state: dict[str, Any] | None) -> list[int]:
    """Number of updates at the end of the run: of its first plan, and of each extension.

    Args:
        state: the newest checkpoint's; None for a new run.

    Raises:
        ResumeError: there is nothing to extend, or it was extended further before.
    """
    known = [config.max_steps] if state is None else state.get("ends", [config.max_steps])
    end = config.extend_to
    if end is None or end == known[-1]:
        return known
    if state is None:
        raise ResumeError(
            f"{EXTEND} trains an earlier run further, but there is no checkpoint in {config.out / 'checkpoints'}. Name the "
            f"run's folder with --loop.out; to begin a new run leave {EXTEND} out."
        )
    if end < known[-1]:
        raise ResumeError(
            f"{EXTEND} is {end}, and the run in {config.out} is to have {known[-1]} updates already; give more than that."
        )
    return [*known, end]
