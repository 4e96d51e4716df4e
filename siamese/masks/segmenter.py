"""Finding the lesion in an image: a small segmentation network, for suggesting masks and for checking synthetic images.

Plain torch, so that the app starts without importing a segmentation library. A segmenter is a folder of
``config.json`` and ``model.safetensors``.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from siamese.masks.core import check_mask


class SegmenterError(RuntimeError):
    """A segmenter's folder is missing, incomplete or of another architecture; the message says what to do."""


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """3 x 3 convolution, group norm, SiLU. Group norm, because its result does not depend on the batch."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.GroupNorm(min(8, outputs), outputs),
        nn.SiLU(),
    )


class CompactUNet(nn.Module):
    """U-Net (Ronneberger et al. 2015, arXiv:1505.04597) of two convolutions a scale.

    Args:
        widths: channels at each scale, the finest first; multiples of 8. Each further scale halves the sides.
        patch: side of the square of pixels that becomes channels on the way in and back on the way out. The finest scale
            costs the most and learns the least; 2 makes training more than twice as fast.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 224), patch: int = 2) -> None:
        super().__init__()
        self.config = {"widths": list(widths), "patch": patch}
        self.patch = patch
        sources = [3 * patch**2, *widths[:-1]]
        self.down = nn.ModuleList(
            nn.Sequential(conv_block(i, o), conv_block(o, o)) for i, o in zip(sources, widths, strict=True)
        )
        self.up = nn.ModuleList(
            nn.Sequential(conv_block(low + skip, skip), conv_block(skip, skip))
            for skip, low in itertools.pairwise(widths)
        )
        self.head = nn.Conv2d(widths[0], patch**2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits [B, 1, H, W] of lesion from images [B, 3, H, W] in -1..1; sides multiples of patch * 2^(scales - 1)."""
        skips, x = [], F.pixel_unshuffle(images, self.patch).contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.down):
            x = block(F.max_pool2d(x, 2) if i else x)
            skips.append(x)
        skips.pop()
        for block in reversed(self.up):
            x = block(torch.cat([F.interpolate(x, scale_factor=2.0, mode="nearest"), skips.pop()], 1))
        return F.pixel_shuffle(self.head(x), self.patch)


class LesionSegmenter:
    """A segmentation network with its input size: images in, masks out.

    Args:
        network: maps images [B, 3, size, size] in -1..1 to logits [B, 1, size, size]; has a ``config`` of the keyword
            arguments that it was built with.
        size: side in pixels to which images are resized for the network.
    """

    network_class: ClassVar[type[nn.Module]] = CompactUNet

    def __init__(self, network: nn.Module, size: int = 128) -> None:
        self.network, self.size = network, size

    @classmethod
    def from_pretrained(cls, folder: str | Path, device: str | torch.device = "cpu") -> LesionSegmenter:
        """Read what ``save_pretrained`` wrote, in float32.

        Raises:
            SegmenterError: a file is missing or damaged, or it is another architecture's.
        """
        folder = Path(folder)
        try:
            config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            weights = load_file(folder / "model.safetensors")
            architecture, size, arguments = config["architecture"], int(config["size"]), config["network"]
        except (OSError, KeyError, TypeError, ValueError) as error:  # a damaged JSON file raises a ValueError
            raise SegmenterError(
                f"{folder}: no segmenter here ({error!r}); it needs config.json and model.safetensors, "
                "as python -m train segment writes them."
            ) from error
        if architecture != cls.network_class.__name__:
            raise SegmenterError(
                f"{folder} holds a {architecture}, not a {cls.network_class.__name__}; pass the folder of the other segmenter."
            )
        network = cls.network_class(**arguments)
        try:
            network.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        except RuntimeError as error:
            raise SegmenterError(f"{folder}: the weights do not fit config.json ({error}).") from error
        cast(Any, network).to(
            device=device, memory_format=torch.channels_last
        )  # the stub lacks memory_format
        return cls(network.eval(), size)

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float16) -> None:
        """Write ``config.json`` and ``model.safetensors`` (weights as ``dtype``) to ``folder``."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        config = {
            "architecture": type(self.network).__name__,
            "size": self.size,
            "network": self.network.config,
        }
        weights = {
            name: tensor.detach().to("cpu", dtype).contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        save_file(weights, folder / "model.safetensors")
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")

    @torch.inference_mode()
    def probabilities(self, images: np.ndarray) -> np.ndarray:
        """Probability of lesion float32 [B, H, W] in 0..1 at the images' own size.

        Args:
            images: uint8 [B, H, W, 3] of any size; resized to the network's without keeping the aspect.

        Raises:
            ValueError: images of another shape or type.
        """
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f"images must be uint8 [B, H, W, 3], not {images.dtype} {images.shape}.")
        height, width = images.shape[1:3]
        x = (
            torch.from_numpy(np.ascontiguousarray(images))
            .permute(0, 3, 1, 2)
            .to(next(self.network.parameters()).device)
        )
        x = x.float().div(127.5).sub(1)
        if (height, width) != (self.size, self.size):
            x = F.interpolate(x, (self.size, self.size), mode="bilinear", antialias=True, align_corners=False)
        logits = self.network(x.contiguous(memory_format=torch.channels_last)).float()
        if (height, width) != (self.size, self.size):
            logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=False)
        return logits[:, 0].sigmoid().cpu().numpy()

    def predict(self, images: np.ndarray, threshold: float = 0.5) -> np.ndarray:
        """Masks uint8 [B, H, W] of 0 / 255 at the images' own size: lesion if the probability is above ``threshold``.

        A mask is empty if nothing was found. See ``probabilities`` for ``images`` and errors.
        """
        return np.where(self.probabilities(images) > threshold, 255, 0).astype(np.uint8)


def dice(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Dice coefficient [...] in 0..1 of masks uint8 [..., H, W] (lesion if > 127); 1 if both are empty.

    Raises:
        ValueError: not masks (``siamese.masks.core.check_mask``), or different shapes.
    """
    a, b = check_mask(a, batched=True) > 0, check_mask(b, batched=True) > 0
    if a.shape != b.shape:
        raise ValueError(
            f"masks of shapes {a.shape} and {b.shape} cannot be compared; give masks of the same size."
        )
    total = a.sum((-2, -1)) + b.sum((-2, -1))
    return np.where(total > 0, 2 * (a & b).sum((-2, -1)) / np.maximum(total, 1), 1.0)
