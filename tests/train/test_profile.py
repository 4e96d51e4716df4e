"""What an update asks the device: nothing, on any stage, until the losses are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from siamese.models.checkpoint import save_checkpoint
from siamese.records.prompts import POLYP
from tests.models import build
from tests.phantoms import write_folder
from tests.stand_ins import write_perceptual
from tests.train.stages import ToyStage, real_stage
from train.engine import loop
from train.engine.loop import LoopConfig, Stage, Trainer, update
from train.engine.readings import Readings
from train.stages.autoencoder import AutoencoderConfig, VaeConfig, VaeStage
from train.stages.decoder import DecoderConfig, DecoderStage
from train.stages.segmenter import SegmentConfig, SegmentStage

ASKS = {"aten::item", "aten::_local_scalar_dense", "aten::nonzero"}


def _asked(act: Callable[[], Any]) -> set[str]:
    """Which of ``ASKS`` happen in ``act``."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        act()
    return {event.key for event in profile.key_averages()} & ASKS


@pytest.fixture(scope="module")
def ward(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("data") / "kvasir-seg", 8, height=64, width=64)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_checkpoint(build("small"), folder)
    return folder


def _stage(kind: str, data: Path, model: Path, out: Path, config: LoopConfig) -> Stage:
    if kind in ("base", "siamese"):
        return real_stage(kind, data, model, out)[0]
    weights = write_perceptual(out / "weights")
    if kind == "vae":
        tiny = AutoencoderConfig((8, 8, 16, 16), (1, 1, 1, 1), (1, 1, 1, 1), 4)
        return VaeStage(VaeConfig((data,), weights=weights, size=64, crop=64, model=tiny, loop=config))
    if kind == "decoder":
        return DecoderStage(
            DecoderConfig(
                (data,),
                model,
                weights=weights,
                prompt=POLYP,
                steps=4,
                noised_below=0.6,
                crop=64,
                cache=out / "cache",
                loop=config,
            )
        )
    return SegmentStage(SegmentConfig((data,), size=32, loop=config))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vae", "base", "siamese", "decoder", "segment"])
def test_ten_updates_ask_nothing(kind: str, ward: Path, model: Path, tmp_path: Path) -> None:
    """Losses, their gradients, clipping, the average: all but the optimiser, which on a CPU asks for its step counts."""
    config = LoopConfig(out=tmp_path / "run", max_steps=20, batch_size=4, clip_norm=1.0, ema_decay=0.9)
    trainer = Trainer(_stage(kind, ward, model, tmp_path, config), config)
    trainer.optimiser.step = lambda: None
    trainer.step = 9  # augmentation, if there is any, is on
    update(trainer)
    assert _asked(lambda: [update(trainer) for _ in range(10)]) == set()
    assert trainer.step == 20
    assert {"total", "gradient_norm"} <= trainer.readings.read().keys()
    assert kind != "siamese" or "augmented" in trainer.readings.figures


def test_the_measure_would_notice() -> None:
    x = torch.arange(3.0)
    assert _asked(lambda: float(x.sum())) == {"aten::item", "aten::_local_scalar_dense"}
    assert "aten::nonzero" in _asked(lambda: x[x > 1])


@pytest.mark.parametrize(
    ("changes", "read"),
    [({}, [5, 10]), ({"checkpoint_every": 3}, [3, 5, 6, 9, 10]), ({"evaluate_every": 4}, [4, 5, 8, 10])],
)
def test_losses_are_read_if_they_are_logged_or_a_spoilt_model_would_be_saved(
    changes: dict[str, int], read: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added, reads, add, ask = [0], [], Readings.add, Readings.read
    monkeypatch.setattr(Readings, "add", lambda *a: (added.__setitem__(0, added[0] + 1), add(*a))[1])
    monkeypatch.setattr(Readings, "read", lambda self: (reads.append(added[0]), ask(self))[1])
    settings = {"checkpoint_every": 100, "evaluate_every": 100} | changes
    assert (
        loop.run(ToyStage(), LoopConfig(out=tmp_path, max_steps=10, batch_size=4, log_every=5, **settings))
        == 10
    )
    assert reads == read


@pytest.mark.slow
def test_blocks_are_compiled_if_asked_and_give_the_same_losses(
    ward: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled, compile_ = [], torch.compile
    monkeypatch.setattr(
        torch,
        "compile",
        lambda call, *a, **k: (compiled.append(call.__self__), compile_(call, backend="eager"))[1],
    )
    losses = []
    for asked in (False, True):
        out = tmp_path / str(asked)
        stage, config = real_stage("siamese", ward, model, out, compile=asked, max_steps=3)
        trainer = Trainer(stage, config)
        assert bool(compiled) == asked
        for _ in range(3):
            update(trainer)
            losses.append(trainer.readings.read())
    unet, tied = stage.checkpoint.unet, stage.module.objective.aliases()[0]
    assert {
        *unet.down_blocks,
        *unet.up_blocks,
        *stage.checkpoint.controlnet.down_blocks,
        *tied.up_blocks,
    } <= set(compiled)
    for plain, other in zip(losses[:3], losses[3:], strict=True):
        assert plain == pytest.approx(other, rel=1e-5)


@pytest.mark.parametrize("tf32", [False, True])
def test_float32_is_rounded_only_if_asked(tf32: bool, tmp_path: Path) -> None:
    config = LoopConfig(out=tmp_path, max_steps=1, batch_size=4)
    assert config.tf32 is False
    try:
        Trainer(ToyStage(), replace(config, tf32=tf32))
        assert torch.get_float32_matmul_precision() == ("high" if tf32 else "highest")
        assert torch.backends.cudnn.allow_tf32 == tf32
    finally:
        torch.set_float32_matmul_precision("highest")
