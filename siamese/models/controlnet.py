"""ControlNet with the Dense Hint Input: F in ALGORITHM.md."""

from __future__ import annotations

from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.controlnets.controlnet import ControlNetModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor

from siamese.models.dense_hint import WIDTHS, DenseHintInput
from siamese.models.unet import Control, encode


class SiameseControlNet(ControlNetModel):
    """diffusers' ControlNetModel whose sparse hint block is replaced by ``DenseHintInput``.

    The signature is explicit because diffusers reads the configuration from it: every entry that a U-Net shares with
    its ControlNet has to appear, or it would be dropped on saving and loading.

    Args:
        hint_widths: widths of the Dense Hint Input's five stages.
        hint_mergings: patch mergings in it; as many as the autoencoder halves the image.
    """

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
        super().__init__(
            in_channels=in_channels,
            conditioning_channels=conditioning_channels,
            flip_sin_to_cos=flip_sin_to_cos,
            freq_shift=freq_shift,
            down_block_types=down_block_types,
            mid_block_type=mid_block_type,
            only_cross_attention=only_cross_attention,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            downsample_padding=downsample_padding,
            mid_block_scale_factor=mid_block_scale_factor,
            act_fn=act_fn,
            norm_num_groups=norm_num_groups,
            norm_eps=norm_eps,
            cross_attention_dim=cross_attention_dim,
            transformer_layers_per_block=transformer_layers_per_block,
            attention_head_dim=attention_head_dim,
            num_attention_heads=num_attention_heads,
            use_linear_projection=use_linear_projection,
            upcast_attention=upcast_attention,
            resnet_time_scale_shift=resnet_time_scale_shift,
            addition_embed_type=addition_embed_type,
            controlnet_conditioning_channel_order=controlnet_conditioning_channel_order,
        )
        # Without what the parent has registered of its own: its sparse hint block is gone, and loading would warn of it.
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
        """ControlNet initialised from the U-Net's encoder, hint block and output convolutions anew."""
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
