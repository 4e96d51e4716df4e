"""Synthetic image-mask pairs: a bright ellipse (the lesion) on a textured ground, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image


def phantom(seed: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Image uint8 [H, W, 3] and mask uint8 [H, W] of 0 / 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    centre, radii = rng.uniform(0.35, 0.65, 2) * (height, width), rng.uniform(0.12, 0.3, 2) * (height, width)
    mask = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 <= 1
    ground = np.array([150, 80, 70]) + 15 * np.sin(x / 7 + seed)[..., None]
    image = np.where(mask[..., None], np.array([225, 190, 120]), ground) + rng.normal(
        0, 4, (height, width, 1)
    )
    return image.clip(0, 255).astype(np.uint8), np.where(mask, 255, 0).astype(np.uint8)


def write_folder(folder: Path, count: int, splits: dict[str, range] | None = None, **size: int) -> Path:
    """``folder/images``, ``folder/masks`` and, if given, split files of the numbers in ``splits``."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image, mask = phantom(i, **size)
        Image.fromarray(image).save(folder / "images" / f"case {i:02d}.png")
        Image.fromarray(mask).save(folder / "masks" / f"case {i:02d}.png")
    for split, numbers in (splits or {}).items():
        (folder / f"{split}.txt").write_text("".join(f"case {i:02d}\n" for i in numbers))
    return folder


def write_json_lines(file: Path, folder: Path, prompt: str | None) -> Path:
    """A JSON-lines file of all pairs in ``folder``, with paths relative to the file's own folder."""
    rows = []
    for image in sorted((folder / "images").iterdir()):
        row = {
            "source": str((folder / "masks" / image.name).relative_to(file.parent)),
            "target": str(image.relative_to(file.parent)),
        }
        rows.append(row if prompt is None else row | {"prompt": prompt})
    file.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return file
