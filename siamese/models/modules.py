"""What the type stubs of PyTorch and diffusers leave out about every module, in one place."""

from __future__ import annotations

from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def config_of(network: nn.Module) -> Any:
    """The configuration of a network of diffusers; its entries are attributes, which diffusers' annotation (a dict) does not say."""
    return network.config


def channels_last(network: Network, device: torch.device | str | None = None) -> Network:
    """``network`` itself with its weights in channels-last order, and on ``device`` if given."""
    place: dict[str, Any] = {} if device is None else {"device": device}
    cast(Any, network).to(**place, memory_format=torch.channels_last)  # the stubs lack memory_format
    return network


def bias_of(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> Tensor:
    """The bias of a layer that was made with one; PyTorch's annotation cannot say that."""
    assert layer.bias is not None
    return layer.bias
