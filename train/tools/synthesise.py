"""A synthetic data set: images of masks on disk, in both layouts that training reads (folders, and JSON lines).

    OUT/images/ OUT/masks/ OUT/prompt.json
    OUT/sample.json    hash of the model's weights, and the settings: other ones are refused
    OUT/made.jsonl     for each image what it was made of: digest of its mask's file, prompt, seed; the last line of a name counts

An image of another mask, prompt or seed than the command's is made again: the folder never keeps an image that these weights,
with these settings, would not make of this data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from siamese.files.atomic import replacing
from siamese.files.decoding import READING_VERSION
from siamese.files.listing import IMAGE_SUFFIXES, describe_passed_over, list_files, reason_to_pass_over
from siamese.masks.reading import read_mask
from siamese.models.checkpoint import find_folder, weights_hash
from siamese.records.sampling_settings import renamed_in
from siamese.sampling import MaskDiffusion
from train.data.cache import digest_of
from train.data.pairs import DataError, read_pairs
from train.engine.disk import writing
from train.evaluation.synthesis import SamplingConfig, Synthesiser, contact_sheet, seed_of


@dataclass(frozen=True)
class SampleConfig:
    """Synthesise images of a folder of masks, or of the masks of a data set."""

    model: str
    """Model folder, or a model's name on the Hugging Face Hub."""
    out: Path
    """Folder of images/, masks/ and prompt.json. An interrupted run there is continued, with the same weights and settings only."""
    masks: Path | None = None
    """Folder of mask files (lesion if > 127). Give this or --data."""
    data: tuple[Path, ...] = ()
    """Folders with images/, masks/ and split files, or JSON-lines files; their masks and prompts are used."""
    split: str = "train"
    """Split of --data."""
    prompt: str | None = None
    """Prompt of all masks, instead of what JSON lines or a known data set's name say; none: those."""
    variants: int = 1
    """Images of each mask."""
    limit: int | None = None
    """Masks, spread evenly over all of them; none: all."""
    seed: int = 0
    sampling: SamplingConfig = SamplingConfig()
    sheet: int = 0
    """Masks on a contact sheet (sheet.png: mask, then up to six variants); 0: no sheet."""


@dataclass(frozen=True)
class ImageToMake:
    """One image to make."""

    name: str
    mask: Path
    prompt: str
    seed: int


def images_to_make(config: SampleConfig) -> list[ImageToMake]:
    """All images to make, mask by mask.

    Raises:
        DataError: neither or both of masks and data, no masks, no prompt, or two masks of the same name.
        ValueError: fewer than one variant or mask.
    """
    if config.variants < 1 or (config.limit is not None and config.limit < 1):
        raise ValueError(f"variants is {config.variants}, limit is {config.limit}; both must be 1 or more.")
    if (config.masks is None) == (not config.data):
        raise DataError("give either --masks FOLDER or --data FOLDERS.")
    if config.masks is not None:
        if config.prompt is None:
            raise DataError("a folder of masks needs --prompt.")
        if not config.masks.is_dir():
            raise DataError(f"{config.masks}: no such folder.")
        found = [(name, file, config.prompt) for name, file in _mask_files(config.masks)]
    else:
        found = [
            (p.name.replace("/", "-"), p.mask, p.prompt)
            for p in read_pairs(config.data, config.split, config.prompt)
        ]
    if not found:
        raise DataError(f"{config.masks}: no mask files ({', '.join(IMAGE_SUFFIXES)}).")
    named: dict[str, list[str]] = {}
    for name, file, _ in found:
        named.setdefault(name.casefold(), []).append(file.name)  # one file on some systems
    if twice := [", ".join(files) for files in named.values() if len(files) > 1]:
        raise DataError.of(
            "masks of one name, whose images would overwrite each other; rename one of them", twice
        )
    kept = np.linspace(0, len(found) - 1, min(config.limit or len(found), len(found))).astype(int)
    return [
        ImageToMake(f"{found[i][0]}-{v}", found[i][1], found[i][2], seed_of(config.seed, int(i), v))
        for i in kept
        for v in range(config.variants)
    ]


