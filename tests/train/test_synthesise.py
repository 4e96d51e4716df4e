"""`python -m train sample`: a data set of synthetic pairs that continues, and is never mixed with another."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.masks.core import resize_mask
from siamese.models.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from tests.stand_ins import phantom
from train.data.pairs import DataError, read_pairs
from train.engine.disk import DiskFull
from train.evaluation import synthesis
from train.evaluation.synthesis import SamplingConfig
from train.tools import synthesise


@pytest.mark.slow
def test_sample_writes_a_data_set_and_continues(world, tmp_path, monkeypatch):
    config = synthesise.SampleConfig(
        str(world / "model"),
        tmp_path / "made",
        data=(world / "kvasir-seg",),
        split="val",
        variants=2,
        sheet=2,
        sampling=SamplingConfig(batch_size=3, bf16=False),
    )
    jobs = synthesise.sample(config)
    pairs = read_pairs([tmp_path / "made" / "prompt.json"])
    assert len(jobs) == len(pairs) == 8
    assert len({j.seed for j in jobs}) == 8
    for pair, job in zip(
        sorted(pairs, key=lambda p: p.image.name), sorted(jobs, key=lambda j: j.name), strict=True
    ):
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask, Image.open(job.mask) as drawn:
            assert image.size == mask.size == (32, 32)
            assert image.mode == "RGB"
            np.testing.assert_array_equal(np.asarray(mask), resize_mask(np.asarray(drawn), 32))
    with Image.open(tmp_path / "made" / "sheet.png") as sheet:
        assert sheet.size == (3 * 32 + 8, 2 * 32 + 4)

    lost = tmp_path / "made" / "images" / f"{jobs[3].name}.png"
    content = lost.read_bytes()
    lost.unlink()
    drawn = []
    draw = synthesis.Synthesiser.draw
    monkeypatch.setattr(
        synthesis.Synthesiser,
        "draw",
        lambda self, masks, *rest: drawn.append(len(masks)) or draw(self, masks, *rest),
    )
    synthesise.sample(config)
    assert drawn == [1]
    assert lost.read_bytes() == content
    with pytest.raises(DataError, match="other settings"):
        synthesise.sample(dataclasses.replace(config, seed=5))


@pytest.fixture
def sampled(world, tmp_path) -> synthesise.SampleConfig:
    """Two images of masks of the user's, with a copy of the model."""
    for place in ("masks", "model"):
        (tmp_path / place).mkdir()
    for i, name in enumerate("ab"):
        Image.fromarray(phantom(i)[1]).save(tmp_path / "masks" / f"{name}.png")
    shutil.copytree(world / "model", tmp_path / "model", dirs_exist_ok=True)
    config = synthesise.SampleConfig(
        str(tmp_path / "model"),
        tmp_path / "made",
        tmp_path / "masks",
        prompt="a colonoscopy image of a polyp",
        sampling=SamplingConfig(num_inference_steps=2, bf16=False),
    )
    synthesise.sample(config)
    return config


def _images(config: synthesise.SampleConfig) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((config.out / "images").iterdir())}


