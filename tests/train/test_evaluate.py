"""Measurements end to end on a tiny untrained model, phantoms and random perceptual weights."""

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
from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import load_checkpoint, save_checkpoint, weights_hash
from siamese.sampling import MaskDiffusion
from tests.stand_ins import phantom, write_model, write_perceptual, write_set
from train.data.pairs import DataError, read_pairs
from train.engine.disk import DiskFull
from train.engine.loop import LoopConfig
from train.evaluation import comparison, evaluate, memorisation, synthesis
from train.evaluation.autoencoder_figures import measure_autoencoder
from train.evaluation.comparison import by_organ
from train.evaluation.features import Features
from train.evaluation.synthesis import SamplingConfig, contact_sheet, seed_of, untrained
from train.networks.lpips import load_perceptual
from train.networks.vgg_unet import VggSegmenter, VggUNet
from train.stages import autoencoder
from train.tools import synthesise

COMPARED = (
    "fd_vgg16",
    "fd_efficientnet_lite0",
    "c2st",
    "c2st_efficientnet_lite0",
    "swd",
    "swd_256",
    "swd_128",
    "swd_64",
)
QUICK = {name + suffix for name in COMPARED for suffix in ("", "_floor", "_autoencoder")}
FIGURES = QUICK | {"fd_vgg16_ceiling", "kd_vgg16", "mask_agreement", "mask_agreement_real", "diversity_lpips"}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Data, weights, model and segmenter."""
    folder = tmp_path_factory.mktemp("world")
    write_set(folder / "kvasir-seg", {"train": 7, "val": 4, "test": 3})
    write_set(folder / "isic2018", {"train": 6, "val": 5, "test": 4}, 50)
    write_perceptual(folder / "weights")
    write_model(folder / "model")
    unet = VggUNet.from_perceptual(load_perceptual("vgg16", folder / "weights"), decoder=(8, 8, 8, 8, 8))
    VggSegmenter(unet, 32).save_pretrained(folder / "segmenter")
    return folder


@pytest.fixture(autouse=True)
def one_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two-sample tests of one random choice: what they are is tested elsewhere."""
    monkeypatch.setattr(comparison, "C2ST_SEEDS", 1)


def config_for(world: Path, out: Path, **changes) -> evaluate.EvaluateConfig:
    config = evaluate.EvaluateConfig(
        data=(world / "kvasir-seg", world / "isic2018"),
        model=world / "model",
        segmenter=world / "segmenter",
        weights=world / "weights",
        out=out / "metrics.json",
        size=64,
        draws=3,
        diversity_masks=2,
        diversity_images=3,
        sampling=SamplingConfig(batch_size=3, bf16=False),
        cache=out / "cache",
    )
    return dataclasses.replace(config, **changes)


@pytest.mark.slow
def test_shape_of_the_figures_and_continuing(world, tmp_path, monkeypatch):
    config = config_for(world, tmp_path)
    metrics = evaluate.evaluate(config)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    assert list(metrics) == ["autoencoder", "polyp", "lesion"]
    assert set(metrics["autoencoder"]) == {"psnr", "lpips", "latent_high_low_power"}
    for organ in ("polyp", "lesion"):
        assert set(metrics[organ]) == FIGURES
        assert all(np.isfinite(v) for v in metrics[organ].values())
        assert 0 <= metrics[organ]["mask_agreement"] <= 1
        assert 0 <= metrics[organ]["mask_agreement_real"] <= 1
        # Real images are nearer to real images than those of a model that has learnt nothing.
        assert metrics[organ]["fd_vgg16_floor"] < metrics[organ]["fd_vgg16_ceiling"]
        assert metrics[organ]["fd_efficientnet_lite0_floor"] < metrics[organ]["fd_efficientnet_lite0"]
        assert metrics[organ]["diversity_lpips"] > 0
        assert all(
            0 <= metrics[organ][f"{name}{suffix}"] <= 1
            for name in ("c2st", "c2st_efficientnet_lite0")
            for suffix in ("", "_floor")
        )
    settings = json.loads((tmp_path / "metrics-settings.json").read_text())
    assert settings["n"] == 4
    assert settings["split"] == "val"
    assert settings["model_weights"] == weights_hash(world / "model")
    assert not (world / "model" / "test_measurements.jsonl").exists()

    def never(*_, **__):
        raise AssertionError("a finished batch was made again")

    monkeypatch.setattr(MaskDiffusion, "sample", never)
    assert evaluate.evaluate(config) == metrics

    # The quick figures are the same, without a segmenter; the autoencoder is measured on fewer images if there are more than N.
    quick = evaluate.evaluate(
        dataclasses.replace(config, figures="quick", segmenter=tmp_path / "none", out=tmp_path / "quick.json")
    )
    assert json.loads((tmp_path / "quick.json").read_text()) == quick
    settings = json.loads((tmp_path / "quick-settings.json").read_text())
    assert settings["figures"] == "quick"
    assert settings["segmenter_weights"] is None
    for organ in ("polyp", "lesion"):
        assert quick[organ] == {name: metrics[organ][name] for name in QUICK}
    assert quick["autoencoder"].keys() == metrics["autoencoder"].keys()
    assert quick["autoencoder"] != metrics["autoencoder"]