def _mask_files(folder: Path) -> list[tuple[str, Path]]:
    """Names and files of the masks in ``folder``, or in the ``masks/`` of a data set; what is not read is printed."""
    parts = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    if {"images", "masks"} <= parts.keys():
        folder = parts["masks"]
    listing = list_files(folder)
    if listing.passed_over:
        print("\n".join([f"{folder}: not read:", *describe_passed_over(listing.passed_over)]), flush=True)
    return [(name, file) for name, files in listing.files.items() for file in files]


def sample(config: SampleConfig) -> list[ImageToMake]:
    """Make what is missing in ``out``, or made of another mask, prompt or seed; returns all images there by name.

    Raises:
        DataError: see ``images_to_make``; a mask is empty; ``out`` holds images of other weights or settings, or that are not this command's.
        CheckpointError: the model cannot be loaded.
        FileNotFoundError: its weights are not safetensors files.
        DiskFull: the disk is full.
    """
    jobs = images_to_make(config)
    folder = find_folder(config.model)
    weights = weights_hash(folder)
    synthesiser = Synthesiser(MaskDiffusion.from_pretrained(folder), config.sampling, weights)
    made, origins = _Made(config.out), {job.name: _origin(job) for job in jobs}
    made.claim(_settings(config, weights, synthesiser), origins)
    missing = [job for job in jobs if not made.holds(job, origins[job.name])]
    if changed := [
        job.name for job in missing if made.origins.get(job.name, origins[job.name]) != origins[job.name]
    ]:
        print(
            f"{len(changed)} images are made again, because their mask, prompt or seed has changed: {_some(changed)}.",
            flush=True,
        )
    _check_masks(missing, synthesiser.model)
    size = config.sampling.batch_size
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="image") as bar:
        for start in range(0, len(missing), size):
            some = missing[start : start + size]
            masks = [_mask(job, synthesiser.model) for job in some]
            images = synthesiser.draw(masks, [job.prompt for job in some], [job.seed for job in some])
            for job, mask, image in zip(some, masks, images, strict=True):
                with writing(
                    f"{job.name}.png (image {bar.n + 1} of {len(jobs)}; make space, and the same command goes on)"
                ):
                    _file(config.out, "images", job).unlink(
                        missing_ok=True
                    )  # never beside a mask that it was not made of
                    _save(mask, _file(config.out, "masks", job))
                    _save(image, _file(config.out, "images", job))
                    made.add(job, origins[job.name])
                bar.update()
    lines = [
        json.dumps({"source": f"masks/{j.name}.png", "target": f"images/{j.name}.png", "prompt": j.prompt})
        for j in jobs
    ]
    with writing("prompt.json"), replacing(config.out / "prompt.json") as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if config.sheet:
        with writing("sheet.png"):
            _save(_sheet(config, jobs), config.out / "sheet.png")
    return jobs


def _check_masks(jobs: Iterable[ImageToMake], model: MaskDiffusion) -> None:
    """Read every mask before the first image is sampled, which takes long. Raises DataError with a line for each faulty file."""
    faults = []
    for job in {job.mask: job for job in jobs}.values():
        try:
            _mask(job, model)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError(
            "\n  ".join([f"{len(faults)} masks cannot be used; correct or remove them:", *faults])
        )


def _mask(job: ImageToMake, model: MaskDiffusion) -> np.ndarray:
    try:
        return model.fit_mask(read_mask(job.mask))
    except ValueError as error:
        raise DataError(f"{job.mask}: {error}") from error


def _origin(job: ImageToMake) -> dict[str, Any]:
    """What an image is made of, besides weights and settings."""
    return {
        "mask": hashlib.sha256(job.mask.read_bytes()).hexdigest()[:16],
        "reading": READING_VERSION,
        "prompt": job.prompt,
        "seed": job.seed,
    }


def _settings(config: SampleConfig, weights: str, synthesiser: Synthesiser) -> dict[str, Any]:
    """What all images of a folder have in common. ``model`` is for people: a folder may move, and its weights change."""
    checkpoint = synthesiser.model.checkpoint
    return {
        "model": config.model,
        "weights": weights,
        "noise_schedule": digest_of(sorted(checkpoint.scheduler_config.items())),
        "image_size": checkpoint.image_size,
        "seed": config.seed,
        **synthesiser.record,
    }


