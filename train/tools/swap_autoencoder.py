"""Move a trained model to another autoencoder of the same size, so that its training continues instead of starting over.

The new latents are rotated (not stretched: noise must stay white) to agree best with the old ones, and the rotation goes
into the first and the last convolutions. Channels that the old latents lack have no effect at first (zero weights).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from siamese.models.autoencoder import SmallAutoencoder, downsampling, encode_moments, latent_channels
from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.dense_hint import image_hint
from siamese.models.modules import bias_of
from train.data.pairs import check_pairs, load_images, read_pairs


@dataclass(frozen=True)
class SwapConfig:
    """Move a model to another autoencoder; go on training it afterwards with train base or train siamese."""

    init: Path
    """Model folder."""
    vae: Path
    """Folder of the autoencoder that the model is to work with (diffusers format)."""
    data: tuple[Path, ...]
    """Folders whose training images show how the two latent spaces correspond."""
    out: Path
    """Folder of the model to write."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    images: int = 256
    """Training images to compare."""


def procrustes_rotation(old: Tensor, new: Tensor) -> Tensor:
    """Q [c, C] with orthonormal rows (columns if c > C) for which Q new covaries most with ``old``: latents [N, C] and [N, c] of the same places.

    Orthogonal Procrustes problem (Schönemann 1966, Psychometrika 31, 1-10), solved exactly for white ``new``. Means are not compared.
    """
    covariance = (old - old.mean(0)).T @ (new - new.mean(0))
    u, _, vh = torch.linalg.svd(covariance, full_matrices=False)
    return u @ vh


def _geometry(conv: nn.Conv2d) -> Any:
    """Kernel, stride and padding: PyTorch annotates them as tuples of any length and takes pairs."""
    return conv.kernel_size, conv.stride, conv.padding


@torch.no_grad()
def rotate_input(conv: nn.Conv2d, rotation: Tensor) -> nn.Conv2d:
    """``conv`` for inputs that ``rotation`` [c, C] maps to its own."""
    made = nn.Conv2d(rotation.shape[1], conv.out_channels, *_geometry(conv))
    made.weight.copy_(torch.einsum("ockl,cd->odkl", conv.weight, rotation.to(conv.weight)))
    bias_of(made).copy_(bias_of(conv))
    return made


@torch.no_grad()
def rotate_output(conv: nn.Conv2d, rotation: Tensor) -> nn.Conv2d:
    """``conv`` with outputs rotated back by the transpose of ``rotation`` [c, C]."""
    made = nn.Conv2d(conv.in_channels, rotation.shape[1], *_geometry(conv))
    made.weight.copy_(torch.einsum("cikl,cd->dikl", conv.weight, rotation.to(conv.weight)))
    bias_of(made).copy_(rotation.T.to(bias_of(conv)) @ bias_of(conv))
    return made


def swap_autoencoder(
    unet: UNet2DConditionModel, controlnet: SiameseControlNet | None, rotation: Tensor
) -> None:
    """Let both networks work on latents that ``rotation`` [c, C] maps to those that they know."""
    unet.conv_in, unet.conv_out = rotate_input(unet.conv_in, rotation), rotate_output(unet.conv_out, rotation)
    unet.register_to_config(in_channels=rotation.shape[1], out_channels=rotation.shape[1])
    if controlnet is not None:
        controlnet.conv_in = rotate_input(controlnet.conv_in, rotation)
        controlnet.register_to_config(in_channels=rotation.shape[1])


@torch.no_grad()
def latents_of(vae: nn.Module, images: np.ndarray) -> Tensor:
    """Scaled latents [places, C] of uint8 images [N, H, W, 3]."""
    found: Sequence[Tensor] = [
        encode_moments(vae, image_hint(images[i : i + 8]).mul(2).sub(1))[0] for i in range(0, len(images), 8)
    ]
    return torch.cat(found).permute(0, 2, 3, 1).flatten(0, 2)


def main(config: SwapConfig) -> None:
    """Rotate and write."""
    checkpoint = load_checkpoint(config.init)
    vae = SmallAutoencoder.from_pretrained(config.vae).eval()
    if downsampling(vae) != downsampling(checkpoint.vae):
        raise ValueError(
            f"{config.vae} makes sides {downsampling(vae)} times smaller, the model's autoencoder {downsampling(checkpoint.vae)} times; "
            "only autoencoders of the same factor can take each other's place."
        )
    pairs = read_pairs(config.data, "train", config.prompt)
    pairs = [pairs[i] for i in np.linspace(0, len(pairs) - 1, min(config.images, len(pairs))).astype(int)]
    check_pairs(pairs)
    images = load_images(pairs, checkpoint.image_size)
    old, new = latents_of(checkpoint.vae, images), latents_of(vae, images)
    rotation = procrustes_rotation(old, new)
    centred, rotated = old - old.mean(0), (new - new.mean(0)) @ rotation.T
    agreement = [
        float(torch.corrcoef(torch.stack([centred[:, c], rotated[:, c]]))[0, 1]) for c in range(old.shape[1])
    ]
    print(
        "correlation of the old latent channels with the rotated new ones: "
        + " ".join(f"{a:.2f}" for a in agreement)
    )
    swap_autoencoder(checkpoint.unet, checkpoint.controlnet, rotation)
    checkpoint.vae = vae
    save_checkpoint(checkpoint, config.out)
    print(
        f"{config.out}: {latent_channels(vae)} latent channels instead of {old.shape[1]}; now train it further."
    )
