"""Presets: how a kind of model is trained and sampled, each as one table. Change a value here and the next run is trained so.

    python -m train siamese --preset sd15 --init stable-diffusion-v1-5 --data my_pairs --loop.accumulation 8
    python -m train all --preset tiny --data my_pairs

``--preset NAME`` takes a stage's settings and those of its loop from the table; an option given by hand replaces its value,
and ``--preset NAME --help`` shows them. Without ``--preset`` a stage has its own defaults, which suit fine-tuning on few images.
Settings of the loop that a row does not name are ``LoopConfig``'s, the paper's. ``train.recipe.stages`` has the order of the
stages and their shares of the time.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import tyro

from siamese.objective import SiameseConfig
from siamese.records.sampling_settings import SamplingSettings
from train.engine.loop import LoopConfig
from train.stages.autoencoder import AutoencoderConfig, VaeConfig
from train.stages.base import BaseConfig
from train.stages.decoder import DecoderConfig
from train.stages.segmenter import SegmentConfig
from train.stages.siamese import SiameseTrainConfig

CONFIGURATIONS: dict[str, type] = {
    "vae": VaeConfig,
    "base": BaseConfig,
    "siamese": SiameseTrainConfig,
    "decoder": DecoderConfig,
    "segment": SegmentConfig,
}


@dataclass(frozen=True)
class StageSettings:
    """One stage's row of a preset."""

    loop: dict[str, Any]
    """Fields of ``LoopConfig`` that differ from its defaults."""
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Fields of the stage's configuration that differ from its defaults."""


@dataclass(frozen=True)
class Preset:
    """A model's training. Its networks are ``siamese.models.presets.PRESETS`` of the same name."""

    stages: dict[str, StageSettings]
    sampling: SamplingSettings
    """How the model is sampled unless a caller says otherwise."""


# The embedded model's. The weights embedded today are older than this table: their card tells how they were made.
TINY = Preset(
    stages={
        "vae": StageSettings(
            loop={
                "max_steps": 3000,
                "batch_size": 8,
                "learning_rate": 1e-3,
                "betas": (0.9, 0.99),
                "warmup_steps": 50,
                "schedule": "cosine",
                "clip_norm": 1.0,
                "ema_decay": 0.998,
                "mixed_precision": "auto",
            },
            options={
                "model": AutoencoderConfig(latent_channels=8, pack=2, linear_path=True),
                "lpips_weight": 0.5,
                "texture_weight": 1.0,
                "adversarial_weight": 0.05,
                "colour_weight": 1.0,
            },
        ),
        "base": StageSettings(
            loop={
                "max_steps": 2083,
                "batch_size": 32,
                "learning_rate": 6e-4,
                "betas": (0.9, 0.99),
                "warmup_steps": 200,
                "clip_norm": 1.0,
                "ema_decay": 0.995,
                "mixed_precision": "auto",
                "evaluate_every": 1000,
            },
            options={"variants": 1, "weighting": "velocity"},
        ),
        "siamese": StageSettings(
            loop={
                "max_steps": 1800,
                "batch_size": 16,
                "learning_rate": 4e-4,
                "warmup_steps": 100,
                "schedule": "cosine",
                "clip_norm": 1.0,
                "ema_decay": 0.995,
                "mixed_precision": "auto",
            },
            options={
                "train_encoder": True,
                "variants": 1,
                "objective": SiameseConfig(weighting="velocity"),
            },
        ),
        "decoder": StageSettings(
            loop={
                "max_steps": 200,
                "batch_size": 16,
                "learning_rate": 3e-4,
                "betas": (0.5, 0.9),
                "warmup_steps": 20,
                "schedule": "cosine",
                "ema_decay": 0.995,
                "mixed_precision": "auto",
                "evaluate_every": 200,
            },
            options={"lpips_weight": 0.3},
        ),
        "segment": StageSettings(
            loop={
                "max_steps": 600,
                "batch_size": 16,
                "learning_rate": 1e-3,
                "betas": (0.9, 0.99),
                "warmup_steps": 20,
                "schedule": "cosine",
                "clip_norm": 1.0,
                "ema_decay": 0.99,
                "mixed_precision": "auto",
                "evaluate_every": 200,
            },
            options={"architecture": "small"},
        ),
    },
    sampling=SamplingSettings(
        num_inference_steps=12,
        guidance_scale=5.0,
        scheduler="dpm++",
        guidance_mode="mask",
        guidance_interval=(0.3, 0.8),
    ),
)

# The paper's (supplement, sections 7 to 10): from Stable Diffusion 1.5, whose autoencoder, text encoder and U-Net encoder stay.
SD15 = Preset(
    stages={
        "siamese": StageSettings(
            loop={
                "max_steps": 3000,
                "batch_size": 48,
                "learning_rate": 1e-5,
                "betas": (0.9, 0.999),
                "weight_decay": 0.01,
                "warmup_steps": 0,
                "schedule": "constant",
                "clip_norm": None,
                "ema_decay": None,
                "mixed_precision": "no",
            },
            options={
                "train_encoder": False,
                "variants": 1,
                "prompt_drop": 0.05,
                "objective": SiameseConfig(),
            },
        ),
        "segment": TINY.stages["segment"],
    },
    sampling=SamplingSettings(num_inference_steps=50, guidance_scale=9.0, scheduler="ddim"),
)

TRAINING_PRESETS = {"tiny": TINY, "sd15": SD15}


def stage_config(stage: str, preset: str, given: dict[str, Any], loop: dict[str, Any]) -> Any:
    """The configuration of ``stage`` by ``preset``, with the fields ``given`` and those of ``loop`` in place of the table's.

    Raises:
        KeyError: the preset does not train this stage.
    """
    row = TRAINING_PRESETS[preset].stages[stage]
    values = row.options | {"preset": preset, "loop": LoopConfig(**(row.loop | loop))} | given
    return CONFIGURATIONS[stage](**values)


def default_of(stage: str, preset: str) -> Any:
    """The configuration of ``stage`` by ``preset`` for ``tyro.cli``, which asks for the fields without a default.

    None if no table has the command, or the preset does not train the stage: its own defaults hold.
    """
    if preset not in TRAINING_PRESETS or stage not in TRAINING_PRESETS[preset].stages:
        return None
    fields = {f.name: f for f in dataclasses.fields(CONFIGURATIONS[stage])}
    required = {
        name: tyro.MISSING
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    own: Any = fields["loop"].default_factory  # makes the stage's own LoopConfig
    return stage_config(stage, preset, required, {"out": own().out})
