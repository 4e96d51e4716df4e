"""The U-Net in two halves, so that one frozen encoder pass serves several decoders.

``encode`` and ``decode`` compute what ``UNet2DConditionModel.forward`` computes, for the configurations that Stable
Diffusion 1.x and the presets use (no class, additional or image embeddings).
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

if TYPE_CHECKING:
    from diffusers.models.controlnets.controlnet import ControlNetModel

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Encoding:
    """Features of z_t: time embedding [B, 4 C], skip features from the input down, and the middle block's output."""

    time: Tensor
    skips: tuple[Tensor, ...]
    middle: Tensor

    def detach(self) -> Encoding:
        """The same values as constants."""
        return Encoding(self.time.detach(), tuple(s.detach() for s in self.skips), self.middle.detach())

    def repeat(self, copies: int) -> Encoding:
        """The batch ``copies`` times, one after the other."""
        return Encoding(
            torch.cat([self.time] * copies),
            tuple(torch.cat([s] * copies) for s in self.skips),
            torch.cat([self.middle] * copies),
        )


@dataclass(frozen=True)
class Control:
    """ControlNet's residuals, one for each of an Encoding's skips and one for its middle."""

    skips: tuple[Tensor, ...]
    middle: Tensor

    def detach(self) -> Control:
        """The same values as constants: sg[c]."""
        return Control(tuple(s.detach() for s in self.skips), self.middle.detach())

    def with_null_half(self) -> Control:
        """A batch of 2 B: no control for the first half, this one for the second."""
        return Control(
            tuple(torch.cat([torch.zeros_like(s), s]) for s in self.skips),
            torch.cat([torch.zeros_like(self.middle), self.middle]),
        )

    def mix(self, other: Control, mine: float, others: float) -> Control:
        """mine * self + others * other, map by map."""
        return Control(
            tuple(mine * a + others * b for a, b in zip(self.skips, other.skips, strict=True)),
            mine * self.middle + others * other.middle,
        )


def encode(
    network: UNet2DConditionModel | ControlNetModel,
    z: Tensor,
    t: Tensor,
    context: Tensor,
    hint: Tensor | None = None,
) -> Encoding:
    """Encoder and middle block of a U-Net or ControlNet.

    Args:
        z: latents [B, C, h, w]. t: timesteps [B]. context: prompt embeddings [B, tokens, D].
        hint: features [B, C0, h, w] added after the first convolution (ControlNet).
    """
    time = network.time_embedding(network.time_proj(t).to(z.dtype))
    x = network.conv_in(z)
    if hint is not None:
        x = x + hint
    skips = (x,)
    for block in network.down_blocks:
        if getattr(block, "has_cross_attention", False):
            x, outputs = block(hidden_states=x, temb=time, encoder_hidden_states=context)
        else:
            x, outputs = block(hidden_states=x, temb=time)
        skips += tuple(outputs)
    middle = cast(nn.Module, network.mid_block)  # all supported configurations have one
    if getattr(middle, "has_cross_attention", False):
        x = middle(x, time, encoder_hidden_states=context)
    else:
        x = middle(x, time)
    return Encoding(time, skips, x)


class Decoder(nn.Module):
    """Up blocks, output norm and convolution: the part of the U-Net that Siamese-Diffusion trains."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.up_blocks = unet.up_blocks
        self.conv_norm_out = unet.conv_norm_out
        self.conv_act = unet.conv_act
        self.conv_out = unet.conv_out

    def forward(self, encoding: Encoding, context: Tensor, control: Control | None = None) -> Tensor:
        """The U-Net's output [B, C, h, w] from an encoding and, if given, ControlNet's residuals."""
        skips, x = encoding.skips, encoding.middle
        if control is not None:
            skips = tuple(s + c for s, c in zip(skips, control.skips, strict=True))
            x = x + control.middle
        for block in self.up_blocks:
            n = len(cast(nn.ModuleList, block.resnets))
            skips, mine = skips[:-n], skips[-n:]
            # Odd sides: upsample to exactly the size of the next skip.
            size = skips[-1].shape[2:] if skips else None
            extra: dict[str, Any] = (
                {"encoder_hidden_states": context} if getattr(block, "has_cross_attention", False) else {}
            )
            x = block(
                hidden_states=x, temb=encoding.time, res_hidden_states_tuple=mine, upsample_size=size, **extra
            )
        assert self.conv_norm_out is not None
        assert self.conv_act is not None
        return self.conv_out(self.conv_act(self.conv_norm_out(x)))


def tied_copy(module: Module) -> Module:
    """theta': a second ``module`` on the *same* storage, whose parameters take no gradient.

    An optimiser's in-place update of ``module`` is therefore seen at once. Build it after anything that moves or
    replaces parameters (accelerate's prepare). No memory is copied.
    """
    aliases = {id(p): nn.Parameter(p.detach(), requires_grad=False) for p in module.parameters()}
    return copy.deepcopy(module, memo=aliases)


def encoder_modules(unet: UNet2DConditionModel) -> list[nn.Module]:
    """Time embedding, input convolution, down blocks and middle block: what Siamese-Diffusion keeps frozen."""
    return [unet.time_embedding, unet.conv_in, unet.down_blocks, unet.mid_block]


def freeze_encoder(unet: UNet2DConditionModel) -> None:
    """Only the decoder's parameters require gradients afterwards."""
    unet.requires_grad_(True)
    for module in encoder_modules(unet):
        module.requires_grad_(False)


def encoder_is_frozen(unet: UNet2DConditionModel) -> bool:
    """True if no parameter of the encoder takes a gradient, so that it can run without one."""
    return not any(p.requires_grad for module in encoder_modules(unet) for p in module.parameters())


def predict(
    unet: UNet2DConditionModel, z: Tensor, t: Tensor, context: Tensor, control: Control | None = None
) -> Tensor:
    """The whole U-Net's output [B, C, h, w]."""
    return Decoder(unet)(encode(unet, z, t, context), context, control)
