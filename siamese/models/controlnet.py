"""ControlNet with the Dense Hint Input: F in ALGORITHM.md."""

from __future__ import annotations

from typing import Any

from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from siamese.models.dense_hint import WIDTHS, DenseHintInput
from siamese.models.unet import Control, encode

OWN = ("self", "__class__", "hint_widths", "hint_mergings")
"""Local names of ``SiameseControlNet.__init__`` that are not arguments of ``ControlNetModel``."""


class SiameseControlNet(ControlNetModel):
    """diffusers' ControlNetModel whose sparse hint block is replaced by ``DenseHintInput``.

    The signature is explicit because diffusers reads the configuration from it: every entry that a U-Net shares with
    its ControlNet has to appear, or it would be dropped on saving and loading.

    >>> import torch
    >>> from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
    >>> unet = UNet2DConditionModel(block_out_channels=(16, 32), layers_per_block=1, norm_num_groups=8,
    ...     down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"), attention_head_dim=2,
    ...     up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=16)
    >>> controlnet = SiameseControlNet.from_unet(unet, hint_widths=(4, 4, 8, 8, 8))
    >>> features = controlnet.hint_features(torch.rand(1, 3, 32, 32))  # of a mask or an image, 8 times larger than z
    >>> control = controlnet.control(torch.randn(1, 4, 4, 4), torch.tensor([500]), torch.randn(1, 7, 16), features)
    >>> control.middle.shape, control.middle.abs().max().item()  # the output convolutions are zero at first
    (torch.Size([1, 32, 2, 2]), 0.0)

    Args:
        hint_widths: widths of the Dense Hint Input's five stages.
        hint_mergings: how many times it halves the sides; as often as the autoencoder does. (The name is that of stored models.)
    """

    config: Any
    """The arguments as attributes; diffusers' annotation is a dict."""

    @register_to_config
    def __init__(
        self,
        in_channels: int = 4,
        conditioning_channels: int = 3,
        flip_sin_to_cos: bool = True,
        freq_shift: int = 0,
        down_block_types: tuple[str, ...] = (
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "CrossAttnDownBlock2D",
            "DownBlock2D",
        ),
        mid_block_type: str | None = "UNetMidBlock2DCrossAttn",
        only_cross_attention: bool | tuple[bool] = False,
        block_out_channels: tuple[int, ...] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        downsample_padding: int = 1,
        mid_block_scale_factor: float = 1,
        act_fn: str = "silu",
        norm_num_groups: int | None = 32,
        norm_eps: float = 1e-5,
        cross_attention_dim: int = 768,
        transformer_layers_per_block: int | tuple[int, ...] = 1,
        attention_head_dim: int | tuple[int, ...] = 8,
        num_attention_heads: int | tuple[int, ...] | None = None,
        use_linear_projection: bool = False,
        upcast_attention: bool = False,
        resnet_time_scale_shift: str = "default",
        hint_widths: tuple[int, ...] = WIDTHS,
        hint_mergings: int = 3,
        addition_embed_type: str | None = None,
        controlnet_conditioning_channel_order: str = "rgb",
        global_pool_conditions: bool = False,
    ) -> None:
        super().__init__(**{name: value for name, value in locals().items() if name not in OWN})
        # Drop the entries of the parent's sparse hint block, which is replaced: loading would warn of them.
        own = self._get_init_keys(type(self))
        self._internal_dict = FrozenDict(
            {k: v for k, v in self.config.items() if k in own or k.startswith("_")}
        )
        self.controlnet_cond_embedding = DenseHintInput(
            block_out_channels[0], conditioning_channels, tuple(hint_widths), hint_mergings
        )

    @classmethod
    def from_unet(
        cls, unet: UNet2DConditionModel, hint_widths: tuple[int, ...] = WIDTHS, hint_mergings: int = 3
    ) -> SiameseControlNet:
        """ControlNet with the U-Net's encoder; hint block and output convolutions are newly initialised."""
        shared = {
            k: v for k, v in unet.config.items() if k in cls._get_init_keys(cls) and not k.startswith("_")
        }
        net = cls(**shared, hint_widths=hint_widths, hint_mergings=hint_mergings)
        for part in ("conv_in", "time_embedding", "down_blocks", "mid_block"):
            getattr(net, part).load_state_dict(getattr(unet, part).state_dict())
        return net

    def hint_features(self, hint: Tensor) -> Tensor:
        """Features [B, C0, h, w] of a hint [B, 3, H, W] in 0..1: they depend on neither z_t nor t."""
        return self.controlnet_cond_embedding(hint)

    def control(self, z: Tensor, t: Tensor, context: Tensor, features: Tensor) -> Control:
        """c = F(z_t, hint) from the hint's features: the residual of every skip and of the middle block."""
        encoding = encode(self, z, t, context, features)
        return Control(
            tuple(conv(s) for conv, s in zip(self.controlnet_down_blocks, encoding.skips, strict=True)),
            self.controlnet_mid_block(encoding.middle),
        )
