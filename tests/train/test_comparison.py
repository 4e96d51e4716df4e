"""Comparisons with an organ's real images, and an autoencoder's own figures: each figure against its definition, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siamese.models.autoencoder import SmallAutoencoder
from tests.stand_ins import write_perceptual, write_set
from train.data.pairs import load_arrays, read_pairs
from train.data.sequences import groups_of
from train.evaluation import autoencoder_figures, comparison
from train.evaluation.autoencoder_figures import measure_autoencoder, reconstruct
from train.evaluation.comparison import Comparison, by_organ, chosen, equal_count
from train.evaluation.distances import fd_at_n
from train.evaluation.efficientnet import EfficientNetFeatures
from train.evaluation.features import Features
from train.evaluation.patches import SIDES, swd
from train.evaluation.spectrum import latent_high_low_power
from train.evaluation.two_sample import c2st

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    write_set(folder / "kvasir-seg", {"train": 9, "val": 6})
    write_set(folder / "isic2018", {"train": 7, "val": 5}, 50)
    write_perceptual(folder / "weights")
    return folder


@pytest.fixture(scope="module")
def features(world) -> Features:
    return Features(world / "weights", 64, world / "features", CPU)


@pytest.fixture(scope="module")
def efficientnet(world) -> EfficientNetFeatures:
    return EfficientNetFeatures(64, world / "features", CPU)


@pytest.fixture(scope="module")
def organs(world):
    return by_organ(
        *(read_pairs([world / "kvasir-seg", world / "isic2018"], split) for split in ("train", "val"))
    )


def autoencoder(pack: int = 2) -> SmallAutoencoder:
    torch.manual_seed(3)
    return SmallAutoencoder(
        widths=(8, 8, 8),
        encoder_layers=(1, 1, 1),
        decoder_layers=(1, 1, 1),
        latent_channels=4,
        pack=pack,
        scaling_factor=0.5,
    ).eval()


def test_counts(organs):
    assert list(organs) == ["polyp", "lesion"]
    assert equal_count(organs, 155) == 5
    assert equal_count(organs, 3) == 3


@pytest.mark.slow
def test_every_figure_is_what_its_name_says(organs, features, efficientnet, monkeypatch):
    train, split = organs["polyp"]
    pairs = chosen(split, 5, 7)
    images, train_images = load_arrays(pairs, 64)[0], load_arrays(train, 64)[0]
    others = 255 - images
    compared = Comparison("polyp", train, pairs, [features, efficientnet], draws=3, seed=7)
    monkeypatch.setattr(comparison, "C2ST_SEEDS", 2)
    found, floors = compared.all(others, "_x"), compared.all(None, "_floor")
    for family, name in ((features, "c2st"), (efficientnet, "c2st_efficientnet_lite0")):
        known, held_out, other = (family.pooled(x) for x in (train_images, images, others))
        assert found[f"fd_{family.name}_x"] == pytest.approx(fd_at_n(known, other, 5, 3, 7), rel=1e-4)
        assert floors[f"fd_{family.name}_floor"] == pytest.approx(fd_at_n(known, held_out, 5, 3, 7), rel=1e-4)
        groups = groups_of(pairs), groups_of(train)
        assert found[f"{name}_x"] == c2st(held_out, other, groups[0], groups[0], 2, seed=7)
        assert floors[f"{name}_floor"] == c2st(held_out, known, *groups, 2, seed=7)
    by_hand = (
        swd([(images, others)] * 4, 7),
        swd([(images, load_arrays(chosen(train, 5, 7 + i), 64)[0]) for i in range(4)], 7),
    )
    for values, hand, suffix in zip((found, floors), by_hand, ("_x", "_floor"), strict=True):
        assert {side: values[f"swd_{side}{suffix}"] for side in SIDES} == hand
        assert values[f"swd{suffix}"] == pytest.approx(np.mean(list(hand.values())))
    assert found["fd_vgg16_x"] > floors["fd_vgg16_floor"]
    assert found["swd_x"] > 0


def test_frames_of_one_sequence_have_no_two_sample_test(world, features, capsys):
    video = write_set(world / "cvc-clinicdb", {"train": 3, "val": 3}, 448)
    train, pairs = read_pairs([video], "train"), read_pairs([video], "val")
    assert Comparison("polyp", train, pairs, [features]).two_sample(None, "_floor") == {}
    assert "one video sequence" in capsys.readouterr().out


@pytest.mark.slow
def test_kept_results_are_read_again_and_only_for_the_same_images(organs, features, tmp_path, monkeypatch):
    train, split = organs["lesion"]
    pairs = chosen(split, 4, 0)
    images = 255 - load_arrays(pairs, 64)[0]
    first = Comparison("lesion", train, pairs, [features], 3, cache=tmp_path).all(images, "")

    def never(*_, **__):
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        for name in ("c2st", "swd"):
            patch.setattr(comparison, name, never)
        patch.setattr(features, "pooled", never)
        again = Comparison("lesion", train, pairs, [features], 3, cache=tmp_path)
        assert again.all(images, "") == first
        with pytest.raises(AssertionError, match="computed again"):
            again.all(images // 2, "")
        with pytest.raises(AssertionError, match="computed again"):
            Comparison("lesion", train, pairs, [features], 3, seed=1, cache=tmp_path).all(images, "")


@pytest.mark.slow
def test_autoencoder_figures_by_hand(organs, features, efficientnet):
    vae = autoencoder()
    measured = measure_autoencoder(vae, organs, features, efficientnet, draws=3, seed=2)
    assert list(measured) == ["autoencoder", "polyp", "lesion"]
    latents, scores = [], []
    for organ, (train, split) in organs.items():
        pairs = chosen(split, 5, 2)
        images = load_arrays(pairs, 64)[0]
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad():
            z = vae._encode(x)
            y = vae._decode(z).clamp(-1, 1)
            latents.append(z)
            lpips = features.alexnet(y, x)
        decoded = ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()
        mean_psnr = np.mean(
            [10 * np.log10(4 / float((a - b).square().mean())) for a, b in zip(x, y, strict=True)]
        )
        assert measured[organ]["psnr"] == pytest.approx(mean_psnr, rel=1e-4)
        assert measured[organ]["lpips"] == pytest.approx(float(lpips.mean()), rel=1e-3)
        scores.append((measured[organ]["psnr"], measured[organ]["lpips"]))
        for family in (features, efficientnet):
            known = family.pooled(load_arrays(train, 64)[0])
            floor, distance = (fd_at_n(known, family.pooled(some), 5, 3, 2) for some in (images, decoded))
            found = [
                measured[organ][f"fd_{family.name}_{name}"] for name in ("floor", "autoencoder", "ratio")
            ]
            assert found == pytest.approx([floor, distance, distance / floor], rel=1e-3)
    whole = measured["autoencoder"]
    assert (whole["psnr"], whole["lpips"]) == pytest.approx(tuple(np.mean(scores, 0)))
    assert whole["latent_high_low_power"] == pytest.approx(
        latent_high_low_power(torch.cat(latents)), rel=1e-4
    )
    alone = measure_autoencoder(vae, organs, features, draws=3, seed=2)
    assert alone["polyp"] == {k: v for k, v in measured["polyp"].items() if "efficientnet" not in k}


def test_reconstructions_are_kept_by_weights(organs, features, tmp_path, monkeypatch):
    vae, pairs = autoencoder(), organs["polyp"][1]
    first = reconstruct(vae, pairs, features, "", tmp_path, chunk=4)
    assert first.images.shape == (6, 64, 64, 3)
    assert first.scores.shape == (6, 2)
    assert first.latents.shape == (6, 4, 16, 16)
    made = []
    real = autoencoder_figures._reconstructed
    monkeypatch.setattr(
        autoencoder_figures,
        "_reconstructed",
        lambda vae, some, features: made.append(len(some)) or real(vae, some, features),
    )
    np.testing.assert_array_equal(
        reconstruct(vae, pairs, features, "", tmp_path, chunk=4).images, first.images
    )
    assert made == []
    np.testing.assert_allclose(reconstruct(vae, pairs, features, "").scores, first.scores, rtol=1e-3)
    assert made == [6]
    with torch.no_grad():
        vae.decoder.conv_out.bias += 0.1
    assert (reconstruct(vae, pairs, features, "", tmp_path, chunk=4).images != first.images).any()
    assert made == [6, 4, 2]


def test_small_latents_have_no_spectrum_but_all_else(organs, world, features, capsys):
    vae = autoencoder(pack=1)
    small = Features(world / "weights", 40, world / "features", CPU)
    measured = measure_autoencoder(vae, {"polyp": organs["polyp"]}, small, draws=1)
    assert set(measured["autoencoder"]) == {"psnr", "lpips"}
    assert "low frequencies" in capsys.readouterr().out


def test_missing_weights_say_what_to_place_where(tmp_path):
    with pytest.raises(FileNotFoundError, match="--weights"):
        Features(tmp_path, 64, tmp_path, CPU)
