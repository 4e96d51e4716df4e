"""Number formats in which a stage calculates: what the configuration names, and what this machine can do."""

from __future__ import annotations

from typing import Literal

import torch

Precision = Literal["auto", "no", "bf16", "fp16"]
"""``auto``: bfloat16 autocast if this machine calculates in it, otherwise float32. A run may continue with it on another kind of machine."""


def resolved(precision: Precision) -> Literal["no", "bf16", "fp16"]:
    """``precision``, with ``auto`` replaced by what suits this machine.

    A processor that only imitates bfloat16 takes several times as long with it as in float32.
    """
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return (
        "bf16"
        if torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
        else "no"
    )
