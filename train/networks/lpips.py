"""ImageNet features for training and evaluation: AlexNet and VGG16 with LPIPS v0.1 heads, without torchvision.

Weights file (safetensors): ``conv.N.weight|bias`` of the N-th convolution and ``lpips.N.weight`` of the N-th tap's
linear head. LPIPS: Zhang et al. 2018, arXiv:1801.03924.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

Backbone = Literal["alexnet", "vgg16"]
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)

# (kernel, stride, padding) of each convolution; a max pooling (kernel, stride) comes before convolution N.
_ALEXNET = {
    "convs": [(11, 4, 2), (5, 1, 2), (3, 1, 1), (3, 1, 1), (3, 1, 1)],
    "pool": {1: (3, 2), 2: (3, 2)},
    "taps": (0, 1, 2, 3, 4),
}
_VGG16 = {
    "convs": [(3, 1, 1)] * 13,
    "pool": {2: (2, 2), 4: (2, 2), 7: (2, 2), 10: (2, 2)},
    "taps": (1, 3, 6, 9, 12),
}
_LAYOUT = {"alexnet": _ALEXNET, "vgg16": _VGG16}


class PerceptualNetwork(nn.Module):
    """Frozen AlexNet or VGG16 convolutions with LPIPS heads. Input images [B, 3, H, W] in -1..1."""

    shift: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone, weights: dict[str, Tensor]) -> None:
        super().__init__()
        layout = _LAYOUT[backbone]
        self.pool, self.taps = layout["pool"], layout["taps"]
        self.convs, widths = nn.ModuleList(), []
        for i, (kernel, stride, padding) in enumerate(layout["convs"]):
            weight = weights[f"conv.{i}.weight"].float()
            conv = nn.Conv2d(weight.shape[1], weight.shape[0], kernel, stride, padding)
            conv.load_state_dict({"weight": weight, "bias": weights[f"conv.{i}.bias"].float()})
            self.convs.append(conv)
            widths.append(weight.shape[0])
        for i in range(len(self.taps)):
            self.register_buffer(f"head{i}", weights[f"lpips.{i}.weight"].float().reshape(1, -1, 1, 1))
        self.register_buffer("shift", torch.tensor(SHIFT).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor(SCALE).reshape(1, 3, 1, 1))
        self.channels: tuple[int, ...] = tuple(widths[i] for i in self.taps)
        self.requires_grad_(False).eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """The five tapped activations [B, C, h, w], after their ReLU."""
        x, found = (images - self.shift) / self.scale, []
        for i, conv in enumerate(self.convs):
            if i in self.pool:
                x = F.max_pool2d(x, *self.pool[i])
            x = F.relu(conv(x))
            if i in self.taps:
                found.append(x)
        return found

    def pooled(self, images: Tensor) -> Tensor:
        """Mean-pooled last convolution's activation [B, C]: what the Frechet and kernel distances compare."""
        return self.features(images)[-1].mean((2, 3))

    def distance(self, a: list[Tensor], b: list[Tensor]) -> Tensor:
        """LPIPS [B] between two lists of ``features``."""
        terms: list[Tensor] = []
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            x, y = F.normalize(x, dim=1, eps=1e-10), F.normalize(y, dim=1, eps=1e-10)
            terms.append(((x - y).square() * getattr(self, f"head{i}")).sum(1).mean((1, 2)))
        return sum(terms[1:], terms[0])

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """LPIPS [B] between images [B, 3, H, W] in -1..1."""
        return self.distance(self.features(a), self.features(b))


def load_perceptual(backbone: Backbone, folder: Path) -> PerceptualNetwork:
    """Read ``folder/{backbone}_lpips.safetensors``.

    Raises:
        FileNotFoundError: the message names the file and its folder.
    """
    file = Path(folder) / f"{backbone}_lpips.safetensors"
    if not file.is_file():
        raise FileNotFoundError(
            f"{file}: no perceptual weights. Place torchvision's {backbone} convolutions (conv.N.weight, conv.N.bias) and LPIPS "
            "v0.1's heads (lpips.N.weight) there as one safetensors file, or pass --weights FOLDER."
        )
    return PerceptualNetwork(backbone, load_file(file))
