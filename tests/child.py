"""A training run in a process of its own: ``python -m tests.child (run|killed) (base|siamese) DATA MODEL OUT STEPS EVERY``."""
from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path
from typing import IO, Any

import torch

from tests.stages import real_stage
from train import loop

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
        file.write(buffer.getvalue()[:buffer.tell() // 2])
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


if __name__ == "__main__":
    mode, kind, data, model, out, steps, every = sys.argv[1:]
    torch.set_num_threads(1)
    if mode == "killed":
        die_while_saving()
    loop.run(*real_stage(kind, Path(data), Path(model), Path(out), max_steps=int(steps), checkpoint_every=int(every)))
