"""Measurements of a model: autoencoder, image quality, agreement with the mask, diversity; one JSON file.

Features are VGG16's and EfficientNet-Lite0's, not Inception's: these distances must not be called FID or KID, nor compared with such
figures. Every distance is taken at the same number of images N of each side, for both organs. Beside it, at that N, stand the organ's
floor (real against real), what the autoencoder alone costs (real images encoded and decoded), and for VGG16 the ceiling (untrained model).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from siamese.masks.segmenter import LesionSegmenter, dice
from siamese.models.checkpoint import weights_hash
from siamese.sampling import MaskDiffusion
from train.data.pairs import DataError, check_pairs, load_arrays, load_masks, read_pairs
from train.evaluation.autoencoder_figures import Reconstructions, joined, reconstruct, whiteness
from train.evaluation.comparison import Comparison, by_organ, chosen, equal_count
from train.evaluation.distances import fd_at_n, kernel_distance
from train.evaluation.efficientnet import EfficientNetFeatures
from train.evaluation.features import Features, resized
from train.evaluation.synthesis import SamplingConfig, Synthesiser, seed_of, untrained
from train.networks.vgg_unet import VggSegmenter


class FinalSplitError(DataError):
    """The test split was requested without ``--final``."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a model on a split of real data."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files."""
    model: Path
    """Model folder."""
    figures: Literal["all", "quick"] = "all"
    """quick: for comparing many checkpoints. Without ceiling, diversity, kernel distance and mask agreement (no segmenter is
    needed); the autoencoder on the N images of each organ only, not on the whole split."""
    segmenter: Path = Path("runs/segment/vgg16/model")
    """Folder of the independent VGG16 U-Net (python -m train segment --architecture vgg16)."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights."""
    split: Literal["val", "test"] = "val"
    final: bool = False
    """Needed for the test split. Each such measurement is recorded in the model folder."""
    out: Path = Path("runs/metrics.json")
    """Where the figures are written; how they were made is written beside, as NAME-settings.json."""
    size: int = 256
    """Side in pixels at which the autoencoder and all features are measured."""
    images: int = 155
    """N: synthetic images of each organ, one a mask. Lowered, for both organs, to what the smaller split has."""
    draws: int = 20
    """Random choices of N training images over which a Frechet distance is averaged."""
    diversity_masks: int = 50
    diversity_images: int = 8
    """Images of one mask, compared with each other."""
    sampling: SamplingConfig = SamplingConfig()
    seed: int = 0
    cache: Path = Path("runs/eval")
    """Folder of cached images and features: a killed evaluation continues with the same command."""


def evaluate(config: EvaluateConfig) -> dict[str, dict[str, float]]:
    """All figures: ``autoencoder`` and one entry for each organ of the data (``polyp``, ``lesion``).

    Raises:
        FinalSplitError: the test split without ``final``.
        DataError: an organ has no training pairs or none in the split, or a pair cannot be used.
        CheckpointError, SegmenterError, FileNotFoundError: model, segmenter or weights are missing.
    """
    if config.split == "test" and not config.final:
        raise FinalSplitError(
            "the test split is measured once for a finished model: choose with --split val, then pass --final."
        )
    train, split = (read_pairs(config.data, s, config.prompt) for s in ("train", config.split))
    check_pairs(train + split)
    organs = by_organ(train, split)
    count = equal_count(organs, config.images)
    print(
        f"{config.split}: {', '.join(f'{len(s)} {o}' for o, (_, s) in organs.items())} pairs; N = {count} images of each",
        flush=True,
    )

    model = MaskDiffusion.from_pretrained(config.model)
    identity, kept = weights_hash(config.model), config.cache / "features"
    comparisons = config.cache / "comparisons"
    segmenter = (
        VggSegmenter.from_pretrained(config.segmenter, model.device) if config.figures == "all" else None
    )
    features = Features(config.weights, config.size, kept, model.device)
    families = [features, EfficientNetFeatures(config.size, kept, model.device)]
    trained = Synthesiser(model, config.sampling, identity, config.cache)

    metrics: dict[str, dict[str, float]] = {"autoencoder": {}}
    reconstructions = []
    for organ, (own_train, own_split) in organs.items():
        pairs = chosen(own_split, count, config.seed)
        comparison = Comparison(
            organ, own_train, pairs, families, draws=config.draws, seed=config.seed, cache=comparisons
        )
        whole = own_split if config.figures == "all" else pairs
        reconstructions.append(
            reconstruct(
                model.checkpoint.vae, whole, features, title=f"{organ}: autoencoder", cache=comparisons
            )
        )
        metrics[organ] = measure_organ(
            comparison, trained, reconstructions[-1].part([whole.index(p) for p in pairs]), config
        )
        if segmenter is not None:
            fresh = _untrained_synthesiser(model, identity, config)
            metrics[organ] |= measure_further(
                comparison, trained, fresh, segmenter=segmenter, features=features, config=config
            )
    together = joined(reconstructions)
    metrics["autoencoder"] = together.figures() | whiteness(together.latents)
    measured_by = None if segmenter is None else weights_hash(config.segmenter)
    weights = {"model_weights": identity, "segmenter_weights": measured_by}
    _record(config, {"n": count, "sampling": trained.record} | weights, metrics)
    return metrics


