"""The sampler of both small models, and a count of what its networks see."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch

from siamese.models.checkpoint import Checkpoint
from siamese.sampling import MaskDiffusion


@pytest.fixture
def ours(model: Checkpoint) -> MaskDiffusion:
    return MaskDiffusion(model)


@pytest.fixture
def calls(ours: MaskDiffusion) -> Iterator[Counter]:
    """Samples that each network has seen so far."""
    seen: Counter = Counter()
    network = ours.checkpoint

    def counter(name: str):
        def count(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
            seen[name] += len(inputs[0])

        return count

    handles = [
        part.register_forward_pre_hook(counter(name))
        for name, part in (
            ("unet", network.unet.conv_in),
            ("controlnet", network.controlnet.conv_in),
            ("hint", network.controlnet.controlnet_cond_embedding),
        )
    ]
    yield seen
    for handle in handles:
        handle.remove()
