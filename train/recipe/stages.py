"""Recipes: how a preset's weights are trained, as one table in code. ``python -m train all`` runs it.

The weights embedded today are older than this table: their card tells how they were made. The next ones come from it.

A recipe's row is one stage: its settings, how many updates the shipped weights had, and its share of the minutes where
fewer are given. Change a value here and the next run is trained so; a run that was begun with other values is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.objective import SiameseConfig
from siamese.sampling_settings import SamplingSettings
from train.engine.loop import LoopConfig, Stage
from train.stages import autoencoder, base, decoder, siamese
from train.stages import segmenter as segment

EVALUATIONS = 4
"""Most evaluations of a stage: sheets of samples take time from training."""
SECONDS_AT_RISK = 120
"""About so much work is lost when a run is killed: the time between two checkpoints."""


@dataclass(frozen=True)
class Workplace:
    """Where a run lies and what it learns from; a stage's settings follow from it."""

    out: Path
    """Folder of the whole run."""
    data: tuple[Path, ...]
    prompt: str | None = None
    weights: Path | None = None
    """Folder of the perceptual weights; none: the autoencoder is trained without them."""

    def run(self, stage: str) -> Path:
        """Folder of a stage's checkpoints, logs and model."""
        return (
            self.out / "segment" / "small" if stage == "segment" else self.out / stage
        )  # segment appends its architecture

    def model(self, stage: str) -> Path:
        """Folder of what a stage exports."""
        return self.run(stage) / "model"

    @property
    def cache(self) -> Path:
        """Folder of cached latents."""
        return self.out / "cache"

    def perceptual(self, weight: float) -> dict[str, Any]:
        """``weights`` and ``lpips_weight`` of a stage; the weight is 0 where there are no perceptual weights."""
        return (
            {"lpips_weight": 0.0}
            if self.weights is None
            else {"lpips_weight": weight, "weights": self.weights}
        )


@dataclass(frozen=True)
class StageShare:
    """One stage of a recipe."""

    name: str
    does: str
    """What it does, in a few words."""
    share: float
    """Its part of the minutes, 0..1."""
    updates: int
    """Optimiser updates that the shipped weights had."""
    begin: Callable[[Any], Stage]
    """The stage of a configuration, for the loop."""
    train: Callable[[Any], int]
    """Trains by a configuration and returns the updates done."""
    configure: Callable[[Workplace], Any]
    """Configuration (with a ``loop``) of a workplace. How long it trains is set by ``configured``."""
    extends: bool = True
    """Whether more updates than ``updates`` can help where there is time."""

    def configured(self, place: Workplace, updates: int, seconds: float | None = None) -> Any:
        """Configuration of ``updates`` updates of about ``seconds`` each, none: unknown.

        The warm-up shrinks in proportion. Evaluations are few, and checkpoints a few minutes apart.
        """
        config = self.configure(place)
        warmup = min(config.loop.warmup_steps, math.ceil(config.loop.warmup_steps * updates / self.updates))
        every = (
            config.loop.checkpoint_every
            if seconds is None
            else max(1, round(SECONDS_AT_RISK / max(seconds, 1e-3)))
        )
        return dataclasses.replace(
            config,
            loop=dataclasses.replace(
                config.loop,
                max_steps=updates,
                warmup_steps=warmup,
                checkpoint_every=every,
                evaluate_every=max(config.loop.evaluate_every, math.ceil(updates / EVALUATIONS)),
            ),
        )


@dataclass(frozen=True)
class Recipe:
    """All stages of a preset in their order, and how its model is sampled."""

    stages: tuple[StageShare, ...]
    sampling: SamplingSettings
    published: str = "decoder"
    """Stage whose model is published."""
    segmenter: str = "segment"
    """Stage whose network is published beside it."""

    def __post_init__(self) -> None:
        if not math.isclose(total := sum(s.share for s in self.stages), 1):
            raise ValueError(f"the stages' shares of the minutes add up to {total:.3f}, not 1.")


def _untold(train: Callable[..., int]) -> Callable[[Any], int]:
    """``train`` without its words on what comes next: ``all`` does that."""
    return functools.partial(train, told=False)


