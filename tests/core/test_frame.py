"""A lesion in a real photo: what is held, what is changed, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from siamese.diffusion import add_noise
from siamese.frame import sample_in_frame
from siamese.known_latents import KnownLatents
from siamese.masks.core import MaskError
from siamese.masks.crop import Crop, distance_from, opacity
from siamese.records.prompts import POLYP
from siamese.records.sampling_settings import SamplingSettings
from siamese.sampling import (
    Conditioning,
    MaskDiffusion,
    Progress,
    SamplingCancelled,
    build_scheduler,
    denoise,
    initial_noise,
)
from tests.phantoms import phantom

SETTINGS = SamplingSettings(2, 2.0, "ddim")
PHOTO = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)


def mask_at(top: int, left: int, height: int = 20, width: int = 30) -> np.ndarray:
    mask = np.zeros(PHOTO.shape[:2], np.uint8)
    mask[top : top + height, left : left + width] = 255
    return mask


MASK = mask_at(30, 80)


def untouched(mask: np.ndarray, size: int) -> np.ndarray:
    """bool [H, W]: outside of square and feather."""
    crop = Crop.around(mask, size)
    square = np.repeat((opacity(distance_from(crop.cut_mask(mask))) > 0)[..., None], 3, 2).astype(np.uint8)
    return ~crop.paste(np.zeros_like(PHOTO), square)[..., 0].astype(bool)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_only_the_lesion_and_its_margin_change(ours: MaskDiffusion, scheduler: str) -> None:
    settings = SamplingSettings(2, 2.0, scheduler)
    made = sample_in_frame(ours, PHOTO, [MASK], POLYP, [1, 2], settings)
    assert made.images.shape == (2, *PHOTO.shape)
    assert made.images.dtype == np.uint8
    assert made.crops.shape == (2, ours.size, ours.size, 3)
    assert made.crop_masks.shape == (2, ours.size, ours.size)
    outside = untouched(MASK, ours.size)
    assert 0.5 < outside.mean() < 0.95
    for image in made.images:
        assert np.array_equal(image[outside], PHOTO[outside])
        assert (image[MASK > 0] != PHOTO[MASK > 0]).mean() > 0.9
    assert (made.images[0] != made.images[1])[MASK > 0].mean() > 0.5


def test_a_seed_gives_the_same_image_alone_and_with_other_masks(ours: MaskDiffusion) -> None:
    masks = [MASK, mask_at(0, 0), mask_at(60, 100)]
    together = sample_in_frame(ours, PHOTO, masks, POLYP, [4, 5, 6], SETTINGS)
    for i, (mask, seed) in enumerate(zip(masks, (4, 5, 6), strict=True)):
        alone = sample_in_frame(ours, PHOTO, [mask], POLYP, [seed], SETTINGS)
        assert np.abs(alone.images[0].astype(int) - together.images[i]).max() <= 1
        outside = untouched(mask, ours.size)
        assert np.array_equal(together.images[i][outside], PHOTO[outside])


def test_a_photo_smaller_than_the_square(ours: MaskDiffusion) -> None:
    photo, mask = phantom(3, 11, 11)
    made = sample_in_frame(ours, photo[:, :9], [mask[:, :9]], POLYP, [1], SETTINGS)
    assert made.images.shape == (1, 11, 9, 3)


@pytest.mark.parametrize("scheduler", ["ddim", "dpm++"])
def test_the_network_sees_the_noised_photo_outside_of_the_lesion(ours: MaskDiffusion, scheduler: str) -> None:
    checkpoint, seeds = ours.checkpoint, [1, 2]
    noise = initial_noise(seeds, (checkpoint.unet.config.in_channels, 4, 4))
    z_0, free = torch.randn_like(noise), torch.zeros(2, 1, 4, 4)
    free[:, :, 1:3, 1:3] = 1
    solver = build_scheduler(scheduler, checkpoint.scheduler_config, 4)
    seen: list[torch.Tensor] = []
    handle = checkpoint.unet.conv_in.register_forward_pre_hook(
        lambda _, inputs: seen.append(inputs[0].clone())
    )
    context = checkpoint.context([POLYP] * 2)
    with torch.inference_mode():
        z = denoise(
            checkpoint,
            scheduler=solver,
            z=noise,
            given=Conditioning(context, context),
            settings=SamplingSettings(4, 1.0, scheduler),
            known=KnownLatents(z_0, free),
        )
    handle.remove()
    outside = (free == 0).expand_as(noise)
    assert len(seen) == 4
    for z_t, timestep in zip(seen, solver.timesteps, strict=True):
        wanted = add_noise(checkpoint.alphas_cumprod, z_0, noise, torch.full((2,), int(timestep)))
        torch.testing.assert_close(z_t[outside], wanted[outside], rtol=0, atol=1e-5)
    assert torch.equal(z[outside], z_0[outside])
    assert (z[~outside] != z_0[~outside]).all()


def test_with_all_latents_free_it_is_plain_sampling(ours: MaskDiffusion) -> None:
    fitted, seeds = [ours.fit_mask(MASK)], [1, 2]
    shape = (ours.checkpoint.unet.config.in_channels, 4, 4)
    known = KnownLatents(initial_noise(seeds, shape), torch.ones(2, 1, 4, 4))
    held = ours.sample_fitted(fitted, POLYP, seeds, SETTINGS, known=known)
    assert np.array_equal(held, ours.sample_fitted(fitted, POLYP, seeds, SETTINGS))


def test_latents_are_held_from_the_first_step_on_only(ours: MaskDiffusion) -> None:
    noise = initial_noise([1], (ours.checkpoint.unet.config.in_channels, 4, 4))
    context = ours.checkpoint.context([POLYP])
    with pytest.raises(ValueError, match="first"):
        denoise(
            ours.checkpoint,
            scheduler=build_scheduler("ddim", ours.checkpoint.scheduler_config, 4),
            z=noise,
            given=Conditioning(context, context),
            settings=SETTINGS,
            first=1,
            known=KnownLatents(noise, torch.ones(1, 1, 4, 4)),
        )


def test_previews_are_whole_photos_and_it_can_be_cancelled(ours: MaskDiffusion) -> None:
    seen: list[np.ndarray] = []

    def look(progress: Progress) -> bool:
        seen.append(progress.preview())
        return progress.step < 2

    with pytest.raises(SamplingCancelled):
        sample_in_frame(ours, PHOTO, [MASK], POLYP, [1, 2], SamplingSettings(4, 1.0), callback=look)
    assert [preview.shape for preview in seen] == [(2, *PHOTO.shape)] * 2
    outside = untouched(MASK, ours.size)
    assert np.array_equal(seen[0][0][outside], PHOTO[outside])


@pytest.mark.parametrize(
    ("photo", "mask", "error", "words"),
    [
        (PHOTO[..., 0], MASK, ValueError, r"uint8 \[H, W, 3\]"),
        (PHOTO.astype(float), MASK, ValueError, r"uint8 \[H, W, 3\]"),
        (PHOTO, MASK[:-1], MaskError, "140 x 89 pixels and the photo 140 x 90"),
        (PHOTO, np.zeros_like(MASK), MaskError, "empty"),
        (PHOTO, MASK // 255, MaskError, "above 127"),
    ],
)
def test_what_cannot_be_used_is_refused(ours: MaskDiffusion, photo, mask, error, words) -> None:
    with pytest.raises(error, match=words):
        sample_in_frame(ours, photo, [mask], POLYP, [1], SETTINGS)


def test_masks_and_seeds_fit_each_other(ours: MaskDiffusion) -> None:
    with pytest.raises(ValueError, match="2 masks for 3 seeds"):
        sample_in_frame(ours, PHOTO, [MASK, MASK], POLYP, [1, 2, 3], SETTINGS)
