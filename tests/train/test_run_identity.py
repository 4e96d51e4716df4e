"""A run continues on its own data, weights and settings only, and says what differs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.records.prompts import POLYP
from tests.models import build
from tests.phantoms import write_folder
from tests.train.stages import LOOP
from train.engine.checkpoints import ResumeError
from train.engine.identity import FREE_LOOP_SETTINGS, FREE_STAGE_SETTINGS, PLACES, facts_of, settings_of
from train.engine.identity import differences as differences_of_facts
from train.engine.loop import LoopConfig
from train.stages import siamese
from train.stages.autoencoder import VaeConfig
from train.stages.base import BaseConfig
from train.stages.decoder import DecoderConfig
from train.stages.segmenter import SegmentConfig
from train.stages.siamese import SiameseTrainConfig


@pytest.fixture(scope="module")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_checkpoint(build("small"), folder)
    return folder


@pytest.fixture(scope="module")
def begun(small_model: Path, tmp_path_factory: pytest.TempPathFactory) -> SiameseTrainConfig:
    """A Siamese run that was stopped after the first of three updates."""
    root = tmp_path_factory.mktemp("begun")
    data = write_folder(root / "kvasir-seg", 5, {"train": range(4), "val": range(4, 5)})
    settings = LoopConfig(**(LOOP | {"out": root / "run", "max_steps": 3, "batch_size": 2, "minutes": 0}))
    config = SiameseTrainConfig((data,), small_model, variants=1, cache=root / "cache", loop=settings)
    siamese.main(config)
    return config


def _continued(begun: SiameseTrainConfig, tmp_path: Path, **changes: Any) -> SiameseTrainConfig:
    """The same, on a copy of the run's folder."""
    shutil.copytree(begun.loop.out, tmp_path / "run")
    return replace(begun, **changes, loop=replace(begun.loop, out=tmp_path / "run", minutes=None))


