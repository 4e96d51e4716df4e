"""How many samples a second each stage trains on, on fresh networks and made-up pairs: what ``bench`` reports."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image

from siamese.records.prompts import POLYP
from train.engine.loop import LoopConfig, Stage, Trainer, update
from train.stages.autoencoder import AutoencoderConfig, VaeConfig, VaeStage
from train.stages.base import BaseConfig, BaseStage
from train.stages.decoder import DecoderConfig, DecoderStage
from train.stages.segmenter import SegmentConfig, SegmentStage
from train.stages.siamese import SiameseStage, SiameseTrainConfig

Name = Literal["vae", "base", "siamese", "decoder", "segment"]
PAIRS, STEPS = 32, 1000


@dataclass(frozen=True)
class RatesConfig:
    """Which stages are timed, and how."""

    stages: tuple[Name, ...] = ("vae", "base", "siamese", "decoder", "segment")
    """In this order: base takes vae's autoencoder, siamese base's model, decoder siamese's. Stages before are made, not timed."""
    preset: Literal["tiny", "sd15"] = "tiny"
    size: int = 256
    """Side of the images in pixels (segment: 128)."""
    batch: int | None = None
    """Samples an update; none: each stage's own default."""
    precision: Literal["no", "bf16", "fp16"] = "no"
    """``--loop.mixed-precision``. The stages' own default is bf16, which CPUs without instructions for it only emulate."""
    tf32: bool = False
    compile: bool = False
    updates: int = 3
    """Timed updates, after two that are not. Siamese updates are late ones, with augmentation."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights. If they are missing, vae and decoder are timed without LPIPS."""


def write_noise_pairs(folder: Path, size: int, count: int = PAIRS) -> Path:
    """``count`` pairs of noise with a dark disc, in the folder layout."""
    rng, (y, x) = np.random.default_rng(0), np.mgrid[:size, :size] / size - 0.5
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    for i in range(count):
        inside = x**2 + y**2 < rng.uniform(0.05, 0.15)
        image = rng.normal(150, 20, (size, size, 3)) - 80 * inside[..., None]
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / "images" / f"{i}.png")
        Image.fromarray(np.where(inside, 255, 0).astype(np.uint8)).save(folder / "masks" / f"{i}.png")
    return folder


def _makers(config: RatesConfig, folder: Path, data: tuple[Path, ...]) -> dict[str, Callable[[], Stage]]:
    """How each stage is made; each expects what those before it have exported."""

    def settings(of: type, **changes: Any) -> Any:
        fields = {f.name: f for f in dataclasses.fields(of)}
        default: LoopConfig = cast(Any, fields["loop"]).default_factory()
        timed = dataclasses.replace(
            default,
            out=folder / of.__name__,
            max_steps=STEPS,
            batch_size=config.batch or default.batch_size,
            mixed_precision=config.precision,
            tf32=config.tf32,
            compile=config.compile,
        )
        shared = {"prompt": POLYP, "cache": folder / "cache", "weights": config.weights, "size": config.size}
        return of(
            **({k: v for k, v in shared.items() if k in fields} | {"data": data, "loop": timed} | changes)
        )

    lpips = {} if (config.weights / "alexnet_lpips.safetensors").is_file() else {"lpips_weight": 0.0}
    crop = {"crop": min(128, config.size)}
    latents = AutoencoderConfig() if config.preset == "tiny" else AutoencoderConfig(latent_channels=4, pack=1)
    return {
        "vae": lambda: VaeStage(settings(VaeConfig, model=latents, **crop, **lpips)),
        "base": lambda: BaseStage(settings(BaseConfig, vae=folder / "vae" / "vae", preset=config.preset)),
        "siamese": lambda: SiameseStage(
            settings(SiameseTrainConfig, init=folder / "base", preset=config.preset)
        ),
        "decoder": lambda: DecoderStage(settings(DecoderConfig, init=folder / "siamese", **crop, **lpips)),
        "segment": lambda: SegmentStage(settings(SegmentConfig, size=min(128, config.size))),
    }


def rates(config: RatesConfig, folder: Path) -> dict[str, dict[str, float]]:
    """``samples_per_second`` and ``batch`` of each stage, by the loop's own updates; ``folder`` is written to."""
    makers, found = _makers(config, folder, (write_noise_pairs(folder / "pairs", config.size),)), {}
    chain = ["vae", "base", "siamese", "decoder"]
    last = max((chain.index(s) for s in config.stages if s in chain), default=-1)
    for name in [*chain[: last + 1], *(s for s in config.stages if s not in chain)]:
        stage = makers[name]()
        if name in config.stages:
            found[name] = timed(stage, config.updates)
        if name in chain[:last]:
            stage.export(folder / name)
    return found


def timed(stage: Stage, updates: int) -> dict[str, float]:
    """Samples a second of ``updates`` updates at half of the steps, after two more to warm up."""
    trainer = Trainer(stage, cast(Any, stage).config.loop)
    trainer.step = STEPS // 2
    for count in (2, updates):
        _wait()
        started = time.perf_counter()
        for _ in range(count):
            update(trainer)
        _wait()
        seconds = time.perf_counter() - started
    trainer.readings.read()  # a figure of updates that were not finite would be none
    return {
        "samples_per_second": updates * trainer.config.batch_size / seconds,
        "batch": trainer.config.batch_size,
    }


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
