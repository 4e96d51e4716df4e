"""The losses of every stage's first updates, recorded before the loop was restructured: they must not change.

Recorded at commit a321234 on one CPU thread in float32. Other processors round otherwise, hence the tolerance.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from siamese.models.checkpoint import save_checkpoint
from siamese.models.presets import PRESETS
from siamese.records.prompts import POLYP
from tests.models import SMALL, build
from tests.phantoms import write_folder
from tests.stand_ins import write_perceptual
from train.engine import loop
from train.engine.loop import LoopConfig
from train.stages.autoencoder import AutoencoderConfig, VaeConfig, VaeStage
from train.stages.base import BaseConfig, BaseStage
from train.stages.decoder import DecoderConfig, DecoderStage
from train.stages.segmenter import SegmentConfig, SegmentStage
from train.stages.siamese import SiameseStage, SiameseTrainConfig

SMALL_VAE = AutoencoderConfig(
    widths=(8, 8, 16, 16), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), latent_channels=4
)
LOSSES = {
    "vae": [2.065396, 2.209673, 2.313428, 2.166605],
    "base": [2.48183, 2.606458, 1.776219, 1.976994],
    "siamese": [1.435377, 1.211178, 2.17927, 1.332607],
    "decoder": [4.449543, 2.97524, 2.157942, 1.911258],
    "segment small": [1.482712, 1.359422, 1.230907, 1.120713],
    "segment vgg16": [1.464143, 1.2372, 1.148253, 1.038733],
}
"""``total`` of four updates."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(
        tmp_path_factory.mktemp("data") / "kvasir-seg", 8, {"train": range(8)}, height=64, width=64
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_checkpoint(build("small"), folder)
    return folder


def made(name: str, data: Path, model: Path, out: Path) -> Any:
    """A stage with settings of its own kind: accumulation, warm-up, cosine, clipping and an average among them."""
    settings = LoopConfig(
        out=out / name,
        max_steps=4,
        batch_size=4,
        learning_rate=2e-3,
        warmup_steps=2,
        ema_decay=0.9,
        log_every=1,
        evaluate_every=100,
        seed=3,
    )
    clipped = replace(settings, clip_norm=0.5, accumulation=2, schedule="cosine")
    shared = {"prompt": POLYP, "loop": clipped}
    if name == "vae":
        weights = {"weights": write_perceptual(out / "weights"), "adversarial_weight": 0.1}
        return VaeStage(VaeConfig((data,), size=64, crop=64, model=SMALL_VAE, **weights, **shared))
    if name == "base":
        return BaseStage(BaseConfig((data,), vae=model / "vae", size=64, cache=out / "cache", **shared))
    if name == "siamese":
        return SiameseStage(SiameseTrainConfig((data,), model, cache=out / "cache", **shared))
    if name == "decoder":
        options = {"crop": 32, "steps": 6, "noised_below": 0.5, "lpips_weight": 0.0}
        return DecoderStage(DecoderConfig((data,), model, cache=out / "cache", **options, **shared))
    if name == "segment small":
        return SegmentStage(SegmentConfig((data,), size=32, **shared))
    # Before, weight decay and clipping did not know that these convolutions learn slowly.
    shared["loop"] = replace(settings, weight_decay=0.0)
    weights = write_perceptual(out / "weights")
    return SegmentStage(SegmentConfig((data,), size=32, architecture="vgg16", weights=weights, **shared))


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_those_of_before(
    name: str, data: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    stage = made(name, data, model, tmp_path)
    monkeypatch.setattr(stage, "evaluate", lambda *_: {})
    loop.run(stage, stage.config.loop)
    events = EventAccumulator(str(tmp_path / name / "tensorboard")).Reload()
    found = [e.value for e in events.Scalars("train/total")]
    assert found == pytest.approx(LOSSES[name], rel=2e-3)
    assert found[-1] != pytest.approx(found[0], rel=1e-2)  # the weights have moved