@pytest.mark.slow
def test_sample_keeps_no_image_of_other_weights(sampled, tmp_path):
    """The model was trained on in its folder, or lies elsewhere under the same name: what counts are its weights."""
    before = _images(sampled)
    moved = shutil.copytree(sampled.model, tmp_path / "moved")
    synthesise.sample(dataclasses.replace(sampled, model=str(moved)))
    assert _images(sampled) == before
    assert json.loads((sampled.out / "sample.json").read_text())["weights"] == weights_hash(
        Path(sampled.model)
    )
    model = load_checkpoint(sampled.model)
    with torch.no_grad():
        model.unet.conv_out.bias.add_(1)
    save_checkpoint(model, Path(sampled.model))
    with pytest.raises(
        DataError, match=r"images of other settings .the model's weights have changed.. Choose another --out"
    ):
        synthesise.sample(sampled)
    assert _images(sampled) == before
    schedule = moved / "scheduler" / "scheduler_config.json"
    schedule.write_text(json.dumps(json.loads(schedule.read_text()) | {"rescale_betas_zero_snr": True}))
    with pytest.raises(DataError, match="noise_schedule was"):
        synthesise.sample(dataclasses.replace(sampled, model=str(moved)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 3}, "seed was 0, now 3"),
        ({"sampling": SamplingConfig(num_inference_steps=3, bf16=False)}, "num_inference_steps was 2, now 3"),
        (
            {"sampling": SamplingConfig(num_inference_steps=2, guidance_scale=1.25, bf16=False)},
            "guidance_scale was .*, now 1.25",
        ),
        ({"limit": 1}, "1 images that .* does not make .b-0"),
    ],
)
def test_sample_refuses_other_settings(change, message, sampled):
    before = _images(sampled)
    with pytest.raises(DataError, match=message):
        synthesise.sample(dataclasses.replace(sampled, **change))
    assert _images(sampled) == before


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["mask", "prompt"])
def test_sample_makes_again_what_has_changed(changed, sampled, capsys):
    """Case 06: a mask was corrected; another prompt."""

    def times(
        config: synthesise.SampleConfig,
    ) -> dict[str, int]:  # the untrained model's image is that of its seed, whatever the mask
        return {p.stem: p.stat().st_mtime_ns for p in sorted((config.out / "images").iterdir())}

    before, config = times(sampled), sampled
    if changed == "mask":
        Image.fromarray(np.roll(phantom(0)[1], 9, 1)).save(sampled.masks / "a.png")
    else:
        config = dataclasses.replace(sampled, prompt="a dermoscopy image of a skin lesion")
    synthesise.sample(config)
    after, names = times(config), ["a-0"] if changed == "mask" else ["a-0", "b-0"]
    assert [name for name in after if after[name] != before[name]] == names
    assert (
        f"{len(names)} images are made again, because their mask, prompt or seed has changed: {', '.join(names)}."
        in capsys.readouterr().out
    )
    for name in "ab":
        with (
            Image.open(config.out / "masks" / f"{name}-0.png") as stored,
            Image.open(config.masks / f"{name}.png") as drawn,
        ):
            np.testing.assert_array_equal(np.asarray(stored), resize_mask(np.asarray(drawn), 32))
    assert {p.prompt for p in read_pairs([config.out / "prompt.json"])} == {config.prompt}
    synthesise.sample(config)
    assert times(config) == after


@pytest.mark.slow
def test_sample_continues_after_a_kill_in_the_middle_of_a_line(sampled):
    before, lines = _images(sampled), sampled.out / "made.jsonl"
    lines.write_text(lines.read_text()[:-9])
    assert len(synthesise.sample(sampled)) == 2
    assert len(synthesise.sample(sampled)) == 2
    assert _images(sampled) == before
    assert json.loads(lines.read_text().splitlines()[-1])["name"] == "b-0"


@pytest.mark.slow
def test_sample_goes_into_no_folder_of_other_images(sampled, world):
    with pytest.raises(
        DataError, match=r"2 images that this command does not make .a-0, b-0.: of other masks"
    ):
        synthesise.sample(dataclasses.replace(sampled, masks=None, data=(world / "kvasir-seg",)))
    with pytest.raises(DataError, match=r"no sample.json says that they are synthetic"):
        synthesise.sample(dataclasses.replace(sampled, out=world / "kvasir-seg"))
    (sampled.out / "sample.json").write_text(json.dumps({"model": sampled.model, "seed": 0}))
    with pytest.raises(DataError, match="a version of this program that did not record their weights"):
        synthesise.sample(sampled)


@pytest.mark.slow
def test_sample_on_a_full_disk_says_how_far_it_came(sampled, monkeypatch):
    def full(self, file, **_):
        Path(file).write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    (sampled.out / "images" / "b-0.png").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "save", full)
        with pytest.raises(
            DiskFull,
            match=r"b-0.png .image 2 of 2; make space, and the same command goes on. could not be written",
        ):
            synthesise.sample(sampled)
    assert not list(sampled.out.rglob("*.part"))
    synthesise.sample(sampled)
    assert len(_images(sampled)) == 2


def test_sample_names_unusable_masks(world, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    config = synthesise.SampleConfig(
        str(world / "model"), tmp_path / "made", masks, sampling=SamplingConfig(bf16=False)
    )
    with pytest.raises(DataError, match="--prompt"):
        synthesise.images_to_make(config)
    config = dataclasses.replace(config, prompt="a colonoscopy image of a polyp")
    with pytest.raises(DataError, match="no mask files"):
        synthesise.images_to_make(config)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(masks / "nothing.png")
    with pytest.raises(DataError, match=r"nothing.png"):
        synthesise.sample(config)
    with pytest.raises(DataError, match="either"):
        synthesise.images_to_make(dataclasses.replace(config, data=(world / "kvasir-seg",)))
