"""The forward process and its inverse in one step: pure functions of z, noise and t.

t is a timestep index [B] in 0..T-1; ``alphas_cumprod`` is the table of cumulative products a_t [T].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from scipy.special import ndtri  # pyright: ignore[reportMissingTypeStubs]
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]
Weighting = Literal["none", "min_snr", "velocity"]


def scaled_linear_alphas(beta_start: float = 0.00085, beta_end: float = 0.012, steps: int = 1000) -> Tensor:
    """a_t of Stable Diffusion's schedule, float32 [T]: betas linear in their square root, product in float64."""
    return alphas_of_betas(np.linspace(beta_start**0.5, beta_end**0.5, steps, dtype=np.float64) ** 2)


def log_normal_betas(mean: float = -0.5, std: float = 1.0, steps: int = 1000) -> list[float]:
    """Betas [T] of a schedule on which uniform t draws noise levels as EDM does: ln sigma ~ N(mean, std^2).

    sigma_t = sqrt((1 - a_t) / a_t) is the log-normal's quantile (t + 1/2) / T (Karras et al. 2022, arXiv:2206.00364, table 1;
    there -1.2 and 1.2 for data of standard deviation 0.5). So nothing else of Algorithm 1 changes with the schedule.
    """
    sigmas = np.exp(mean + std * ndtri((np.arange(steps) + 0.5) / steps))
    alphas_cumprod = 1 / (1 + np.square(sigmas))
    return (1 - alphas_cumprod / np.concatenate([[1.0], alphas_cumprod[:-1]])).tolist()


def alphas_of_betas(betas: Sequence[float] | np.ndarray) -> Tensor:
    """a_t float32 [T] of betas [T], each in 0..1; the product in float64."""
    return torch.as_tensor(np.cumprod(1 - np.asarray(betas, dtype=np.float64))).float()


def noise_levels(alphas_cumprod: Tensor) -> Tensor:
    """sigma_t = sqrt((1 - a_t) / a_t) [T], the noise's standard deviation beside a signal of unit variance."""
    return ((1 - alphas_cumprod) / alphas_cumprod).sqrt()


def timestep_like(alphas_cumprod: Tensor, t: int) -> int:
    """The largest timestep of ``alphas_cumprod`` whose noise level is at most that of t on Stable Diffusion's schedule; -1 if no timestep has one so low.

    It carries a bound on t to another schedule. On Stable Diffusion's own it is t.
    """
    level = noise_levels(scaled_linear_alphas())[min(t, 999)] if t >= 0 else -1.0
    return int((noise_levels(alphas_cumprod.cpu()) <= level).sum()) - 1


def extract(alphas_cumprod: Tensor, t: Tensor) -> Tensor:
    """a_t [B, 1, 1, 1] of the table [T] at timesteps t [B]."""
    return alphas_cumprod[t].reshape(-1, 1, 1, 1)


def add_noise(alphas_cumprod: Tensor, z0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z_t = sqrt(a_t) z0 + sqrt(1 - a_t) eps (Algorithm 1, line 12)."""
    a = extract(alphas_cumprod, t)
    return a.sqrt() * z0 + (1 - a).sqrt() * noise


def predict_x0(alphas_cumprod: Tensor, z_t: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """z0' = (z_t - sqrt(1 - a_t) eps) / sqrt(a_t), not clipped (Algorithm 1, line 22)."""
    a = extract(alphas_cumprod, t)
    return (z_t - (1 - a).sqrt() * noise) / a.sqrt()


def predicted_noise(
    alphas_cumprod: Tensor, output: Tensor, z_t: Tensor, t: Tensor, prediction: Prediction
) -> Tensor:
    """The noise eps that a network's output means; eps = sqrt(1 - a_t) z_t + sqrt(a_t) v for a velocity v
    (Salimans and Ho 2022, arXiv:2202.00512, appendix D)."""
    if prediction == "epsilon":
        return output
    a = extract(alphas_cumprod, t)
    return (1 - a).sqrt() * z_t + a.sqrt() * output


def loss_weight(alphas_cumprod: Tensor, t: Tensor, weighting: Weighting, gamma: float = 5.0) -> Tensor:
    """Weight [B] of a squared noise error.

    none      1, the paper's.
    min_snr   min(SNR, gamma) / SNR (Hang et al. 2023, arXiv:2303.09556).
    velocity  1 / a_t: the squared error of the velocity.
    """
    a = alphas_cumprod[t]
    if weighting == "none":
        return torch.ones_like(a)
    if weighting == "velocity":
        return 1 / a
    snr = a / (1 - a)
    return snr.clamp(max=gamma) / snr
