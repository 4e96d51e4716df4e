"""How white an autoencoder's latents are."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LOW, HIGH = 0.1, 0.4
"""Cycles a pixel: below the first is low, from the second on is high."""
MIN_SIDE = 11
"""Side of the smallest latents that have a low frequency besides their mean: 1 / 11 < LOW."""


def unpacked_latents(latents: Tensor, vae: nn.Module) -> Tensor:
    """Latents [N, C, h, w] of ``vae``'s own resolution, of the packed [N, C pack^2, h / pack, w / pack] that the denoiser sees."""
    return F.pixel_shuffle(latents, getattr(vae.config, "pack", 1))


def latent_high_low_power(latents: Tensor) -> float:
    """Ratio of the mean power at high to that at low spatial frequencies of latents [N, C, h, w] that are not packed.

    The mean of each channel of each image is removed. The power |F(u, v)|^2 of the discrete Fourier transform, averaged over
    images and channels, is averaged over the frequencies sqrt(u^2 + v^2) >= 0.4 cycles a pixel, and over those below 0.1. White noise
    gives 1 (at 32 x 32 pixels 1.05: the removed mean, 0, counts as one of the 22 low frequencies), RGB images pooled to 32 x 32
    give 0.001. Scaling the latents changes nothing.

    Raises:
        ValueError: latents of other dimensions than four, with a side below 11, not finite, or constant.
    """
    if latents.ndim != 4 or min(latents.shape[2:]) < MIN_SIDE:
        raise ValueError(
            f"latents are {tuple(latents.shape)}; [N, C, h, w] with sides of {MIN_SIDE} or more are needed."
        )
    latents = latents.detach().double()
    power = torch.fft.rfft2(latents - latents.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
    rows, columns = torch.fft.fftfreq(latents.shape[2]), torch.fft.rfftfreq(latents.shape[3])
    frequency = (rows.square()[:, None] + columns.square()[None]).sqrt().to(power.device)
    high, low = power[frequency >= HIGH].mean(), power[frequency < LOW].mean()
    if not torch.isfinite(power).all() or low <= 0:
        raise ValueError("latents are not finite, or constant: they have no spectrum.")
    return float(high / low)
