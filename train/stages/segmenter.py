"""Segmentation stage: the small shipped segmenter, or the independent VGG16 U-Net that measures agreement."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from siamese.masks.core import outline
from siamese.masks.segmenter import CompactUNet, LesionSegmenter, dice
from siamese.models.modules import channels_last
from siamese.records.prompts import EMPTY
from train.data.organs import ORGANS, fixed_subset
from train.data.pairs import check_pairs, load_arrays, read_pairs
from train.engine import identity, loop
from train.engine.device_array import DeviceArray, turned
from train.engine.randomness import Draws, sent
from train.engine.sample_sheet import without_validation
from train.networks.lpips import load_perceptual
from train.networks.vgg_unet import VggSegmenter, VggUNet


@dataclass(frozen=True)
class SegmentConfig:
    """Train a segmentation network on image-mask pairs of all organs together."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files. Only the train split is learnt from."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    preset: Literal["tiny", "sd15"] | None = None
    """Take all settings that are not given by hand from this preset (``train.recipe.presets``); none: the defaults shown here."""
    architecture: Literal["small", "vgg16"] = "small"
    """small: the shipped network, from scratch. vgg16: U-Net on ImageNet's VGG16, for measurements only."""
    synthetic: tuple[Path, ...] = ()
    """Further pairs to learn from, made by ``python -m train sample`` (real + synthetic experiment)."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights (vgg16_lpips.safetensors); for vgg16 only."""
    trained_convs: int = 6
    """How many of VGG16's last convolutions learn (0..13); the others are frozen."""
    size: int = 128
    """Side in pixels that the network sees."""
    val_count: int = 60
    """Validation pairs of each organ; the same ones each time."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            out=Path("runs/segment"),
            max_steps=1200,
            batch_size=16,
            learning_rate=1e-3,
            betas=(0.9, 0.99),
            warmup_steps=20,
            schedule="cosine",
            clip_norm=1.0,
            ema_decay=0.99,
            mixed_precision="auto",
            evaluate_every=200,
            checkpoint_every=100,
        )
    )
    """The architecture's name is appended to ``out``. vgg16 learns from fewer updates: 360 are enough."""


