"""Guidance: its formulas, the interval in which it acts, and the checkpoint's own settings."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from siamese.diffusion import predict_x0, predicted_noise
from siamese.models.dense_hint import mask_hint
from siamese.models.unet import predict
from siamese.records.prompts import POLYP
from siamese.sampling import (
    MaskDiffusion,
    build_scheduler,
    classifier_free_guidance,
    initial_noise,
)
from tests.phantoms import phantom


def _assert_drawn(
    ours: MaskDiffusion, mask: np.ndarray, guidance_scale: float, image: torch.Tensor, **settings: str
) -> None:
    """One DDIM step from seed 4 shows ``image`` [1, 3, H, W], -1 to 1."""
    previews = []
    ours.sample(
        mask,
        POLYP,
        [4],
        num_inference_steps=1,
        guidance_scale=guidance_scale,
        scheduler="ddim",
        callback=lambda p: previews.append(p.preview()),
        **settings,
    )
    expected = image.add(1).mul(127.5)[0].permute(1, 2, 0).numpy()
    assert np.abs(previews[0][0] - expected).max() <= 1


@pytest.mark.slow
def test_guidance_of_one_leaves_out_the_unconditional_half(
    ours: MaskDiffusion, mask: np.ndarray, calls: Counter
) -> None:
    ours.sample(mask, POLYP, [1, 2], num_inference_steps=3, guidance_scale=1)
    assert calls == {"unet": 2 * 3, "controlnet": 2 * 3, "hint": 1}
    calls.clear()
    ours.sample(mask, POLYP, [1, 2], num_inference_steps=3, guidance_scale=2)
    assert calls == {"unet": 4 * 3, "controlnet": 4 * 3, "hint": 1}  # hint features once a mask
    calls.clear()
    ours.sample(
        [mask, phantom(8)[1]], POLYP, [1, 2], num_inference_steps=3, guidance_scale=2, guidance_mode="mask"
    )
    assert calls == {"unet": 2 * 3, "controlnet": 2 * 3, "hint": 2}  # both halves share encoder and prompt


@pytest.mark.slow
def test_guidance_is_the_formula(ours: MaskDiffusion, mask: np.ndarray) -> None:
    """One DDIM step by hand: eps_uncond + s (eps_cond - eps_uncond) with the mask in both halves, then z0."""
    network, s = ours.checkpoint, 3.0
    z = initial_noise([4], (network.unet.config.in_channels, 4, 4))
    scheduler = build_scheduler("ddim", network.scheduler_config, 1)
    t = scheduler.timesteps.expand(1)
    with torch.no_grad():
        features = network.controlnet.hint_features(mask_hint(ours.fit_mask(mask)[None]))
        out = {
            p: predict(
                network.unet,
                z,
                t,
                network.context([p]),
                network.controlnet.control(z, t, network.context([p]), features),
            )
            for p in (POLYP, "")
        }
        guided = out[""] + s * (out[POLYP] - out[""])
        z0 = predict_x0(
            network.alphas_cumprod,
            z,
            predicted_noise(network.alphas_cumprod, guided, z, t, network.prediction),
            t,
        )
        image = network.vae.decode(z0 / network.vae.config.scaling_factor).sample.clamp(-1, 1)
    _assert_drawn(ours, mask, s, image)


@pytest.mark.slow
def test_guidance_by_mask_is_the_formula(ours: MaskDiffusion, mask: np.ndarray) -> None:
    """One DDIM step by hand: eps without control + s (eps with it - eps without), the same prompt in both, then z0."""
    network, s = ours.checkpoint, 3.0
    z = initial_noise([4], (network.unet.config.in_channels, 4, 4))
    scheduler = build_scheduler("ddim", network.scheduler_config, 1)
    t, context = scheduler.timesteps.expand(1), network.context([POLYP])
    with torch.no_grad():
        features = network.controlnet.hint_features(mask_hint(ours.fit_mask(mask)[None]))
        uncond = predict(network.unet, z, t, context)
        cond = predict(network.unet, z, t, context, network.controlnet.control(z, t, context, features))
        noise = predicted_noise(
            network.alphas_cumprod, uncond + s * (cond - uncond), z, t, network.prediction
        )
        image = network.vae.decode(
            predict_x0(network.alphas_cumprod, z, noise, t) / network.vae.config.scaling_factor
        ).sample.clamp(-1, 1)
    _assert_drawn(ours, mask, s, image, guidance_mode="mask")


@pytest.mark.parametrize("rescale", [0, 0.7, 1])
def test_rescaled_guidance_is_the_formula(rescale: float) -> None:
    """Equations 14 to 16 of Lin et al. 2023, of each image by itself."""
    uncond, cond = torch.randn(2, 3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guided = uncond + 5 * (cond - uncond)
    for i, output in enumerate(classifier_free_guidance(uncond, cond, 5, rescale)):
        rescaled = guided[i] * cond[i].std() / guided[i].std()
        torch.testing.assert_close(output, rescale * rescaled + (1 - rescale) * guided[i])


@pytest.mark.slow
def test_rescale_is_the_checkpoints_if_none_is_given(ours: MaskDiffusion, mask: np.ndarray) -> None:
    plain, taken_back = (ours.sample(mask, POLYP, [1], guidance_scale=6, guidance_rescale=r) for r in (0, 1))
    assert (plain != taken_back).any()
    old = ours.checkpoint.defaults
    ours.checkpoint.defaults = replace(old, guidance_rescale=1.0)
    try:
        assert np.array_equal(ours.sample(mask, POLYP, [1], guidance_scale=6), taken_back)
    finally:
        ours.checkpoint.defaults = old


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["prompt", "mask"])
def test_guidance_acts_between_two_noise_levels_only(
    ours: MaskDiffusion, mask: np.ndarray, mode: str
) -> None:
    """Ten steps at t = 999, 899, ... 99: those above 0.85 T and below 0.25 T are as without guidance."""

    def previews(**settings: float) -> list[np.ndarray]:
        seen = []
        ours.sample(
            mask,
            POLYP,
            [1],
            num_inference_steps=10,
            scheduler="dpm++",
            guidance_mode=mode,
            callback=lambda p: seen.append(p.preview()),
            **settings,
        )
        return seen

    free, bound, middle = (
        previews(guidance_scale=1),
        previews(guidance_scale=6),
        previews(guidance_scale=6, guidance_interval=(0.25, 0.85)),
    )
    assert all((a == b).all() for a, b in zip(middle[:2], free[:2], strict=True))
    assert (middle[2] != free[2]).any()
    assert (middle[-1] != free[-1]).any()
    assert (middle[0] != bound[0]).any()
    assert (middle[-1] != bound[-1]).any()
    assert all(
        (a == b).all()
        for a, b in zip(previews(guidance_scale=6, guidance_interval=(0, 1)), bound, strict=True)
    )
    assert all(
        (a == b).all()
        for a, b in zip(previews(guidance_scale=6, guidance_interval=(0.992, 0.998)), free, strict=True)
    )
    last = previews(guidance_scale=6, guidance_interval=(0.25, 1))
    assert all((a == b).all() for a, b in zip(last[:8], bound[:8], strict=True))
    assert (last[8] != bound[8]).any()


@pytest.mark.slow
def test_noise_levels_of_guidance_are_the_checkpoints_if_none_are_given(
    ours: MaskDiffusion, mask: np.ndarray
) -> None:
    middle = ours.sample(mask, POLYP, [1], guidance_scale=6, guidance_interval=(0.3, 0.8))
    old = ours.checkpoint.defaults
    ours.checkpoint.defaults = replace(old, guidance_interval=(0.3, 0.8))
    try:
        assert np.array_equal(ours.sample(mask, POLYP, [1], guidance_scale=6), middle)
    finally:
        ours.checkpoint.defaults = old
    assert (ours.sample(mask, POLYP, [1], guidance_scale=6) != middle).any()


@pytest.mark.slow
def test_guide_is_the_checkpoints_if_none_is_given(ours: MaskDiffusion, mask: np.ndarray) -> None:
    by_prompt = ours.sample(mask, POLYP, [1], guidance_scale=3)
    by_mask = ours.sample(mask, POLYP, [1], guidance_scale=3, guidance_mode="mask")
    assert (by_mask != by_prompt).any()
    assert np.array_equal(
        ours.sample(mask, POLYP, [1], guidance_scale=1),
        ours.sample(mask, POLYP, [1], guidance_scale=1, guidance_mode="mask"),
    )
    old = ours.checkpoint.defaults
    ours.checkpoint.defaults = replace(old, guidance_mode="mask")
    try:
        assert np.array_equal(ours.sample(mask, POLYP, [1], guidance_scale=3), by_mask)
    finally:
        ours.checkpoint.defaults = old
