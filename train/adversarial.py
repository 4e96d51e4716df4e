"""Adversarial loss of the autoencoder: a discriminator of patches makes blurred reconstructions costly.

L1 and LPIPS alone leave texture out, which the Frechet distance of the reconstructions shows at once.
"""
from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PatchDiscriminator(nn.Module):
    """Logits [B, 1, H / 8, W / 8] of "real" from images [B, 3, H, W] in -1..1 (Isola et al. 2017, arXiv:1611.07004)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width)
        layers: list[nn.Module] = [nn.Conv2d(3, width, 4, 2, 1), nn.LeakyReLU(0.2)]
        for inputs, outputs in zip(widths, widths[1:]):
            layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.GroupNorm(8, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        return self.layers(images)


class AdversarialLoss(nn.Module):
    """Hinge loss of the discriminator, and what the autoencoder minimises (Lim & Ye 2017, arXiv:1705.02894).

    Both are terms of one loss and one optimiser: the autoencoder's term runs through aliases of the discriminator's parameters
    that take no gradient, the discriminator's term sees reconstructions as constants.
    """

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = PatchDiscriminator()
        self.build_tied()

    def build_tied(self) -> None:
        """(Re)make the aliases. To be called after anything that moves parameters, accelerate's prepare among it."""
        aliases = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in self.discriminator.parameters()}
        self._tied = [copy.deepcopy(self.discriminator, memo=aliases)]  # in a list: no module of its own

    def forward(self, images: Tensor, reconstruction: Tensor) -> dict[str, Tensor]:
        """``discriminator`` and ``adversarial``, scalars, of images and reconstructions [B, 3, H, W] in -1..1."""
        real, fake = self.discriminator(torch.cat([images, reconstruction.detach()])).float().chunk(2)
        return {"discriminator": 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean()),
                "adversarial": -self._tied[0](reconstruction).float().mean()}
