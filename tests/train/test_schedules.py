"""Noise schedules: Stable Diffusion's and the one whose uniform timesteps draw EDM's noise levels."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import norm

from siamese.diffusion import (
    add_noise,
    alphas_of_betas,
    log_normal_betas,
    scaled_linear_alphas,
    timestep_like,
)
from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.models.presets import TINY
from siamese.objective import SiameseObjective
from siamese.sampling import MaskDiffusion, build_scheduler
from tests.models import build


def sigmas(alphas_cumprod: torch.Tensor) -> np.ndarray:
    """Noise levels sqrt((1 - a_t) / a_t) [T] in float64."""
    return np.sqrt((1 - alphas_cumprod.double()) / alphas_cumprod.double()).numpy()


def test_uniform_timesteps_draw_a_log_normal_noise_level() -> None:
    drawn = np.log(sigmas(alphas_of_betas(log_normal_betas(-0.5, 1.2))))
    assert np.all(np.diff(drawn) > 0)
    assert drawn.mean() == pytest.approx(-0.5, abs=1e-3)
    assert drawn.std() == pytest.approx(1.2, abs=5e-3)
    # Between the mean and one standard deviation above it lie 34.1 % of a normal law.
    assert np.mean((drawn > -0.5) & (drawn < 0.7)) == pytest.approx(0.3413, abs=2e-3)


def test_betas_are_betas() -> None:
    betas = np.array(log_normal_betas())
    assert betas.shape == (1000,)
    assert (betas > 0).all()
    assert (betas < 1).all()
    torch.testing.assert_close(alphas_of_betas(betas), torch.from_numpy(np.cumprod(1 - betas)).float())


@pytest.mark.parametrize("on_the_other", [False, True], ids=["scaled linear", "log-normal"])
def test_timestep_of_the_same_noise_level(on_the_other: bool) -> None:
    alphas_cumprod = alphas_of_betas(log_normal_betas()) if on_the_other else scaled_linear_alphas()
    levels, reference = sigmas(alphas_cumprod), sigmas(scaled_linear_alphas())
    for t in (0, 200, 999):  # 200 is Algorithm 1's gate
        same = timestep_like(alphas_cumprod, t)
        assert levels[same] <= reference[t] * 1.0001
        assert same == 999 or levels[same + 1] > reference[t] * 0.9999
        if not on_the_other:
            assert same == t
    assert timestep_like(alphas_cumprod, -1) == -1


def test_the_gate_of_the_augmentation_is_a_noise_level() -> None:
    """sigma <= 0.5717: 201 timesteps of Stable Diffusion's schedule, the quantile of ln 0.5717 of the log-normal one."""
    small = build("small")
    for betas, expected in (
        (None, 200),
        (log_normal_betas(-0.5, 1.0), int(1000 * norm.cdf(math.log(0.57167), -0.5, 1.0) - 0.5)),
    ):
        alphas_cumprod = scaled_linear_alphas() if betas is None else alphas_of_betas(betas)
        objective = SiameseObjective(small.unet, small.controlnet, alphas_cumprod)
        assert objective.augment_t == expected
        rows, _ = objective.chosen(torch.tensor([0, expected, expected + 1, 999]))
        assert rows.tolist() == [0, 1]


@pytest.mark.slow
def test_a_model_of_that_schedule_is_saved_loaded_and_sampled(tmp_path: Path) -> None:
    checkpoint = build("small")
    checkpoint.scheduler_config = replace(TINY, log_sigma=(-0.5, 1.0)).scheduler_config()
    save_checkpoint(checkpoint, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.alphas_cumprod, alphas_of_betas(log_normal_betas(-0.5, 1.0)))
    assert loaded.scheduler_config["use_karras_sigmas"] is True
    model, mask = MaskDiffusion(loaded), np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    for scheduler in ("dpm++", "ddim"):
        assert model.sample(mask, "", [1], steps=4, guidance=1.0, scheduler=scheduler).shape == (
            1,
            model.size,
            model.size,
            3,
        )


def test_steps_follow_karras_and_arrive_at_a_known_image() -> None:
    """Sigmas of equation 5 with rho 7; with the true velocity of one z0 as the network's output the solver arrives at z0."""
    config = replace(TINY, log_sigma=(-0.5, 1.0)).scheduler_config()
    solver, alphas_cumprod = build_scheduler("dpm++", config, 12), alphas_of_betas(config["trained_betas"])
    high, low = (sigmas(alphas_cumprod)[i] ** (1 / 7) for i in (-1, 0))
    expected = (high + np.arange(12) / 11 * (low - high)) ** 7
    np.testing.assert_allclose(solver.sigmas[:12].numpy(), expected, rtol=1e-3)
    z0, noise = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    z = add_noise(alphas_cumprod, z0, noise, torch.tensor([999]))
    for t, sigma in zip(solver.timesteps, solver.sigmas[:-1], strict=True):
        a = 1 / (1 + sigma.square())
        eps = (z - a.sqrt() * z0) / (1 - a).sqrt()
        z = solver.step(a.sqrt() * eps - (1 - a).sqrt() * z0, t, z, return_dict=False)[0]
    torch.testing.assert_close(z, z0, rtol=0, atol=1e-3)


def test_stable_diffusions_schedule_is_as_before() -> None:
    config = TINY.scheduler_config()
    assert "trained_betas" not in config
    assert build_scheduler("dpm++", config, 12).config.use_karras_sigmas is False
