"""Writes the perceptual weights that training and evaluation read, from the files of torchvision and of LPIPS.

  python -m train.tools.perceptual_weights --convolutions alexnet-owt-7be5be79.pth --heads alex.pth --out weights
  python -m train.tools.perceptual_weights --convolutions vgg16-397923af.pth --heads vgg.pth --out weights

docs/data.md says where both files come from. No network is used here.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import tyro
from safetensors.torch import save_file
from torch import Tensor

from train.networks.lpips import Backbone, PerceptualNetwork

BACKBONES: dict[int, Backbone] = {5: "alexnet", 13: "vgg16"}
"""By the number of convolutions."""
_CONVOLUTION = re.compile(r"features\.(\d+)\.weight")
_HEAD = re.compile(r"lin(\d+)\.model\.\d+\.weight")


class WeightsError(ValueError):
    """A file is not what it was expected to be; the message says which file is needed."""


@dataclass(frozen=True)
class PerceptualWeightsConfig:
    """Write alexnet_lpips.safetensors or vgg16_lpips.safetensors."""

    convolutions: Path
    """torchvision's ImageNet weights: alexnet-owt-7be5be79.pth or vgg16-397923af.pth."""
    heads: Path
    """Linear heads of LPIPS v0.1 for the same network: alex.pth or vgg.pth."""
    out: Path = Path("weights")
    """Folder for the file."""


def converted(
    convolutions: Mapping[str, Tensor], heads: Mapping[str, Tensor]
) -> tuple[Backbone, dict[str, Tensor]]:
    """Backbone and weights, the convolutions' in float16: ``conv.N.weight|bias`` and ``lpips.N.weight``, as ``train.networks.lpips`` reads them.

    Args:
        convolutions: torchvision's state dict; ``features.I.weight`` [out, in, k, k] and ``features.I.bias`` [out] are taken.
        heads: state dict of LPIPS v0.1; ``linN.model.1.weight`` [1, C, 1, 1] of the five taps are taken.

    Raises:
        WeightsError: these are not the weights of AlexNet or VGG16, or the heads belong to the other network.
    """
    places = sorted(int(m[1]) for name in convolutions if (m := _CONVOLUTION.fullmatch(name)))
    backbone = BACKBONES.get(len(places))
    if backbone is None:
        raise WeightsError(
            f"--convolutions has {len(places)} convolutions named features.N.weight; AlexNet has 5 and VGG16 13. Give torchvision's "
            "alexnet-owt-7be5be79.pth or vgg16-397923af.pth."
        )
    taps = sorted((int(m[1]), name) for name in heads if (m := _HEAD.fullmatch(name)))
    if [number for number, _ in taps] != list(range(5)):
        raise WeightsError("--heads must have lin0 to lin4 of LPIPS v0.1; give alex.pth or vgg.pth.")
    weights = {
        f"conv.{n}.{kind}": convolutions[f"features.{place}.{kind}"]
        for n, place in enumerate(places)
        for kind in ("weight", "bias")
    } | {f"lpips.{number}.weight": heads[name] for number, name in taps}
    try:
        widths = PerceptualNetwork(backbone, weights).channels
    except RuntimeError as error:
        raise WeightsError(f"--convolutions is not torchvision's {backbone} ({error}).") from error
    found = tuple(heads[name].numel() for _, name in taps)
    if found != widths:
        raise WeightsError(
            f"--heads are for channels {found}, but {backbone} has {widths}; give the heads of {backbone}."
        )
    # Half precision halves the file; the few biases and heads cost nothing.
    return backbone, {
        name: (
            tensor.half() if name.startswith("conv.") and tensor.ndim == 4 else tensor.float()
        ).contiguous()
        for name, tensor in weights.items()
    }


def _read(file: Path) -> dict[str, Any]:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{file} does not exist; docs/data.md says where to get it.") from error
    except Exception as error:  # damage shows as errors of pickle, of zip, of torch and of the system
        raise WeightsError(f"{file} cannot be read as PyTorch weights ({type(error).__name__}).") from error


def main(config: PerceptualWeightsConfig) -> Path:
    """Convert and write; returns the file's path."""
    backbone, weights = converted(_read(config.convolutions), _read(config.heads))
    config.out.mkdir(parents=True, exist_ok=True)
    file = config.out / f"{backbone}_lpips.safetensors"
    save_file(weights, file)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB")
    return file


if __name__ == "__main__":
    try:
        main(tyro.cli(PerceptualWeightsConfig, description=__doc__))
    except WeightsError as error:
        sys.exit(str(error))
