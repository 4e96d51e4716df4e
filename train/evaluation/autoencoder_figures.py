"""What an autoencoder alone loses: reconstructions of real images, and their distances to real training images.

For the evaluation of a whole model, and for the autoencoder's own training (``measure_autoencoder``). Nothing here is part of a loss.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from siamese.models.autoencoder import decode_latents, encode_moments
from siamese.models.dense_hint import image_hint
from siamese.models.modules import config_of
from siamese.sampling import to_uint8
from train.data.cache import cached_arrays, digest_of
from train.data.pairs import Pair, array_key, load_images
from train.evaluation.comparison import Comparison, chosen, equal_count
from train.evaluation.efficientnet import EfficientNetFeatures
from train.evaluation.features import Features
from train.evaluation.spectrum import MIN_SIDE, latent_high_low_power, unpacked_latents


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio [B] in dB of images [B, 3, H, W] in -1..1."""
    return -10 * torch.log10(((a - b) / 2).square().mean((1, 2, 3)).clamp_min(1e-12))


@dataclass(frozen=True)
class Reconstructions:
    """N images encoded (to the posterior's mean) and decoded.

    Attributes:
        images: uint8 [N, S, S, 3].
        scores: float32 [N, 2]: PSNR in dB and LPIPS (AlexNet) of each, before rounding to uint8.
        latents: float32 [N, C, h, w], scaled, not packed.
    """

    images: np.ndarray
    scores: np.ndarray
    latents: np.ndarray

    def figures(self) -> dict[str, float]:
        """Means: ``psnr`` and ``lpips``."""
        return {"psnr": float(self.scores[:, 0].mean()), "lpips": float(self.scores[:, 1].mean())}

    def part(self, index: Sequence[int]) -> Reconstructions:
        """Those of ``index``."""
        return Reconstructions(self.images[index], self.scores[index], self.latents[index])


def joined(parts: Sequence[Reconstructions]) -> Reconstructions:
    """All of ``parts``, one after the other."""
    return Reconstructions(
        *(np.concatenate([getattr(p, name) for p in parts]) for name in ("images", "scores", "latents"))
    )


def whiteness(latents: np.ndarray) -> dict[str, float]:
    """``latent_high_low_power`` of latents [N, C, h, w] that are not packed; left out, with a printed line, if they are too small for it."""
    if min(latents.shape[2:]) < MIN_SIDE:
        print(
            f"no latent_high_low_power: latents of {latents.shape[2]} x {latents.shape[3]} have no low frequencies.",
            flush=True,
        )
        return {}
    return {"latent_high_low_power": latent_high_low_power(torch.from_numpy(latents))}


def reconstruct(
    vae: nn.Module,
    pairs: Sequence[Pair],
    features: Features,
    title: str,
    cache: Path | None = None,
    chunk: int = 64,
) -> Reconstructions:
    """The reconstructions of the images of ``pairs``, read at ``features.size`` pixels.

    Args:
        vae: Stable Diffusion's autoencoder or ``SmallAutoencoder``, on any device.
        features: whose AlexNet gives LPIPS.
        title: what is printed before.
        cache: folder in which they are kept, by the weights and the images' content; none: nothing is kept.
    """
    print(title, flush=True)
    weights, parts = "" if cache is None else _weights_digest(vae), []
    for start in range(0, len(pairs), chunk):
        some = pairs[start : start + chunk]
        if cache is None:
            parts.append(_reconstructed(vae, some, features))
        else:
            file = (
                cache
                / f"autoencoder-{digest_of(array_key(some), weights, features.digest, features.size)}.npz"
            )
            parts.append(
                Reconstructions(
                    **cached_arrays(file, lambda some=some: vars(_reconstructed(vae, some, features)))
                )
            )
    return joined(parts)


@torch.inference_mode()
def _reconstructed(
    vae: nn.Module, pairs: Sequence[Pair], features: Features, batch: int = 8
) -> Reconstructions:
    """The reconstructions of the images of ``pairs``, in memory at once."""
    images, device, parts = load_images(pairs, features.size), next(vae.parameters()).device, []
    for start in range(0, len(images), batch):
        x = (
            image_hint(images[start : start + batch])
            .mul(2)
            .sub(1)
            .to(device, memory_format=torch.channels_last)
        )
        mean, _ = encode_moments(vae, x)
        y = decode_latents(vae, mean)
        lpips = features.alexnet(y.float().to(features.device), x.to(features.device))
        scores = torch.stack([psnr(x, y).float().cpu(), lpips.float().cpu()], 1)
        parts.append(
            Reconstructions(to_uint8(y), scores.numpy(), unpacked_latents(mean, vae).float().cpu().numpy())
        )
    return joined(parts)


def _weights_digest(vae: nn.Module) -> str:
    """Short digest of all weights and the configuration."""
    digest = hashlib.sha256(
        str(sorted((k, str(v)) for k, v in config_of(vae).items() if not k.startswith("_"))).encode()
    )
    for name, tensor in vae.state_dict().items():
        digest.update(name.encode() + tensor.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def measure_autoencoder(
    vae: nn.Module,
    organs: dict[str, tuple[list[Pair], list[Pair]]],
    features: Features,
    efficientnet: EfficientNetFeatures | None = None,
    images: int = 155,
    draws: int = 20,
    seed: int = 0,
) -> dict[str, dict[str, float]]:
    """Figures of an autoencoder on N images of each organ's split, N as in the evaluation of a model with the same arguments.

    Args:
        vae: in evaluation mode; its device and weights are left as they are.
        organs: training pairs and the split's of each organ (``by_organ``).
        features: VGG16 and AlexNet. Making it raises FileNotFoundError, with the file and folder to provide, when the perceptual weights are missing:
            the caller decides what is measured without them.
        efficientnet: further features; none: their figures are left out.
        images: N, lowered for all organs to what the smallest set has.
        draws, seed: as in ``fd_at_n``.

    Returns:
        ``autoencoder``: ``psnr`` (dB), ``lpips`` and ``latent_high_low_power`` of all organs' N images together. Each organ: ``psnr``,
        ``lpips``, and for each network ``fd_{network}_floor`` (real split against real train), ``fd_{network}_autoencoder`` (reconstructions
        against real train) and ``fd_{network}_ratio``, the latter over the former. vgg16, then efficientnet_lite0.
    """
    count, families = (
        equal_count(organs, images),
        [features] + ([efficientnet] if efficientnet is not None else []),
    )
    measured: dict[str, dict[str, float]] = {"autoencoder": {}}
    made = []
    for organ, (train, split) in organs.items():
        pairs = chosen(split, count, seed)
        made.append(reconstruct(vae, pairs, features, f"{organ}: {count} reconstructions"))
        comparison = Comparison(
            organ=organ, train=train, pairs=pairs, families=families, draws=draws, seed=seed
        )
        measured[organ] = (
            made[-1].figures()
            | comparison.frechet(None, "_floor")
            | comparison.frechet(made[-1].images, "_autoencoder")
        )
        for family in families:
            name = f"fd_{family.name}"
            measured[organ][f"{name}_ratio"] = (
                measured[organ][f"{name}_autoencoder"] / measured[organ][f"{name}_floor"]
            )
    together = joined(made)
    measured["autoencoder"] = together.figures() | whiteness(together.latents)
    return measured