@pytest.mark.slow
def test_test_split_is_guarded_and_counted(world, tmp_path):
    with pytest.raises(DataError, match="--final"):
        evaluate.evaluate(config_for(world, tmp_path, split="test"))
    record = world / "model" / "test_measurements.jsonl"
    assert not record.exists()
    before = weights_hash(world / "model")
    evaluate.evaluate(
        config_for(world, tmp_path, split="test", final=True, diversity_masks=1, diversity_images=2)
    )
    lines = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(lines) == 1
    assert set(lines[0]) == {"date", "weights", "command"}
    assert lines[0]["weights"] == before == weights_hash(world / "model")
    record.unlink()


def test_organ_without_training_images_is_refused(world, tmp_path):
    lonely = write_set(tmp_path / "isic2018", {"train": 1, "val": 3}, 50)
    with pytest.raises(DataError, match="lesion: 1 training pairs"):
        evaluate.evaluate(config_for(world, tmp_path, data=(world / "kvasir-seg", lonely)))


def test_agreement_is_the_mean_dice():
    images, masks = (np.stack(x) for x in zip(*(phantom(i) for i in range(3)), strict=True))

    class Threshold:
        def predict(self, some):
            return np.where(some.mean(3) < 125, 255, 0).astype(np.uint8)

    assert evaluate.agreement(Threshold(), images, masks, batch=2) > 0.95
    assert evaluate.agreement(Threshold(), images, np.roll(masks, 24, 1), batch=2) < 0.6


def test_untrained_model_shares_only_autoencoder_and_prompts(world):
    trained = load_checkpoint(world / "model")
    fresh = untrained(trained, 7)
    fresh.check()
    assert fresh.vae is trained.vae
    assert fresh.context is trained.context
    for part in ("unet", "controlnet"):
        old, new = (dict(getattr(c, part).named_parameters()) for c in (trained, fresh))
        assert old.keys() == new.keys()
        assert any(not old[k].equal(new[k]) for k in old)
    assert all(
        a.equal(b)
        for a, b in zip(fresh.unet.parameters(), untrained(trained, 7).unet.parameters(), strict=True)
    )


def test_pairwise_lpips_is_the_mean_over_pairs(world, tmp_path):
    features = Features(
        world / "weights", 64, tmp_path, MaskDiffusion.from_pretrained(world / "model", "cpu").device
    )
    images = np.stack([phantom(i, 64)[0] for i in range(3)])
    by_hand = [features.lpips(images[[i]], images[[j]])[0] for i, j in ((0, 1), (0, 2), (1, 2))]
    assert features.pairwise_lpips(images) == pytest.approx(float(np.mean(by_hand)), rel=1e-4)
    assert features.pairwise_lpips(images[[0, 0]]) == pytest.approx(0, abs=1e-7)


def test_seeds_differ():
    seeds = {seed_of(0, i, v) for i in range(155) for v in range(9)}
    assert len(seeds) == 155 * 9
    assert seed_of(0, 3, 1) == seed_of(0, 3, 1) != seed_of(1, 3, 1)


