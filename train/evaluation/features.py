"""Perceptual features of uint8 images for the measurements: pooled VGG16 features and LPIPS, with what is costly cached."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from siamese.masks.core import resize_image
from siamese.models.dense_hint import image_hint
from siamese.models.modules import channels_last
from train.data.cache import cached_array, digest_of
from train.data.pairs import Pair, array_key, load_images
from train.networks.lpips import Backbone, PerceptualNetwork, load_perceptual


def resized(images: np.ndarray, size: int) -> np.ndarray:
    """uint8 [N, size, size, 3] of uint8 [N, H, W, 3], bilinear antialiased."""
    return images if images.shape[1:3] == (size, size) else np.stack([resize_image(x, size) for x in images])


class PooledFeatures(ABC):
    """Pooled features of one network, the part that all networks share: the cache of real images' features.

    Args:
        name: the network's, in the names of cached files.
        digest: short digest of its weights and of all that its features depend on besides the images.
        size: side in pixels to which images are read, before what the network itself asks for.
        cache: folder of the cached features of real images.
    """

    def __init__(self, name: str, digest: str, size: int, cache: Path) -> None:
        self.name, self.digest, self.size, self.cache = name, digest, size, cache

    @abstractmethod
    def pooled(self, images: np.ndarray) -> np.ndarray:
        """Features float32 [N, D] of uint8 [N, H, W, 3]."""

    def pooled_of_pairs(self, pairs: Sequence[Pair], title: str, chunk: int = 64) -> np.ndarray:
        """``pooled`` of real images, read and cached chunk by chunk: [len(pairs), D]."""
        found = []
        for start in tqdm(range(0, len(pairs), chunk), desc=title, unit="chunk"):
            some = pairs[start : start + chunk]
            file = self.cache / f"{self.name}-{digest_of(array_key(some), self.digest, self.size)}.npz"
            found.append(cached_array(file, lambda some=some: self.pooled(load_images(some, self.size))))
        return np.concatenate(found)


class Features(PooledFeatures):
    """VGG16 for pooled features and AlexNet for LPIPS, both at ``size`` pixels.

    Args:
        weights: folder of the perceptual weights.
        cache: folder of the cached features of real images.
    """

    def __init__(self, weights: Path, size: int, cache: Path, device: torch.device, batch: int = 8) -> None:
        self.device, self.batch = device, batch
        self.vgg16, self.alexnet = self._load("vgg16", weights), self._load("alexnet", weights)
        digest = hashlib.sha256((weights / "vgg16_lpips.safetensors").read_bytes()).hexdigest()[:16]
        super().__init__("vgg16", digest, size, cache)

    def _load(self, backbone: Backbone, weights: Path) -> PerceptualNetwork:
        return channels_last(load_perceptual(backbone, weights), self.device)

    def tensor(self, images: np.ndarray) -> Tensor:
        """[B, 3, S, S] in -1..1 of uint8 [B, H, W, 3]."""
        x = image_hint(resized(images, self.size)).mul(2).sub(1)
        return x.to(self.device, memory_format=torch.channels_last)

    @torch.inference_mode()
    def pooled(self, images: np.ndarray) -> np.ndarray:
        """Mean-pooled last convolution of VGG16, float32 [N, D], of uint8 [N, H, W, 3]."""
        return np.concatenate(
            [
                self.vgg16.pooled(self.tensor(images[i : i + self.batch])).float().cpu().numpy()
                for i in range(0, len(images), self.batch)
            ]
        )

    @torch.inference_mode()
    def lpips(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """LPIPS (AlexNet) float32 [N] of images uint8 [N, H, W, 3]."""
        return np.concatenate(
            [
                self.alexnet(self.tensor(a[i : i + self.batch]), self.tensor(b[i : i + self.batch]))
                .float()
                .cpu()
                .numpy()
                for i in range(0, len(a), self.batch)
            ]
        )

    @torch.inference_mode()
    def pairwise_lpips(self, images: np.ndarray) -> float:
        """Mean LPIPS (AlexNet) over all pairs of uint8 [K, H, W, 3]; each image's features are taken once.

        Raises:
            ValueError: fewer than two images.
        """
        if len(images) < 2:
            raise ValueError(f"{len(images)} image has no pair to be compared with.")
        first, second = (list(x) for x in zip(*combinations(range(len(images)), 2), strict=True))
        features = self.alexnet.features(self.tensor(images))
        return float(
            self.alexnet.distance([f[first] for f in features], [f[second] for f in features]).mean()
        )