def _vae(place: Workplace) -> autoencoder.VaeConfig:
    texture = (
        {} if place.weights is None else {"texture_weight": 1.0, "adversarial_weight": 0.05}
    )  # seen through AlexNet
    return autoencoder.VaeConfig(
        place.data,
        prompt=place.prompt,
        **place.perceptual(0.5),
        **texture,
        colour_weight=1.0,
        model=autoencoder.AutoencoderConfig(latent_channels=8, pack=2, linear_path=True),
        loop=LoopConfig(
            out=place.run("vae"),
            batch_size=8,
            learning_rate=1e-3,
            betas=(0.9, 0.99),
            warmup_steps=50,
            schedule="cosine",
            clip_norm=1.0,
            ema_decay=0.998,
            mixed_precision="auto",
            evaluate_every=500,
        ),
    )


def _base(place: Workplace) -> base.BaseConfig:
    return base.BaseConfig(
        place.data,
        vae=place.model("vae") / "vae",
        prompt=place.prompt,
        preset="tiny",
        variants=1,
        weighting="velocity",
        cache=place.cache,
        loop=LoopConfig(
            out=place.run("base"),
            batch_size=32,
            learning_rate=6e-4,
            betas=(0.9, 0.99),
            warmup_steps=200,
            clip_norm=1.0,
            ema_decay=0.995,
            mixed_precision="auto",
            evaluate_every=1000,
        ),
    )


def _siamese(place: Workplace) -> siamese.SiameseTrainConfig:
    return siamese.SiameseTrainConfig(
        place.data,
        place.model("base"),
        prompt=place.prompt,
        preset="tiny",
        train_encoder=True,
        variants=1,
        cache=place.cache,
        objective=SiameseConfig(weighting="velocity"),
        loop=LoopConfig(
            out=place.run("siamese"),
            batch_size=16,
            learning_rate=4e-4,
            betas=(0.9, 0.999),
            warmup_steps=100,
            schedule="cosine",
            clip_norm=1.0,
            ema_decay=0.995,
            mixed_precision="auto",
            evaluate_every=500,
        ),
    )


def _decoder(place: Workplace) -> decoder.DecoderConfig:
    return decoder.DecoderConfig(
        place.data,
        place.model("siamese"),
        prompt=place.prompt,
        **place.perceptual(0.3),
        cache=place.cache,
        loop=LoopConfig(
            out=place.run("decoder"),
            batch_size=16,
            learning_rate=3e-4,
            betas=(0.5, 0.9),
            warmup_steps=20,
            schedule="cosine",
            ema_decay=0.995,
            mixed_precision="auto",
            evaluate_every=200,
        ),
    )


def _segment(place: Workplace) -> segment.SegmentConfig:
    return segment.SegmentConfig(
        place.data,
        prompt=place.prompt,
        architecture="small",
        loop=LoopConfig(
            out=place.run("segment").parent,
            batch_size=16,
            learning_rate=1e-3,
            betas=(0.9, 0.99),
            warmup_steps=20,
            schedule="cosine",
            clip_norm=1.0,
            ema_decay=0.99,
            mixed_precision="auto",
            evaluate_every=200,
        ),
    )


TINY_RECIPE = Recipe(
    stages=(
        StageShare(
            "vae",
            "autoencoder of the images",
            0.25,
            3000,
            autoencoder.VaeStage,
            _untold(autoencoder.main),
            _vae,
        ),
        StageShare(
            "base",
            "diffusion model of images and prompts",
            0.35,
            2083,
            base.BaseStage,
            _untold(base.main),
            _base,
        ),
        StageShare(
            "siamese",
            "Mask-Diffusion, which follows a mask",
            0.27,
            1800,
            siamese.SiameseStage,
            _untold(siamese.main),
            _siamese,
        ),
        # More updates of this one bring samples away from real images again.
        StageShare(
            "decoder",
            "the autoencoder's decoder, on denoised latents",
            0.05,
            200,
            decoder.DecoderStage,
            _untold(decoder.main),
            _decoder,
            extends=False,
        ),
        StageShare(
            "segment",
            "segmentation network",
            0.08,
            600,
            segment.SegmentStage,
            _untold(segment.main),
            _segment,
        ),
    ),
    sampling=SamplingSettings(
        num_inference_steps=12,
        guidance_scale=5.0,
        scheduler="dpm++",
        guidance_mode="mask",
        guidance_interval=(0.3, 0.8),
    ),
)

RECIPES = {"tiny": TINY_RECIPE}
