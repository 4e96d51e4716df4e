"""What the base and the Siamese stage share: keyed noise, timesteps and prompt drop, validation loss, sample sheets."""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from siamese.models.autoencoder import sample_latents
from train.latents import Examples


def keyed_draws(keys: Sequence[int], shape: tuple[int, ...], timesteps: int, variants: int, prompt_drop: float) -> dict[str, Tensor]:
    """Everything random of a batch, sample by sample from its own key.

    Returns:
        ``noise`` and ``posterior`` N(0, 1) [B, *shape], ``t`` uniform in 0..timesteps-1 [B], ``variant`` [B] and
        ``drop`` [B], true where the prompt is replaced by the empty one.
    """
    generator = torch.Generator()
    noise, posterior, t, variant, drop = [], [], [], [], []
    for seed in keys:
        generator.manual_seed(seed)
        noise.append(torch.randn(shape, generator=generator))
        posterior.append(torch.randn(shape, generator=generator))
        t.append(torch.randint(timesteps, (), generator=generator))
        variant.append(torch.randint(variants, (), generator=generator))
        drop.append(torch.rand((), generator=generator) < prompt_drop)
    return {"noise": torch.stack(noise), "posterior": torch.stack(posterior), "t": torch.stack(t),
            "variant": torch.stack(variant), "drop": torch.stack(drop)}


def latent_batch(examples: Examples, indices: np.ndarray, draws: dict[str, Tensor], device: torch.device) -> Tensor:
    """z0 [B, C, h, w], drawn from the posterior of the chosen variants."""
    mean, logvar = examples.latents(indices, draws["variant"].numpy(), device)
    return sample_latents(mean, logvar, draws["posterior"].to(device))


def validation_draws(count: int, shape: tuple[int, ...], timesteps: int) -> dict[str, Tensor]:
    """The same noise at each validation; timesteps evenly spread over 0..timesteps-1."""
    draws = keyed_draws([10_000_019 + i for i in range(count)], shape, timesteps, 1, 0.0)
    draws["t"] = ((torch.arange(count) * 0.6180339887 % 1) * timesteps).long()
    return draws
