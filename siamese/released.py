"""The authors' released checkpoints (CompVis key names) in our classes, for exactness tests and for their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor, nn

from siamese.diffusion import scaled_linear_alphas
from siamese.models.controlnet import SiameseControlNet
from siamese.models.dense_hint import WIDTHS
from siamese.models.unet import freeze_encoder
from siamese.objective import SiameseConfig, SiameseObjective

UNET, CONTROL, VAE = "model.diffusion_model.", "control_model.", "first_stage_model."

_RESNET = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_HINT = {
    "initial_conv": "convs.0",
    **{f"conv_before_res{i}": f"convs.{i - 1}" for i in range(2, 6)},
    **{f"layer{i}": f"blocks.{i - 1}" for i in range(1, 6)},
    **{f"patch_merge{i}": f"merges.{i}" for i in range(1, 4)},
}


class ReleasedSiamese(nn.Module):
    """Released networks with the Siamese loss.

    ``unet``, ``controlnet`` and ``objective`` are this project's classes; ``vae`` is None if the state has none.
    """

    def __init__(
        self,
        unet: UNet2DConditionModel,
        controlnet: SiameseControlNet,
        vae: AutoencoderKL | None,
        alphas_cumprod: Tensor,
        config: SiameseConfig = SiameseConfig(),
    ) -> None:
        super().__init__()
        freeze_encoder(unet)
        self.objective = SiameseObjective(unet, controlnet, alphas_cumprod, "epsilon", config)
        self.vae = vae
        if vae is not None:
            vae.requires_grad_(False)

    @property
    def unet(self) -> UNet2DConditionModel:
        """theta."""
        return self.objective.unet

    @property
    def controlnet(self) -> SiameseControlNet:
        """F."""
        return self.objective.controlnet

    def loss(
        self,
        x_start: Tensor,
        context: Tensor,
        hint_mask: Tensor,
        hint_image: Tensor,
        t: Tensor,
        noise: Tensor,
        step: int,
        max_steps: int,
    ) -> Tensor:
        """Total Siamese loss of latents ``x_start`` [B, 4, h, w] with gradients; see ``SiameseObjective``."""
        return self.objective(x_start, context, hint_mask, hint_image, t, noise, step, max_steps)["total"]


def load_released(
    state_dict: Mapping[str, Tensor],
    *,
    model_channels: int = 320,
    channel_mult: Sequence[int] = (1, 2, 4, 4),
    num_res_blocks: int = 2,
    attention_resolutions: Sequence[int] = (4, 2, 1),
    num_heads: int = 8,
    context_dim: int = 768,
    transformer_depth: int = 1,
    in_channels: int = 4,
    out_channels: int = 4,
    hint_channels: int = 3,
    linear_start: float = 0.00085,
    linear_end: float = 0.012,
    timesteps: int = 1000,
    scale_factor: float = 0.18215,
    **ignored: Any,
) -> ReleasedSiamese:
    """Build our classes at the width that the arguments (CompVis names) give and load a released state into them.

    Args:
        state_dict: tensors under ``model.diffusion_model.``, ``control_model.`` and, optionally, ``first_stage_model.``.
        ignored: entries of the released configuration that do not change what is computed.

    Raises:
        KeyError: the state lacks keys, or has keys under those prefixes that are not understood.
        RuntimeError: a tensor's shape is not that of the configuration.
    """
    levels = len(channel_mult)
    attention = [2**i in set(attention_resolutions) for i in range(levels)]
    unet = UNet2DConditionModel(
        in_channels=in_channels,
        out_channels=out_channels,
        block_out_channels=tuple(model_channels * m for m in channel_mult),
        down_block_types=tuple("CrossAttnDownBlock2D" if a else "DownBlock2D" for a in attention),
        up_block_types=tuple("CrossAttnUpBlock2D" if a else "UpBlock2D" for a in reversed(attention)),
        layers_per_block=num_res_blocks,
        attention_head_dim=num_heads,
        cross_attention_dim=context_dim,
        transformer_layers_per_block=transformer_depth,
    )
    controlnet = SiameseControlNet.from_unet(unet, WIDTHS, 3)
    if hint_channels != controlnet.config.conditioning_channels:
        raise ValueError(
            f"hint_channels is {hint_channels}; the Dense Hint Input takes {controlnet.config.conditioning_channels}."
        )
    unet.load_state_dict(unet_state(_under(state_dict, UNET), levels, num_res_blocks))
    controlnet.load_state_dict(controlnet_state(_under(state_dict, CONTROL), levels, num_res_blocks))
    vae = None
    if first_stage := _under(state_dict, VAE):
        vae = load_released_vae(first_stage, scale_factor)
    return ReleasedSiamese(unet, controlnet, vae, scaled_linear_alphas(linear_start, linear_end, timesteps))


def _under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def unet_state(state: Mapping[str, Tensor], levels: int, blocks: int) -> dict[str, Tensor]:
    """diffusers' U-Net state from CompVis names without prefix."""
    return {
        _encoder_key(k, levels, blocks) or _decoder_key(k, levels, blocks) or _unknown(k): v
        for k, v in state.items()
    }


