"""Shapes stage: statistics of the training masks' lesion shapes, and how far random lesions are from the validation masks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import ks_2samp
from skimage.measure import regionprops

from siamese.masks.shapes import (
    MIN_SHAPES,
    ShapeStatistics,
    largest_component,
    random_lesion,
    save_statistics,
)
from train.data.pairs import DataError, Pair, check_pairs, load_masks, read_pairs
from train.engine.disk import replacing, writing

FIGURES = ("area", "elongation", "solidity")


@dataclass(frozen=True)
class ShapesConfig:
    """Fit the statistics of lesion shapes that random lesions are drawn from."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files. The train split is fitted, the val split only compared with."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    out: Path = Path("runs/lesion_shapes.json")
    """File of the statistics: means, covariances, quantiles and counts, no masks. The app reads siamese/masks/lesion_shapes.json, which is
    replaced only if it is named here."""
    size: int = 256
    """Side in pixels at which masks are measured and lesions drawn."""
    many: int = 1000
    """Random lesions of the second comparison, whose figures hardly depend on the seeds."""
    seed: int = 0
    """Seed of the first random lesion; the others follow."""


def measure_shapes(masks: np.ndarray) -> np.ndarray:
    """float64 [N, 3] of masks uint8 [N, S, S] of 0 / 255: figures of the largest component.

    Area as a fraction of the frame, elongation (ratio of the eigenvalues of the pixels' covariance, 1 for a disc, the
    square of an ellipse's axis ratio) and solidity (area / area of the convex hull).
    """
    rows = []
    for mask in masks:
        [region] = regionprops(largest_component(mask).astype(np.uint8))
        large, small = region.inertia_tensor_eigvals
        # The variance of one row of pixels across itself is 0; that of a uniform pixel of side 1 is 1 / 12.
        rows.append((region.area / mask.size, (large + 1 / 12) / (small + 1 / 12), region.solidity))
    return np.array(rows)


def distances(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Kolmogorov-Smirnov statistic, in 0..1, of each column of [N, 3] and [M, 3]."""
    found: list[Any] = [ks_2samp(a, b) for a, b in zip(first.T, second.T, strict=True)]
    return [float(one.statistic) for one in found]


def fit_organs(pairs: list[Pair], size: int) -> dict[str, ShapeStatistics]:
    """Statistics of each prompt's masks."""
    return {
        prompt: ShapeStatistics.fit(load_masks([p for p in pairs if p.prompt == prompt], size))
        for prompt in sorted({p.prompt for p in pairs})
    }


def fit_enough(pairs: Sequence[Pair], size: int = ShapesConfig.size) -> dict[str, ShapeStatistics]:
    """``fit_organs`` of the prompts with at least ``MIN_SHAPES`` pairs."""
    counts = Counter(pair.prompt for pair in pairs)
    return fit_organs([pair for pair in pairs if counts[pair.prompt] >= MIN_SHAPES], size)


def main(config: ShapesConfig) -> None:
    """Fit, write, and print the distances to the validation masks."""
    if config.out.suffix != ".json":
        raise DataError(f"--out must be a .json file, not {config.out}.")
    train = read_pairs(config.data, "train", config.prompt)
    val = read_pairs(config.data, "val", config.prompt, required=False)
    check_pairs(train + val, size=config.size)
    statistics = fit_organs(train, config.size)
    with writing(str(config.out)), replacing(config.out) as part:
        config.out.parent.mkdir(parents=True, exist_ok=True)
        save_statistics(statistics, part)
    print(f"{config.out}: {config.out.stat().st_size / 1000:.1f} kB")
    for prompt, organ in statistics.items():
        own = [p for p in val if p.prompt == prompt]
        print(f"{prompt}: fitted to {organ.count} masks, compared with {len(own)} validation masks")
        if not own:
            continue
        real = measure_shapes(load_masks(own, config.size))
        count = max(config.many, len(own))
        drawn = measure_shapes(
            np.stack([random_lesion(organ, config.seed + i, config.size) for i in range(count)])
        )
        known = measure_shapes(load_masks([p for p in train if p.prompt == prompt], config.size))
        print(f"  {'KS statistic to val of':34}" + "".join(f"{name:>12}" for name in FIGURES))
        for name, figures in (
            (f"{len(own)} random lesions", drawn[: len(own)]),
            (f"{count} random lesions", drawn),
            (f"{len(known)} training masks", known),
        ):
            print(f"  {name:34}" + "".join(f"{d:12.3f}" for d in distances(figures, real)))