@pytest.mark.slow
def test_ramp_and_gate_from_which_a_run_continues_are_reported(
    begun: SiameseTrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = _continued(begun, tmp_path)
    siamese.main(config)
    said = capsys.readouterr().out
    assert "Continues after 1 of 3 updates" in said
    assert "Now: w_i = 0.333, augmentation off (after step 1)." in said
    assert f"python app.py --model {tmp_path / 'run' / 'model'}" in said
    siamese.main(replace(config, loop=replace(config.loop, extend_to=4)))
    said = capsys.readouterr().out
    assert "Continues after 3 of 4 updates" in said
    assert (
        "It was begun for 3 updates and has that schedule; updates beyond them keep its end (w_i = 1, augmentation on (after step 1))."
        in said
    )


@pytest.mark.slow
@pytest.mark.parametrize("change", ["mask", "image", "prompt", "name", "order of the same", "validation"])
def test_a_run_continues_on_its_data_only(change: str, begun: SiameseTrainConfig, tmp_path: Path) -> None:
    """Case 07: as many pairs as before, but others."""
    data = shutil.copytree(begun.data[0], tmp_path / "kvasir-seg")
    images, masks = ([data / part / f"case 0{i}.png" for i in range(5)] for part in ("images", "masks"))
    names = {
        "mask": "masks",
        "image": "images",
        "prompt": "prompts",
        "name": "names",
        "order of the same": "names, images, masks",
    }
    sources, before = (data,), json.loads((begun.loop.out / "run.json").read_text())
    if change in ("mask", "image"):
        file = {"mask": masks, "image": images}[change][2]
        Image.fromarray(np.roll(np.asarray(Image.open(file)), 1, 1)).save(file)
    elif change == "prompt":
        config = _continued(begun, tmp_path, prompt="")
    elif change == "name":
        for file in (images[1], masks[1]):
            file.rename(file.with_name("case 01b.png"))
        (data / "train.txt").write_text("case 00\ncase 01b\ncase 02\ncase 03\n")
    elif change == "validation":
        Image.fromarray(np.roll(np.asarray(Image.open(masks[4])), 1, 1)).save(masks[4])
    else:
        (data / "train.txt").write_text("case 00\ncase 01\ncase 02\ncase 04\n")
        (data / "val.txt").write_text("case 03\n")
    if change != "prompt":
        config = _continued(begun, tmp_path, data=sources)
    with pytest.raises(ResumeError) as error:
        siamese.main(config)
    split, part = ("validation", "masks") if change == "validation" else ("training", names[change])
    assert f"the {split} pairs have changed (other {part})" in str(error.value)
    assert "for a new run give another --loop.out" in str(error.value)
    assert (
        json.loads((tmp_path / "run" / "run.json").read_text()) == before
    )  # it still says what the model was trained on


@pytest.mark.slow
def test_moved_data_are_the_same_data(begun: SiameseTrainConfig, tmp_path: Path) -> None:
    data = shutil.copytree(begun.data[0], tmp_path / "elsewhere" / "kvasir-seg")
    assert siamese.main(_continued(begun, tmp_path, data=(data,))) == 3


@pytest.mark.slow
@pytest.mark.parametrize("part", ["vae", "unet"])
def test_a_run_continues_from_its_weights_only(part: str, begun: SiameseTrainConfig, tmp_path: Path) -> None:
    """Another autoencoder makes other latents of the same images; no weight of it is in the checkpoint."""
    other = load_checkpoint(begun.init)
    with torch.no_grad():
        next(getattr(other, part).parameters()).add_(0.01)
    save_checkpoint(other, tmp_path / "other")
    with pytest.raises(ResumeError, match="the weights of --init have changed"):
        siamese.main(_continued(begun, tmp_path, init=tmp_path / "other"))


def test_what_may_change_is_named_in_one_place() -> None:
    fields = set(LoopConfig.__dataclass_fields__)
    assert fields > FREE_LOOP_SETTINGS
    assert settings_of(LoopConfig()).keys() == fields - FREE_LOOP_SETTINGS
    assert not {"seed", "batch_size", "max_steps", "learning_rate", "mixed_precision"} & FREE_LOOP_SETTINGS


@pytest.mark.parametrize(
    "config",
    [
        VaeConfig(()),
        BaseConfig(()),
        SiameseTrainConfig((), Path("a")),
        DecoderConfig((), Path("a")),
        SegmentConfig(()),
    ],
    ids=["vae", "base", "siamese", "decoder", "segment"],
)
def test_every_setting_of_a_stage_is_a_fact_of_its_run(config: Any) -> None:
    """Also one that nobody thought of: the facts are all fields but the free ones. What lies in places is compared by digests."""
    facts = facts_of(config)
    assert facts.keys() == set(config.__dataclass_fields__) - FREE_STAGE_SETTINGS
    changed = facts | dict.fromkeys(facts, "another")
    found = " ".join(differences_of_facts(facts, changed))
    assert all(f"{name} was" in found for name in facts.keys() - PLACES)
    assert not any(f"{name} was" in found for name in facts.keys() & PLACES)
    assert differences_of_facts({}, changed) == []  # runs of earlier versions do not know all facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"prompt": POLYP}, "prompt was None, now 'a colonoscopy"),
        ({"preset": "sd15"}, "preset was tiny, now sd15"),
        ({"prompt_drop": 0.5}, "prompt_drop was 0.05, now 0.5"),
    ],
)
def test_a_run_continues_with_its_stage_s_settings_only(
    change: dict[str, Any], message: str, begun: SiameseTrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(ResumeError, match=message.replace("'", "")):
        siamese.main(_continued(begun, tmp_path, **change))


@pytest.mark.slow
def test_a_run_continues_from_its_controlnet_only(
    small_model: Path, begun: SiameseTrainConfig, tmp_path: Path
) -> None:
    base = load_checkpoint(small_model)
    controlnet, base.controlnet = base.controlnet, None
    save_checkpoint(base, tmp_path / "base")
    config = replace(
        begun,
        init=tmp_path / "base",
        controlnet=small_model,
        loop=replace(begun.loop, out=tmp_path / "first"),
    )
    siamese.main(config)
    base.controlnet = controlnet
    with torch.no_grad():
        next(controlnet.parameters()).add_(0.01)
    save_checkpoint(base, tmp_path / "other")
    with pytest.raises(ResumeError, match="the weights of --controlnet have changed"):
        siamese.main(replace(config, controlnet=tmp_path / "other"))
