"""Measurements end to end on a tiny untrained model, phantoms and random perceptual weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import load_checkpoint, weights_hash
from siamese.sampling import MaskDiffusion
from tests.stand_ins import phantom, write_set
from train.data.pairs import DataError, read_pairs
from train.engine.loop import LoopConfig
from train.evaluation import comparison, evaluate, memorisation
from train.evaluation.autoencoder_figures import measure_autoencoder
from train.evaluation.comparison import by_organ
from train.evaluation.features import Features
from train.evaluation.synthesis import SamplingConfig, contact_sheet, seed_of, untrained
from train.stages import autoencoder

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
