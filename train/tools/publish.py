"""Publish: a trained model as a folder that the app opens and that can be passed on, in half precision, with card and licence."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro

from siamese.masks.shapes import (
    PACKAGED,
    folder_statistics,
    load_statistics,
    random_lesion,
    read_statistics,
)
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_hash
from siamese.records.catalogue import SHEET
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.records.subjects import FILE as SUBJECTS
from siamese.records.subjects import SEGMENTER, SEGMENTERS, read_subjects, slug, write_subjects
from siamese.sampling import MaskDiffusion
from train.evaluation.synthesis import SamplingOptions
from train.tools.card import CardFacts, RunRecord, card
from train.tools.licence import StartingWeights, licence

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
    names: tuple[tuple[str, str, str], ...] = ()
    """Prompt, short name and word for what is drawn, as the page shows them, of one or more of the model's prompts: "a stain on a
    white wall" "Stain on a wall" stain."""
    title: str = ""
    """The model's name on the page. Empty: the folder's."""
    shapes: Path | None = None
    """lesion_shapes.json of the model's subjects, as ``train shapes`` wrote it."""
    started_from: Path | None = None
    """Folder of the weights that training started from: card and licence name them, and quote their LICENSE."""
    metrics: Path | None = None
    """metrics.json of these weights, as ``evaluate`` wrote it; copied, and shown in the card."""
    card: bool = False
    """Replace a README.md that is there already."""
    sampling: Annotated[SamplingOptions, tyro.conf.arg(name="")] = field(default_factory=SamplingOptions)
    """Default settings of sampling, as chosen on val; the model's own are kept for those that are not given."""
    example_seeds: tuple[int, ...] = (1, 1)
    """Seed of each subject's example, the last for all that follow; of its random mask as well as of its image: what a first visit to the page shows."""


def write_examples(folder: Path, seeds: tuple[int, ...]) -> int:
    """``examples/a-NOUN.png``, ``b-NOUN.png``...: images of random masks, with their recipes, of the subjects whose shapes are known.

    Returns:
        How many were written: none if the shapes of the first subject, with which a first visit begins, are not known.
    """
    shutil.rmtree(folder / "examples", ignore_errors=True)  # of the weights before
    subjects = read_subjects(folder).listed
    if not subjects or not subjects[0].has_shapes:
        return 0
    model = MaskDiffusion.from_pretrained(folder, "cpu")
    statistics = load_statistics() | folder_statistics(folder)
    known = [s for s in subjects if s.has_shapes]
    for number, subject in enumerate(known):
        seed = seeds[min(number, len(seeds) - 1)]
        drawn = random_lesion(statistics[subject.prompt], seed, EXAMPLE_SIDE)
        fitted = model.fit_mask(drawn)
        image = model.sample_fitted([fitted], subject.prompt, [seed], model.checkpoint.defaults)[0]
        recipe = Recipe(subject.prompt, seed, model.checkpoint.defaults, folder.name)
        name = f"{chr(ord('a') + number)}-{slug(subject.noun)}.png"
        (folder / "examples").mkdir(exist_ok=True)
        (folder / "examples" / name).write_bytes(pair_png(SyntheticPair(image, fitted, drawn, recipe)))
    return len(known)


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


def publish(config: PublishConfig, save_weights: bool = True) -> float:
    """Save in float16 with licence, card and examples; returns the folder's megabytes.

    Without ``save_weights`` the networks in ``config.out`` stay as they are, and the rest is added.

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
    if save_weights:
        for part in ("vae", "unet", "controlnet", "context", "scheduler"):
            shutil.rmtree(config.out / part, ignore_errors=True)
        save_checkpoint(checkpoint, config.out, torch.float16)
        copy_subjects(config.model, config.out)
    if config.segmenter:
        shutil.copytree(config.segmenter, config.out / SEGMENTER, dirs_exist_ok=True)
    write_names(config)
    if not write_examples(config.out, config.example_seeds):
        print(
            "No examples: the shapes of this model's lesions are not known. The app begins with a plain blob.",
            flush=True,
        )
    if config.trained_on:
        before = None if config.started_from is None else _starting_weights(config.started_from)
        text = licence(title_of(config.out), config.trained_on, before)
        (config.out / "LICENSE").write_text(text, encoding="utf-8")
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


def copy_subjects(source: Path, target: Path) -> None:
    """Bring what the model folder ``source`` has for its subjects (names, networks, shapes, sheet) in the place of that of ``target``.

    A network in ``segmenter/`` of ``target`` stays if ``source`` has none: it may have been put there by hand.
    """
    if source.resolve() == target.resolve():
        return
    for part in (SEGMENTERS, SUBJECTS, PACKAGED, SHEET, SEGMENTER):
        old, new = target / part, source / part
        if part != SEGMENTER:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        if new.is_dir():
            shutil.copytree(new, old, dirs_exist_ok=True)
        elif new.is_file():
            shutil.copyfile(new, old)


def write_names(config: PublishConfig) -> None:
    """Shapes, names and title that were given, in the place of those that the folder has."""
    if config.shapes is not None:
        read_statistics(config.shapes.read_text(encoding="utf-8"))  # raises if it is damaged
        shutil.copyfile(config.shapes, config.out / PACKAGED)
    if not config.names and not config.title:
        return
    subjects = read_subjects(config.out)
    # ``of`` raises if the model does not know a prompt. What is named comes first: a first visit draws it.
    new = [replace(subjects.of(prompt), name=name, noun=noun) for prompt, name, noun in config.names]
    nobody_named_others = subjects.free_text and not (config.out / SUBJECTS).is_file()
    if not (new and nobody_named_others):
        given = {s.prompt for s in new}
        new += [s for s in subjects.listed if s.prompt not in given]
    write_subjects(config.out, new, config.title or subjects.title)


def title_of(folder: Path) -> str:
    """A model's name for people: the title that its folder has, else the folder's name."""
    return read_subjects(folder).title or folder.name


def _starting_weights(folder: Path) -> StartingWeights:
    file = folder / "LICENSE"
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    return StartingWeights(folder.resolve().name, text)


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
    facts = CardFacts(
        sets=config.trained_on,
        kinds=read_subjects(config.out),
        segmenter=(config.out / SEGMENTER).is_dir(),
        sheet=(config.out / SHEET).is_file(),
        megabytes=megabytes(config.out),
        runs=records,
        metrics=metrics,
        started_from=None if config.started_from is None else config.started_from.resolve().name,
    )
    file.write_text(card(title_of(config.out), checkpoint, facts), encoding="utf-8")
