"""Training examples on the device: posterior moments of latents, uint8 hints, prompts, and flips and turns of all of them.

Latents are encoded once and cached on disk; what is cached is mean and log-variance, never one sample of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from siamese.files.atomic import remove_left_overs, replacing
from siamese.models.autoencoder import encode_moments, latent_channels
from siamese.models.modules import config_of
from siamese.records.prompts import LESION
from train.data.pairs import Pair, array_key, load_arrays
from train.engine.device_array import FLIP, DeviceArray, turned
from train.engine.disk import writing
from train.engine.precision import Precision, resolved
from train.engine.randomness import sent

# Dermoscopy has no up; in colonoscopy corners, overlays and light have fixed places in the frame, so only left-right.
_DERMOSCOPY, _OTHER = tuple(range(8)), (0, FLIP)


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
    """``variants`` versions of N pairs: moments [V, N, C, h, w], hints [N, S, S(, 3)], codes [V, N], prompts.

    They are given as arrays and lie on the device from their first use on: images and masks as uint8, 4 S^2 bytes a pair,
    moments as ``latent_dtype``. 2,872 pairs at 256 pixels take 0.75 GB and two variants of ``tiny``'s latents 0.19 GB more
    in float32 (half of it in bfloat16); at the paper's 384 pixels 1.7 GB, and two variants' moments of ``sd15`` 0.42 GB.
    """

    mean: np.ndarray
    logvar: np.ndarray | None
    images: np.ndarray
    masks: np.ndarray
    codes: np.ndarray
    prompts: list[str]
    latent_dtype: torch.dtype = torch.float32

    def __len__(self) -> int:
        return self.mean.shape[1]

    @cached_property
    def _held(self) -> dict[str, DeviceArray]:
        moments = {"mean": self.mean} if self.logvar is None else {"mean": self.mean, "logvar": self.logvar}
        flat = {
            name: DeviceArray(array.reshape(-1, *array.shape[2:]), self.latent_dtype)
            for name, array in moments.items()
        }
        return flat | {"images": DeviceArray(self.images), "masks": DeviceArray(self.masks)}

    def latents(
        self, index: np.ndarray, variant: np.ndarray, device: torch.device
    ) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance float32 [B, C, h, w] of the chosen variants."""
        rows = sent(np.asarray(variant) * len(self) + np.asarray(index), device)
        chosen = [
            self._held[name].on(device).index_select(0, rows).float()
            for name in ("mean", "logvar")
            if name in self._held
        ]
        return chosen[0], chosen[1] if self.logvar is not None else None

    def hints(self, index: np.ndarray, variant: np.ndarray, device: torch.device) -> tuple[Tensor, Tensor]:
        """Mask and image hints float32 [B, 3, S, S] in 0..1 of the chosen variants, channels last."""
        index = np.asarray(index)
        codes = self.codes[variant, index]
        masks, images = (turned(self._held[name].on(device), index, codes) for name in ("masks", "images"))
        mask = masks[:, None].float().div(255).expand(-1, 3, -1, -1)
        return mask.contiguous(memory_format=torch.channels_last), images.permute(0, 3, 1, 2).float().div(255)


def latent_dtype(mixed_precision: Precision) -> torch.dtype:
    """bfloat16 for latents of a run whose networks round their inputs to it anyway, otherwise float32."""
    return torch.bfloat16 if resolved(mixed_precision) == "bf16" else torch.float32


def load_examples(
    pairs: Sequence[Pair],
    vae: nn.Module,
    size: int,
    variants: int,
    cache: Path,
    augment: bool = True,
    dtype: torch.dtype = torch.float32,
) -> Examples:
    """Read ``pairs`` and encode them with ``vae`` (or read the cache of an earlier run on the same files and weights).

    ``dtype`` is what the latents lie on the device as.
    """
    images, masks = load_arrays(pairs, size)
    codes = np.stack([variant_codes(pairs, v, augment) for v in range(variants)])
    weights = hashlib.sha256(
        f"{config_of(vae).scaling_factor} {latent_channels(vae)}".encode()
    )  # what is cached is scaled and packed
    for name, tensor in vae.state_dict().items():
        weights.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    files = array_key(pairs)
    means, logvars = [], []
    for v in range(variants):
        file = cache / f"{files}-{weights.hexdigest()[:16]}-{size}-{v}{'' if augment else '-plain'}.npz"
        if not file.is_file():
            mean, logvar = _encode(images, codes[v], vae, f"latents {v + 1}/{variants}")
            with writing(f"the cache of latents ({file})"):
                cache.mkdir(parents=True, exist_ok=True)
                remove_left_overs(cache)
                with replacing(file) as part:  # several processes may fill one cache
                    moments = {"mean": mean} if logvar is None else {"mean": mean, "logvar": logvar}
                    np.savez(part, **cast(dict[str, Any], moments))  # the stub takes a name for allow_pickle
        with np.load(file) as stored:
            means.append(stored["mean"])
            if "logvar" in stored:
                logvars.append(stored["logvar"])
    return Examples(
        mean=np.stack(means),
        logvar=np.stack(logvars) if logvars else None,
        images=images,
        masks=masks,
        codes=codes,
        prompts=[p.prompt for p in pairs],
        latent_dtype=dtype,
    )


@torch.no_grad()
def _encode(
    images: np.ndarray, codes: np.ndarray, vae: nn.Module, title: str, batch: int = 16
) -> tuple[np.ndarray, np.ndarray | None]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    home = next(vae.parameters()).device
    vae.to(device)
    means, logvars = [], []
    with tqdm(total=len(images), desc=title, unit="image") as bar:
        for start in range(0, len(images), batch):
            some = np.arange(start, min(start + batch, len(images)))
            x = turned(torch.from_numpy(images), some, codes[some]).to(device)
            mean, logvar = encode_moments(vae, x.permute(0, 3, 1, 2).float().div(255).mul(2).sub(1))
            means.append(mean.float().cpu().numpy())
            if logvar is not None:
                logvars.append(logvar.float().cpu().numpy())
            bar.update(len(some))
    vae.to(home)
    return np.concatenate(means), np.concatenate(logvars) if logvars else None
