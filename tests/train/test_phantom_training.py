"""All three stages on phantoms, from nothing to a model that samples: the losses must fall."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import IMAGES, EventAccumulator

from siamese.models.checkpoint import load_checkpoint
from siamese.models.presets import PRESETS
from siamese.records.prompts import POLYP
from siamese.sampling import MaskDiffusion
from tests.models import SMALL
from tests.phantoms import phantom, write_folder
from train.engine.loop import LoopConfig
from train.stages import autoencoder, base, siamese

pytestmark = pytest.mark.slow


def _events(out: Path) -> EventAccumulator:
    events = EventAccumulator(str(out / "tensorboard"), {IMAGES: 0})
    return events.Reload()


def _figures(events: EventAccumulator, name: str) -> list[float]:
    return [e.value for e in events.Scalars(name)]


def _falls(events: EventAccumulator, name: str, share: float, ends: int = 10) -> None:
    values = _figures(events, name)
    start, end = np.mean(values[:ends]), np.mean(values[-ends:])
    assert np.isfinite(values).all(), name
    assert end < share * start, (name, start, end)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs ``vae``, ``base`` and ``siamese``."""
    root = tmp_path_factory.mktemp("runs")
    data = (write_folder(root / "kvasir-seg", 72, {"train": range(64), "val": range(64, 72)}),)

    def loop(name: str, steps: int, rate: float, batch: int, evaluations: int = 2) -> LoopConfig:
        return LoopConfig(
            out=root / name,
            max_steps=steps,
            batch_size=batch,
            learning_rate=rate,
            betas=(0.9, 0.99),
            warmup_steps=5,
            clip_norm=1.0,
            ema_decay=0.9,
            log_every=1,
            evaluate_every=steps // evaluations,
        )

    autoencoder.main(
        autoencoder.VaeConfig(
            data,
            size=64,
            crop=32,
            lpips_weight=0,
            loop=loop("vae", 60, 5e-3, 8),
            model=autoencoder.AutoencoderConfig(
                widths=(8, 16, 16, 32),
                encoder_layers=(1, 1, 1, 1),
                decoder_layers=(1, 1, 1, 1),
                latent_channels=4,
            ),
        )
    )
    with pytest.MonkeyPatch.context() as patch:
        # Masks that matter: the released initialisation of so narrow a hint block lets next to nothing of them through.
        patch.setitem(PRESETS, "tiny", replace(SMALL, hint_keeps_variance=True))
        base.main(
            base.BaseConfig(
                data,
                vae=root / "vae" / "model" / "vae",
                size=64,
                cache=root / "cache",
                loop=loop("base", 100, 3e-3, 16),
            )
        )
        siamese.main(
            siamese.SiameseTrainConfig(
                data,
                root / "base" / "model",
                cache=root / "cache",
                loop=loop("siamese", 120, 2e-3, 8, evaluations=6),
            )
        )
    return root


def test_autoencoder_learns_to_reconstruct(runs: Path) -> None:
    """It starts as the best linear one, whose error falls further."""
    events = _events(runs / "vae")
    _falls(events, "train/l1", 0.8)
    psnr = _figures(events, "val/psnr")
    assert psnr[-1] > psnr[0]
    assert psnr[-1] > 15
    assert len(events.Images("val/reconstruction")) == 2


def test_latents_have_unit_deviation(runs: Path) -> None:
    with np.load(next((runs / "cache").glob("*-64-0.npz"))) as stored:
        assert 0.8 < stored["mean"].std() < 1.2


def test_base_model_learns_to_denoise(runs: Path) -> None:
    events = _events(runs / "base")
    _falls(events, "train/total", 0.85)
    loss = _figures(events, "val/loss")
    assert loss[-1] < loss[0]
    checkpoint = load_checkpoint(runs / "base" / "model")
    assert checkpoint.controlnet is None
    assert checkpoint.context.prompts == (POLYP, "")
    assert checkpoint.image_size == 64
    assert len(events.Images("val/samples")) == 2


def test_siamese_stage_learns_with_all_four_losses(runs: Path) -> None:
    events = _events(runs / "siamese")
    for name in (
        "mask",
        "image",
    ):  # at validation's fixed noise: ten batches of eight differ by more than what is learnt
        _falls(events, f"val/{name}", 0.99, ends=1)
    assert (
        next(e.step for e in events.Scalars("train/augmented")) > 120 / 3
    )  # only after a third of the steps
    for name in ("total", "mask", "image", "augmented"):
        values = _figures(events, f"val/{name}")
        assert len(values) == 6
        assert np.isfinite(values).all()
    assert _figures(events, "val/mask")[-1] < _figures(events, "val/mask")[0]
    # The consistency of two branches that start equal grows from nought with the ramp, and stays small.
    consistency = _figures(events, "train/consistency")
    assert consistency[0] == 0 < consistency[-1] < _figures(events, "train/mask")[-1]


def test_frozen_parts_are_the_base_models(runs: Path) -> None:
    before, after = (load_checkpoint(runs / stage / "model") for stage in ("base", "siamese"))
    for name, weight in before.unet.state_dict().items():
        frozen = name.startswith(("time_embedding", "conv_in", "down_blocks", "mid_block"))
        assert (weight == after.unet.state_dict()[name]).all() == frozen, name
    assert (before.context.table == after.context.table).all()


def test_exported_model_samples(runs: Path) -> None:
    model = MaskDiffusion.from_pretrained(runs / "siamese" / "model", "cpu")
    masks = [phantom(40)[1], phantom(41)[1]]
    images = model.sample(masks, POLYP, [1, 2], steps=10)
    assert images.shape == (2, 64, 64, 3)
    # Coloured as the phantoms are: red above green above blue, and nothing like noise.
    mean = images.reshape(-1, 3).mean(0)
    assert mean[0] > mean[1] > mean[2]
    assert (images != model.sample(masks[::-1], POLYP, [1, 2], steps=10)).any()
