"""More latent channels for an autoencoder, and a trained model's move to another autoencoder."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from siamese.models.autoencoder import grow_latents, rescale_latents
from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.models.unet import Decoder, encode
from siamese.records.prompts import POLYP
from tests.models import build, small_autoencoder
from train.data.pairs import load_arrays, read_pairs
from train.engine import loop
from train.engine.loop import LoopConfig
from train.stages.autoencoder import VaeConfig, VaeStage
from train.stages.base import BaseConfig, BaseStage
from train.stages.siamese import SiameseStage, SiameseTrainConfig
from train.tools.swap_autoencoder import SwapConfig, latents_of, main, procrustes_rotation, swap_autoencoder


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1


def _seeded(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return small_autoencoder().eval()


@torch.no_grad()
def test_a_grown_autoencoder_makes_the_same_images(images: torch.Tensor) -> None:
    vae = _seeded()
    grown = grow_latents(vae, 8).eval()
    before, after = vae.encode(images).latent, grown.encode(images).latent
    assert after.shape == (2, 32, 2, 2)
    assert torch.allclose(after[:, :16], before, atol=1e-5)
    assert after[:, 16:].std() > 0
    assert torch.allclose(grown.decode(after).sample, vae.decode(before).sample, atol=1e-5)
    other = torch.cat([after[:, :16], torch.randn(2, 16, 2, 2)], 1)
    assert torch.allclose(
        grown.decode(other).sample, vae.decode(before).sample, atol=1e-5
    )  # what is new is not heard yet
    # but learns: its gradient is not zero
    with torch.enable_grad():
        grown.decode(grown.encode(images).latent).sample.square().mean().backward()
    assert grown.decoder.conv_in.weight.grad[:, 4:].abs().max() > 0
    for channels in (4, 6):
        with pytest.raises(ValueError, match="latent channels"):
            grow_latents(vae, channels)


@torch.no_grad()
def test_rescaled_latents_are_decoded_to_the_same_images(images: torch.Tensor) -> None:
    vae = _seeded()
    before = vae.encode(images).latent
    picture = vae.decode(before).sample
    factors = torch.tensor([0.5, 1.0, 3.0, 10.0])
    rescale_latents(vae, factors)
    after = vae.encode(images).latent
    assert torch.allclose(
        after, before * factors.repeat_interleave(4)[None, :, None, None], rtol=1e-4, atol=1e-4
    )
    assert torch.allclose(vae.decode(after).sample, picture, atol=1e-4)


@pytest.mark.slow
def test_training_leaves_latents_of_unit_deviation_spread_alike_in_every_channel(
    polyps: Path, tmp_path: Path
) -> None:
    _seeded().save_pretrained(tmp_path / "vae")
    config = VaeConfig(
        (polyps,),
        prompt=POLYP,
        size=64,
        crop=32,
        lpips_weight=0,
        init=tmp_path / "vae",
        loop=LoopConfig(out=tmp_path / "run", max_steps=2, batch_size=4),
    )
    loop.run(VaeStage(replace(config, grow_to=8)), config.loop)
    vae = type(small_autoencoder()).from_pretrained(tmp_path / "run" / "model" / "vae").eval()
    assert vae.config.latent_channels == 8
    found, _ = load_arrays(read_pairs((polyps,), "train", POLYP), 64)
    latents = latents_of(vae, found).unflatten(1, (8, 4)).transpose(1, 2).flatten(0, 1)
    deviations = latents.std(0)
    assert torch.allclose(deviations, deviations.mean().expand(8), rtol=1e-3)
    assert latents.std().item() == pytest.approx(1, abs=1e-3)


def test_the_turn_is_found() -> None:
    generator = torch.Generator().manual_seed(0)
    new = torch.randn(20_000, 6, generator=generator)
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=generator))
    old = new @ q[:4].T + 3.0  # means do not matter
    found = procrustes_rotation(old, new)
    assert torch.allclose(found @ found.T, torch.eye(4), atol=1e-5)
    assert (found - q[:4]).abs().max() < 0.05


@torch.no_grad()
def test_networks_do_the_same_on_turned_latents() -> None:
    model = build("small")
    turn = torch.eye(24)[torch.randperm(24, generator=torch.Generator().manual_seed(1))][:16]
    unet, controlnet = copy.deepcopy(model.unet), copy.deepcopy(model.controlnet)
    swap_autoencoder(unet, controlnet, turn)
    z, hint, t = torch.randn(2, 24, 4, 4), torch.rand(2, 3, 64, 64), torch.tensor([5, 700])
    context, known = model.context([POLYP, ""]), torch.einsum("cd,bdhw->bchw", turn, z)

    def run(unet: torch.nn.Module, controlnet: torch.nn.Module, z: torch.Tensor) -> torch.Tensor:
        control = controlnet.control(z, t, context, controlnet.hint_features(hint))
        return Decoder(unet)(encode(unet, z, t, context), context, control)

    expected = run(model.unet, model.controlnet, known)
    assert expected.std() > 0.01
    assert torch.allclose(run(unet, controlnet, z), torch.einsum("cd,bchw->bdhw", turn, expected), atol=1e-5)


@pytest.mark.slow
def test_a_moved_model_is_whole_and_trains_on(
    polyps: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_checkpoint(build("small"), tmp_path / "old")
    grow_latents(_seeded(7), 8).save_pretrained(tmp_path / "vae")
    main(SwapConfig(tmp_path / "old", tmp_path / "vae", (polyps,), tmp_path / "new", POLYP))
    assert "32 latent channels instead of 16" in capsys.readouterr().out
    moved = load_checkpoint(tmp_path / "new")  # checks that its parts fit
    assert (
        moved.unet.config.in_channels
        == moved.unet.config.out_channels
        == moved.controlnet.config.in_channels
        == 32
    )
    settings = LoopConfig(out=tmp_path / "run", max_steps=1, batch_size=2)
    assert (
        loop.run(
            BaseStage(
                BaseConfig(
                    (polyps,),
                    init=tmp_path / "new",
                    prompt=POLYP,
                    size=64,
                    cache=tmp_path / "cache",
                    loop=settings,
                )
            ),
            settings,
        )
        == 1
    )


@pytest.mark.slow
def test_the_siamese_stage_takes_up_a_controlnet(polyps: Path, tmp_path: Path) -> None:
    whole = build("small")
    save_checkpoint(whole, tmp_path / "whole")
    save_checkpoint(replace(whole, controlnet=None), tmp_path / "base")
    settings = SiameseTrainConfig(
        (polyps,), tmp_path / "base", controlnet=tmp_path / "whole", prompt=POLYP, cache=tmp_path / "cache"
    )
    taken = SiameseStage(settings).checkpoint.controlnet
    for name, weight in whole.controlnet.state_dict().items():
        assert torch.equal(taken.state_dict()[name], weight), name
    with pytest.raises(ValueError, match="has a ControlNet"):
        SiameseStage(replace(settings, init=tmp_path / "whole"))
    with pytest.raises(ValueError, match="without a ControlNet"):
        SiameseStage(replace(settings, controlnet=tmp_path / "base"))
    other = build("small")
    swap_autoencoder(other.unet, other.controlnet, torch.eye(16, 32))
    other.vae = grow_latents(other.vae, 8)
    save_checkpoint(other, tmp_path / "other")
    with pytest.raises(ValueError, match="in_channels is 32, not 16"):
        SiameseStage(replace(settings, controlnet=tmp_path / "other"))


@pytest.mark.slow
def test_an_autoencoder_of_another_factor_is_refused(polyps: Path, tmp_path: Path) -> None:
    save_checkpoint(build("small"), tmp_path / "old")
    torch.manual_seed(0)
    type(small_autoencoder())(
        widths=(8, 8, 16), encoder_layers=(1, 1, 1), decoder_layers=(1, 1, 1)
    ).save_pretrained(tmp_path / "vae")
    with pytest.raises(ValueError, match="same factor"):
        main(SwapConfig(tmp_path / "old", tmp_path / "vae", (polyps,), tmp_path / "new", POLYP))
