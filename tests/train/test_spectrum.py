"""Power of latents at high over that at low frequencies: closed forms and the formula with plain sums."""

from __future__ import annotations

import cmath
import math

import numpy as np
import pytest
import torch

from siamese.models.autoencoder import SmallAutoencoder
from train.evaluation.spectrum import latent_high_low_power, unpacked_latents


def wave(cycles: float, side: int, axis: int, strength: float) -> torch.Tensor:
    steps = torch.arange(side, dtype=torch.float64)
    line = strength * torch.cos(2 * math.pi * cycles * steps / side)
    return line[None].expand(side, side) if axis else line[:, None].expand(side, side)


def test_waves_in_closed_form():
    side = 32
    # Frequencies of the half plane that rfft2 gives: 17 columns, of which those within the circle of 0.1 and outside that of 0.4 count.
    grid = [(r if r <= 16 else r - 32, c) for r in range(32) for c in range(17)]
    low, high = (
        sum(test(math.hypot(*rc) / 32) for rc in grid) for test in (lambda f: f < 0.1, lambda f: f >= 0.4)
    )
    assert low == 22
    # A wave down the rows has its two coefficients, of N^2 / 2 each, at +-f in the column of 0; one along the columns has one at f here.
    latents = wave(2, side, 1, 3.0) + wave(14, side, 1, 1.0) + wave(6, side, 0, 9.0) + 5
    assert latent_high_low_power(latents[None, None]) == pytest.approx((1 / high) / (9 / low), rel=1e-6)
    latents = wave(2, side, 0, 3.0) + wave(14, side, 1, 1.0)
    assert latent_high_low_power(latents[None, None]) == pytest.approx((1 / high) / (2 * 9 / low), rel=1e-6)


@pytest.mark.slow
def test_equals_the_formula_with_plain_sums():
    latents = torch.randn(2, 3, 12, 14, generator=torch.Generator().manual_seed(0)).cumsum(3)
    powers: dict[str, list[float]] = {"low": [], "high": []}
    for u in range(12):
        for v in range(8):
            total = 0.0
            for plane in latents.double().flatten(0, 1).numpy():
                plane = plane - plane.mean()
                total += (
                    abs(
                        sum(
                            plane[i, j] * cmath.exp(-2j * math.pi * (u * i / 12 + v * j / 14))
                            for i in range(12)
                            for j in range(14)
                        )
                    )
                    ** 2
                )
            frequency = math.hypot(min(u, 12 - u) / 12, v / 14)
            if frequency < 0.1 or frequency >= 0.4:
                powers["low" if frequency < 0.1 else "high"].append(total)
    assert latent_high_low_power(latents) == pytest.approx(
        np.mean(powers["high"]) / np.mean(powers["low"]), rel=1e-6
    )


@pytest.mark.slow
def test_white_noise_gives_one_and_smooth_fields_little():
    noise = torch.randn(200, 8, 32, 32, generator=torch.Generator().manual_seed(1))
    assert latent_high_low_power(noise) == pytest.approx(22 / 21, rel=0.02)
    assert latent_high_low_power(7 * noise + torch.arange(8.0)[:, None, None]) == pytest.approx(
        latent_high_low_power(noise), rel=1e-5
    )
    smooth = torch.nn.functional.avg_pool2d(noise, 9, 1, 4)
    assert latent_high_low_power(smooth) < 0.02


def test_packed_latents_are_unpacked():
    packed, plain = (
        SmallAutoencoder(
            widths=(8, 8), encoder_layers=(1, 1), decoder_layers=(1, 1), latent_channels=2, pack=p
        )
        for p in (2, 1)
    )
    plain.load_state_dict(packed.state_dict())
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        latents = packed.eval().encode(images).latent
        assert latents.shape == (2, 8, 8, 8)
        torch.testing.assert_close(unpacked_latents(latents, packed), plain.eval().encode(images).latent)
        assert unpacked_latents(plain.encode(images).latent, plain).shape == (2, 2, 16, 16)


@pytest.mark.parametrize(
    "latents",
    [
        torch.randn(2, 4, 8, 8),
        torch.randn(4, 32, 32),
        torch.zeros(1, 1, 16, 16),
        torch.full((1, 1, 16, 16), math.nan),
    ],
)
def test_what_has_no_spectrum_is_refused(latents):
    with pytest.raises(ValueError, match="latents are"):
        latent_high_low_power(latents)
