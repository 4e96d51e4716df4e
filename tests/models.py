"""Small models of both kinds for tests: ours (packed latents, a table of prompts) and Stable Diffusion's (AutoencoderKL)."""

from __future__ import annotations

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn

from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import Checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import NetworkConfig
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.prompts import LESION, POLYP
from siamese.records.sampling_settings import SamplingSettings

PROMPTS = (POLYP, LESION, "")
# 16 times smaller, 16 channels: 64 pixels are 4 x 4.
SMALL = NetworkConfig(
    block_out_channels=(16, 32),
    attention=(False, True),
    layers_per_block=1,
    cross_attention_dim=16,
    attention_heads=2,
    norm_num_groups=8,
    time_scale_shift=True,
    latent_channels=16,
    latent_size=4,
    prediction="v_prediction",
    hint_widths=(4, 4, 8, 8, 8),
    hint_mergings=4,
)
# 8 times smaller, 4 channels, as Stable Diffusion: 32 pixels are 4 x 4.
SD_LIKE = NetworkConfig(
    block_out_channels=(16, 32),
    attention=(True, False),
    layers_per_block=1,
    cross_attention_dim=16,
    attention_heads=2,
    norm_num_groups=8,
    latent_channels=4,
    latent_size=4,
    hint_widths=(4, 4, 8, 8, 8),
    hint_mergings=3,
)


def small_autoencoder(pack: int = 2) -> SmallAutoencoder:
    """Factor 16, 16 channels (packed 2 x 2)."""
    return SmallAutoencoder(
        widths=(8, 8, 16, 16),
        encoder_layers=(1, 1, 1, 1),
        decoder_layers=(1, 1, 1, 1),
        pack=pack,
        scaling_factor=0.7,
    )


def kl_autoencoder() -> AutoencoderKL:
    """Factor 8, 4 channels, with a posterior."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=32,
    )


def build(kind: str, control: bool = True, seed: int = 0) -> Checkpoint:
    """A model with random weights. ControlNet's zero convolutions are random too, so that masks have an effect."""
    torch.manual_seed(seed)
    network, vae, size = (
        (SMALL, small_autoencoder(), 64) if kind == "small" else (SD_LIKE, kl_autoencoder(), 32)
    )
    unet = network.build_unet()
    controlnet = None
    if control:
        controlnet = SiameseControlNet.from_unet(unet, network.hint_widths, network.hint_mergings)
        for conv in [
            *controlnet.controlnet_down_blocks,
            controlnet.controlnet_mid_block,
            controlnet.controlnet_cond_embedding.conv_out,
        ]:
            nn.init.normal_(conv.weight, std=0.1)
    checkpoint = Checkpoint(
        vae,
        unet,
        controlnet,
        PromptTable(PROMPTS, network.cross_attention_dim, tokens=4),
        network.scheduler_config(),
        SamplingSettings(4, 3.0, "ddim"),
        f"{kind} model",
        size,
    )
    for module in checkpoint.networks():
        module.eval().requires_grad_(True)
    return checkpoint
