"""Exponential moving average of the trained weights, all of them at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor

_kernels = cast(
    Any, torch
)  # the kernels of PyTorch's own optimisers, for lists of tensors; they have no stubs


def warmed_decay(updates: int, decay: float) -> float:
    """Decay of average number ``updates`` (from 1): min(decay, 1 - updates^-0.75), so that early weights are soon forgotten.

    Katherine Crowson's warm-up, as diffusers' ``EMAModel`` with power 0.75 has it.
    """
    return min(decay, 1 - updates**-0.75)


class Average:
    """The average of ``parameters``, on their device."""

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self.parameters = [p.detach() for p in parameters]
        self.decay, self.updates = decay, 0
        self.values = [p.clone() for p in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters as they are now."""
        self.updates += 1
        _kernels._foreach_lerp_(self.values, self.parameters, 1 - warmed_decay(self.updates, self.decay))

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Within, the parameters are the average."""
        own = [p.clone() for p in self.parameters]
        _kernels._foreach_copy_(self.parameters, self.values)
        try:
            yield
        finally:
            _kernels._foreach_copy_(self.parameters, own)

    def state_dict(self) -> dict[str, Any]:
        """Updates so far, and the average's tensors themselves."""
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what ``state_dict`` returned."""
        self.updates = state["updates"]
        _kernels._foreach_copy_(
            self.values, [v.to(mine.device) for v, mine in zip(state["values"], self.values, strict=True)]
        )
