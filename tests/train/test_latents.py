"""Cached latents: moments rather than samples, when a cache is used again, and flips and turns of everything together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from siamese.models.autoencoder import encode_moments
from siamese.models.dense_hint import image_hint
from siamese.records.prompts import LESION, POLYP
from tests.models import kl_autoencoder, small_autoencoder
from tests.train.stages import draws_of, real_stage
from train.data import latents
from train.data.latents import latent_dtype, load_examples, variant_codes
from train.data.pairs import Pair, load_arrays, read_pairs
from train.stages.latent_batches import latent_batch, step_draws

CPU = torch.device("cpu")


def dihedral(array: np.ndarray, code: int) -> np.ndarray:
    """[H, W, ...] after a left-right flip if ``code`` >= 4 and ``code % 4`` quarter turns, one by one."""
    return np.rot90(array[:, ::-1] if code >= 4 else array, code % 4)


@pytest.fixture(params=["small", "sd"])
def vae(request: pytest.FixtureRequest) -> torch.nn.Module:
    torch.manual_seed(0)
    return (small_autoencoder() if request.param == "small" else kl_autoencoder()).eval()


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each call has encoded."""
    seen: list[int] = []
    encode = latents._encode

    def counted(images, *arguments):
        seen.append(len(images))
        return encode(images, *arguments)

    monkeypatch.setattr(latents, "_encode", counted)
    return seen


def test_variants_are_those_that_the_organ_allows() -> None:
    pairs = [Pair(f"set/{i}", Path("i"), Path("m"), prompt) for i in range(40) for prompt in (POLYP, LESION)]
    assert not variant_codes(pairs, 0, True).any()
    assert not variant_codes(pairs, 3, False).any()
    codes = np.stack([variant_codes(pairs, v, True) for v in range(8)])
    assert set(codes[1:, 0::2].ravel()) == {4}  # colonoscopy: left-right only
    assert all(
        sorted(codes[:, i]) == list(range(8)) for i in range(1, 80, 2)
    )  # dermoscopy: all eight, each once
    assert len(set(codes[1, 1::2])) > 3  # not the same for every image
    assert np.array_equal(codes[2], variant_codes(pairs, 2, True))


def test_what_is_cached_are_mean_and_log_variance_of_the_turned_images(
    polyps: Path, vae: torch.nn.Module, tmp_path: Path
) -> None:
    pairs = [replace(p, prompt=LESION) for p in read_pairs([polyps])[:5]]
    examples = load_examples(pairs, vae, 64, 3, tmp_path)
    assert len(examples) == 5
    assert examples.mean.shape[:2] == (3, 5)
    images, masks = load_arrays(pairs, 64)
    index, variant = [4, 0, 2], [2, 1, 0]
    mean, logvar = examples.latents(index, variant, CPU)
    mask_hints, image_hints = examples.hints(index, variant, CPU)
    for row, (i, v) in enumerate(zip(index, variant, strict=True)):
        turned = dihedral(images[i], examples.codes[v, i])
        hint = image_hint(turned[None])
        assert torch.equal(image_hints[row], hint[0])
        assert np.array_equal(mask_hints[row, 0].numpy() * 255, dihedral(masks[i], examples.codes[v, i]))
        with torch.no_grad():
            expected, spread = encode_moments(vae, hint * 2 - 1)
        torch.testing.assert_close(mean[row], expected[0], rtol=1e-3, atol=1e-4)
        if spread is None:
            assert logvar is None
            assert examples.logvar is None
        else:
            torch.testing.assert_close(logvar[row], spread[0], rtol=1e-3, atol=1e-4)
    assert examples.codes[1:].any()
    assert (image_hints[0] != image_hint(images[4:5])[0]).any()


