"""What a training stage gives the loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter

from train.engine.randomness import Draws


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that the optimiser updates with the same learning rate."""

    parameters: list[nn.Parameter]
    relative_rate: float = 1.0
    """Their learning rate, as a share of ``LoopConfig.learning_rate``."""


class Stage(Protocol):
    """A network with its losses and data. Subclasses give ``batch``, ``evaluate`` and ``export``; the rest has defaults.

    Attributes:
        module: ``module(batch, step, max_steps)`` returns scalar losses by name, with the one to minimise as ``total``.
        size: number of training samples.
    """

    module: nn.Module
    size: int

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Any]:
        """Samples ``indices`` [B] on ``device``. All randomness comes from ``draws``; nothing is read back from the device."""
        ...

    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Validation figures by name, and a sample sheet in ``writer``."""
        ...

    def export(self, folder: Path) -> None:
        """Save the trained model."""
        ...

    def parameter_groups(self) -> list[ParameterGroup]:
        """All trainable parameters, by learning rate; by default one group."""
        return [ParameterGroup([p for p in self.module.parameters() if p.requires_grad])]

    def prepared(self) -> list[nn.Module]:
        """Build what aliases parameters, after they were moved to their device; returns the modules so built."""
        return []

    def schedule(self, step: int, max_steps: int) -> str:
        """The parts of the loss that depend on ``step`` of ``max_steps``, in words; empty if no part does."""
        return ""
