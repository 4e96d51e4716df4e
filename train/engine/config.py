"""Settings of the training loop, which every stage has as ``--loop.NAME``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from train.engine.precision import Precision


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast and how safely to train. Each stage has defaults of its own, which suit small models on few images; the
    paper's are 3000 updates of batch 48 at 1e-5, betas 0.9 and 0.999, constant, in float32, without warm-up, clipping or average."""

    out: Path = Path("runs/run")
    """Folder of checkpoints, logs and the exported model. An interrupted run there is continued."""
    max_steps: int = 3000
    """Optimiser updates in all. Ramp and gate of the losses are relative to it."""
    extend_to: int | None = None
    """Train an earlier run further, to so many updates in all, with its other settings unchanged. Its schedule stays max_steps':
    beyond, ramp and gate are as at its end (w_i = 1, augmentation on). A cosine rises again to the full rate and falls to 0 there."""
    batch_size: int = 48
    """Samples an optimiser update, over all processes and accumulation steps."""
    accumulation: int = 1
    """Parts that a batch is split into, to save memory."""
    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    warmup_steps: int = 0
    """Updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = None
    """Largest norm of the gradient; none: no clipping."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the trained weights; none: no average."""
    mixed_precision: Precision = "no"
    """``auto`` is bf16 if this machine calculates in it, otherwise float32."""
    tf32: bool = False
    """On a GPU: multiply float32 with ten bits of mantissa, several times as fast. The paper is float32."""
    compile: bool = False
    """Compile the networks' blocks (torch.compile): minutes at the start, faster updates afterwards."""
    seed: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 20
    """Updates after which the losses are read, and checked to be finite. Nothing is read from the device in between."""
    evaluate_every: int = 500
    """Updates between a sample sheet with validation figures and the next."""
    minutes: float | None = None
    """Save and stop after so many minutes (continue later with the same command); none: run to max_steps."""
