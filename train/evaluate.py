"""Measurements of a model: autoencoder, image quality, agreement with the mask, diversity; one JSON file.

Features are VGG16's, not Inception's: these distances must not be called FID or KID, nor compared with such figures.
Every Frechet distance is taken at the same number of images N of each side, for both organs; where the organ's floor
(real against real) and ceiling (untrained model against real) lie at that N is measured with it.
"""
from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from siamese.hints import image_hint
from siamese.models.autoencoder import decode_latents, encode_moments
from siamese.models.checkpoint import weights_hash
from siamese.sampling import MaskDiffusion
from siamese.segmentation import LesionSegmenter, dice
from train.data import DataError, Pair, check_pairs, load_arrays, read_pairs
from train.distances import fd_at_n, kernel_distance
from train.features import Features, resized
from train.segment import ORGANS
from train.synthesis import SamplingConfig, Synthesiser, seed_of, untrained
from train.vae import psnr
from train.vgg_unet import VggSegmenter


class FinalSplitError(DataError):
    """The test split was asked for without saying that this is the final measurement."""


@dataclass(frozen=True)
class EvaluateConfig:
    """Measure a model on a split of real data."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files."""
    model: Path
    """Model folder."""
    segmenter: Path = Path("runs/segment/vgg16/model")
    """Folder of the independent VGG16 U-Net (python -m train segment --architecture vgg16)."""
    prompt: str | None = None
    """Prompt of folders that are not a known data set."""
    weights: Path = Path("../shared/weights")
    """Folder of the perceptual weights."""
    split: Literal["val", "test"] = "val"
    final: bool = False
    """Needed for the test split. Each such measurement is recorded in the model folder."""
    out: Path = Path("metrics.json")
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
        raise FinalSplitError("the test split is measured once for a finished model: choose with --split val, then pass --final.")
    train, split = (read_pairs(config.data, s, config.prompt) for s in ("train", config.split))
    check_pairs(train + split)
    organs = _by_organ(train, split)
    count = min(config.images, *(len(pairs) for both in organs.values() for pairs in both))
    print(f"{config.split}: {', '.join(f'{len(s)} {o}' for o, (_, s) in organs.items())} pairs; N = {count} images of each", flush=True)

    model = MaskDiffusion.from_pretrained(config.model)
    identity = weights_hash(config.model)
    segmenter = VggSegmenter.from_pretrained(config.segmenter, model.device)
    features = Features(config.weights, config.size, config.cache / "features", model.device)
    trained = Synthesiser(model, config.sampling, identity, config.cache)
    fresh = Synthesiser(MaskDiffusion(untrained(model.checkpoint, config.seed), model.device), config.sampling,
                        f"{identity} untrained {config.seed}", config.cache)

    metrics: dict[str, dict[str, float]] = {"autoencoder": measure_autoencoder(model, split, config.size, features)}
    for organ, (own_train, own_split) in organs.items():
        metrics[organ] = measure_organ(organ, own_train, chosen(own_split, count, config.seed), trained, fresh, segmenter, features, config)
    _record(config, identity, {"n": count, "sampling": trained.record, "model_weights": identity,
                               "segmenter_weights": weights_hash(config.segmenter)}, metrics)
    return metrics


def _by_organ(train: list[Pair], split: list[Pair]) -> dict[str, tuple[list[Pair], list[Pair]]]:
    """Training pairs and the split's, by organ; other prompts than the known ones name themselves."""
    names = sorted({ORGANS.get(p.prompt, p.prompt) for p in train + split}, reverse=True)  # polyp, then lesion
    organs = {name: tuple([p for p in pairs if ORGANS.get(p.prompt, p.prompt) == name] for pairs in (train, split)) for name in names}
    for name, pairs in organs.items():
        if min(map(len, pairs)) < 2:
            raise DataError(f"{name}: {len(pairs[0])} training pairs and {len(pairs[1])} in the split; two of each are needed.")
    return organs


def chosen(pairs: list[Pair], count: int, seed: int) -> list[Pair]:
    """``count`` of ``pairs``, drawn with ``seed``, in their order."""
    return [pairs[i] for i in sorted(np.random.default_rng(seed).permutation(len(pairs))[:count])]


