"""A training run in a process of its own: ``python -m tests.child MODE (base|siamese) DATA MODEL OUT STEPS EVERY``.

MODE is run, killed, asked-while-agreeing or asked-while-saving.
"""

from __future__ import annotations

import io
import os
import signal
import sys
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


if __name__ == "__main__":
    mode, kind, data, model, out, steps, every = sys.argv[1:]
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
