"""Does the model repeat its training images? Nearest training image of synthetic and of held-out real images, side by side.

A model that memorises makes images nearer to the training set than real images that it never saw are.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from siamese.models.checkpoint import weights_hash
from siamese.sampling import MaskDiffusion
from train.data.organs import fixed_subset
from train.data.pairs import Pair, check_pairs, load_arrays, load_images, read_pairs
from train.evaluation.features import Features
from train.evaluation.synthesis import SamplingConfig, Synthesiser, contact_sheet, seed_of

LEVELS = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class MemorisationConfig:
    """Compare synthetic and held-out images with their nearest training images."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files."""
    model: Path
    """Model folder."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights."""
    count: int = 200
    """Synthetic images, one for each of as many validation masks, the organs equally; and as many real ones."""
    nearest: int = 5
    """Training images, nearest by VGG16's features, among which LPIPS chooses."""
    shown: int = 12
    """Closest synthetic images on the sheet."""
    size: int = 256
    """Side in pixels at which images are compared."""
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 1
    out: Path = Path("runs/memorisation")
    """Folder of nearest.json and nearest.png. The sheet shows real images: never publish it."""
    cache: Path = Path("runs/eval")
    """Folder of cached images and features."""


@dataclass(frozen=True)
class Nearest:
    """For N images: index of the nearest training image, distance of features and LPIPS to it, [N] each."""

    index: np.ndarray
    feature_distance: np.ndarray
    lpips: np.ndarray

    def quantiles(self) -> dict[str, dict[str, float]]:
        """Both distances at ``LEVELS``."""
        return {
            name: {f"{q:g}": float(v) for q, v in zip(LEVELS, np.quantile(values, LEVELS), strict=True)}
            for name, values in (("feature_distance", self.feature_distance), ("lpips", self.lpips))
        }


def find_nearest(
    images: np.ndarray, known: np.ndarray, train: list[Pair], features: Features, nearest: int
) -> Nearest:
    """Nearest training image of each of ``images`` uint8 [N, H, W, 3].

    Args:
        known: VGG16 features [len(train), D] of the training images.
        nearest: candidates by Euclidean distance of the features; the one of smallest LPIPS is taken.
    """
    found = features.pooled(images)
    rows = []
    for image, feature in zip(images, found, strict=True):
        distances = np.linalg.norm(known - feature, axis=1)
        candidates = np.argsort(distances, kind="stable")[:nearest]
        others = load_images([train[i] for i in candidates], features.size)
        lpips = features.lpips(np.broadcast_to(image, (len(candidates), *image.shape)), others)
        best = int(np.argmin(lpips))
        rows.append((candidates[best], distances[candidates[best]], lpips[best]))
    index, distance, lpips = (np.array(column) for column in zip(*rows, strict=True))
    return Nearest(index, distance, lpips)


def compare(config: MemorisationConfig) -> dict[str, object]:
    """Quantiles of both distributions; writes ``nearest.json`` and ``nearest.png`` to ``out``.

    Raises:
        DataError, CheckpointError, FileNotFoundError: data, model or weights are missing or faulty.
    """
    train, val = (read_pairs(config.data, split, config.prompt) for split in ("train", "val"))
    check_pairs(train + val)
    held_out = fixed_subset(val, -(-config.count // len({p.prompt for p in val})))[: config.count]
    model = MaskDiffusion.from_pretrained(config.model)
    synthesiser = Synthesiser(model, config.sampling, weights_hash(config.model), config.cache)
    features = Features(config.weights, config.size, config.cache / "features", model.device)
    real, masks = load_arrays(held_out, model.size)
    synthetic = synthesiser.images(
        "synthetic images",
        masks,
        [p.prompt for p in held_out],
        [seed_of(config.seed, i, 0) for i in range(len(held_out))],
    )
    known = features.pooled_of_pairs(train, "features of training images")
    print("nearest training images", flush=True)
    of_synthetic, of_real = (
        find_nearest(x, known=known, train=train, features=features, nearest=config.nearest)
        for x in (synthetic, real)
    )
    result = {"count": len(held_out), "synthetic": of_synthetic.quantiles(), "real": of_real.quantiles()}

    config.out.mkdir(parents=True, exist_ok=True)
    (config.out / "nearest.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    closest = np.argsort(of_synthetic.lpips, kind="stable")[: config.shown]
    originals = load_images([train[of_synthetic.index[i]] for i in closest], model.size)
    rows = [[masks[i], synthetic[i], original] for i, original in zip(closest, originals, strict=True)]
    Image.fromarray(contact_sheet(rows)).save(config.out / "nearest.png")
    return result


def main(config: MemorisationConfig) -> None:
    """Compare, write and print."""
    print(json.dumps(compare(config), indent=1))
    print(f"Closest pairs (mask, synthetic, training image): {config.out / 'nearest.png'}")
