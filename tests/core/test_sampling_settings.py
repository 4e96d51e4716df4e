"""One type of sampling settings: checks, former names, JSON, and that every place that carries them has all of them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import tyro

from siamese.records.sampling_settings import (
    ALIASES,
    INTERVAL_ENDS,
    SETTINGS,
    GuidanceMode,
    SamplingKeywords,
    SamplingOverrides,
    SamplingSettings,
    SchedulerName,
    renamed_in,
)
from train.evaluation.evaluate import EvaluateConfig
from train.evaluation.synthesis import SamplingConfig, SamplingOptions
from train.tools.publish import PublishConfig

ROOT = Path(__file__).parents[2]
OTHER = SamplingSettings(12, 5.0, "dpm++", "mask", 0.7, (0.3, 0.8))
FORMER = {
    "steps": 12,
    "guidance": 5.0,
    "scheduler": "dpm++",
    "guide": "mask",
    "rescale": 0.7,
    "guide_above": 0.3,
    "guide_below": 0.8,
}


def test_the_defaults_are_the_papers() -> None:
    assert SamplingSettings() == SamplingSettings(50, 9.0, "ddim", "prompt", 0.0, (0.0, 1.0))


def test_json_and_former_names_give_the_same_settings() -> None:
    assert SamplingSettings.from_dict(json.loads(json.dumps(OTHER.to_dict()))) == OTHER
    assert SamplingSettings.from_dict(FORMER) == OTHER
    assert SamplingSettings().override(**FORMER) == OTHER
    assert renamed_in({"model": "a", **FORMER}) == {"model": "a", **OTHER.to_dict()}
    assert renamed_in({"model": "a", **OTHER.to_dict()}) == {"model": "a", **OTHER.to_dict()}


def test_none_and_one_end_of_the_interval_keep_the_rest() -> None:
    assert OTHER.override(**dict.fromkeys(SETTINGS)) == OTHER
    assert OTHER.override(guide_above=0.1).guidance_interval == (0.1, 0.8)
    assert OTHER.override(guide_below=0.9).guidance_interval == (0.3, 0.9)


def test_numbers_are_stored_as_plain_ones() -> None:
    settings = SamplingSettings(guidance_scale=7, guidance_rescale=1, guidance_interval=[0, 1])
    assert json.dumps(settings.to_dict()) == json.dumps(
        SamplingSettings(guidance_scale=7.0, guidance_rescale=1.0).to_dict()
    )
    assert hash(settings) == hash(dataclasses.replace(settings))


def test_the_embedded_model_has_its_settings_by_their_former_names() -> None:
    stored = json.loads((ROOT / "assets" / "siamese-tiny" / "siamese.json").read_text())
    assert stored.pop("image_size") == 256
    assert SamplingSettings.from_dict(stored) == dataclasses.replace(OTHER, guidance_rescale=0.0)


def test_guidance_acts_in_its_interval_and_from_a_scale_above_one() -> None:
    assert [OTHER.guides_at(level) for level in (0.29, 0.3, 0.8, 0.81)] == [False, True, True, False]
    assert not dataclasses.replace(OTHER, guidance_scale=1).guides_at(0.5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"num_inference_steps": 0},
            "num_inference_steps is 0; it must be a whole number between 1 and 1000",
        ),
        ({"steps": 2.5}, "num_inference_steps is 2.5"),
        ({"steps": True}, "num_inference_steps is True"),
        ({"steps": "9"}, "num_inference_steps is '9'"),
        ({"guidance_scale": 0.9}, "guidance_scale is 0.9; it must be 1"),
        ({"guidance_scale": float("inf")}, "guidance_scale is inf; it must be a finite number"),
        ({"guidance_scale": 10**400}, "guidance_scale is too large"),
        ({"guidance_rescale": -0.1}, "guidance_rescale is -0.1; it must be between 0"),
        ({"guidance_mode": "image"}, "unknown guidance_mode 'image'; choose from prompt, mask"),
        ({"scheduler": ["ddim"]}, "unknown scheduler"),
        ({"guidance_interval": 0.5}, "guidance_interval is 0.5; it must be two"),
        ({"guidance_interval": (0.5, 0.4)}, "guidance_interval is 0.5 to 0.4"),
        ({"guidance_interval": (0, "1")}, "guidance_interval is '1'; it must be a finite number"),
    ],
)
def test_what_cannot_be_used_is_named(given: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings().override(**given)


@pytest.mark.parametrize("given", [{"strength": 1}, {"steps": 3, "num_inference_steps": 3}])
def test_unknown_and_doubled_names_are_type_errors(given: dict) -> None:
    with pytest.raises(TypeError, match=r"unknown setting 'strength'|given under two names"):
        SamplingSettings().override(**given)


def test_every_place_has_every_setting() -> None:
    assert get_type_hints(SamplingOverrides).keys() == set(SETTINGS)
    assert get_type_hints(SamplingKeywords).keys() == {*SETTINGS, *ALIASES, *INTERVAL_ENDS}
    assert {f.name for f in dataclasses.fields(SamplingOptions)} == set(SETTINGS)
    assert set(ALIASES.values()) < set(SETTINGS)
    assert SamplingOptions(**dataclasses.asdict(OTHER)).overrides() == dataclasses.asdict(OTHER)
    assert SamplingOptions().overrides() == {}


def test_options_of_commands_keep_their_former_names() -> None:
    given = SamplingConfig(num_inference_steps=3, guidance_scale=2.0)
    for arguments in (
        ["--steps", "3", "--guidance", "2"],
        ["--sampling.steps", "3", "--sampling.guidance", "2"],
        ["--sampling.num-inference-steps", "3", "--sampling.guidance-scale", "2"],
    ):
        parsed = tyro.cli(EvaluateConfig, args=["--data", "d", "--model", "m", *arguments])
        assert parsed.sampling == given, arguments
    published = tyro.cli(
        PublishConfig,
        args=["--model", "m", "--steps", "3", "--guide", "mask", "--guidance-interval", "0.3", "0.8"],
    )
    assert published.sampling.overrides() == {
        "num_inference_steps": 3,
        "guidance_mode": "mask",
        "guidance_interval": (0.3, 0.8),
    }


def test_the_choices_of_the_page_are_the_samplers() -> None:
    from siamese.studio.tabs.settings import SCHEDULERS

    assert {value for _, value in SCHEDULERS} == set(get_args(SchedulerName))
    assert SamplingSettings().guidance_mode in get_args(GuidanceMode)


@pytest.mark.slow
def test_settings_prompts_and_recipes_need_no_torch() -> None:
    code = (
        "import sys, siamese.records.sampling_settings, siamese.records.prompts, siamese.records.provenance\n"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
