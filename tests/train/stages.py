"""Training stages for tests: a toy one, and the real ones on small models; also what they leave on disk."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from train.engine.loop import LoopConfig, Stage
from train.engine.randomness import Draws
from train.stages.base import BaseConfig, BaseStage
from train.stages.siamese import SiameseStage, SiameseTrainConfig

LOOP = {
    "batch_size": 4,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "clip_norm": 1.0,
    "ema_decay": 0.9,
    "log_every": 1,
    "evaluate_every": 10_000,
}


class ToyModule(nn.Module):
    """y = w x; an unused frozen weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)

    def forward(self, batch: dict[str, Tensor], step: int, max_steps: int) -> dict[str, Tensor]:
        error = (batch["x"] @ self.weight - batch["y"]).square()
        return {"total": error.mean(), "first": error[0]}


class ToyStage(Stage):
    """Least squares on ``size`` points, each with noise of its own; remembers what it was asked for."""

    def __init__(self, size: int = 10, poison: int | None = None) -> None:
        self.size, self.poison = size, poison
        self.module = ToyModule()
        self.x = torch.randn(size, 3, generator=torch.Generator().manual_seed(0))
        self.asked: list[tuple[int, float]] = []
        self.evaluated: list[tuple[int, Tensor]] = []
        self.exported: list[Tensor] = []

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Tensor]:
        noise = draws.normal("noise", ())
        self.asked += list(zip(indices.tolist(), noise.tolist(), strict=True))
        x = self.x[indices]
        if self.poison is not None and len(self.asked) > self.poison:
            x = x * float("nan")
        return {"x": x, "y": x.sum(1) + 0.1 * noise}

    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        self.evaluated.append((step, self.module.weight.detach().clone()))
        assert not self.module.training
        return {"distance": float((self.module.weight.detach() - 1).abs().sum())}

    def export(self, folder: Path) -> None:
        self.exported.append(self.module.weight.detach().clone())
        folder.mkdir()
        (folder / "weight.txt").write_text(str(self.module.weight.tolist()))

    def schedule(self, step: int, max_steps: int) -> str:
        return f"step {step} of {max_steps}"


def real_stage(kind: str, data: Path, model: Path, out: Path, **changes: Any) -> tuple[Stage, LoopConfig]:
    """The base or the Siamese stage from a model folder; its loop writes to ``out``."""
    config = LoopConfig(**(LOOP | {"out": out, "max_steps": 6, "checkpoint_every": 10_000} | changes))
    if kind == "base":
        size = 64 if model.name == "small" else 32
        return BaseStage(
            BaseConfig(
                (data,), init=model, size=size, prompt_drop=0.3, cache=out.parent / "cache", loop=config
            )
        ), config
    return SiameseStage(SiameseTrainConfig((data,), model, cache=out.parent / "cache", loop=config)), config


def draws_of(count: int, step: int = 0, seed: int = 0) -> Draws:
    """All rows of an update of ``count`` samples, on the CPU."""
    return Draws(seed, step, count, np.arange(count), torch.device("cpu"))


def interrupted_after(stage: Stage, updates: int) -> Stage:
    """The same stage; Ctrl-C comes while it prepares that update."""
    ask, count = stage.batch, [0]

    def batch(*arguments: Any) -> dict[str, Tensor]:
        count[0] += 1
        if count[0] == updates:
            signal.raise_signal(signal.SIGINT)
        return ask(*arguments)

    stage.batch = batch
    return stage


def checkpoints(out: Path) -> list[int]:
    """Steps of the checkpoints in a run's folder."""
    return sorted(int(p.name.split("-")[1]) for p in (out / "checkpoints").iterdir())


def final_state(out: Path) -> dict[str, Any]:
    """The newest checkpoint's contents."""
    return torch.load(
        out / "checkpoints" / f"step-{checkpoints(out)[-1]:08d}" / "state.pt", weights_only=True
    )


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Places at which two nested states differ, even by one bit."""
    if isinstance(a, Tensor):
        return [] if isinstance(b, Tensor) and a.dtype == b.dtype and torch.equal(a, b) else [place]
    if isinstance(a, dict):
        same = isinstance(b, dict) and a.keys() == b.keys()
        return [d for k in a for d in differences(a[k], b[k], f"{place}/{k}")] if same else [place]
    if isinstance(a, (list, tuple)):
        same = isinstance(b, type(a)) and len(a) == len(b)
        return (
            [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{place}/{i}")]
            if same
            else [place]
        )
    return [] if a == b else [place]
