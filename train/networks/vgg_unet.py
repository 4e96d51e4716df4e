"""The independent segmentation network that measures whether synthetic images show the lesion that was drawn.

A U-Net on ImageNet's VGG16: another architecture, other features and another training than the shipped segmenter, so that
the figure does not judge the app by its own suggestion. Used for measurements only, never shipped.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamese.masks.segmenter import LesionSegmenter, conv_block
from train.engine.stage import ParameterGroup
from train.networks.lpips import SCALE, SHIFT, PerceptualNetwork

# VGG16: convolution N is preceded by a pooling; the last convolution of each block is tapped (train.networks.lpips).
POOLED = (2, 4, 7, 10)
TAPS = (1, 3, 6, 9, 12)


class VggUNet(nn.Module):
    """VGG16's 13 convolutions with a decoder over their five taps.

    Args:
        widths: output channels of the 13 convolutions.
        decoder: channels of the decoder at strides 16, 8, 4, 2, 1; multiples of 8.
        trained_convs: how many of the last convolutions learn; the others are frozen, and cost no backward pass.
        relative_rate: learning rate of those, as a share of the decoder's; a whole one would overwrite pretrained weights.
        rate: only in configurations of earlier versions, which stored those convolutions' weights divided by it; see ``undo_rate``.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        widths: Sequence[int],
        decoder: Sequence[int] = (128, 96, 64, 32, 16),
        trained_convs: int = 6,
        relative_rate: float = 0.05,
        rate: float | None = None,
    ) -> None:
        super().__init__()
        if len(widths) != 13 or len(decoder) != len(TAPS):
            raise ValueError(
                f"VGG16 has 13 convolutions and {len(TAPS)} taps, not {len(widths)} and {len(decoder)}."
            )
        self.config = {
            "widths": list(widths),
            "decoder": list(decoder),
            "trained_convs": trained_convs,
            "relative_rate": relative_rate,
        }
        self.relative_rate, self._rate = relative_rate, rate
        self.first_trained = len(widths) - trained_convs
        self.convs = nn.ModuleList(
            nn.Conv2d(i, o, 3, padding=1) for i, o in zip([3, *widths[:-1]], widths, strict=True)
        )
        for conv in self.convs[: self.first_trained]:
            conv.requires_grad_(False)
        # ImageNet activations are large and unnormalised: each tap is projected and normalised before it is used.
        self.taps = nn.ModuleList(
            nn.Sequential(nn.Conv2d(widths[t], d, 1, bias=False), nn.GroupNorm(8, d), nn.SiLU())
            for t, d in zip(reversed(TAPS), decoder, strict=True)
        )
        self.up = nn.ModuleList(conv_block(low + skip, skip) for low, skip in itertools.pairwise(decoder))
        self.head = nn.Conv2d(decoder[-1], 1, 1)
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1), persistent=False)

    @classmethod
    def from_perceptual(cls, network: PerceptualNetwork, **options: Any) -> VggUNet:
        """Encoder from ImageNet's weights, decoder with fresh weights."""
        unet = cls([cast(nn.Conv2d, conv).out_channels for conv in network.convs], **options)
        for own, conv in zip(unet.convs, network.convs, strict=True):
            own.load_state_dict(conv.state_dict())
        return unet

    def parameter_groups(self) -> list[ParameterGroup]:
        """The decoder at the full learning rate, and the pretrained convolutions that learn at ``relative_rate`` of it."""
        slow = [p for conv in self.convs[self.first_trained :] for p in conv.parameters()]
        known = {id(p) for p in slow}
        full = [p for p in self.parameters() if p.requires_grad and id(p) not in known]
        return [ParameterGroup(full), *([ParameterGroup(slow, self.relative_rate)] if slow else [])]

    @torch.no_grad()
    def undo_rate(self) -> None:
        """After an earlier version's weights were loaded: multiply by ``rate`` what was stored divided by it."""
        if self._rate is not None:
            for conv in self.convs[self.first_trained :]:
                for values in conv.parameters():  # weight and bias
                    values.mul_(self._rate)
            self._rate = None

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1, H, W] of lesion from images [B, 3, H, W] in -1..1; sides multiples of 16."""
        x, found = (images - self.shift) / self.scale, []
        for i, conv in enumerate(self.convs):
            if i in POOLED:
                x = F.max_pool2d(x, 2)
            x = F.relu(conv(x))
            if i in TAPS:
                found.append(x)
        projected = [tap(f) for tap, f in zip(self.taps, reversed(found), strict=True)]
        x = projected[0]
        for block, skip in zip(self.up, projected[1:], strict=True):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skip], 1))
        return self.head(x)


class VggSegmenter(LesionSegmenter):
    """``LesionSegmenter`` on ``VggUNet``."""

    network_class: ClassVar[type[nn.Module]] = VggUNet

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> LesionSegmenter:
        """Read what ``save_pretrained`` wrote, now or in an earlier version; see ``LesionSegmenter.from_pretrained``."""
        segmenter = super().from_pretrained(folder, device)
        assert isinstance(segmenter.network, VggUNet)  # its name was compared
        segmenter.network.undo_rate()
        return segmenter