def controlnet_state(state: Mapping[str, Tensor], levels: int, blocks: int) -> dict[str, Tensor]:
    """State of ``SiameseControlNet`` from released names without prefix."""
    return {_encoder_key(k, levels, blocks) or _control_key(k) or _unknown(k): v for k, v in state.items()}


def _unknown(key: str) -> str:
    raise KeyError(f"released key {key!r} is not understood.")


def _encoder_key(key: str, levels: int, blocks: int) -> str | None:
    parts = key.split(".")
    if parts[0] == "time_embed":
        return ".".join(["time_embedding", {"0": "linear_1", "2": "linear_2"}[parts[1]], *parts[2:]])
    if parts[0] == "middle_block":
        kind = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}[parts[1]]
        return f"mid_block.{kind}.{_inner(parts[2:])}"
    if parts[0] == "input_blocks":
        number, part = int(parts[1]), parts[2]
        if number == 0:
            return f"conv_in.{parts[3]}"
        level, layer = divmod(number - 1, blocks + 1)
        if layer == blocks:
            return f"down_blocks.{level}.downsamplers.0.conv.{parts[4]}"
        kind = "resnets" if part == "0" else "attentions"
        return f"down_blocks.{level}.{kind}.{layer}.{_inner(parts[3:])}"
    return None


def _decoder_key(key: str, levels: int, blocks: int) -> str | None:
    parts = key.split(".")
    if parts[0] == "out":
        return {"0": "conv_norm_out", "2": "conv_out"}[parts[1]] + "." + parts[2]
    if parts[0] == "output_blocks":
        level, layer = divmod(int(parts[1]), blocks + 1)
        if parts[3] == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv.{parts[4]}"
        kind = "resnets" if parts[2] == "0" else "attentions"
        return f"up_blocks.{level}.{kind}.{layer}.{_inner(parts[3:])}"
    return None


def _control_key(key: str) -> str | None:
    parts = key.split(".")
    if parts[0] == "zero_convs":
        return f"controlnet_down_blocks.{parts[1]}.{parts[3]}"
    if parts[0] == "middle_block_out":
        return f"controlnet_mid_block.{parts[2]}"
    if parts[0] == "input_hint_block":
        if parts[1] == "1":
            return f"controlnet_cond_embedding.conv_out.{parts[2]}"
        return ".".join(["controlnet_cond_embedding", _HINT[parts[2]], *parts[3:]])
    return None


def _inner(parts: Sequence[str]) -> str:
    """The rest of a key: a residual block renames two parts as one; transformer blocks have the same names in both."""
    pair = ".".join(parts[:2])
    if pair in _RESNET:
        return ".".join([_RESNET[pair], *parts[2:]])
    if parts[0] in _RESNET:
        return ".".join([_RESNET[parts[0]], *parts[1:]])
    return ".".join(parts)


def load_released_vae(state: Mapping[str, Tensor], scale_factor: float = 0.18215) -> AutoencoderKL:
    """AutoencoderKL of the released autoencoder's state (names without prefix), widths read from its tensors."""
    widths = []
    while f"encoder.down.{len(widths)}.block.0.conv1.weight" in state:
        widths.append(state[f"encoder.down.{len(widths)}.block.0.conv1.weight"].shape[0])
    blocks = 0
    while f"encoder.down.0.block.{blocks}.conv1.weight" in state:
        blocks += 1
    vae = AutoencoderKL(
        # diffusers annotates each as a tuple of one.
        down_block_types=cast(Any, ("DownEncoderBlock2D",) * len(widths)),
        up_block_types=cast(Any, ("UpDecoderBlock2D",) * len(widths)),
        block_out_channels=cast(Any, tuple(widths)),
        layers_per_block=blocks,
        latent_channels=state["post_quant_conv.weight"].shape[0],
        scaling_factor=scale_factor,
    )
    vae.load_state_dict(
        {_vae_key(k, len(widths)): _linear(k, v) for k, v in state.items() if not k.startswith("loss.")}
    )
    return vae


_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def _vae_key(key: str, levels: int) -> str:
    parts = key.replace("nin_shortcut", "conv_shortcut").split(".")
    if parts[0] in ("quant_conv", "post_quant_conv"):
        return key
    side, part, rest = parts[0], parts[1], parts[2:]
    if part in ("down", "up"):
        level = int(rest[0]) if part == "down" else levels - 1 - int(rest[0])
        block = f"{side}.{part}_blocks.{level}"
        if rest[1] == "block":
            return ".".join([block, "resnets", *rest[2:]])
        return f"{block}.{part}samplers.0.conv.{rest[3]}"
    if part == "mid":
        if rest[0] == "attn_1":
            return ".".join([side, "mid_block.attentions.0", _ATTENTION[rest[1]], *rest[2:]])
        return ".".join([side, "mid_block.resnets", str(int(rest[0][-1]) - 1), *rest[1:]])
    return f"{side}.{'conv_norm_out' if part == 'norm_out' else part}.{rest[0]}"


def _linear(key: str, value: Tensor) -> Tensor:
    """CompVis' attention has 1x1 convolutions, diffusers' has linear layers."""
    return value.flatten(1) if ".attn_1." in key and value.ndim == 4 else value
