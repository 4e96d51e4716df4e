"""Publish: a trained model as a folder that the app opens and that can be passed on, in half precision, with card and licence."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from siamese.masks.shapes import load_statistics, random_lesion
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_hash
from siamese.records.prompts import LESION, POLYP
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.sampling import MaskDiffusion
from train.evaluation.synthesis import SamplingOptions
from train.tools.card import RunRecord, card
from train.tools.licence import licence

EXAMPLE_SIDE = 512
"""Side of an example's mask as drawn: the page's."""


@dataclass(frozen=True)
class PublishConfig:
    """Write a model folder for distribution."""

    model: Path
    """Trained model folder."""
    out: Path = Path("runs/published")
    """Folder to write. Its name is the model's name in the app."""
    trained_on: tuple[str, ...] = ()
    """Names of all data that the weights were trained on, those of the weights that training started from included; LICENSE names
    their terms. For the public sets: kvasir-seg, cvc-clinicdb, isic2018. None: the folder's LICENSE is kept."""
    segmenter: Path | None = None
    """Folder of the small segmentation network, copied beside the model."""
    runs: tuple[Path, ...] = ()
    """Folders of the stages' runs (what --loop.out named), in their order, for the card's table of the training."""
    metrics: Path | None = None
    """metrics.json of these weights, as ``evaluate`` wrote it; copied, and shown in the card."""
    card: bool = False
    """Replace a README.md that is there already."""
    sampling: Annotated[SamplingOptions, tyro.conf.arg(name="")] = field(default_factory=SamplingOptions)
    """Default settings of sampling, as chosen on val; the model's own are kept for those that are not given."""
    example_seeds: tuple[int, ...] = (1, 1)
    """Seed of each organ's example, of its random mask as well as of its image: what a first visit to the page shows."""


def write_examples(folder: Path, seeds: tuple[int, ...]) -> int:
    """``examples/a-polyp.png`` and ``examples/b-lesion.png``: images of random lesions, with their recipes, of the organs that the model knows.

    Returns:
        How many were written: none for prompts of the user's own, whose lesions' shapes are not known.
    """
    model = MaskDiffusion.from_pretrained(folder, "cpu")
    written = 0
    shutil.rmtree(folder / "examples", ignore_errors=True)  # of the weights before
    for (prompt, statistics), seed in zip(load_statistics().items(), seeds, strict=True):
        if model.prompts is not None and prompt not in model.prompts:
            continue
        drawn = random_lesion(statistics, seed, EXAMPLE_SIDE)
        fitted = model.fit_mask(drawn)
        image = model.sample_fitted([fitted], prompt, [seed], model.checkpoint.defaults)[0]
        recipe = Recipe(prompt, seed, model.checkpoint.defaults, folder.name)
        name = {POLYP: "a-polyp.png", LESION: "b-lesion.png"}[prompt]
        (folder / "examples").mkdir(exist_ok=True)
        (folder / "examples" / name).write_bytes(pair_png(SyntheticPair(image, fitted, drawn, recipe)))
        written += 1
    return written


def megabytes(folder: Path) -> float:
    """Size of all files in ``folder``."""
    return sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6


def main(config: PublishConfig) -> None:
    """Publish, and print the size."""
    print(
        json.dumps(
            {"folder": str(config.out), "megabytes": round(publish(config), 2), **config.sampling.overrides()}
        )
    )


def publish(config: PublishConfig) -> float:
    """Save in float16 with licence, card and examples; returns the folder's megabytes.

    Raises:
        ValueError: neither ``trained_on`` nor a LICENSE is there.
        FileNotFoundError, ValueError: a run's record or the figures are missing or damaged.
    """
    checkpoint = load_checkpoint(config.model)
    if not config.trained_on and not (config.out / "LICENSE").is_file():
        raise ValueError(
            "the weights follow the terms of the data that they were trained on: name all of it with --trained-on, "
            "for example --trained-on kvasir-seg cvc-clinicdb isic2018."
        )
    records = [
        RunRecord.of(run, run.parent.name if run.parent.name == "segment" else run.name)
        for run in config.runs
    ]
    metrics = None if config.metrics is None else json.loads(config.metrics.read_text(encoding="utf-8"))
    checkpoint.defaults = checkpoint.defaults.override(**config.sampling.overrides())
    for part in ("vae", "unet", "controlnet", "context", "scheduler"):
        shutil.rmtree(config.out / part, ignore_errors=True)
    save_checkpoint(checkpoint, config.out, torch.float16)
    if config.segmenter:
        shutil.copytree(config.segmenter, config.out / "segmenter", dirs_exist_ok=True)
    if not write_examples(config.out, config.example_seeds):
        print(
            "No examples: the shapes of this model's lesions are not known. The app begins with a plain blob.",
            flush=True,
        )
    if config.trained_on:
        (config.out / "LICENSE").write_text(licence(config.out.name, config.trained_on), encoding="utf-8")
    else:
        print(f"{config.out / 'LICENSE'} is kept: --trained-on was not given.", flush=True)
    if config.metrics is not None:
        if config.metrics.resolve() != (config.out / "metrics.json").resolve():
            shutil.copyfile(config.metrics, config.out / "metrics.json")
    elif (config.out / "metrics.json").is_file() and _measured(config.out) != weights_hash(config.out):
        print(
            f"{config.out / 'metrics.json'} is kept, and is of other weights: measure these, or remove it before the app shows it.",
            flush=True,
        )
    _write_card(config, checkpoint, records, metrics)
    return megabytes(config.out)


def _measured(folder: Path) -> str | None:
    """Hash of the weights whose figures lie in ``folder``, if ``evaluate`` recorded it."""
    settings = folder / "metrics-settings.json"
    return (
        json.loads(settings.read_text(encoding="utf-8")).get("model_weights") if settings.is_file() else None
    )


def _write_card(
    config: PublishConfig, checkpoint: Checkpoint, records: list[RunRecord], metrics: dict[str, Any] | None
) -> None:
    file = config.out / "README.md"
    if file.is_file() and not config.card:
        print(
            f"{file} is kept: it may be written by hand, and describe earlier weights. --card replaces it.",
            flush=True,
        )
        return
    file.unlink(missing_ok=True)
    file.write_text(
        card(
            config.out.name,
            checkpoint=checkpoint,
            sets=config.trained_on,
            segmenter=(config.out / "segmenter").is_dir(),
            megabytes=megabytes(config.out),
            runs=records,
            metrics=metrics,
        ),
        encoding="utf-8",
    )
