"""How far a reconstruction is from its image: what autoencoder and decoder are trained on.

L1 and LPIPS blur texture that cannot be known from the latents. The statistics of AlexNet's features over a crop ask for it
(the texture term of DISTS, Ding et al. 2020, arXiv:2004.07728), wherever in the crop it lies.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from train.networks.lpips import PerceptualNetwork


def reconstruction_losses(
    reconstruction: Tensor,
    images: Tensor,
    offset: np.ndarray,
    perceptual: PerceptualNetwork | None,
    lpips_weight: float,
    colour_weight: float,
    texture_weight: float = 0.0,
) -> dict[str, Tensor]:
    """``l1``, ``colour`` (L1 of means over 8 x 8 pixels), ``lpips`` and ``texture`` if ``perceptual`` is given, and their weighted ``total``.

    ``reconstruction`` and ``images`` are [B, 3, H, W] in -1..1; AlexNet sees them from pixel ``offset`` [2] on.
    """
    losses = {"l1": F.l1_loss(reconstruction.float(), images)}
    losses["colour"] = F.l1_loss(F.avg_pool2d(reconstruction.float(), 8), F.avg_pool2d(images, 8))
    losses["total"] = losses["l1"] + colour_weight * losses["colour"]
    if perceptual is not None:
        # AlexNet steps 4 pixels at a time: at one offset the decoder would learn artefacts on that grid.
        top, left = offset.tolist()
        drawn, real = (perceptual.features(x[..., top:, left:]) for x in (reconstruction, images))
        losses["lpips"] = perceptual.distance(drawn, real).float().mean()
        losses["total"] = losses["total"] + lpips_weight * losses["lpips"]
        if texture_weight:
            losses["texture"] = texture_distance(drawn, real)
            losses["total"] = losses["total"] + texture_weight * losses["texture"]
    return losses


def texture_distance(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """How far means and standard deviations over the crop of features [B, C, h, w] are apart; a scalar, 0 or more.

    Squared differences, summed over channels, of the root-mean-square features of ``b`` (after DISTS's texture term, which compares
    the means of each channel; the position of texture within the crop plays no part).
    """
    terms: list[Tensor] = []
    for x, y in zip(a, b, strict=True):
        x, y = x.float(), y.float()
        scale = y.square().mean((2, 3)).sum(1)
        statistics = ((x.mean((2, 3)), y.mean((2, 3))), (x.std((2, 3)), y.std((2, 3))))
        mean, deviation = (((p - q).square().sum(1) / scale.clamp_min(1e-6)).mean() for p, q in statistics)
        terms.append(mean + deviation)
    return sum(terms[1:], terms[0]) / len(a)