@pytest.mark.slow
def test_memorised_images_are_found(world, tmp_path, monkeypatch):
    config = memorisation.MemorisationConfig(
        data=(world / "kvasir-seg", world / "isic2018"),
        model=world / "model",
        weights=world / "weights",
        count=6,
        nearest=2,
        shown=3,
        size=48,
        sampling=SamplingConfig(batch_size=4, bf16=False),
        out=tmp_path / "out",
        cache=tmp_path / "cache",
    )
    result = memorisation.compare(config)
    assert result["count"] == 6
    assert json.loads((tmp_path / "out" / "nearest.json").read_text()) == result
    assert list(result["real"]["lpips"]) == [f"{q:g}" for q in memorisation.LEVELS]
    with Image.open(tmp_path / "out" / "nearest.png") as sheet:
        assert sheet.size == (3 * 32 + 8, 3 * 32 + 8)

    train = read_pairs(config.data, "train")
    features = Features(
        world / "weights",
        48,
        tmp_path / "cache2",
        MaskDiffusion.from_pretrained(world / "model", "cpu").device,
    )
    known = features.pooled_of_pairs(train, "training", chunk=5)
    copies = np.stack([np.asarray(Image.open(train[i].image)) for i in (2, 9)])
    found = memorisation.find_nearest(copies, known, train, features, 3)
    assert found.index.tolist() == [2, 9]
    np.testing.assert_allclose(found.lpips, 0, atol=1e-6)
    np.testing.assert_allclose(found.feature_distance, 0, atol=1e-4)
    assert result["real"]["lpips"]["0"] > 1e-4  # held-out images are no copies


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


def test_contact_sheet():
    red, mask = np.full((5, 5, 3), (255, 0, 0), np.uint8), np.zeros((5, 5), np.uint8)
    sheet = contact_sheet([[red, mask], [red]], gap=1)
    assert sheet.shape == (11, 11, 3)
    assert (sheet[:5, :5] == red).all()
    assert (sheet[:5, 6:] == 0).all()
    assert (sheet[6:, :5] == red).all()
    assert (sheet[6:, 6:] == 255).all()
    assert (sheet[5] == 255).all()


@pytest.mark.slow
def test_the_autoencoder_is_measured_at_the_end_of_its_training(world, tmp_path):
    """The same figures as the evaluation of a model with that autoencoder; none after a stop before the end."""
    config = autoencoder.VaeConfig(
        (world / "kvasir-seg", world / "isic2018"),
        weights=world / "weights",
        size=64,
        crop=64,
        measure=True,
        model=autoencoder.AutoencoderConfig(
            widths=(8, 8, 8), encoder_layers=(1, 1, 1), decoder_layers=(1, 1, 1), latent_channels=4
        ),
        cache=tmp_path / "cache",
        loop=LoopConfig(out=tmp_path / "run", max_steps=2, batch_size=2, minutes=0.0),
    )
    assert autoencoder.main(config) == 1
    assert not (tmp_path / "run" / "figures.json").exists()
    assert (
        autoencoder.main(dataclasses.replace(config, loop=dataclasses.replace(config.loop, minutes=None)))
        == 2
    )
    figures = json.loads((tmp_path / "run" / "figures.json").read_text())
    assert list(figures) == ["autoencoder", "polyp", "lesion"]
    assert set(figures["autoencoder"]) == {"psnr", "lpips", "latent_high_low_power"}
    made = SmallAutoencoder.from_pretrained(tmp_path / "run" / "model" / "vae").eval()
    organs = by_organ(*(read_pairs(config.data, split) for split in ("train", "val")))
    expected = measure_autoencoder(
        made, organs, Features(world / "weights", 64, tmp_path / "other", torch.device("cpu"))
    )
    for organ in ("polyp", "lesion"):
        assert figures[organ]["fd_vgg16_autoencoder"] == pytest.approx(
            expected[organ]["fd_vgg16_autoencoder"], rel=1e-4
        )
        assert figures[organ]["fd_vgg16_ratio"] == pytest.approx(
            figures[organ]["fd_vgg16_autoencoder"] / figures[organ]["fd_vgg16_floor"]
        )
        assert figures[organ]["fd_efficientnet_lite0_autoencoder"] > 0
