"""Training examples in memory: posterior moments of latents, uint8 hints, prompts, and flips and turns of all of them.

Latents are encoded once and cached on disk; what is cached is mean and log-variance, never one sample of them.
"""
from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from siamese.hints import image_hint, mask_hint
from siamese.models.autoencoder import encode_moments, latent_channels
from siamese.prompts import LESION
from train.data import Pair, fingerprint, load_arrays

# Dermoscopy has no up; in colonoscopy the frame's corners, overlays and light are where they are, so only left-right.
FLIP = 4
_DERMOSCOPY, _OTHER = tuple(range(8)), (0, FLIP)


def dihedral(array: np.ndarray, code: int) -> np.ndarray:
    """Turn [H, W, ...] by ``code % 4`` quarter turns, after a left-right flip where ``code`` >= 4."""
    return np.rot90(array[:, ::-1] if code >= FLIP else array, code % 4)


def variant_codes(pairs: Sequence[Pair], variant: int, augment: bool) -> np.ndarray:
    """Which flip or turn is each pair's variant number ``variant``; variant 0 is the image itself."""
    if variant == 0 or not augment:
        return np.zeros(len(pairs), int)
    codes = []
    for pair in pairs:
        allowed = _DERMOSCOPY if pair.prompt == LESION else _OTHER
        start = hashlib.sha256(pair.name.encode()).digest()[0] % (len(allowed) - 1)
        codes.append(allowed[1 + (start + variant - 1) % (len(allowed) - 1)])
    return np.array(codes)


@dataclass
class Examples:
    """``variants`` versions of N pairs: moments [V, N, C, h, w], hints [N, S, S(, 3)], codes [V, N], prompts."""

    mean: np.ndarray
    logvar: np.ndarray | None
    images: np.ndarray
    masks: np.ndarray
    codes: np.ndarray
    prompts: list[str]

    def __len__(self) -> int:
        return self.mean.shape[1]

    def latents(self, index: Sequence[int], variant: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance [B, C, h, w] of the chosen variants."""
        mean = torch.from_numpy(self.mean[variant, index]).float().to(device)
        return mean, None if self.logvar is None else torch.from_numpy(self.logvar[variant, index]).float().to(device)

    def hints(self, index: Sequence[int], variant: Sequence[int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Mask and image hints [B, 3, S, S] in 0..1 of the chosen variants."""
        codes = self.codes[variant, index]
        masks = np.stack([dihedral(self.masks[i], c) for i, c in zip(index, codes)])
        images = np.stack([dihedral(self.images[i], c) for i, c in zip(index, codes)])
        return mask_hint(masks).to(device), image_hint(images).to(device)


def load_examples(pairs: Sequence[Pair], vae: nn.Module, size: int, variants: int, cache: Path, augment: bool = True) -> Examples:
    """Read ``pairs`` and encode them with ``vae`` (or read the cache of an earlier run on the same files and weights)."""
    images, masks = load_arrays(pairs, size)
    codes = np.stack([variant_codes(pairs, v, augment) for v in range(variants)])
    weights = hashlib.sha256(f"{vae.config.scaling_factor} {latent_channels(vae)}".encode())  # what is cached is scaled and packed
    for name, tensor in vae.state_dict().items():
        weights.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    files = fingerprint(pairs)
    means, logvars = [], []
    for v in range(variants):
        file = cache / f"{files}-{weights.hexdigest()[:16]}-{size}-{v}{'' if augment else '-plain'}.npz"
        if not file.is_file():
            mean, logvar = _encode([dihedral(x, c) for x, c in zip(images, codes[v])], vae, f"latents {v + 1}/{variants}")
            cache.mkdir(parents=True, exist_ok=True)
            part = file.with_suffix(f".{os.getpid()}.part.npz")  # several processes may fill one cache
            np.savez(part, mean=mean, **({} if logvar is None else {"logvar": logvar}))
            part.replace(file)
        with np.load(file) as stored:
            means.append(stored["mean"])
            if "logvar" in stored:
                logvars.append(stored["logvar"])
    return Examples(np.stack(means), np.stack(logvars) if logvars else None, images, masks, codes, [p.prompt for p in pairs])


@torch.no_grad()
def _encode(images: Sequence[np.ndarray], vae: nn.Module, title: str, batch: int = 16) -> tuple[np.ndarray, np.ndarray | None]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    home = next(vae.parameters()).device
    vae.to(device)
    means, logvars = [], []
    for start in tqdm(range(0, len(images), batch), desc=title, unit_scale=batch, unit="image"):
        x = image_hint(np.stack(images[start:start + batch])).mul(2).sub(1)
        mean, logvar = encode_moments(vae, x.to(device, memory_format=torch.channels_last))
        means.append(mean.float().cpu().numpy())
        if logvar is not None:
            logvars.append(logvar.float().cpu().numpy())
    vae.to(home)
    return np.concatenate(means), np.concatenate(logvars) if logvars else None
