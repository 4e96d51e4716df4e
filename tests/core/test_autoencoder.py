"""The small autoencoder's linear path: its start at the principal components, and what keeps it exact."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siamese.models.autoencoder import (
    SmallAutoencoder,
    grow_latents,
    rescale_latents,
    start_at_principal_components,
)
from siamese.models.dense_hint import image_hint
from siamese.records.prompts import POLYP
from tests.phantoms import phantom, write_folder
from train.engine import loop
from train.engine.loop import LoopConfig
from train.evaluation.autoencoder_figures import psnr
from train.stages.autoencoder import AutoencoderConfig, VaeConfig, VaeStage

TINY = {
    "widths": (8, 8, 8),
    "encoder_layers": (1, 1, 1),
    "decoder_layers": (1, 1, 1),
    "latent_channels": 4,
    "pack": 2,
    "linear_path": True,
}


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    """Sixteen phantoms, [16, 3, 64, 64] in -1..1."""
    return image_hint(np.stack([phantom(i, 64, 64)[0] for i in range(16)])).mul(2).sub(1)


@pytest.fixture
def started(images: torch.Tensor) -> SmallAutoencoder:
    torch.manual_seed(0)
    vae = SmallAutoencoder(**TINY).eval()
    start_at_principal_components(vae, images)
    return vae


@torch.no_grad()
def test_it_starts_as_the_best_linear_autoencoder_of_blocks(
    started: SmallAutoencoder, images: torch.Tensor
) -> None:
    """Against numpy's singular value decomposition of the 4 x 4 x 3 blocks, about the mean colour."""
    mean = images.mean((0, 2, 3)).numpy()
    blocks = (
        (images.numpy() - mean[None, :, None, None])
        .reshape(16, 3, 16, 4, 16, 4)
        .transpose(0, 2, 4, 1, 3, 5)
        .reshape(-1, 48)
    )
    u, s, v = np.linalg.svd(blocks, full_matrices=False)
    best = (u[:, :4] * s[:4]) @ v[:4]
    best = (
        best.reshape(16, 16, 16, 3, 4, 4).transpose(0, 3, 1, 4, 2, 5).reshape(16, 3, 64, 64)
        + mean[None, :, None, None]
    )
    np.testing.assert_allclose(started(images).sample.numpy(), best, atol=1e-4)
    latents = torch.pixel_shuffle(started.encode(images).latent, 2)
    torch.testing.assert_close(latents.square().mean((0, 2, 3)), torch.ones(4), rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_rescaled_latents_decode_to_the_same_images(started: SmallAutoencoder, images: torch.Tensor) -> None:
    for last in (
        started.encoder.conv_out,
        started.decoder.conv_out,
    ):  # as after training: the networks add something
        torch.nn.init.normal_(last.weight, std=0.05)
    before, latents = started(images).sample, torch.pixel_shuffle(started.encode(images).latent, 2)
    factors = torch.tensor([0.5, 2.0, 3.0, 1.0])
    rescale_latents(started, factors)
    torch.testing.assert_close(
        torch.pixel_shuffle(started.encode(images).latent, 2),
        latents * factors[:, None, None],
        rtol=1e-4,
        atol=1e-4,
    )
    torch.testing.assert_close(started(images).sample, before, rtol=1e-4, atol=1e-4)


def test_it_is_saved_and_loaded(started: SmallAutoencoder, images: torch.Tensor, tmp_path: Path) -> None:
    started.save_pretrained(tmp_path)
    loaded = SmallAutoencoder.from_pretrained(tmp_path).eval()
    assert loaded.config.linear_path is True
    with torch.no_grad():
        assert torch.equal(loaded(images).sample, started(images).sample)


def test_what_has_no_linear_path_cannot_start_so_and_what_has_one_cannot_grow(
    started: SmallAutoencoder, images: torch.Tensor
) -> None:
    with pytest.raises(ValueError, match="only an autoencoder with a linear path"):
        start_at_principal_components(SmallAutoencoder(**TINY | {"linear_path": False}), images)
    with pytest.raises(ValueError, match="cannot be given more latent channels"):
        grow_latents(started, 8)


@pytest.mark.slow
def test_a_new_autoencoder_starts_from_its_training_images_and_gets_better(tmp_path: Path) -> None:
    data = write_folder(tmp_path / "ward", 12, {"train": range(8), "val": range(8, 12)}, height=64, width=64)
    config = VaeConfig(
        (data,),
        prompt=POLYP,
        size=64,
        crop=32,
        lpips_weight=0,
        model=AutoencoderConfig(**TINY),
        loop=LoopConfig(out=tmp_path / "run", max_steps=30, batch_size=4, learning_rate=2e-3),
    )
    stage = VaeStage(config)
    x = image_hint(stage.val).mul(2).sub(1)
    with torch.no_grad():
        linear = stage.module.vae(x).sample
    assert psnr(x, linear).mean() > 15  # a network with fresh weights is at about 6 dB
    loop.run(stage, config.loop)
    with torch.no_grad():
        trained = SmallAutoencoder.from_pretrained(tmp_path / "run" / "model" / "vae").eval()(x).sample
    assert (trained - x).abs().mean() < (linear - x).abs().mean()
