"""The decoder's stage: denoised latents, the discriminator, and what an update may change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siamese.diffusion import add_noise
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from siamese.records.prompts import POLYP
from siamese.sampling import build_scheduler, denoise
from tests.models import build
from tests.phantoms import write_folder
from tests.train.stages import draws_of
from train.engine import loop
from train.engine.loop import LoopConfig
from train.engine.randomness import key
from train.stages import decoder
from train.stages.decoder import DecoderConfig, DecoderStage, texture


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(
        tmp_path_factory.mktemp("data") / "ward",
        12,
        {"train": range(8), "val": range(8, 12)},
        height=64,
        width=64,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_checkpoint(build("small"), folder)
    return folder


def _config(pairs: Path, model: Path, out: Path, **changes: object) -> DecoderConfig:
    settings = {
        "prompt": POLYP,
        "variants": 2,
        "steps": 6,
        "noised_below": 0.5,
        "crop": 32,
        "lpips_weight": 0.0,
        "cache": out / "cache",
        "loop": LoopConfig(out=out / "run", max_steps=1, batch_size=4, learning_rate=1e-3, ema_decay=None),
    }
    return DecoderConfig((pairs,), model, **(settings | changes))


@pytest.mark.slow
def test_every_latent_is_noised_to_a_step_of_the_sampler(
    pairs: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def leave(checkpoint: Checkpoint, scheduler: Any, z: torch.Tensor, first: int, **_: Any) -> torch.Tensor:
        seen.append(int(scheduler.timesteps[first]))
        return z

    monkeypatch.setattr(decoder, "denoise", leave)
    stage = DecoderStage(_config(pairs, model, tmp_path))
    levels = [
        t
        for t in build_scheduler("dpm++", stage.checkpoint.scheduler_config, 6).timesteps.tolist()
        if t <= 500
    ]
    assert set(seen) <= set(levels)
    assert len(set(seen)) > 1
    clean, noised = torch.from_numpy(stage.train.mean), torch.from_numpy(stage.denoised)
    for variant in range(2):
        for i in range(8):
            noise = torch.randn(clean.shape[2:], generator=torch.Generator().manual_seed(key(0, variant, i)))
            matches = [
                torch.allclose(
                    add_noise(
                        stage.checkpoint.alphas_cumprod,
                        clean[variant, i][None],
                        noise[None],
                        torch.tensor([t]),
                    )[0],
                    noised[variant, i],
                    atol=1e-5,
                )
                for t in levels
            ]
            assert sum(matches) == 1, (variant, i)


@pytest.mark.slow
def test_denoised_latents_are_cached_by_model_and_settings(
    pairs: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = DecoderStage(_config(pairs, model, tmp_path)).denoised
    calls: list[int] = []
    monkeypatch.setattr(decoder, "denoise", lambda *a, **k: (calls.append(1), denoise(*a, **k))[1])
    assert np.array_equal(DecoderStage(_config(pairs, model, tmp_path)).denoised, first)
    assert not calls
    assert not np.array_equal(DecoderStage(_config(pairs, model, tmp_path, noised_below=0.2)).denoised, first)
    assert calls
    other, count = load_checkpoint(model), len(calls)
    with torch.no_grad():
        other.unet.conv_out.bias.add_(0.5)
    save_checkpoint(other, tmp_path / "other")
    assert not np.array_equal(DecoderStage(_config(pairs, tmp_path / "other", tmp_path)).denoised, first)
    assert len(calls) > count


@pytest.mark.slow
def test_latents_and_images_of_a_batch_belong_together(pairs: Path, model: Path, tmp_path: Path) -> None:
    """With the encoder's own latents only, of the whole image, decoding them is reconstructing the batch's images."""
    stage = DecoderStage(_config(pairs, model, tmp_path, encoded_share=1.0, crop=64))
    batch = stage.batch(np.arange(4), draws_of(4), torch.device("cpu"))
    with torch.no_grad():
        expected = stage.module.vae.encode(batch["images"]).latent
    assert batch["images"].shape == (4, 3, 64, 64)
    assert torch.allclose(batch["latents"], expected, atol=1e-4)
    crops = DecoderStage(_config(pairs, model, tmp_path, encoded_share=1.0)).batch(
        np.arange(4), draws_of(4, 1), torch.device("cpu")
    )
    assert crops["images"].shape == (4, 3, 32, 32)
    assert crops["latents"].shape == (4, 16, 2, 2)


@pytest.mark.slow
def test_what_each_loss_reaches(pairs: Path, model: Path, tmp_path: Path) -> None:
    stage = DecoderStage(_config(pairs, model, tmp_path))
    batch = stage.batch(np.arange(4), draws_of(4), torch.device("cpu"))
    module = stage.module
    parameters = list(module.discriminator.parameters())

    def gradient(name: str) -> list[torch.Tensor | None]:
        module.zero_grad(set_to_none=True)
        module(batch, 1, 1)[name].backward()
        return [p.grad for p in parameters]

    assert all(g is None for g in gradient("adversarial"))
    assert module.vae.decoder.conv_out.weight.grad.abs().max() > 0
    assert all(p.grad is None for p in module.vae.encoder.parameters())
    # of the last bias real and drawn patches ask opposite things, which cancel
    assert all(g.abs().max() > 0 for g in gradient("discriminator")[:-1])
    assert all(p.grad is None for p in module.vae.parameters())
    losses = [module(batch, step, 100)["total"].item() for step in (0, 5, 10, 100)]
    opinion = 0.3 * module(batch, 0, 100)["adversarial"].item()
    assert np.allclose(np.array(losses) - losses[0], np.array([0, 0.5, 1, 1]) * opinion, atol=1e-5)


@pytest.mark.slow
def test_the_discriminator_sees_texture_and_no_colour(pairs: Path, model: Path, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    flat, fine = (
        torch.rand(1, 3, 1, 1, generator=generator).expand(1, 3, 32, 32),
        torch.rand(1, 3, 32, 32, generator=generator),
    )
    assert texture(flat).abs().max() < 1e-6
    torch.testing.assert_close(texture(fine + flat), texture(fine))
    assert texture(fine).std() > 0.8 * fine.std()
    stage = DecoderStage(_config(pairs, model, tmp_path))
    seen: list[torch.Tensor] = []
    for network in (stage.module.discriminator, stage.module._tied[0]):
        network.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].detach()))
    batch = stage.batch(np.arange(4), draws_of(4), torch.device("cpu"))
    stage.module(batch, 0, 1)
    assert len(seen) == 2
    assert torch.equal(seen[0][:4], texture(batch["images"]))
    assert torch.equal(seen[0][4:], seen[1])


@pytest.mark.slow
def test_the_tied_discriminator_follows_an_update(pairs: Path, model: Path, tmp_path: Path) -> None:
    stage = DecoderStage(_config(pairs, model, tmp_path))
    before = stage.module.discriminator.layers[0].weight.detach().clone()
    loop.run(stage, stage.config.loop)
    real, tied = stage.module.discriminator, stage.module._tied[0]
    assert not torch.equal(before, real.layers[0].weight)
    for p, q in zip(real.parameters(), tied.parameters(), strict=True):
        assert p.data_ptr() == q.data_ptr()
        assert not q.requires_grad


@pytest.mark.slow
def test_only_the_decoder_changes_and_its_images_come_nearer(
    pairs: Path, model: Path, tmp_path: Path
) -> None:
    config = _config(pairs, model, tmp_path)
    stage = DecoderStage(
        replace(config, loop=replace(config.loop, max_steps=40, learning_rate=3e-3, log_every=1))
    )
    batch = stage.batch(np.arange(8), draws_of(8), torch.device("cpu"))

    def distance() -> float:
        with torch.no_grad():
            return stage.module(batch, 0, 1)["l1"].item()

    before = distance()
    assert loop.run(stage, stage.config.loop) == 40
    assert distance() < 0.8 * before
    old, new = load_checkpoint(model), load_checkpoint(tmp_path / "run" / "model")
    for part in ("unet", "controlnet", "context"):
        assert all(
            torch.equal(a, b)
            for a, b in zip(getattr(old, part).parameters(), getattr(new, part).parameters(), strict=True)
        ), part
    assert all(
        torch.equal(a, b)
        for a, b in zip(old.vae.encoder.parameters(), new.vae.encoder.parameters(), strict=True)
    )
    assert old.vae.config.scaling_factor == new.vae.config.scaling_factor
    assert not torch.equal(old.vae.decoder.conv_out.weight, new.vae.decoder.conv_out.weight)


@pytest.mark.slow
def test_models_and_settings_that_do_not_fit(pairs: Path, model: Path, tmp_path: Path) -> None:
    save_checkpoint(build("small", control=False), tmp_path / "base")
    save_checkpoint(build("sd"), tmp_path / "sd")
    for folder in (tmp_path / "base", tmp_path / "sd"):
        with pytest.raises(
            ValueError, match="it takes a Siamese model with an autoencoder of this repository's"
        ):
            DecoderStage(_config(pairs, folder, tmp_path))
    for change, message in (
        ({"crop": 40}, "crop is 40; it must be a multiple of 16, and at most 64"),
        ({"crop": 80}, "crop is 80"),
        ({"noised_below": 0.01}, "noised_below is 0.01; the last of 6 steps starts at 0.16"),
    ):
        with pytest.raises(ValueError, match=message):
            DecoderStage(_config(pairs, model, tmp_path, **change))
