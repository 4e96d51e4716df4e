"""What the base and the Siamese stage share: random numbers of a step, latents, validation's noise and timesteps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from siamese.models.autoencoder import sample_latents
from train.data.latents import Examples
from train.engine.randomness import Draws, key, sent

_VALIDATION = 10_000_019


@dataclass(frozen=True)
class StepDraws:
    """Everything random of B samples; what control flow needs is on the host, noise is on the device.

    ``noise`` and ``posterior`` N(0, 1) [B, C, h, w], ``t`` uniform in 0..T-1 [B], ``variant`` [B] and ``drop`` [B], true
    if the prompt is replaced by the empty one.
    """

    noise: Tensor
    posterior: Tensor
    t: np.ndarray
    variant: np.ndarray
    drop: np.ndarray

    def part(self, rows: np.ndarray, device: torch.device) -> StepDraws:
        """Those of some rows, on ``device``."""
        return StepDraws(
            noise=self.noise[rows].to(device),
            posterior=self.posterior[rows].to(device),
            t=self.t[rows],
            variant=self.variant[rows],
            drop=self.drop[rows],
        )


def step_draws(
    draws: Draws, shape: tuple[int, ...], timesteps: int, variants: int, prompt_drop: float
) -> StepDraws:
    """Those of an update; ``shape`` [C, h, w] is that of a latent."""
    return StepDraws(
        noise=draws.normal("noise", shape),
        posterior=draws.normal("posterior", shape),
        t=draws.integers("t", 0, timesteps),
        variant=draws.integers("variant", 0, variants),
        drop=draws.uniform("drop") < prompt_drop,
    )


def latent_batch(examples: Examples, indices: np.ndarray, draws: StepDraws, device: torch.device) -> Tensor:
    """z0 [B, C, h, w], drawn from the posterior of the chosen variants."""
    mean, logvar = examples.latents(indices, draws.variant, device)
    return sample_latents(mean, logvar, draws.posterior)


def padded_rows(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the samples that are ``chosen`` [B], and their weights, filled up to a length of 0, B/8, B/4, B/2 or B.

    Lengths that change from step to step would be measured, compiled and allocated again each time. What is filled up
    repeats the first chosen row at weight 0.

    Returns:
        Rows [K] in 0..B-1 and weights float32 [K] in {0, 1}.
    """
    rows, count = np.flatnonzero(chosen), len(chosen)
    length = next(n for n in padded_lengths(count) if n >= len(rows))
    padding = length - len(rows)
    return np.concatenate([rows, np.repeat(rows[:1], padding)]), np.repeat(
        np.array([1, 0], np.float32), [len(rows), padding]
    )


def padded_lengths(count: int) -> list[int]:
    """0 and the eighth, quarter, half (rounded up) and whole of ``count``."""
    return [0, *(-(-count // share) for share in (8, 4, 2, 1))]


def on_device(draws: StepDraws, device: torch.device) -> dict[str, Tensor]:
    """``noise`` and ``t`` as the losses take them."""
    return {"noise": draws.noise, "t": sent(draws.t, device)}


def validation_draws(count: int, shape: tuple[int, ...], timesteps: int) -> StepDraws:
    """The same noise at each validation, on the host; timesteps evenly spread over 0..timesteps-1."""
    noise, posterior = (
        torch.randn((count, *shape), generator=torch.Generator().manual_seed(key(_VALIDATION, i)))
        for i in range(2)
    )
    t = (np.arange(count) * 0.6180339887 % 1 * timesteps).astype(np.int64)
    return StepDraws(
        noise=noise, posterior=posterior, t=t, variant=np.zeros(count, np.int64), drop=np.zeros(count, bool)
    )
