"""Base model: a latent diffusion model of the images and their prompts, from scratch, without masks."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from siamese.diffusion import Weighting
from siamese.models.autoencoder import SmallAutoencoder, downsampling, latent_channels
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from siamese.models.modules import channels_last
from siamese.models.presets import PRESETS
from siamese.models.prompt_embeddings import PromptTable
from siamese.objective import DenoisingObjective
from siamese.records.prompts import EMPTY
from siamese.records.sampling_settings import SamplingSettings
from train.data.latents import Examples, latent_dtype, load_examples
from train.data.pairs import check_pairs, read_pairs
from train.engine import identity, loop
from train.engine.randomness import Draws, sent
from train.engine.sample_sheet import add_sheet
from train.stages.latent_batches import StepDraws, latent_batch, on_device, step_draws, validation_draws


@dataclass(frozen=True)
class BaseConfig:
    """Train a base model (Stable Diffusion's part) from scratch on images and prompts."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and split files, or JSON-lines files."""
    vae: Path = Path("runs/vae/model/vae")
    """Autoencoder folder."""
    prompt: str | None = None
    """Prompt of all pairs, instead of what JSON lines or a known data set's name say; none: those."""
    preset: Literal["tiny", "sd15"] = "tiny"
    """Networks. ``tiny`` given by hand also sets all that is not given by hand (``train.recipe.presets``); ``sd15``, which the paper
    does not train from scratch, sets the networks alone."""
    init: Path | None = None
    """Model folder to start from instead of fresh weights."""
    size: int = 256
    """Side of the images in pixels."""
    variants: int = 2
    """Flips and turns of each image whose latents are cached, the image itself included."""
    prompt_drop: float = 0.1
    """Share of samples whose prompt is replaced by the empty one."""
    weighting: Weighting = "velocity"
    cache: Path = Path("runs/cache")
    """Folder of cached latents."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            out=Path("runs/base"),
            max_steps=20000,
            batch_size=16,
            learning_rate=4e-4,
            betas=(0.9, 0.99),
            warmup_steps=300,
            clip_norm=1.0,
            ema_decay=0.999,
            mixed_precision="auto",
            evaluate_every=1000,
            checkpoint_every=500,
        )
    )


class BaseModule(nn.Module):
    """U-Net and prompt table with the denoising loss."""

    def __init__(self, checkpoint: Checkpoint, weighting: Weighting) -> None:
        super().__init__()
        self.objective = DenoisingObjective(
            checkpoint.unet, checkpoint.alphas_cumprod, checkpoint.prediction, weighting
        )
        assert isinstance(checkpoint.context, PromptTable)  # the stage has checked
        self.context = checkpoint.context

    def forward(self, batch: dict[str, Tensor], step: int, max_steps: int) -> dict[str, Tensor]:
        """Loss of a batch; the base's loss does not depend on ``step``."""
        return self.objective(batch["z0"], self.context.table[batch["prompt"]], batch["t"], batch["noise"])


class BaseStage(loop.Stage):
    """What the loop needs to train a base model."""

    module: BaseModule

    def __init__(self, config: BaseConfig) -> None:
        self.config = config
        train, val = (
            read_pairs(config.data, "train", config.prompt),
            read_pairs(config.data, "val", config.prompt, required=False),
        )
        if config.init:
            self.checkpoint = load_checkpoint(config.init)
            self.checkpoint.controlnet = None
            if not isinstance(self.checkpoint.context, PromptTable):
                raise ValueError(
                    f"{config.init} reads its prompts with a text encoder; the base stage trains a table of prompts. "
                    "Fine-tune it with the Siamese stage."
                )
            self.checkpoint.image_size = config.size
        else:
            vae = SmallAutoencoder.from_pretrained(config.vae).eval()
            network = PRESETS[config.preset]
            if network.latent_channels != latent_channels(vae):
                raise ValueError(
                    f"{config.vae} makes {latent_channels(vae)} latent channels, preset {config.preset} takes {network.latent_channels}."
                )
            torch.manual_seed(config.loop.seed)
            prompts = sorted({p.prompt for p in train} - {EMPTY}) + [EMPTY]
            network = dataclasses.replace(network, latent_size=config.size // downsampling(vae))
            self.checkpoint = Checkpoint(
                vae=vae,
                unet=network.build_unet(),
                controlnet=None,
                context=PromptTable(prompts, network.cross_attention_dim),
                scheduler_config=network.scheduler_config(),
                defaults=SamplingSettings(num_inference_steps=20, guidance_scale=2.0, scheduler="dpm++"),
                image_size=config.size,
            )
        self.checkpoint.check()
        assert isinstance(self.checkpoint.context, PromptTable)
        self.context = self.checkpoint.context
        check_pairs(train + val, self.context.prompts, config.size)
        self.began_with = identity.of_pairs(train, val)
        self.began_with["autoencoder_weights"] = identity.of_weights(self.checkpoint.vae)
        if config.init:
            self.began_with["init_weights"] = identity.of_weights(*self.checkpoint.networks())
        vae = channels_last(self.checkpoint.vae.requires_grad_(False))
        dtype = latent_dtype(config.loop.mixed_precision)
        self.train = load_examples(
            train, vae=vae, size=config.size, variants=config.variants, cache=config.cache, dtype=dtype
        )
        self.val = (
            load_examples(
                val, vae=vae, size=config.size, variants=1, cache=config.cache, augment=False, dtype=dtype
            )
            if val
            else None
        )
        self.prompt_rows = self._rows(self.train.prompts)
        self.val_rows = self._rows(self.val.prompts) if self.val else None
        self.size = len(self.train)
        self.module = channels_last(BaseModule(self.checkpoint, config.weighting))

    def _rows(self, prompts: list[str]) -> np.ndarray:
        return np.array([self.context.index(p) for p in prompts])

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Tensor]:
        """Latents, noise, timesteps and prompt rows."""
        some = step_draws(
            draws,
            shape=self.train.mean.shape[2:],
            timesteps=len(self.checkpoint.alphas_cumprod),
            variants=self.config.variants,
            prompt_drop=self.config.prompt_drop,
        )
        return self._batch(self.train, rows=self.prompt_rows, indices=indices, draws=some, device=device)

    def _batch(
        self,
        examples: Examples,
        rows: np.ndarray,
        indices: np.ndarray,
        draws: StepDraws,
        device: torch.device,
    ) -> dict[str, Tensor]:
        prompts = np.where(draws.drop, self.context.index(EMPTY), rows[indices])
        return {
            "z0": latent_batch(examples, indices, draws, device),
            "prompt": sent(prompts, device),
        } | on_device(draws, device)

    def prepared(self) -> list[nn.Module]:
        """Sheets need the autoencoder, which is not part of the module that accelerate has moved."""
        self.checkpoint.vae.to(next(self.module.parameters()).device)
        return []

    @torch.no_grad()
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Loss on the validation split at fixed noise and timesteps, and a sheet of eight samples of fixed seeds."""
        device = next(self.module.parameters()).device
        add_sheet(
            self.checkpoint,
            writer=writer,
            step=step,
            hints=None,
            prompts=[p for p in self.context.prompts if p] or [EMPTY],
        )
        if self.val is None or self.val_rows is None:
            return {}
        total, count = 0.0, len(self.val)
        draws = validation_draws(count, self.val.mean.shape[2:], len(self.checkpoint.alphas_cumprod))
        for part in np.array_split(np.arange(count), max(1, count // 32)):
            batch = self._batch(
                self.val, rows=self.val_rows, indices=part, draws=draws.part(part, device), device=device
            )
            total += float(self.module(batch, step, self.config.loop.max_steps)["total"]) * len(part)
        return {"loss": total / count}

    def export(self, folder: Path) -> None:
        """Save the model folder (without ControlNet)."""
        save_checkpoint(self.checkpoint, folder)


def main(config: BaseConfig, reports: bool = True) -> int:
    """Train, export, and print what comes next if ``reports``; returns the updates done."""
    stage = BaseStage(config)
    return loop.run(
        stage,
        config.loop,
        identity.facts_of(config) | stage.began_with,
        f"Next, Mask-Diffusion:\n  python -m train siamese --init {config.loop.out / 'model'} --data ..."
        if reports
        else None,
    )
