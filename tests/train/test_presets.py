"""Presets: the tables reach the stages' options, and what a user gives by hand takes their place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from siamese.models.presets import PRESETS
from siamese.objective import SiameseConfig
from train import __main__ as command
from train.engine.loop import LoopConfig
from train.recipe.presets import CONFIGURATIONS, SD15, TRAINING_PRESETS, default_of
from train.recipe.run import AllConfig, workplace
from train.recipe.stages import RECIPES, Workplace

PAPER = ["--preset", "sd15", "--init", "stable-diffusion-v1-5", "--data", "pairs"]


def test_sd15_is_the_papers() -> None:
    """Supplement, Algorithm 1 and sections 7 to 10."""
    config = command.parse("siamese", PAPER)
    assert config.preset == "sd15"
    assert (config.init, config.data) == (Path("stable-diffusion-v1-5"), (Path("pairs"),))
    assert config.loop == LoopConfig(out=Path("runs/siamese"))  # whose defaults are the paper's
    loop = config.loop
    assert (loop.max_steps, loop.batch_size, loop.learning_rate, loop.betas) == (3000, 48, 1e-5, (0.9, 0.999))
    assert (loop.weight_decay, loop.warmup_steps, loop.schedule) == (0.01, 0, "constant")
    assert (loop.ema_decay, loop.clip_norm, loop.mixed_precision, loop.tf32) == (None, None, "no", False)
    assert (config.prompt_drop, config.variants, config.train_encoder) == (0.05, 1, False)
    assert config.objective == SiameseConfig()
    assert PRESETS["sd15"].hint_widths == (16, 32, 64, 128, 256)
    assert not PRESETS["sd15"].hint_keeps_variance
    sampling = SD15.sampling
    assert (sampling.num_inference_steps, sampling.guidance_scale, sampling.scheduler) == (50, 9, "ddim")


def test_an_option_given_by_hand_replaces_the_presets() -> None:
    given = ["--loop.batch-size", "6", "--loop.ema-decay", "0.9", "--prompt-drop", "0.2"]
    preset, config = command.parse("siamese", PAPER), command.parse("siamese", [*given, *PAPER])
    changed = replace(preset.loop, batch_size=6, ema_decay=0.9)
    assert config == replace(preset, loop=changed, prompt_drop=0.2)
    assert command.parse("siamese", ["--preset=sd15", *PAPER[2:]]) == preset


def test_without_a_preset_a_stage_has_its_own_defaults() -> None:
    config = command.parse("siamese", PAPER[2:])
    assert config.preset == "tiny"
    assert (config.loop.batch_size, config.loop.learning_rate) == (8, 2e-4)


@pytest.mark.parametrize(
    ("name", "preset", "shown"),
    [
        ("siamese", "sd15", ["(default: 1e-05)", "(default: 48)", "(default: 3000)", "(default: sd15)"]),
        ("siamese", "tiny", ["(default: 0.0004)", "(default: 16)", "(default: 1800)"]),
        ("vae", "tiny", ["(default: 0.998)", "(default: 3000)"]),
    ],
)
def test_help_shows_the_presets_values(
    name: str, preset: str, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.parse(name, ["--preset", preset, "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert all(value in said for value in shown)


def test_a_preset_that_does_not_train_a_stage_sets_its_networks_alone() -> None:
    """The paper trains no base model; one of Stable Diffusion's size can be trained all the same."""
    config = command.parse("base", ["--preset", "sd15", "--data", "pairs"])
    assert config == replace(CONFIGURATIONS["base"]((Path("pairs"),)), preset="sd15")


def test_required_options_stay_required(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        command.parse("siamese", ["--preset", "sd15", "--data", "pairs"])
    assert "--init" in capsys.readouterr().err


@pytest.mark.parametrize("preset", TRAINING_PRESETS)
def test_all_trains_by_the_same_tables(preset: str) -> None:
    """Of every stage of the recipe: only places, and what one process needs, differ from the single stage's settings."""
    recipe = RECIPES[preset]
    assert {s.name for s in recipe.stages} == TRAINING_PRESETS[preset].stages.keys()
    assert recipe.sampling == TRAINING_PRESETS[preset].sampling
    place = Workplace(Path("out"), (Path("pairs"),), weights=Path("weights"), init=Path("start"))
    for stage in recipe.stages:
        config, alone = stage.configure(place), default_of(stage.name, preset)
        assert type(config) is CONFIGURATIONS[stage.name]
        places = {
            n: getattr(config, n)
            for n in ("data", "init", "vae", "cache", "weights", "prompt")
            if hasattr(config, n)
        }
        loop = replace(config.loop, out=alone.loop.out, accumulation=alone.loop.accumulation)
        assert replace(config, loop=loop) == replace(alone, **places)
        assert stage.updates == config.loop.max_steps


def test_all_of_sd15_starts_from_a_model() -> None:
    config = AllConfig((Path("pairs"),), preset="sd15", weights=Path("no such folder"))
    with pytest.raises(ValueError, match="--preset sd15 needs --init"):
        workplace(config)
    place = workplace(
        replace(config, init=Path("start"))
    )  # without perceptual weights: it trains no autoencoder
    siamese = RECIPES["sd15"].stages[0].configured(place, 3000)
    assert siamese.init == Path("start")
    assert siamese.loop.batch_size // siamese.loop.accumulation == 6  # samples of each of the paper's GPUs
    with pytest.raises(ValueError, match="tiny starts from scratch"):
        workplace(AllConfig((Path("pairs"),), init=Path("start")))
