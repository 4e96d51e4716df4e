"""Recipes: the order of a preset's stages, and their shares of the time. ``python -m train all`` runs one.

The settings of each stage are in ``train.recipe.presets``. A run that was begun with other values is refused.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from siamese.records.sampling_settings import SamplingSettings
from train.engine.stage import Stage
from train.recipe.presets import TRAINING_PRESETS, stage_config
from train.stages import autoencoder, base, decoder, segmenter, siamese

EVALUATIONS = 4
"""Largest number of evaluations of a stage: sheets of samples take time from training."""
SECONDS_AT_RISK = 120
"""About so much work is lost when a run is killed: the time between two checkpoints."""


@dataclass(frozen=True)
class Workplace:
    """Where a run lies and what it learns from."""

    out: Path
    """Folder of the whole run."""
    data: tuple[Path, ...]
    prompt: str | None = None
    weights: Path | None = None
    """Folder of the perceptual weights; none: the autoencoder is trained without them."""
    init: Path | None = None
    """Model folder that the first stage starts from; none: everything is trained from scratch."""

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

    def options(self, stage: str) -> dict[str, Any]:
        """Options of a stage that name its folder and what it starts from."""
        given: dict[str, Any] = {"data": self.data, "prompt": self.prompt}
        if stage in ("base", "siamese", "decoder"):
            given["cache"] = self.cache
        if stage == "base":
            given["vae"] = self.model("vae") / "vae"
        if stage == "siamese":
            given["init"] = self.init or self.model("base")
        if stage == "decoder":
            given["init"] = self.model("siamese")
        if stage in ("vae", "decoder"):
            given |= {"lpips_weight": 0.0} if self.weights is None else {"weights": self.weights}
        if stage == "vae" and self.weights is None:
            given |= {"texture_weight": 0.0, "adversarial_weight": 0.0}  # both look through AlexNet
        return given


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
    """Whether more updates than ``updates`` can help if there is time."""

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
class TrainingRecipe:
    """All stages of a preset in their order, and how its model is sampled."""

    stages: tuple[StageShare, ...]
    sampling: SamplingSettings
    published: str = "decoder"
    """Stage whose model is published."""
    segmenter: str = "segment"
    """Stage whose network is published beside it."""

    needs_init: bool = False
    """Whether it starts from a model of the user's (Stable Diffusion) and not from scratch."""

    def __post_init__(self) -> None:
        if not math.isclose(total := sum(s.share for s in self.stages), 1):
            raise ValueError(f"the stages' shares of the minutes add up to {total:.3f}, not 1.")


_STAGES: dict[str, tuple[str, Callable[[Any], Stage], Callable[..., int]]] = {
    "vae": ("autoencoder of the images", autoencoder.VaeStage, autoencoder.main),
    "base": ("diffusion model of images and prompts", base.BaseStage, base.main),
    "siamese": ("Mask-Diffusion, which follows a mask", siamese.SiameseStage, siamese.main),
    "decoder": ("the autoencoder's decoder, on denoised latents", decoder.DecoderStage, decoder.main),
    "segment": ("segmentation network", segmenter.SegmentStage, segmenter.main),
}
"""Description, stage and ``main`` of each."""


def _share(
    preset: str, name: str, share: float, extends: bool = True, loop: dict[str, Any] | None = None
) -> StageShare:
    """A stage of a preset, with ``share`` of the time; ``loop`` replaces settings of the preset's table."""
    does, begin, main = _STAGES[name]

    def configure(place: Workplace) -> Any:
        # The segmenter's stage appends its architecture to the folder.
        out = place.run(name).parent if name == "segment" else place.run(name)
        return stage_config(name, preset, place.options(name), {"out": out} | (loop or {}))

    return StageShare(
        name=name,
        does=does,
        share=share,
        updates=TRAINING_PRESETS[preset].stages[name].loop["max_steps"],
        begin=begin,
        train=functools.partial(main, reports=False),  # what comes next is not up to a single stage
        configure=configure,
        extends=extends,
    )


TINY_RECIPE = TrainingRecipe(
    stages=(
        _share("tiny", "vae", 0.25),
        _share("tiny", "base", 0.35),
        _share("tiny", "siamese", 0.27),
        # More updates of this one make samples less like real images again.
        _share("tiny", "decoder", 0.05, extends=False),
        _share("tiny", "segment", 0.08),
    ),
    sampling=TRAINING_PRESETS["tiny"].sampling,
)

# One process instead of the paper's eight, each of which takes 6 samples at a time.
SD15_RECIPE = TrainingRecipe(
    stages=(
        _share("sd15", "siamese", 0.97, loop={"accumulation": 8}),
        _share("sd15", "segment", 0.03),
    ),
    sampling=TRAINING_PRESETS["sd15"].sampling,
    published="siamese",
    needs_init=True,
)

RECIPES = {"tiny": TINY_RECIPE, "sd15": SD15_RECIPE}
