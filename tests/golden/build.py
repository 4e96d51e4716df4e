"""The golden network and inputs, rebuilt from names and shapes alone.

A parameter is uniform noise seeded by the CRC of its released key: unit gain for weight matrices, near 1 for norm
scales, near 0 for biases, rounded to float16. Figures of the released code are in ``golden.json`` and ``outputs.safetensors`` beside this.
"""

from __future__ import annotations

import json
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
LARGE = HERE / "outputs.safetensors"
"""What the released code computes, tensors."""


@cache
def figures() -> dict[str, Any]:
    """What the released code computes, scalars."""
    return json.loads((HERE / "golden.json").read_text())


def _noise(name: str, shape: tuple[int, ...]) -> np.ndarray:
    seed = zlib.crc32(name.encode())
    return np.random.RandomState(seed).random_sample(shape)


def parameter(key: str, shape: tuple[int, ...]) -> Tensor:
    """Value of a released key."""
    centred = 2 * _noise(key, shape) - 1
    if len(shape) > 1:
        value = centred * np.sqrt(3 / np.prod(shape[1:]))
    else:
        value = 1 + 0.2 * centred if key.endswith("weight") else 0.1 * centred
    return torch.from_numpy(value.astype(np.float16).astype(np.float32))


@cache
def state() -> dict[str, Tensor]:
    """The whole released state dict."""
    shapes = json.loads((HERE / "keys.json").read_text())
    return {key: parameter(key, tuple(shape)) for key, shape in shapes.items()}


def _gaussian(name: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy((_noise("in." + name, (12, *shape)).sum(0) - 6).astype(np.float32))


@cache
def inputs() -> dict[str, Tensor]:
    """Latents, noise, contexts, hints and timesteps of the golden batch of three."""
    latent, context = (3, 4, 16, 16), (3, 77, 64)
    coarse = (_noise("in.mask", (3, 1, 8, 8)) > 0.5).astype(np.float32)
    mask = torch.from_numpy(coarse).repeat_interleave(16, 2).repeat_interleave(16, 3).repeat(1, 3, 1, 1)
    values = {name: _gaussian(name, latent) for name in ("x_start", "noise", "x_T")}
    values |= {name: _gaussian(name, context) for name in ("context", "uncond_context")}
    return values | {
        "hint_mask": mask,
        "hint_image": torch.from_numpy(_noise("in.image", (3, 3, 128, 128)).astype(np.float32)),
        "t": torch.tensor([150, 50, 700]),
    }
