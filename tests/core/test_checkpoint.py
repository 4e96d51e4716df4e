"""Model folders: round trips, storage in half precision, and errors that name what is missing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import siamese.models.checkpoint as module
from siamese.models.autoencoder import (
    SmallAutoencoder,
    decode_latents,
    downsampling,
    encode_moments,
    latent_channels,
    sample_latents,
)
from siamese.models.checkpoint import (
    Checkpoint,
    CheckpointError,
    load_checkpoint,
    save_checkpoint,
)
from siamese.records.sampling_settings import SamplingSettings
from siamese.sampling import MaskDiffusion
from tests.models import build, kl_autoencoder, small_autoencoder


def _weights(checkpoint: Checkpoint) -> dict[str, torch.Tensor]:
    return {f"{i}.{k}": v for i, m in enumerate(checkpoint.networks()) for k, v in m.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["small", "sd"])
@pytest.mark.parametrize("control", [True, False])
def test_round_trip(kind: str, control: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    saved = build(kind, control)
    save_checkpoint(saved, tmp_path / "model")
    loaded = load_checkpoint(tmp_path / "model")
    assert _weights(loaded).keys() == _weights(saved).keys()
    for name, weight in _weights(saved).items():
        assert torch.equal(weight, _weights(loaded)[name]), name
    assert loaded.defaults == saved.defaults
    assert loaded.name == "model"
    assert loaded.context.prompts == saved.context.prompts
    assert loaded.prediction == saved.prediction
    assert torch.equal(loaded.alphas_cumprod, saved.alphas_cumprod)
    assert saved.scheduler_config.items() <= loaded.scheduler_config.items()
    assert (loaded.controlnet is not None) == control
    assert not any(m.training for m in loaded.networks())
    assert "SmallAutoencoder" not in caplog.text  # no warning of entries that are not understood
    # Saving over a folder, with the schedule as diffusers has written it.
    save_checkpoint(loaded, tmp_path / "again")
    assert _weights(load_checkpoint(tmp_path / "again")).keys() == _weights(saved).keys()
    assert not [
        file for file in (tmp_path / "again").rglob("*.json") if str(tmp_path) in file.read_text()
    ]  # the path it was loaded from
    save_checkpoint(loaded, tmp_path / "model")
    assert _weights(load_checkpoint(tmp_path / "model")).keys() == _weights(saved).keys()


@pytest.mark.slow
def test_half_precision_on_disk_only(tmp_path: Path) -> None:
    saved = build("small")
    before = {k: v.clone() for k, v in _weights(saved).items()}
    save_checkpoint(saved, tmp_path / "half", torch.float16)
    save_checkpoint(saved, tmp_path / "full")
    for name, weight in _weights(saved).items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, before[name])
    half, full = (
        (tmp_path / f / "unet" / "diffusion_pytorch_model.safetensors").stat().st_size
        for f in ("half", "full")
    )
    assert 0.45 < half / full < 0.65
    for name, weight in _weights(load_checkpoint(tmp_path / "half")).items():
        assert weight.dtype == torch.float32
        torch.testing.assert_close(weight, before[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("part", ["vae", "unet", "controlnet", "scheduler", "context"])
def test_missing_part_is_named(part: str, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / part)
    with pytest.raises(CheckpointError, match=f"{part}/"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "file",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "unet/config.json",
        "vae/diffusion_pytorch_model.safetensors",
        "controlnet/config.json",
        "scheduler/scheduler_config.json",
        "context/context.safetensors",
        "context/prompts.json",
    ],
)
def test_missing_or_damaged_file_is_a_checkpoint_error(file: str, model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    target = tmp_path / "model" / file
    content = target.read_bytes()
    target.write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match="model"):
        load_checkpoint(tmp_path / "model")
    target.unlink()
    with pytest.raises(CheckpointError, match=Path(file).parent.name):
        load_checkpoint(tmp_path / "model")


@pytest.mark.slow
def test_text_encoder_without_tokenizer_is_named(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / "context")
    (tmp_path / "model" / "text_encoder").mkdir()
    with pytest.raises(CheckpointError, match="no tokenizer/"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.slow
def test_parts_that_do_not_fit_each_other() -> None:
    for change, message in (
        ({"vae": kl_autoencoder()}, "takes 16 latent channels, the autoencoder makes 4"),
        ({"image_size": 80}, "image size 80 is not a multiple of 32"),
        (
            {"controlnet": build("sd").controlnet},
            "hint block halves 3 times, the autoencoder makes sides 16 times smaller",
        ),
    ):
        checkpoint = build("small")
        for name, value in change.items():
            setattr(checkpoint, name, value)
        with pytest.raises(CheckpointError, match=message):
            checkpoint.check()
    checkpoint = build("small")
    checkpoint.scheduler_config = checkpoint.scheduler_config | {"beta_schedule": "linear"}
    with pytest.raises(CheckpointError, match="'linear': only scaled_linear"):
        _ = checkpoint.alphas_cumprod


def test_autoencoder_class_that_is_not_supported(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    index = tmp_path / "model" / "model_index.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": ["diffusers", "AutoencoderTiny"]}))
    with pytest.raises(CheckpointError, match="AutoencoderTiny is not supported"):
        load_checkpoint(tmp_path / "model")


@pytest.mark.slow
def test_settings_of_another_version_are_a_checkpoint_error(model_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / "siamese.json").write_text('{"side": 3}')
    with pytest.raises(CheckpointError, match="side"):
        load_checkpoint(tmp_path / "model")
    (tmp_path / "model" / "siamese.json").unlink()  # a folder of diffusers has none: the paper's
    checkpoint = load_checkpoint(tmp_path / "model")
    assert (checkpoint.image_size, checkpoint.defaults) == (384, SamplingSettings(50, 9.0, "ddim"))


@pytest.mark.slow
def test_hub_name_is_downloaded_without_surplus_weights(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(model_folder)

    monkeypatch.setattr(module, "snapshot_download", download)
    model = MaskDiffusion.from_pretrained("someone/their-model", device="cpu")
    assert model.size == load_checkpoint(model_folder).image_size
    ((name, options),) = asked
    assert name == "someone/their-model"
    from huggingface_hub.utils import filter_repo_objects

    files = [
        "model_index.json",
        "siamese.json",
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "tokenizer/merges.txt",
        "context/context.safetensors",
        "v1-5-pruned.safetensors",
        "unet/diffusion_pytorch_model.fp16.safetensors",
        "safety_checker/model.safetensors",
        "unet/diffusion_pytorch_model.bin",
    ]
    assert list(filter_repo_objects(files, **options)) == files[:6]


def test_what_is_neither_folder_nor_on_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **options: object) -> str:
        raise ConnectionError("no network")

    monkeypatch.setattr(module, "snapshot_download", download)
    with pytest.raises(
        CheckpointError, match=r"someone/nothing: neither a local folder nor loadable .*no network"
    ):
        load_checkpoint("someone/nothing")
    for folder in ("nothing", "./runs/nothing", "/no/such", "a/b/c"):
        with pytest.raises(CheckpointError, match="no such folder"):
            load_checkpoint(folder)


@pytest.mark.parametrize(
    ("vae", "factor", "channels"), [(small_autoencoder(), 16, 16), (kl_autoencoder(), 8, 4)]
)
def test_latent_space(vae: nn.Module, factor: int, channels: int) -> None:
    assert downsampling(vae) == factor
    assert latent_channels(vae) == channels
    images = torch.rand(2, 3, 64, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        mean, logvar = encode_moments(vae, images)
        assert mean.shape == (2, channels, 64 // factor, 32 // factor)
        decoded = decode_latents(vae, mean)
        assert decoded.shape == images.shape
        assert decoded.abs().max() <= 1
        noise = torch.randn_like(mean)
        if logvar is None:
            assert torch.equal(sample_latents(mean, None, noise), mean)
        else:  # what diffusers draws, scaled
            posterior = vae.encode(images).latent_dist
            expected = (posterior.mean + posterior.std * noise) * vae.config.scaling_factor
            torch.testing.assert_close(sample_latents(mean, logvar, noise), expected)


def test_packing_loses_nothing() -> None:
    torch.manual_seed(0)
    packed = small_autoencoder()
    plain = SmallAutoencoder(
        **{k: packed.config[k] for k in ("widths", "encoder_layers", "decoder_layers")}, pack=1
    )
    plain.load_state_dict(packed.state_dict())
    images = torch.rand(1, 3, 64, 64)
    assert plain.encode(images).latent.shape == (1, 4, 8, 8)
    assert packed.encode(images).latent.shape == (1, 16, 4, 4)
    assert torch.equal(plain(images).sample, packed(images).sample)
    assert packed.encode(images, return_dict=False)[0].shape == (1, 16, 4, 4)
    with pytest.raises(ValueError, match="power of two"):
        SmallAutoencoder(pack=3)
