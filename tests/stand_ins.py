"""Generated stand-ins for what tests may not need: images of lesions, perceptual weights, a tiny model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import Checkpoint, save_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import NetworkConfig
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.prompts import EMPTY, LESION, POLYP
from siamese.records.sampling_settings import SamplingSettings
from train.networks.lpips import _LAYOUT


def phantom(seed: int, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A dark ellipse on noisy bright ground: image uint8 [S, S, 3] and mask uint8 [S, S] of 0 / 255."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size
    centre, radii = rng.uniform(0.35, 0.65, 2), rng.uniform(0.12, 0.3, 2)
    inside = ((y - centre[0]) / radii[0]) ** 2 + ((x - centre[1]) / radii[1]) ** 2 < 1
    ground, lesion = rng.uniform(150, 220, 3), rng.uniform(30, 100, 3)
    image = np.where(inside[..., None], lesion, ground) + rng.normal(0, 8, (size, size, 3))
    return image.clip(0, 255).astype(np.uint8), np.where(inside, 255, 0).astype(np.uint8)


def write_set(folder: Path, splits: dict[str, int], first: int = 0, size: int = 48) -> Path:
    """A data set of phantoms in the folder layout, ``splits[name]`` of them in each split."""
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    number = first
    for split, count in splits.items():
        ids = [f"{i:03d}" for i in range(number, number + count)]
        number += count
        (folder / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for i in ids:
            image, mask = phantom(int(i), size)
            Image.fromarray(image).save(folder / "images" / f"{i}.png")
            Image.fromarray(mask).save(folder / "masks" / f"{i}.png")
    return folder


def write_perceptual(folder: Path, width: int = 8) -> Path:
    """Random perceptual weights in the format of the real ones, ``width`` channels everywhere."""
    folder.mkdir(parents=True)
    generator = torch.Generator().manual_seed(0)
    for backbone, layout in _LAYOUT.items():
        weights, inputs = {}, 3
        for i, (kernel, _, _) in enumerate(layout["convs"]):
            scale = (2 / (inputs * kernel**2)) ** 0.5
            weights[f"conv.{i}.weight"] = scale * torch.randn(
                width, inputs, kernel, kernel, generator=generator
            )
            weights[f"conv.{i}.bias"] = torch.zeros(width)
            inputs = width
        for i in range(len(layout["taps"])):
            weights[f"lpips.{i}.weight"] = torch.rand(1, width, 1, 1, generator=generator) / width
        save_file(weights, folder / f"{backbone}_lpips.safetensors")
    return folder


def write_model(folder: Path, size: int = 32) -> Path:
    """An untrained model of a few thousand weights, 2 steps by default."""
    torch.manual_seed(0)
    network = NetworkConfig(
        block_out_channels=(32, 32),
        attention=(False, True),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_heads=2,
        latent_channels=4,
        latent_size=size // 4,
        prediction="v_prediction",
        hint_mergings=2,
    )
    vae = SmallAutoencoder(
        widths=(8, 8, 8), encoder_layers=(1, 1, 1), decoder_layers=(1, 1, 1), latent_channels=4
    )
    unet = network.build_unet()
    controlnet = SiameseControlNet.from_unet(unet, (4, 8, 8, 8, 8), 2)
    context = PromptTable((POLYP, LESION, EMPTY), 16, 2)
    save_checkpoint(
        Checkpoint(
            vae,
            unet,
            controlnet,
            context,
            network.scheduler_config(),
            SamplingSettings(2, 2.0, "dpm++"),
            image_size=size,
        ),
        folder,
    )
    return folder
