"""A discriminator of small heads on frozen AlexNet stages (Projected GAN), and the augmentation that it sees images through.

Projected GAN: Sauer et al. 2021, arXiv:2111.01007. Differentiable augmentation: Zhao et al. 2020, arXiv:2006.10738.
Gradient penalty: R1 of Mescheder et al. 2018, arXiv:1801.04406, here on the features that the heads see, which is cheap.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamese.models.unet import tied_copy
from train.networks.lpips import PerceptualNetwork


class ProjectedDiscriminator(nn.Module):
    """One head for each stage of a frozen backbone: how real each place of its features looks.

    Args:
        channels: channels of the backbone's stages.
        width: channels within a head.
    """

    def __init__(self, channels: Sequence[int], width: int = 64) -> None:
        super().__init__()
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(c, width, 1),
                nn.GroupNorm(8, width),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, width, 3, padding=1),
                nn.LeakyReLU(0.2),
                nn.Conv2d(width, 1, 1),
            )
            for c in channels
        )
        self.build_tied()

    def build_tied(self) -> list[nn.Module]:
        """(Re)make and return the copy that shares the weights but not their gradients: what the decoder's loss goes through."""
        self._tied: list[nn.Module] = [
            tied_copy(self.heads)
        ]  # in a list: its parameters are not the module's a second time
        return self._tied

    def forward(self, features: Sequence[Tensor], frozen: bool = False) -> list[Tensor]:
        """Opinions [B, 1, h, w] of each stage's features [B, C, h, w], high is real. ``frozen``: the heads get no gradient."""
        heads = cast(nn.ModuleList, self._tied[0] if frozen else self.heads)
        return [head(f) for head, f in zip(heads, features, strict=True)]


def discriminator_losses(
    discriminator: ProjectedDiscriminator,
    backbone: PerceptualNetwork,
    images: Tensor,
    drawn: Tensor,
    uniform: Tensor,
    penalty_weight: float,
) -> dict[str, Tensor]:
    """``discriminator`` (hinge), ``penalty`` (weighted already) and ``adversarial`` of real and drawn images [B, 3, H, W] in -1..1.

    Both sides are augmented, each by its own half of ``uniform`` [B, 2, AUGMENTATIONS] in 0..1. The first two losses reach
    the heads only, the last only what has drawn. The penalty's gradient needs a graph; without one it is left out.
    """
    penalised = penalty_weight > 0 and torch.is_grad_enabled()
    real = [
        compressed(f).detach().requires_grad_(penalised)
        for f in backbone.features(augment_differentiably(images, uniform[:, 0]))
    ]
    fake = [compressed(f) for f in backbone.features(augment_differentiably(drawn, uniform[:, 1]))]
    by_real, by_fake = discriminator(real), discriminator([f.detach() for f in fake])
    hinge = [
        F.relu(1 - r.float()).mean() + F.relu(1 + f.float()).mean()
        for r, f in zip(by_real, by_fake, strict=True)
    ]
    losses = {
        "discriminator": sum(hinge) / len(hinge),
        "adversarial": -sum(o.float().mean() for o in discriminator(fake, frozen=True)) / len(hinge),
    }
    if penalised:
        gradients = torch.autograd.grad(
            [o.float().mean((2, 3)).sum() for o in by_real], real, create_graph=True
        )
        losses["penalty"] = (
            penalty_weight * sum(g.float().square().sum((1, 2, 3)).mean() for g in gradients) / len(gradients)
        )
    return losses


def compressed(features: Tensor) -> Tensor:
    """log(1 + f) of features of 0 or more: stages differ by an order of magnitude, and so do places."""
    return features.log1p()


AUGMENTATIONS = 7
"""Random numbers that ``augment_differentiably`` takes for an image."""


def augment_differentiably(images: Tensor, uniform: Tensor) -> Tensor:
    """Brightness, saturation, contrast, a shift by up to an eighth of the side, and a square cut out, of each of [B, 3, H, W] in -1..1.

    All of it is a function of ``uniform`` [B, AUGMENTATIONS] in 0..1, and differentiable in the images.
    """
    brightness, saturation, contrast, down, right, top, left = uniform[:, :, None, None, None].unbind(1)
    height, width = images.shape[-2:]
    x = images + 0.6 * brightness - 0.3
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (0.5 + saturation)
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * (0.7 + 0.6 * contrast)
    rows, columns = torch.arange(height, device=x.device)[:, None], torch.arange(width, device=x.device)
    x = _shifted(
        x,
        rows + ((down - 0.5) * height / 4).round().long(),
        columns + ((right - 0.5) * width / 4).round().long(),
    )
    top, left = 0.75 * height * top, 0.75 * width * left
    cut = (rows >= top) & (rows < top + height / 4) & (columns >= left) & (columns < left + width / 4)
    return x.masked_fill(cut, 0.0)


def _shifted(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """x [B, C, H, W] at rows [B, 1, H, 1] and columns [B, 1, 1, W]; beyond the border its value goes on."""
    rows = rows.clamp(0, x.shape[2] - 1).expand(x.shape)
    columns = columns.clamp(0, x.shape[3] - 1).expand(x.shape)
    return x.gather(2, rows).gather(3, columns)
