"""A recipe for tests: the shipped one's stages on networks and numbers that take seconds. Also as a command.

``python -m tests.train.recipes all --data ...`` is ``python -m train all --data ...`` with this recipe in the place of the tiny one.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch

from siamese.models.presets import PRESETS
from tests.models import SMALL
from train import __main__ as command
from train.engine import sample_sheet
from train.recipe import rehearsal
from train.recipe.stages import RECIPES, TINY_RECIPE, StageShare, TrainingRecipe, Workplace
from train.stages.autoencoder import AutoencoderConfig

SMALL_VAE = AutoencoderConfig(
    widths=(8, 8, 16, 16), encoder_layers=(1, 1, 1, 1), decoder_layers=(1, 1, 1, 1), latent_channels=4
)
CHANGES = {
    "vae": {"model": SMALL_VAE, "size": 64, "crop": 32},
    "base": {"size": 64},
    "siamese": {},
    "decoder": {"crop": 32, "steps": 4},
    "segment": {"size": 32},
}
UPDATES = {"vae": 12, "base": 10, "siamese": 9, "decoder": 4, "segment": 6}


def small_stage(stage: StageShare, updates: int) -> StageShare:
    """``stage`` for 64 pixels and ``SMALL`` networks, in small batches."""

    def configure(place: Workplace) -> Any:
        config = stage.configure(place)
        # bfloat16 is slower than float32 on most CPUs for networks this small.
        loop = dataclasses.replace(config.loop, batch_size=4, evaluate_every=1000, mixed_precision="no")
        return dataclasses.replace(config, **CHANGES[stage.name], loop=loop)

    return dataclasses.replace(stage, updates=updates, configure=configure)


def small_recipe(updates: Callable[[str], int] = UPDATES.__getitem__) -> TrainingRecipe:
    """The tiny recipe, small."""
    sampling = TINY_RECIPE.sampling.override(num_inference_steps=3)
    return dataclasses.replace(
        TINY_RECIPE,
        stages=tuple(small_stage(s, updates(s.name)) for s in TINY_RECIPE.stages),
        sampling=sampling,
    )


def use(patch: pytest.MonkeyPatch, recipe: TrainingRecipe) -> None:
    """``recipe`` is the tiny one's."""
    patch.setitem(PRESETS, "tiny", SMALL)
    patch.setitem(RECIPES, "tiny", recipe)
    patch.setattr(rehearsal, "QUICK", 0.0)
    # Sheets of samples would take half of the time.
    patch.setattr(sample_sheet.sheet.__wrapped__, "__defaults__", (2,))


if __name__ == "__main__":
    torch.set_num_threads(1)
    use(pytest.MonkeyPatch(), small_recipe())
    command.run_command(sys.argv[1:])