class SegmentationLoss(nn.Module):
    """Binary cross-entropy + soft Dice (Milletari et al. 2016, arXiv:1606.04797) of a network's logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, batch: dict[str, Tensor], step: int, max_steps: int) -> dict[str, Tensor]:
        """Losses of ``images`` [B, 3, S, S] in -1..1 and ``masks`` [B, 1, S, S] in {0, 1}."""
        logits = self.network(batch["images"]).float()
        losses = {
            "bce": F.binary_cross_entropy_with_logits(logits, batch["masks"]),
            "dice": soft_dice_loss(logits, batch["masks"]),
        }
        return losses | {"total": losses["bce"] + losses["dice"]}


def soft_dice_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """1 - Dice of the probabilities, a scalar: the mean over images of logits and masks [B, 1, S, S].

    One pixel is added to both sides of the fraction: it stays defined if a crop has lost the lesion.
    """
    probability = logits.sigmoid()
    overlap, total = (probability * masks).sum((1, 2, 3)), (probability + masks).sum((1, 2, 3))
    return (1 - (2 * overlap + 1) / (total + 1)).mean()


def augment(images: Tensor, masks: Tensor, draws: Draws) -> tuple[Tensor, Tensor]:
    """Scale by 0.8 to 1.25 with a shift, brightness, contrast and tint of a batch, on its device.

    Args:
        images, masks: uint8 [B, S, S, 3] and [B, S, S] of 0 / 255.

    Returns:
        Images float32 [B, 3, S, S] in -1..1, channels last, and masks float32 [B, 1, S, S] in {0, 1}.
    """
    side, device = images.shape[1], images.device
    scale = 1.25 ** draws.uniform("scale", -1, 1)
    shift = (
        draws.uniform("shift", -0.16, 0.16, 2) * side / (side - 1)
    )  # up to 0.08 of the side; the grid is two wide
    affine = np.zeros((len(scale), 2, 3), np.float32)
    affine[:, 0, 0] = affine[:, 1, 1] = 1 / scale
    affine[:, :, 2] = -shift / scale[:, None]
    # Aligned corners: what lies outside is mirrored at the middle of the outermost pixels.
    grid = F.affine_grid(sent(affine, device), [len(scale), 1, side, side], align_corners=True)
    moved = F.grid_sample(
        images.permute(0, 3, 1, 2).float(), grid, "bilinear", "reflection", align_corners=True
    )
    found = F.grid_sample(masks[:, None].float(), grid, "nearest", "reflection", align_corners=True)
    contrast, brightness, tint = (
        sent(x.astype(np.float32), device).reshape(len(scale), -1, 1, 1)
        for x in (
            draws.uniform("contrast", 0.8, 1.2),
            draws.uniform("brightness", -20, 20),
            draws.uniform("tint", 0.94, 1.06, 3),
        )
    )
    coloured = ((moved - 127.5) * contrast + 127.5 + brightness) * tint
    return coloured.clamp(0, 255).div(127.5).sub(1).contiguous(memory_format=torch.channels_last), found.div(
        255
    )


class SegmentStage(loop.Stage):
    """What the loop needs to train a segmenter."""

    def __init__(self, config: SegmentConfig) -> None:
        self.config = config
        train, val = (
            read_pairs(config.data, "train", config.prompt),
            read_pairs(config.data, "val", config.prompt, required=False),
        )
        if config.synthetic:
            train = train + read_pairs(
                config.synthetic, "train", otherwise=EMPTY
            )  # the prompt plays no part in learning
        val = fixed_subset(val, config.val_count)
        check_pairs(train + val, size=config.size)
        self.began_with = identity.of_pairs(train, val)
        images, masks = load_arrays(train, config.size)
        some = np.linspace(0, len(train) - 1, min(8, len(train))).astype(int)
        self.shown = images[some], masks[some]  # on sheets, if there is no validation pair
        self.images, self.masks = DeviceArray(images), DeviceArray(masks)  # 4 S^2 bytes a pair on the device
        self.val_images, self.val_masks = load_arrays(val, config.size) if val else (None, None)
        self.val_organs = [ORGANS.get(p.prompt, p.prompt) for p in val]
        self.size = len(train)
        torch.manual_seed(config.loop.seed)
        if config.architecture == "small":
            self.segmenter = LesionSegmenter(CompactUNet(), config.size)
        else:
            encoder = load_perceptual("vgg16", config.weights)
            self.segmenter = VggSegmenter(
                VggUNet.from_perceptual(encoder, trained_convs=config.trained_convs), config.size
            )
        self.module = SegmentationLoss(channels_last(self.segmenter.network))

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Tensor]:
        """Pairs that are flipped and turned at random, then augmented."""
        codes = draws.integers("turn", 0, 8)
        images, masks = (turned(held.on(device), indices, codes) for held in (self.images, self.masks))
        images, masks = augment(images, masks, draws)
        return {"images": images, "masks": masks}

    def parameter_groups(self) -> list[loop.ParameterGroup]:
        """VGG16's pretrained convolutions learn more slowly than the decoder; the small network has one group."""
        network = self.segmenter.network
        return network.parameter_groups() if isinstance(network, VggUNet) else super().parameter_groups()

    @torch.no_grad()
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Mean Dice of each organ's validation pairs, and a sheet of eight predictions as outlines.

        Without validation pairs a sheet of training pairs alone.
        """
        if self.val_images is None or self.val_masks is None:
            without_validation("what is found in training images")
            images, masks = self.shown
            _add_outlines(
                "train",
                images=images,
                masks=masks,
                found=self.segmenter.predict(images),
                step=step,
                writer=writer,
            )
            return {}
        found = np.concatenate(
            [self.segmenter.predict(self.val_images[i : i + 16]) for i in range(0, len(self.val_images), 16)]
        )
        scores = defaultdict(list)
        for organ, score in zip(self.val_organs, dice(found, self.val_masks), strict=True):
            scores[organ].append(score)
        shown = np.linspace(0, len(found) - 1, min(8, len(found))).astype(int)
        _add_outlines(
            "val",
            images=self.val_images[shown],
            masks=self.val_masks[shown],
            found=found[shown],
            step=step,
            writer=writer,
        )
        return {f"dice_{organ}": float(np.mean(s)) for organ, s in scores.items()}

    def export(self, folder: Path) -> None:
        """Save the segmenter."""
        self.segmenter.save_pretrained(folder)


def _add_outlines(
    split: str, images: np.ndarray, masks: np.ndarray, found: np.ndarray, step: int, writer: SummaryWriter
) -> None:
    """A sheet of images with the outlines of their masks and of what was found."""
    sheet = [
        outline(outline(image, mask), own, (255, 200, 0))
        for image, mask, own in zip(images, masks, found, strict=True)
    ]
    writer.add_images(f"{split}/found", np.stack(sheet), step, dataformats="NHWC")


def main(config: SegmentConfig, reports: bool = True) -> int:
    """Train, export, and print what comes next if ``reports``; returns the updates done."""
    # Both are usually trained, one after the other, and the measurements expect them in folders of their own.
    settings = dataclasses.replace(config.loop, out=config.loop.out / config.architecture)
    config = dataclasses.replace(config, loop=settings)
    stage, model = SegmentStage(config), settings.out / "model"
    then = {
        "small": f"To put it beside a model:\n  python -m train publish --segmenter {model} --model ...",
        "vgg16": f"To measure with it:\n  python -m train evaluate --segmenter {model} --model ... --data ...",
    }[config.architecture]
    return loop.run(
        stage,
        settings,
        identity.facts_of(config) | stage.began_with,
        then if reports else None,
    )