def _untrained_synthesiser(model: MaskDiffusion, identity: str, config: EvaluateConfig) -> Synthesiser:
    """One of a model of the same architecture with random weights: the ceiling of distances."""
    return Synthesiser(
        MaskDiffusion(untrained(model.checkpoint, config.seed), model.device),
        config.sampling,
        f"{identity} untrained {config.seed}",
        config.cache,
    )


def synthetic_images(comparison: Comparison, synthesiser: Synthesiser, title: str, seed: int) -> np.ndarray:
    """One image of ``synthesiser`` for each mask of ``comparison``: uint8 [N, S, S, 3]."""
    masks = load_masks(comparison.pairs, synthesiser.model.size)
    seeds = [seed_of(seed, i, 0) for i in range(len(masks))]
    return synthesiser.images(
        f"{comparison.organ}: {title}", masks, [p.prompt for p in comparison.pairs], seeds
    )


def measure_organ(
    comparison: Comparison, trained: Synthesiser, reconstructions: Reconstructions, config: EvaluateConfig
) -> dict[str, float]:
    """One organ's distances of the model, the floor and the autoencoder, ``reconstructions`` being those of the comparison's N images."""
    synthetic = synthetic_images(comparison, trained, "one image a mask", config.seed)
    print(f"{comparison.organ}: distances", flush=True)
    found = {"": synthetic, "_floor": None, "_autoencoder": reconstructions.images}
    return {
        name: value
        for suffix, images in found.items()
        for name, value in comparison.all(images, suffix).items()
    }


def measure_further(
    comparison: Comparison,
    trained: Synthesiser,
    fresh: Synthesiser,
    segmenter: LesionSegmenter,
    features: Features,
    config: EvaluateConfig,
) -> dict[str, float]:
    """One organ's figures that a quick measurement leaves out."""
    images, masks = load_arrays(comparison.pairs, trained.model.size)
    prompts, real = [p.prompt for p in comparison.pairs], comparison.of_train(features)
    synthetic = synthetic_images(comparison, trained, "one image a mask", config.seed)
    noise = synthetic_images(comparison, fresh, "untrained model", config.seed)
    diversity = measure_diversity(
        comparison.organ, masks=masks, prompts=prompts, trained=trained, features=features, config=config
    )
    print(f"{comparison.organ}: ceiling and agreement", flush=True)
    return {
        "fd_vgg16_ceiling": fd_at_n(
            real, fake=comparison.pooled(features, noise), n=len(images), draws=config.draws, seed=config.seed
        ),
        "kd_vgg16": kernel_distance(comparison.pooled(features, synthetic), real),
        "mask_agreement": agreement(segmenter, synthetic, masks),
        "mask_agreement_real": agreement(segmenter, images, masks),
        "diversity_lpips": diversity,
    }


def measure_diversity(
    organ: str,
    masks: np.ndarray,
    prompts: list[str],
    trained: Synthesiser,
    features: Features,
    config: EvaluateConfig,
) -> float:
    """Mean LPIPS between images of the same mask, over masks spread evenly; 0 if the mask alone determines the image."""
    picked = np.unique(np.linspace(0, len(masks) - 1, min(config.diversity_masks, len(masks))).astype(int))
    plan = [
        (i, v) for i in picked for v in range(1, config.diversity_images + 1)
    ]  # variant 0 is the one of the other figures
    index = [i for i, _ in plan]
    images = trained.images(
        f"{organ}: diversity",
        masks[index],
        [prompts[i] for i in index],
        [seed_of(config.seed, int(i), v) for i, v in plan],
    )
    return float(
        np.mean(
            [features.pairwise_lpips(resized(group, config.size)) for group in np.split(images, len(picked))]
        )
    )


def agreement(segmenter: LesionSegmenter, images: np.ndarray, masks: np.ndarray, batch: int = 16) -> float:
    """Mean Dice between ``masks`` uint8 [N, S, S] and what ``segmenter`` finds in ``images`` uint8 [N, S, S, 3]."""
    found = np.concatenate([segmenter.predict(images[i : i + batch]) for i in range(0, len(images), batch)])
    return float(dice(found, masks).mean())


def _record(config: EvaluateConfig, settings: dict[str, Any], metrics: dict[str, dict[str, float]]) -> None:
    """Write figures and settings; for the test split, first the line that counts this measurement."""
    identity, command = settings["model_weights"], " ".join(["python -m train", *sys.argv[1:]])
    date = datetime.now(UTC).isoformat(timespec="seconds")
    if config.split == "test":
        record = config.model / "test_measurements.jsonl"
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps({"date": date, "weights": identity, "command": command}) + "\n")
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        print(f"test was measured {sum(r['weights'] == identity for r in lines)} times with these weights.")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    names = ("split", "figures", "size", "draws", "diversity_masks", "diversity_images", "seed")
    kept = {k: v for k, v in dataclasses.asdict(config).items() if k in names}
    beside = config.out.with_name(f"{config.out.stem}-settings.json")
    beside.write_text(
        json.dumps(kept | settings | {"date": date, "command": command}, indent=1) + "\n", encoding="utf-8"
    )


def main(config: EvaluateConfig) -> None:
    """Measure, write and print."""
    print(json.dumps(evaluate(config), indent=1))
