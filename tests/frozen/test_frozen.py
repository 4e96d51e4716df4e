"""What people have already: files of earlier versions are read with the same values, and imports and commands keep working."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import json
import runpy
import shutil
import sys
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from siamese.masks.shapes import random_lesion, read_statistics
from siamese.records.provenance import Recipe, SyntheticPair, read_png
from siamese.records.subjects import read_subjects
from siamese.sampling import MaskDiffusion
from siamese.studio.storage.batch_job import BatchJob
from siamese.studio.storage.collections import Collections
from tests.frozen.values import HERE, PROMPT, TOKEN, arguments, described, digest
from tests.phantoms import phantom
from train.__main__ import STAGES
from train.__main__ import run_command as train_command
from train.data.pairs import load_arrays, read_pairs

ROOT = HERE.parents[1]
EXPECTED: dict[str, Any] = json.loads((HERE / "expected.json").read_text())
PAIRS = EXPECTED["pairs"]


def unpacked(name: str, folder: Path) -> Path:
    """The archive ``name`` of this folder, unpacked in ``folder``."""
    with zipfile.ZipFile(HERE / name) as archive:
        archive.extractall(folder)
    return folder


def leaves(value: Any) -> list[Any]:
    """The plain values in nested dicts and lists."""
    if isinstance(value, dict):
        value = list(value.values())
    return [x for inner in value for x in leaves(inner)] if isinstance(value, (list, tuple)) else [value]


def check(pair: SyntheticPair, expected: dict[str, Any]) -> None:
    """Pixels and recipe are those that were written; a later version may name and nest the settings in other ways."""
    found = described(pair)
    for part in ("image", "mask", "drawn"):
        assert found[part] == expected[part]
    assert pair.recipe == Recipe.from_dict(expected["recipe"])
    left = leaves(found["recipe"])
    for value in leaves(expected["recipe"]):
        left.remove(value)  # raises if the recipe does not hold it


def test_a_png_gives_back_image_mask_drawing_and_every_setting() -> None:
    check(read_png((HERE / "pair.png").read_bytes()), PAIRS["png"])


def test_a_png_with_a_real_background_gives_back_the_same() -> None:
    pair = read_png((HERE / "frame.png").read_bytes())
    check(pair, PAIRS["frame"])
    assert pair.recipe.background == "real photo"


@pytest.mark.parametrize("name", ["collection", "batch"])
def test_a_downloaded_zip_is_a_data_set(name: str, tmp_path: Path) -> None:
    folder = unpacked(f"{name}.zip", tmp_path)
    rows = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    assert {row["id"]: row["mask_agreement"] for row in rows} == PAIRS[f"{name}_agreement"]
    for row in rows:
        check(read_png((folder / row["image"]).read_bytes()), PAIRS[name][row["id"]])
        for kind in ("image", "mask", "drawn_mask"):
            assert hashlib.sha256((folder / row[kind]).read_bytes()).hexdigest() == row[f"{kind}_sha256"]
    pairs = read_pairs([folder / "prompt.json"])
    assert {p.prompt for p in pairs} == {PROMPT}
    images, masks = load_arrays(pairs, 32)
    for pair, image, mask in zip(pairs, images, masks, strict=True):
        expected = PAIRS[name][pair.image.stem]
        assert (digest(image), digest(mask)) == (expected["image"], expected["mask"])


def test_what_a_visitor_kept_is_still_there(tmp_path: Path) -> None:
    collections = Collections(unpacked("visitor.zip", tmp_path) / "collections")
    entries = collections.entries(TOKEN)
    assert {e.id: e.agreement for e in entries} == PAIRS["collection_agreement"]
    assert entries.damaged == 0
    for entry in entries:
        check(collections.load(TOKEN, entry.id), PAIRS["collection"][entry.id])


def test_a_batch_is_still_there(tmp_path: Path) -> None:
    job = BatchJob.open(unpacked("visitor.zip", tmp_path) / "batch")
    assert (job.done, job.total) == (2, 2)
    assert {i.name: digest(i.mask) for i in job.items} == {n: p["drawn"] for n, p in PAIRS["batch"].items()}
    assert {i.name: i.seed for i in job.items} == {n: p["recipe"]["seed"] for n, p in PAIRS["batch"].items()}
    job.export(tmp_path / "again.zip")
    with zipfile.ZipFile(tmp_path / "again.zip") as new, zipfile.ZipFile(HERE / "batch.zip") as old:
        images = [name for name in old.namelist() if name.startswith(("images/", "masks/", "drawn_masks/"))]
        assert len(images) == 6
        assert all(new.read(name) == old.read(name) for name in images)


@pytest.mark.slow
def test_a_model_folder_samples_the_same_images(tmp_path: Path) -> None:
    model = MaskDiffusion.from_pretrained(str(unpacked("run.zip", tmp_path) / "model"))
    images = model.sample(phantom(9, 32, 32)[1], PROMPT, [3, 4], steps=3, guidance=1.5)
    before = np.asarray(Image.open(HERE / "sampled.png"), np.int16).reshape(images.shape)
    assert np.abs(images - before).max() <= 1  # another processor may round in another way
    single = model.sample(
        phantom(9, 32, 32)[1],
        PROMPT,
        [3],
        steps=1,
        guidance=2.0,
        scheduler="ddim",
        guide="mask",
        rescale=0.5,
        guide_above=0.25,
        guide_below=0.75,
    )
    assert single.shape == (1, 32, 32, 3)


@pytest.mark.slow
def test_a_run_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    folder = unpacked("run.zip", tmp_path)
    first = folder / "run" / "checkpoints" / "step-00000002" / "state.pt"
    written = first.stat().st_mtime_ns
    train_command(arguments(folder))
    assert first.stat().st_mtime_ns == written  # not begun from the start: that would write it again
    end = torch.load(folder / "run" / "checkpoints" / "step-00000004" / "state.pt", weights_only=True)[
        "module"
    ]
    weights = load_file(HERE / "run_end.safetensors")
    assert len(weights) > 20
    for name, weight in weights.items():
        assert torch.allclose(end[name], weight, atol=1e-5), name


def test_lesion_shapes_give_the_same_lesion() -> None:
    statistics = read_statistics((HERE / "lesion_shapes.json").read_text())
    assert list(statistics) == [PROMPT]
    assert statistics[PROMPT].count == EXPECTED["shapes"]["count"]
    assert digest(random_lesion(statistics[PROMPT], 5, 64)) == EXPECTED["shapes"]["lesion"]


def test_names_of_a_models_subjects(tmp_path: Path) -> None:
    shutil.copyfile(HERE / "subjects.json", tmp_path / "subjects.json")
    (tmp_path / "segmenters" / "leaf-with-rust").mkdir(parents=True)
    shutil.copyfile(HERE / "lesion_shapes.json", tmp_path / "lesion_shapes.json")
    found = read_subjects(tmp_path)
    assert found.title == "Stain on a wall"
    stain, leaf = found.listed
    assert (stain.prompt, stain.name, stain.noun, stain.has_segmenter, stain.has_shapes) == (
        "a stain on a white wall",
        "Stain on a wall",
        "stain",
        False,
        False,
    )
    assert (leaf.prompt, leaf.segmenter, leaf.has_shapes) == (PROMPT, "segmenters/leaf-with-rust", True)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("siamese.sampling", "MaskDiffusion"),
        ("siamese.objective", "SiameseObjective"),
        ("siamese.objective", "SiameseConfig"),
        ("siamese.released", "load_released"),
        ("siamese.models", "SiameseControlNet"),
        ("siamese.models", "SmallAutoencoder"),
        ("siamese.models", "ModelMixin"),
        ("siamese.models.controlnet", "SiameseControlNet"),
    ],
)
def test_imports_of_the_readme_and_of_model_folders(module: str, name: str) -> None:
    assert inspect.isclass(thing := getattr(importlib.import_module(module), name)) or callable(thing)


def help_of(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What ``python WORDS --help`` prints; it ends with status 0."""
    monkeypatch.setattr(sys, "argv", [*words, "--help"])
    if words[0] == "app.py":
        run = partial(runpy.run_path, str(ROOT / "app.py"), run_name="__main__")
    else:
        run = partial(runpy.run_module, words[0], run_name="__main__", alter_sys=True)
    with pytest.raises(SystemExit) as end:
        run()
    assert not end.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "stage",
    [
        "all",
        "vae",
        "base",
        "transplant",
        "siamese",
        "decoder",
        "segment",
        "shapes",
        "sample",
        "evaluate",
        "memorisation",
        "publish",
        "bench",
    ],
)
def test_every_stage_has_help(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert stage in STAGES
    with pytest.raises(SystemExit) as end:
        train_command([stage, "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    assert f"python -m train {stage}" in text
    if stage == "bench":
        assert "--json" in text


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (("app.py",), ["--models", "--host", "--data", "--allow-host", "--trusted-proxies"]),
        (("siamese.study",), ["create", "serve", "demo"]),
    ],
)
def test_commands_have_help(
    words: tuple[str, ...],
    shown: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = help_of(capsys, monkeypatch, *words)
    assert all(word in text for word in shown), text


def test_the_embedded_models_figures_have_their_places() -> None:
    figures = json.loads((ROOT / "assets" / "siamese-tiny" / "metrics.json").read_text())
    assert {"psnr", "lpips"} <= figures["autoencoder"].keys()
    for organ in ("polyp", "lesion"):
        assert {"fd_vgg16", "kd_vgg16", "mask_agreement", "mask_agreement_real"} <= figures[organ].keys()