def test_posterior_is_drawn_again_at_each_step(polyps: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    examples = load_examples(read_pairs([polyps]), kl_autoencoder().eval(), 32, 1, tmp_path)
    index, shape = np.array([2, 2]), examples.mean.shape[2:]
    one, other = (step_draws(draws_of(2, step), shape, 1000, 1, 0) for step in (1, 2))
    z = latent_batch(examples, index, one, CPU)
    assert not torch.equal(z[0], z[1])
    assert not torch.equal(z, latent_batch(examples, index, other, CPU))
    mean, logvar = examples.latents(index, [0, 0], CPU)
    torch.testing.assert_close((z - mean) / (0.5 * logvar).exp(), one.posterior, rtol=1e-3, atol=1e-3)


def test_cache_is_used_again(
    polyps: Path, vae: torch.nn.Module, tmp_path: Path, encodings: list[int]
) -> None:
    pairs = read_pairs([polyps])
    first = load_examples(pairs, vae, 64, 2, tmp_path)
    again = load_examples(pairs, vae, 64, 2, tmp_path)
    assert encodings == [8, 8]
    assert np.array_equal(first.mean, again.mean)
    assert (first.logvar is None) == (again.logvar is None) == (vae.config.scaling_factor == 0.7)
    load_examples(pairs, vae, 64, 3, tmp_path)  # only the third variant is new
    assert encodings == [8, 8, 8]
    assert sorted(p.suffixes for p in tmp_path.iterdir()) == [[".npz"]] * 3  # no part files left


@pytest.mark.slow
def test_cache_is_not_used_for_anything_else(
    polyps: Path, vae: torch.nn.Module, tmp_path: Path, encodings: list[int]
) -> None:
    data = tmp_path / "kvasir-seg"
    shutil.copytree(polyps, data)
    cache = tmp_path / "cache"

    def count(**changes: object) -> int:
        before = len(encodings)
        load_examples(
            **({"pairs": read_pairs([data]), "vae": vae, "size": 64, "variants": 1, "cache": cache} | changes)
        )
        return len(encodings) - before

    assert count() == 1
    assert count() == 0
    assert count(size=32) == 1
    assert count(augment=False) == 1
    assert count(pairs=read_pairs([data])[1:]) == 1
    file = data / "images" / "case 03.png"
    pixels = np.array(Image.open(file))
    pixels[0, 0] = 255 - pixels[0, 0]
    Image.fromarray(pixels).save(file)
    assert count() == 1
    assert count() == 0
    vae.register_to_config(scaling_factor=vae.config.scaling_factor * 2)
    assert count() == 1
    with torch.no_grad():
        next(vae.parameters()).view(-1)[0] += 1
    assert count() == 1
    assert count() == 0


def test_packed_and_plain_latents_of_one_autoencoder_are_cached_apart(polyps: Path, tmp_path: Path) -> None:
    pairs, weights = read_pairs([polyps]), small_autoencoder().state_dict()
    means = []
    for pack in (1, 2):
        vae = small_autoencoder(pack=pack).eval()
        vae.load_state_dict(weights)
        means.append(torch.from_numpy(load_examples(pairs, vae, 64, 1, tmp_path).mean[0]))
    torch.testing.assert_close(torch.nn.functional.pixel_unshuffle(means[0], 2), means[1])


def test_cache_that_was_written_halfway_is_not_used(
    polyps: Path, vae: torch.nn.Module, tmp_path: Path, encodings: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(file: Path, **arrays: np.ndarray) -> None:
        Path(file).write_bytes(b"PK half of it")
        raise OSError("no space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="no space"):
        patch.setattr(np, "savez", full_disk)
        load_examples(read_pairs([polyps]), vae, 64, 1, tmp_path)
    assert np.isfinite(load_examples(read_pairs([polyps]), vae, 64, 1, tmp_path).mean).all()
    assert encodings == [8, 8]


@pytest.mark.slow
def test_batch_of_a_stage_turns_latents_masks_and_images_alike(
    polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    stage, _ = real_stage("siamese", polyps, model_folder, tmp_path / "run")
    batch = stage.batch(np.arange(8), draws_of(8), CPU)
    size = stage.checkpoint.image_size
    assert batch["mask"].shape == batch["image"].shape == (8, 3, size, size)
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    assert batch["image"].min() >= 0
    assert batch["image"].max() <= 1
    draws = step_draws(draws_of(8), stage.train.mean.shape[2:], 1000, 2, 0.05)
    assert 0 < draws.variant.sum() < 8
    images, masks = load_arrays(read_pairs([polyps]), size)
    with torch.no_grad():
        for i, variant in enumerate(draws.variant):
            image, mask = (a[i][:, ::-1] if variant else a[i] for a in (images, masks))
            assert np.array_equal(batch["image"][i].permute(1, 2, 0).mul(255).round().numpy(), image)
            assert np.array_equal(batch["mask"][i, 1].mul(255).numpy(), mask)
            mean, logvar = encode_moments(stage.checkpoint.vae, batch["image"][i : i + 1] * 2 - 1)
            z0 = mean[0] if logvar is None else mean[0] + (0.5 * logvar[0]).exp() * draws.posterior[i]
            torch.testing.assert_close(batch["z0"][i], z0, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
def test_dropped_prompts_are_replaced_by_the_empty_one(
    polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    for kind in ("base", "siamese"):
        stage, _ = real_stage(kind, polyps, model_folder, tmp_path / kind)
        drops = step_draws(draws_of(300), stage.train.mean.shape[2:], 1000, 2, stage.config.prompt_drop).drop
        assert 0 < drops.sum() < 150
        batch = stage.batch(np.zeros(300, int), draws_of(300), CPU)
        context = batch["context"] if kind == "siamese" else stage.checkpoint.context.table[batch["prompt"]]
        empty, prompt = stage.checkpoint.context(["", POLYP])
        for dropped, embedding in zip(drops, context, strict=True):
            assert torch.equal(embedding, empty if dropped else prompt)


@pytest.mark.slow
def test_each_prompt_is_embedded_once(polyps: Path, tmp_path: Path, model_folder: Path) -> None:
    stage, _config = real_stage("siamese", polyps, model_folder, tmp_path / "run", max_steps=2)
    seen: list[list[str]] = []
    embed = stage.module.embed
    stage.module.embed = lambda prompts: (seen.append(list(prompts)), embed(prompts))[1]
    for step in range(3):
        stage.batch(np.arange(4), draws_of(4, step), CPU)
    assert seen == [["", POLYP]]


def test_what_lies_on_the_device_is_uint8_and_what_the_run_computes_in(polyps: Path, tmp_path: Path) -> None:
    assert latent_dtype("bf16") == torch.bfloat16
    assert latent_dtype("no") == latent_dtype("fp16") == torch.float32
    pairs, vae = read_pairs([polyps]), kl_autoencoder().eval()
    exact, rounded = (
        load_examples(pairs, vae, 32, 2, tmp_path / "cache", dtype=d) for d in (torch.float32, torch.bfloat16)
    )
    for held, dtype in ((exact, torch.float32), (rounded, torch.bfloat16)):
        held.hints([0], [0], CPU), held.latents([0], [0], CPU)
        assert {name: array.on(CPU).dtype for name, array in held._held.items()} == {
            "mean": dtype,
            "logvar": dtype,
            "images": torch.uint8,
            "masks": torch.uint8,
        }
    for a, b in zip(exact.latents([3, 1], [0, 1], CPU), rounded.latents([3, 1], [0, 1], CPU), strict=True):
        assert torch.equal(a.bfloat16().float(), b)
        assert b.dtype == torch.float32
    assert np.array_equal(exact.latents([3, 1], [0, 1], CPU)[0].numpy(), exact.mean[[0, 1], [3, 1]])


def test_progress_counts_the_images(
    polyps: Path, vae: torch.nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [replace(p, name=f"{p.name} {i}") for i in range(3) for p in read_pairs([polyps])][
        :17
    ]  # not a multiple of a batch
    load_examples(pairs, vae, 64, 1, tmp_path)
    assert "17/17" in capsys.readouterr().err
