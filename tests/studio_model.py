"""The model that the interface's tests run on: the embedded one, or before it is trained one of random weights."""
from __future__ import annotations

from pathlib import Path

import torch

from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import Checkpoint, SamplingDefaults, save_checkpoint
from siamese.models.context import PromptTable
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import TINY
from siamese.prompts import EMBEDDED_PROMPTS

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "siamese-tiny"


def model_folder(scratch: Path) -> Path:
    """``assets/siamese-tiny`` where it exists, else a random model of the same architecture in ``scratch``."""
    return EMBEDDED if (EMBEDDED / "model_index.json").is_file() else random_model(scratch / "siamese-random")


def random_model(folder: Path) -> Path:
    """Write the embedded model's architecture with random weights to ``folder``."""
    torch.manual_seed(0)
    unet = TINY.build_unet()
    controlnet = SiameseControlNet.from_unet(unet, TINY.hint_widths, TINY.hint_mergings)
    context = PromptTable(EMBEDDED_PROMPTS, TINY.cross_attention_dim)
    save_checkpoint(Checkpoint(SmallAutoencoder(latent_channels=8, pack=2), unet, controlnet, context, TINY.scheduler_config(),
                               SamplingDefaults(256, 20, 2.0, "dpm++")), folder)
    return folder
