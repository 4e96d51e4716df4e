"""The model that the interface's tests run on: the embedded one, or before it is trained one of random weights."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import Checkpoint, save_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import TINY
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.prompts import EMPTY, LESION, POLYP
from siamese.records.sampling_settings import SamplingSettings

EMBEDDED = Path(__file__).resolve().parents[1] / "assets" / "siamese-tiny"


def model_folder(scratch: Path) -> Path:
    """``assets/siamese-tiny`` if it exists, otherwise a random model of the same architecture in ``scratch``."""
    return EMBEDDED if (EMBEDDED / "model_index.json").is_file() else random_model(scratch / "siamese-random")


def quick_model(scratch: Path, steps: int = 2) -> Path:
    """The same model in ``scratch``, which samples in ``steps`` steps if nothing else is asked for."""
    made, quick = model_folder(scratch), scratch / "siamese-quick"
    quick.mkdir(parents=True)
    for part in made.iterdir():
        if part.name != "siamese.json":
            (quick / part.name).symlink_to(part.resolve())
    (quick / "siamese.json").write_text(
        json.dumps(json.loads((made / "siamese.json").read_text()) | {"steps": steps})
    )
    return quick


def random_model(folder: Path) -> Path:
    """Write the embedded model's architecture with random weights to ``folder``."""
    torch.manual_seed(0)
    unet = TINY.build_unet()
    controlnet = SiameseControlNet.from_unet(unet, TINY.hint_widths, TINY.hint_mergings)
    context = PromptTable((POLYP, LESION, EMPTY), TINY.cross_attention_dim)
    save_checkpoint(
        Checkpoint(
            SmallAutoencoder(latent_channels=8, pack=2),
            unet,
            controlnet,
            context,
            TINY.scheduler_config(),
            SamplingSettings(20, 2.0, "dpm++"),
            image_size=256,
        ),
        folder,
    )
    return folder
