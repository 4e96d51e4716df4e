"""The TensorBoard log of a run, and its speed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from train.engine.disk import writing


class TrainingLog:
    """Scalars and images in OUT/tensorboard.

    Args:
        first_step: of a continued run: earlier figures from this step on belong to updates that a kill has undone, and are removed.

    Raises:
        DiskFull: there was no space, here and in ``add`` and ``close``.
    """

    def __init__(self, out: Path, first_step: int | None) -> None:
        with writing("the log"):
            self.writer = SummaryWriter(out / "tensorboard", purge_step=first_step)

    def add(self, split: str, figures: dict[str, float], step: int) -> None:
        """Record ``figures`` after ``step`` updates."""
        with writing("the log"):
            for name, value in figures.items():
                self.writer.add_scalar(f"{split}/{name}", value, step)

    def close(self) -> None:
        """Write what is buffered."""
        with writing("the log"):
            self.writer.close()


class Throughput:
    """Samples a second between one reading of the losses and the next, without the time of evaluations."""

    def __init__(self, batch_size: int, step: int) -> None:
        self.batch_size, self._since, self._step = batch_size, time.monotonic(), step

    def samples_per_second(self, step: int) -> float:
        """Since the last call; ``step`` updates are done. The first call includes the first updates, which are slow."""
        now, samples = time.monotonic(), (step - self._step) * self.batch_size
        seconds, self._since, self._step = now - self._since, now, step
        return samples / max(seconds, 1e-9)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within does not count."""
        started = time.monotonic()
        yield
        self._since += time.monotonic() - started
