"""Dense Hint Input: turns a mask or an image into ControlNet's first feature map (supplement, 7.2)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from siamese.models.modules import bias_of

WIDTHS = (16, 32, 64, 128, 256)


def mask_hint(masks: np.ndarray) -> torch.Tensor:
    """Hint float32 [B, 3, H, W] in {0, 1} from masks uint8 [B, H, W] of 0 / 255."""
    hint = torch.from_numpy(np.ascontiguousarray(masks)).float().div(255)
    return hint[:, None].expand(-1, 3, -1, -1).contiguous()


def image_hint(images: np.ndarray) -> torch.Tensor:
    """Hint float32 [B, 3, H, W] in 0..1 (not -1..1) from images uint8 [B, H, W, 3]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div(255).contiguous()


class ResidualBlock(nn.Module):
    """SiLU(x + conv(SiLU(conv(x)))) at one width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(x + self.conv2(F.silu(self.conv1(x))))


class PatchMerging(nn.Module):
    """Swin's patch merging: 2 x 2 neighbours to channels, LayerNorm, Linear from 4 C to ``out``; halves the sides."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.reduction = nn.Linear(4 * channels, out)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        # Swin's order of the neighbours: down the column first.
        x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], dim=-1)
        return self.reduction(self.norm(x)).permute(0, 3, 1, 2)


class DenseHintInput(nn.Module):
    """Hint [B, 3, H, W] in 0..1 to features [B, out_channels, H / 2^m, W / 2^m] for m = ``num_downsamples``.

    Five stages, each a 3x3 convolution to its width (no activation after it) and a residual block; a patch merging
    follows stages 2, 3 and 4, and, for autoencoders that halve more often than three times, the stages before. The last
    convolution is zero at first, so that training starts from the base model. 2,526,272 parameters without it at m = 3.
    """

    def __init__(
        self,
        out_channels: int,
        in_channels: int = 3,
        widths: tuple[int, ...] = WIDTHS,
        num_downsamples: int = 3,
    ) -> None:
        super().__init__()
        if not 1 <= num_downsamples < len(widths):
            raise ValueError(
                f"num_downsamples is {num_downsamples}; with {len(widths)} stages it must be between 1 and {len(widths) - 1}."
            )
        self.convs = nn.ModuleList()
        self.blocks = nn.ModuleList()
        self.merges = nn.ModuleList()
        channels = in_channels
        for i, width in enumerate(widths):
            self.convs.append(nn.Conv2d(channels, width, 3, padding=1))
            self.blocks.append(ResidualBlock(width))
            merging = len(widths) - 1 - num_downsamples <= i < len(widths) - 1
            self.merges.append(PatchMerging(width, 2 * width) if merging else nn.Identity())
            channels = 2 * width if merging else width
        self.conv_out = nn.Conv2d(channels, out_channels, 3, padding=1)
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(bias_of(self.conv_out))

    def kaiming_init_(self) -> DenseHintInput:
        """He's initialisation (2015, equation 10) with zero biases, for a network that is trained from scratch.

        PyTorch's default halves a difference between two masks at each convolution while the biases stay, and large
        learning rates then let the features die; here it leaves the five stages as strong as it entered.
        """
        for module in (*self.convs.modules(), *self.blocks.modules()):
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(bias_of(module))
        return self

    def forward(self, hint: Tensor) -> Tensor:
        x = hint
        for conv, block, merge in zip(self.convs, self.blocks, self.merges, strict=True):
            x = merge(block(conv(x)))
        return self.conv_out(x)
