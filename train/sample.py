"""A synthetic data set: images of masks on disk, in both layouts that training reads (folders, and JSON lines)."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from siamese.sampling import MaskDiffusion
from train.data import IMAGE_SUFFIXES, DataError, read_mask, read_pairs
from train.synthesis import SamplingConfig, Synthesiser, contact_sheet, seed_of


@dataclass(frozen=True)
class SampleConfig:
    """Synthesise images of a folder of masks, or of the masks of a data set."""

    model: str
    """Model folder, or a model's name on the Hugging Face Hub."""
    out: Path
    """Folder of images/, masks/ and prompt.json. An interrupted run there is continued."""
    masks: Path | None = None
    """Folder of mask files (lesion where > 127). Give this or --data."""
    data: tuple[Path, ...] = ()
    """Folders with images/, masks/ and split files, or JSON-lines files; their masks and prompts are used."""
    split: str = "train"
    """Split of --data."""
    prompt: str | None = None
    """Prompt of all masks, in the place of what JSON lines or a known data set's name say; none: those."""
    variants: int = 1
    """Images of each mask."""
    limit: int | None = None
    """Masks, spread evenly over all of them; none: all."""
    seed: int = 0
    sampling: SamplingConfig = SamplingConfig()
    sheet: int = 0
    """Masks on a contact sheet (sheet.png: mask, then up to six variants); 0: no sheet."""


@dataclass(frozen=True)
class Job:
    """One image to make."""

    name: str
    mask: Path
    prompt: str
    seed: int


def plan(config: SampleConfig) -> list[Job]:
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
        found = [(p.stem, p, config.prompt) for p in sorted(config.masks.iterdir()) if p.suffix.lower() in IMAGE_SUFFIXES]
    else:
        found = [(p.name.replace("/", "-"), p.mask, p.prompt) for p in read_pairs(config.data, config.split, config.prompt)]
    if not found:
        raise DataError(f"{config.masks}: no mask files ({', '.join(IMAGE_SUFFIXES)}).")
    names = [name for name, _, _ in found]
    if twice := sorted({n for n in names if names.count(n) > 1}):
        raise DataError(f"several masks are named {', '.join(twice)}; their images would overwrite each other.")
    kept = np.linspace(0, len(found) - 1, min(config.limit or len(found), len(found))).astype(int)
    return [Job(f"{found[i][0]}-{v}", found[i][1], found[i][2], seed_of(config.seed, int(i), v)) for i in kept for v in range(config.variants)]


def sample(config: SampleConfig) -> list[Job]:
    """Make what is missing in ``out``; returns all images there by name.

    Raises:
        DataError: see ``plan``; a mask is empty; ``out`` holds images of other settings.
        CheckpointError: the model cannot be loaded.
    """
    jobs = plan(config)
    synthesiser = Synthesiser(MaskDiffusion.from_pretrained(config.model), config.sampling, config.model)
    _claim(config.out, {"model": config.model, "seed": config.seed, **synthesiser.record})
    for part in ("images", "masks"):
        (config.out / part).mkdir(exist_ok=True)
    # The image is written after its mask: where it is there, the pair is.
    missing = [job for job in jobs if not _file(config.out, "images", job).is_file()]
    size = config.sampling.batch_size
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit="image") as bar:
        for start in range(0, len(missing), size):
            some = missing[start:start + size]
            masks = np.stack([_mask(job, synthesiser.model) for job in some])
            images = synthesiser.draw(masks, [job.prompt for job in some], [job.seed for job in some])
            for job, mask, image in zip(some, masks, images):
                _save(mask, _file(config.out, "masks", job))
                _save(image, _file(config.out, "images", job))
            bar.update(len(some))
    lines = [json.dumps({"source": f"masks/{j.name}.png", "target": f"images/{j.name}.png", "prompt": j.prompt}) for j in jobs]
    (config.out / "prompt.json").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if config.sheet:
        _save(_sheet(config, jobs), config.out / "sheet.png")
    return jobs


def _mask(job: Job, model: MaskDiffusion) -> np.ndarray:
    try:
        return model.fit_mask(read_mask(job.mask))
    except ValueError as error:
        raise DataError(f"{job.mask}: {error}") from error


def _claim(out: Path, settings: dict[str, Any]) -> None:
    """Keep images of different settings apart."""
    out.mkdir(parents=True, exist_ok=True)
    record = out / "sample.json"
    if record.is_file() and (old := json.loads(record.read_text(encoding="utf-8"))) != settings:
        raise DataError(f"{out} holds images of other settings ({old}); choose another --out.")
    record.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def _file(out: Path, part: str, job: Job) -> Path:
    return out / part / f"{job.name}.png"


def _save(array: np.ndarray, file: Path) -> None:
    part = file.with_suffix(".part")
    Image.fromarray(array).save(part, format="PNG")
    part.replace(file)


def _sheet(config: SampleConfig, jobs: list[Job]) -> np.ndarray:
    rows = []
    for start in range(0, min(config.sheet * config.variants, len(jobs)), config.variants):
        variants = jobs[start:start + config.variants]
        files = [_file(config.out, "masks", variants[0]), *(_file(config.out, "images", j) for j in variants[:6])]
        tiles = []
        for file in files:
            with Image.open(file) as image:
                tiles.append(np.asarray(image.convert("RGB")))
        rows.append(tiles)
    return contact_sheet(rows)


def main(config: SampleConfig) -> None:
    """Synthesise and say where."""
    print(f"{len(sample(config))} images of masks in {config.out}; train on them with --data {config.out / 'prompt.json'}")
