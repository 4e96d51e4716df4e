"""Latent spaces: what an autoencoder gives the diffusion model, the same for Stable Diffusion's and for ours.

Ours is diffusers' AutoencoderDC (residual autoencoding, Chen et al. 2024, arXiv:2410.10733) at a small width, with the
few things that a Stable Diffusion pipeline expects of its autoencoder.
"""

from __future__ import annotations

import math
from typing import Any, Literal, cast, overload

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import FrozenDict, register_to_config
from diffusers.models.autoencoders.autoencoder_dc import AutoencoderDC
from diffusers.models.autoencoders.vae import DecoderOutput, EncoderOutput
from torch import Tensor, nn

from siamese.models.modules import bias_of, config_of


class SmallAutoencoder(AutoencoderDC):
    """AutoencoderDC of residual blocks, whose latents can be packed 2 x 2 into channels (as FLUX packs them).

    Args:
        widths: channels at each scale, the image's own first; each further entry halves the sides.
        encoder_layers, decoder_layers: residual blocks at each scale.
        latent_channels: channels of a latent before packing.
        pack: side of the square of positions that becomes channels (1: none).
        scaling_factor: multiplies latents to unit standard deviation.
        linear_path: beside encoder and decoder each lies a linear map between a latent and the pixels that it stands for, as
            in JPEG; the networks add what it lacks. It carries brightness and hue from the first update on
            (``start_at_principal_components``), which networks alone take long to get right. Its squares reach half of each
            neighbour (a lapped transform, Malvar and Staelin 1989), so that no edges show between neighbours.
    """

    config: Any
    """The arguments as attributes; diffusers' annotation is a dict."""

    @register_to_config
    def __init__(
        self,
        widths: tuple[int, ...] = (24, 48, 96, 128),
        encoder_layers: tuple[int, ...] = (1, 1, 1, 2),
        decoder_layers: tuple[int, ...] = (1, 1, 2, 3),
        latent_channels: int = 4,
        pack: int = 1,
        scaling_factor: float = 1.0,
        linear_path: bool = False,
        block_out_channels: tuple[int, ...] | None = None,
        shift_factor: float | None = None,
        force_upcast: bool = False,
    ) -> None:
        if pack < 1 or pack & (pack - 1):
            raise ValueError(f"pack is {pack}; it must be a power of two.")
        scales = len(widths)
        super().__init__(
            latent_channels=latent_channels,
            encoder_block_types="ResBlock",
            decoder_block_types="ResBlock",
            encoder_block_out_channels=tuple(widths),
            decoder_block_out_channels=tuple(widths),
            encoder_layers_per_block=tuple(encoder_layers),
            decoder_layers_per_block=tuple(decoder_layers),
            encoder_qkv_multiscales=((),) * scales,
            decoder_qkv_multiscales=((),) * scales,
            downsample_block_type="Conv",
            upsample_block_type="interpolate",
            encoder_out_shortcut=not linear_path,
            decoder_in_shortcut=not linear_path,
            scaling_factor=scaling_factor,
        )
        if linear_path:
            side = 2 ** (scales - 1)
            self.linear_in = nn.Conv2d(3, latent_channels, 2 * side, side, padding=side // 2)
            self.linear_out = nn.ConvTranspose2d(latent_channels, 3, 2 * side, side, padding=side // 2)
        # Without what the parent has registered of its own: it follows from ours, and loading would warn of it.
        own = self._get_init_keys(type(self))
        self._internal_dict = FrozenDict(
            {k: v for k, v in self.config.items() if k in own or k.startswith("_")}
        )
        # Pipelines of diffusers read the downsampling from the number of entries here; packing is one halving more.
        self.register_to_config(block_out_channels=tuple(widths) + (widths[-1],) * int(math.log2(pack)))

    @overload
    def encode(self, x: Tensor, return_dict: Literal[True] = True) -> EncoderOutput: ...
    @overload
    def encode(self, x: Tensor, return_dict: Literal[False]) -> tuple[Tensor]: ...
    def encode(self, x: Tensor, return_dict: bool = True) -> EncoderOutput | tuple[Tensor]:
        """Unscaled latents [B, pack^2 C, h, w] of images [B, 3, H, W] in -1..1."""
        latent = self._encode(x)
        if self.config.linear_path:
            latent = latent + self.linear_in(x)
        latent = F.pixel_unshuffle(latent, self.config.pack)
        return EncoderOutput(latent=latent) if return_dict else (latent,)

    @overload
    def decode(
        self, z: Tensor, return_dict: Literal[True] = True, generator: torch.Generator | None = None
    ) -> DecoderOutput: ...
    @overload
    def decode(
        self, z: Tensor, return_dict: Literal[False], generator: torch.Generator | None = None
    ) -> tuple[Tensor]: ...
    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        """Images [B, 3, H, W] near -1..1 (not clipped) of unscaled latents. ``generator`` is what pipelines pass; unused."""
        z = F.pixel_shuffle(z, self.config.pack)
        sample = self._decode(z)
        if self.config.linear_path:
            sample = sample + self.linear_out(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)


def downsampling(vae: nn.Module) -> int:
    """How many times the autoencoder makes an image's sides smaller (8 for Stable Diffusion)."""
    return 2 ** (len(config_of(vae).block_out_channels) - 1)


def latent_channels(vae: nn.Module) -> int:
    """Channels of the latents that the denoiser sees."""
    config = config_of(vae)
    return config.latent_channels * getattr(config, "pack", 1) ** 2


def encode_moments(vae: nn.Module, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Posterior mean and log-variance of the *scaled* latents, [B, C, h, w] each, of images [B, 3, H, W] in -1..1.

    The log-variance is None for an autoencoder without a posterior: its latents are certain.
    """
    scale = config_of(vae).scaling_factor
    encoded = cast(Any, vae).encode(images)
    if hasattr(encoded, "latent_dist"):
        posterior = encoded.latent_dist
        return posterior.mean * scale, posterior.logvar + 2 * math.log(scale)
    return encoded.latent * scale, None


def sample_latents(mean: Tensor, logvar: Tensor | None, noise: Tensor) -> Tensor:
    """z0 = mean + exp(logvar / 2) * noise, with new noise at each training step (reparameterisation, Kingma & Welling 2013, arXiv:1312.6114)."""
    return mean if logvar is None else mean + torch.exp(0.5 * logvar) * noise


def decode_latents(vae: nn.Module, latents: Tensor) -> Tensor:
    """Images [B, 3, H, W] clipped to -1..1 of scaled latents [B, C, h, w]."""
    return cast(Any, vae).decode(latents / config_of(vae).scaling_factor).sample.clamp(-1, 1)


def grow_latents(vae: SmallAutoencoder, channels: int) -> SmallAutoencoder:
    """The same autoencoder with more latent channels: the first are as before, and the decoder ignores the new ones (zero weights).

    Raises:
        ValueError: ``channels`` is not larger than before, or does not divide the last width; ``vae`` has a linear path.
    """
    old, width = vae.config.latent_channels, vae.config.widths[-1]
    if vae.config.linear_path:
        raise ValueError(
            "an autoencoder with a linear path cannot be given more latent channels; train a new one."
        )
    if channels <= old or width % channels:
        raise ValueError(
            f"{channels} latent channels; it must be more than {old} and divide the last width, {width}."
        )
    config: dict[str, Any] = {
        k: v for k, v in vae.config.items() if not k.startswith("_") and k != "block_out_channels"
    }
    config["latent_channels"] = channels
    grown = SmallAutoencoder(**config)
    ends = ("encoder.conv_out.", "decoder.conv_in.")
    grown.load_state_dict({k: v for k, v in vae.state_dict().items() if not k.startswith(ends)}, strict=False)
    (average, repeat), (average_old, repeat_old) = _shortcuts(width, channels), _shortcuts(width, old)
    write, read = grown.encoder.conv_out, grown.decoder.conv_in
    with torch.no_grad():  # the shortcuts are other ones now: the convolutions make up for it
        write.weight[:old], bias_of(write)[:old] = vae.encoder.conv_out.weight, bias_of(vae.encoder.conv_out)
        write.weight[:old, :, 1, 1] += average_old - average[:old]
        read.weight.zero_()
        read.weight[:, :old] = vae.decoder.conv_in.weight
        read.weight[:, :old, 1, 1] += repeat_old
        read.weight[:, :, 1, 1] -= repeat
        bias_of(read).copy_(bias_of(vae.decoder.conv_in))
    return grown


@torch.no_grad()
def rescale_latents(vae: SmallAutoencoder, factors: Tensor) -> None:
    """Multiply each latent channel [C] by its factor, in the weights: images are decoded as before.

    A diffusion model sees noise of one strength on all channels: the forward process destroys low-variance channels first.
    """
    write, read = vae.encoder.conv_out, vae.decoder.conv_in
    write.weight.mul_(factors[:, None, None, None])
    bias_of(write).mul_(factors)
    read.weight.div_(factors[None, :, None, None])
    if vae.config.linear_path:
        vae.linear_in.weight.mul_(factors[:, None, None, None])
        bias_of(vae.linear_in).mul_(factors)
        vae.linear_out.weight.div_(factors[:, None, None, None])
    else:
        average, repeat = _shortcuts(vae.config.widths[-1], vae.config.latent_channels)
        write.weight[:, :, 1, 1] += (factors[:, None] - 1) * average.to(factors)
        read.weight[:, :, 1, 1] += (1 / factors - 1) * repeat.to(factors)


@torch.no_grad()
def start_at_principal_components(vae: SmallAutoencoder, images: Tensor) -> None:
    """Make ``vae`` the best linear autoencoder of square blocks of pixels: its latents are their principal components.

    Each has unit standard deviation over ``images`` [N, 3, H, W] in -1..1. Encoder and decoder add nothing to begin with.

    Raises:
        ValueError: ``vae`` has no linear path.
    """
    if not vae.config.linear_path:
        raise ValueError("only an autoencoder with a linear path can start at principal components.")
    channels, side = vae.config.latent_channels, 2 ** (len(vae.config.widths) - 1)
    mean = images.mean((0, 2, 3))
    blocks = F.unfold(images - mean[:, None, None], side, stride=side).transpose(1, 2).flatten(0, 1)
    values, vectors = torch.linalg.eigh((blocks.T @ blocks / len(blocks)).double())
    strength = values[-channels:].flip(0).clamp_min(1e-8).sqrt()
    components = vectors[:, -channels:].flip(1).T.reshape(channels, 3, side, side)
    overlap = (side // 2,) * 4  # which counts for nothing to begin with
    vae.linear_in.weight.copy_(F.pad(components / strength[:, None, None, None], overlap))
    bias_of(vae.linear_in).copy_(-(vae.linear_in.weight * mean[:, None, None]).sum((1, 2, 3)))
    vae.linear_out.weight.copy_(F.pad(components * strength[:, None, None, None], overlap))
    bias_of(vae.linear_out).copy_(mean)
    for last in (vae.encoder.conv_out, vae.decoder.conv_out):
        assert isinstance(last, nn.Conv2d)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(bias_of(last))


def _shortcuts(width: int, channels: int) -> tuple[Tensor, Tensor]:
    """AutoencoderDC's shortcuts around its latents as matrices: averages [channels, width] and repetitions [width, channels]."""
    repeat = torch.eye(channels).repeat_interleave(width // channels, dim=0)
    return repeat.T * channels / width, repeat