class _Made:
    """What lies in an output folder: its settings, and what each of its images was made of."""

    def __init__(self, out: Path) -> None:
        self.out, self.record, self.lines = out, out / "sample.json", out / "made.jsonl"
        self.origins: dict[str, dict[str, Any]] = {}

    def claim(self, settings: dict[str, Any], names: Iterable[str]) -> None:
        """Read what is there, or begin.

        Raises:
            DataError: it is of other settings, or has images that are not among ``names``.
        """
        there = {
            p.stem
            for part in ("images", "masks")
            for p in (self.out / part).glob("*")
            if reason_to_pass_over([p.name]) is None
        }
        old = (
            renamed_in(json.loads(self.record.read_text(encoding="utf-8"))) if self.record.is_file() else None
        )
        if old is None and there:
            raise DataError(
                f"{self.out} holds images, and no sample.json says that they are synthetic; choose another --out."
            )
        old = old or {}
        if there and "weights" not in old:
            raise DataError(
                f"{self.out} holds images of a version of this program that did not record their weights, so they may be of "
                "another model; choose another --out."
            )
        if there and (other := [k for k in settings if k != "model" and old.get(k) != settings[k]]):
            changes = "; ".join(
                "the model's weights have changed"
                if k == "weights"
                else f"{k} was {old.get(k)}, now {settings[k]}"
                for k in other
            )
            raise DataError(
                f"{self.out} holds images of other settings ({changes}). Choose another --out, or remove it."
            )
        if strangers := sorted(there - set(names)):
            raise DataError(
                f"{self.out} holds {len(strangers)} images that this command does not make ({_some(strangers)}): of other masks or of "
                "more variants. Choose another --out, or move them away."
            )
        with writing(str(self.record)):
            for part in ("images", "masks"):
                (self.out / part).mkdir(parents=True, exist_ok=True)
            with replacing(self.record) as part:
                part.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
        if self.lines.is_file():
            text = self.lines.read_text(encoding="utf-8")
            if not text.endswith("\n"):
                self.lines.write_text(text + "\n", encoding="utf-8")
            for line in text.splitlines():
                try:
                    row = json.loads(line)
                except json.JSONDecodeError:
                    continue  # a kill has cut it off: its image is made once more
                self.origins[row.pop("name")] = row

    def holds(self, job: ImageToMake, origin: dict[str, Any]) -> bool:
        """Whether the pair is there, and made of what it is to be made of."""
        return self.origins.get(job.name) == origin and all(
            _file(self.out, part, job).is_file() for part in ("images", "masks")
        )

    def add(self, job: ImageToMake, origin: dict[str, Any]) -> None:
        """The pair is on disk."""
        with open(self.lines, "a", encoding="utf-8") as file:
            file.write(json.dumps({"name": job.name} | origin) + "\n")


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _file(out: Path, part: str, job: ImageToMake) -> Path:
    return out / part / f"{job.name}.png"


def _save(array: np.ndarray, file: Path) -> None:
    with replacing(file) as part:
        Image.fromarray(array).save(part, format="PNG")


def _sheet(config: SampleConfig, jobs: list[ImageToMake]) -> np.ndarray:
    rows = []
    for start in range(0, min(config.sheet * config.variants, len(jobs)), config.variants):
        variants = jobs[start : start + config.variants]
        files = [
            _file(config.out, "masks", variants[0]),
            *(_file(config.out, "images", j) for j in variants[:6]),
        ]
        tiles = []
        for file in files:
            with Image.open(file) as image:
                tiles.append(np.asarray(image.convert("RGB")))
        rows.append(tiles)
    return contact_sheet(rows)


def main(config: SampleConfig) -> None:
    """Synthesise, and print the output folder."""
    print(
        f"{len(sample(config))} images of masks in {config.out}; train on them with --data {config.out / 'prompt.json'}"
    )