@torch.inference_mode()
def measure_autoencoder(model: MaskDiffusion, pairs: list[Pair], size: int, features: Features, batch: int = 8) -> dict[str, float]:
    """Mean PSNR (dB) and LPIPS (AlexNet) of the reconstructions of all ``pairs``' images at ``size`` pixels."""
    vae, ratios, distances = model.checkpoint.vae, [], []
    for start in range(0, len(pairs), batch):
        images, _ = load_arrays(pairs[start:start + batch], size)
        x = image_hint(images).mul(2).sub(1).to(model.device)
        mean, _ = encode_moments(vae, x)
        y = decode_latents(vae, mean)
        ratios.append(psnr(x, y).cpu())
        distances.append(features.alexnet(y, x).cpu())
    return {"psnr": float(torch.cat(ratios).mean()), "lpips": float(torch.cat(distances).mean())}


def measure_organ(organ: str, train: list[Pair], pairs: list[Pair], trained: Synthesiser, fresh: Synthesiser, segmenter: LesionSegmenter,
                  features: Features, config: EvaluateConfig) -> dict[str, float]:
    """One organ's figures on ``pairs`` (N of the split), against its training images."""
    count, side = len(pairs), trained.model.size
    images, masks = load_arrays(pairs, side)
    prompts = [p.prompt for p in pairs]
    seeds = [seed_of(config.seed, i, 0) for i in range(count)]
    synthetic = trained.images(f"{organ}: one image a mask", masks, prompts, seeds)
    noise = fresh.images(f"{organ}: untrained model", masks, prompts, seeds)
    diversity = measure_diversity(organ, masks, prompts, trained, features, config)
    real = features.pooled_of_pairs(train, f"{organ}: features of training images")
    held_out = features.pooled_of_pairs(pairs, f"{organ}: features of {config.split} images")
    print(f"{organ}: distances and agreement", flush=True)
    fake = features.pooled(synthetic)
    frechet = {"": fake, "_floor": held_out, "_ceiling": features.pooled(noise)}
    return {**{f"fd_vgg16{name}": fd_at_n(real, other, count, config.draws, config.seed) for name, other in frechet.items()},
            "kd_vgg16": kernel_distance(fake, real),
            "mask_agreement": agreement(segmenter, synthetic, masks),
            "mask_agreement_real": agreement(segmenter, images, masks),
            "diversity_lpips": diversity}


def measure_diversity(organ: str, masks: np.ndarray, prompts: list[str], trained: Synthesiser, features: Features, config: EvaluateConfig) -> float:
    """Mean LPIPS between images of the same mask, over masks spread evenly; 0 where the mask alone determines the image."""
    picked = np.unique(np.linspace(0, len(masks) - 1, min(config.diversity_masks, len(masks))).astype(int))
    plan = [(i, v) for i in picked for v in range(1, config.diversity_images + 1)]  # variant 0 is the one of the other figures
    index = [i for i, _ in plan]
    images = trained.images(f"{organ}: diversity", masks[index], [prompts[i] for i in index], [seed_of(config.seed, int(i), v) for i, v in plan])
    return float(np.mean([features.pairwise_lpips(resized(group, config.size)) for group in np.split(images, len(picked))]))


def agreement(segmenter: LesionSegmenter, images: np.ndarray, masks: np.ndarray, batch: int = 16) -> float:
    """Mean Dice between ``masks`` uint8 [N, S, S] and what ``segmenter`` finds in ``images`` uint8 [N, S, S, 3]."""
    found = np.concatenate([segmenter.predict(images[i:i + batch]) for i in range(0, len(images), batch)])
    return float(dice(found, masks).mean())


def _record(config: EvaluateConfig, identity: str, settings: dict[str, Any], metrics: dict[str, dict[str, float]]) -> None:
    """Write figures and settings; for the test split, first the line that counts this measurement."""
    command = " ".join(["python -m train", *sys.argv[1:]])
    date = datetime.now(timezone.utc).isoformat(timespec="seconds")
    if config.split == "test":
        record = config.model / "test_measurements.jsonl"
        with open(record, "a", encoding="utf-8") as file:
            file.write(json.dumps({"date": date, "weights": identity, "command": command}) + "\n")
        lines = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
        print(f"test was measured {sum(r['weights'] == identity for r in lines)} times with these weights.")
    config.out.parent.mkdir(parents=True, exist_ok=True)
    config.out.write_text(json.dumps(metrics, indent=1) + "\n", encoding="utf-8")
    kept = {k: v for k, v in dataclasses.asdict(config).items() if k in ("split", "size", "draws", "diversity_masks", "diversity_images", "seed")}
    beside = config.out.with_name(f"{config.out.stem}-settings.json")
    beside.write_text(json.dumps(kept | settings | {"date": date, "command": command}, indent=1) + "\n", encoding="utf-8")


def main(config: EvaluateConfig) -> None:
    """Measure, write and print."""
    print(json.dumps(evaluate(config), indent=1))
