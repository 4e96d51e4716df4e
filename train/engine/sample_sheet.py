"""Sample sheets of fixed seeds for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from siamese.models.autoencoder import decode_latents, downsampling
from siamese.models.checkpoint import Checkpoint
from siamese.models.modules import config_of
from siamese.sampling import Conditioning, build_scheduler, denoise, initial_noise
from train.engine.printing import print_once


@torch.no_grad()
def sheet(checkpoint: Checkpoint, hints: Tensor | None, prompts: Sequence[str], steps: int = 20) -> Tensor:
    """Samples [N, 3, S, S] in 0..1 of seeds 0, 1, ...; with hints [N, 3, S, S], of those masks."""
    device = next(checkpoint.unet.parameters()).device
    shape = (
        config_of(checkpoint.unet).in_channels,
        *[checkpoint.image_size // downsampling(checkpoint.vae)] * 2,
    )
    features = []
    if hints is not None:
        assert checkpoint.controlnet is not None  # hints are given once there is one
        features = [(1.0, checkpoint.controlnet.hint_features(hints.to(device)))]
    given = Conditioning(checkpoint.context(prompts), checkpoint.context([""] * len(prompts)), features)
    z = denoise(
        checkpoint,
        scheduler=build_scheduler("dpm++", checkpoint.scheduler_config, steps),
        z=initial_noise(range(len(prompts)), shape).to(device),
        given=given,
        settings=checkpoint.defaults,
    )
    return decode_latents(checkpoint.vae, z).float().add(1).div(2)


def without_validation(shown: str) -> None:
    """Print that sheets show ``shown``, because there are no validation pairs."""
    print_once(f"No val.txt, hence no validation figures: the log's sheets show {shown}.")


def add_sheet(
    checkpoint: Checkpoint,
    writer: SummaryWriter,
    step: int,
    hints: Tensor | None,
    prompts: Sequence[str],
    count: int = 8,
    split: str = "val",
) -> None:
    """Write ``count`` samples, after their masks (of ``split``) if there are any, to the log."""
    prompts = [prompts[i % len(prompts)] for i in range(count)] if hints is None else list(prompts)
    images = sheet(checkpoint, hints, prompts)
    writer.add_images(
        f"{split}/samples", images if hints is None else torch.cat([hints.to(images.device), images]), step
    )
