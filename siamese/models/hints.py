"""Hints: masks and images as the tensors that the Dense Hint Input takes."""

from __future__ import annotations

import numpy as np
import torch


def mask_hint(masks: np.ndarray) -> torch.Tensor:
    """Hint float32 [B, 3, H, W] in {0, 1} from masks uint8 [B, H, W] of 0 / 255."""
    hint = torch.from_numpy(np.ascontiguousarray(masks)).float().div(255)
    return hint[:, None].expand(-1, 3, -1, -1).contiguous()


def image_hint(images: np.ndarray) -> torch.Tensor:
    """Hint float32 [B, 3, H, W] in 0..1 (not -1..1) from images uint8 [B, H, W, 3]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div(255).contiguous()
