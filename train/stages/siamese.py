"""Siamese stage: Mask- and Image-Diffusion together, from a base model (or Stable Diffusion), on image-mask pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter

from siamese.models.autoencoder import downsampling
from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.modules import channels_last
from siamese.models.presets import PRESETS
from siamese.models.prompt_embeddings import PromptTable, TextContext
from siamese.models.unet import freeze_encoder
from siamese.objective import SiameseConfig, SiameseObjective, describe_schedule
from siamese.records.prompts import EMPTY
from train.data.latents import Examples, latent_dtype, load_examples
from train.data.pairs import check_pairs, read_pairs
from train.engine import identity, loop
from train.engine.printing import print_once
from train.engine.randomness import Draws, sent
from train.engine.sample_sheet import add_sheet, without_validation
from train.stages.latent_batches import (
    StepDraws,
    latent_batch,
    on_device,
    padded_rows,
    step_draws,
    validation_draws,
)


@dataclass(frozen=True)
class SubjectOptions:
    """Names of a subject of the user's own, and what is made for it after training (``train.recipe.subject``)."""

    name: str | None = None
    """Short name of what the images show, for the page, for example "Stain on a wall". With it, or with a --prompt that is new to
    --init, the model's folder also gets card, licence, sample sheet and, from 100 training pairs on, segmentation network and shapes.
    None: the prompt."""
    noun: str | None = None
    """Word for what is drawn, for the page, for example "stain". None: "object"."""
    segmenter_updates: int = 600
    """Updates of the subject's segmentation network; 0: none is trained."""


@dataclass(frozen=True)
class SiameseTrainConfig:
    """Train Mask-Diffusion with the Siamese algorithm, or fine-tune one on your own pairs."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and optional split files, or JSON-lines files {source, target, prompt}."""
    init: Path
    """Model folder to start from: a base model, a trained Siamese model, or Stable Diffusion in diffusers' format."""
    controlnet: Path | None = None
    """Model folder whose ControlNet to start from, if --init (a base model trained further) has none of its own."""
    prompt: str | None = None
    """Prompt of all pairs, for example "a colonoscopy image of a polyp", instead of what JSON lines or a known data set's name
    say; none: those. One that --init does not know is added to its table."""
    subject: Annotated[SubjectOptions, tyro.conf.arg(name="")] = field(default_factory=SubjectOptions)
    preset: Literal["tiny", "sd15"] = "tiny"
    """Hint block of a new ControlNet, if --init has none. Given by hand, it also sets all that is not given by hand
    (``train.recipe.presets``): ``sd15`` trains as the paper does."""
    train_encoder: bool = False
    """Train the U-Net's encoder as well (the paper freezes it)."""
    variants: int = 2
    """Flips and turns of each pair, itself included. 1 switches augmentation off."""
    prompt_drop: float = 0.05
    """Share of samples whose prompt is replaced by the empty one."""
    objective: SiameseConfig = SiameseConfig()
    cache: Path = Path("runs/cache")
    """Folder of cached latents."""
    loop: loop.LoopConfig = field(
        default_factory=lambda: loop.LoopConfig(
            out=Path("runs/siamese"),
            max_steps=3000,
            batch_size=8,
            learning_rate=2e-4,
            betas=(0.9, 0.99),
            warmup_steps=100,
            clip_norm=1.0,
            ema_decay=0.999,
            mixed_precision="auto",
            evaluate_every=500,
            checkpoint_every=250,
        )
    )


class SiameseModule(nn.Module):
    """U-Net and ControlNet with the Siamese loss; the prompts' context is frozen in this stage."""

    def __init__(self, checkpoint: Checkpoint, config: SiameseConfig) -> None:
        super().__init__()
        assert checkpoint.controlnet is not None  # the stage has made one
        self.objective = SiameseObjective(
            unet=checkpoint.unet,
            controlnet=checkpoint.controlnet,
            alphas_cumprod=checkpoint.alphas_cumprod,
            prediction=checkpoint.prediction,
            config=config,
        )
        self.context = checkpoint.context.requires_grad_(False)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Context [B, tokens, D], as a constant."""
        with torch.no_grad():
            return self.context(prompts)

    def forward(self, batch: dict[str, Tensor], step: int, max_steps: int) -> dict[str, Tensor]:
        """Losses of a batch at ``step`` of ``max_steps``."""
        return self.objective(
            batch["z0"],
            batch["context"],
            batch["mask"],
            batch["image"],
            batch["t"],
            batch["noise"],
            step,
            max_steps,
            (batch["early"], batch["early_weight"]),
        )


class SiameseStage(loop.Stage):
    """What the loop needs to train Mask-Diffusion."""

    module: SiameseModule

    def __init__(self, config: SiameseTrainConfig) -> None:
        self.config = config
        self.checkpoint = load_checkpoint(config.init)
        self.began_with = {"init_weights": identity.of_weights(*self.checkpoint.networks())}
        self.checkpoint.context = context = context_of(self.checkpoint.context, config.prompt)
        train, val = (
            read_pairs(config.data, "train", config.prompt),
            read_pairs(config.data, "val", config.prompt, required=False),
        )
        known = context.prompts if isinstance(context, PromptTable) else None
        check_pairs(train + val, known, self.checkpoint.image_size)
        self.began_with |= identity.of_pairs(train, val)
        torch.manual_seed(config.loop.seed)
        if config.controlnet is not None:
            self.checkpoint.controlnet = controlnet_of(config.controlnet, self.checkpoint, config.init)
            self.began_with["controlnet_weights"] = identity.of_weights(self.checkpoint.controlnet)
        if self.checkpoint.controlnet is None:
            self.checkpoint.controlnet = new_controlnet(self.checkpoint, config.preset)
        if config.train_encoder:
            self.checkpoint.unet.requires_grad_(True)
        else:
            freeze_encoder(self.checkpoint.unet)
        vae = channels_last(self.checkpoint.vae.requires_grad_(False))
        size = self.checkpoint.image_size
        dtype = latent_dtype(config.loop.mixed_precision)
        self.train = load_examples(
            train, vae=vae, size=size, variants=config.variants, cache=config.cache, dtype=dtype
        )
        self.val = (
            load_examples(val, vae=vae, size=size, variants=1, cache=config.cache, augment=False, dtype=dtype)
            if val
            else None
        )
        # Prompts are few: each is read by the text encoder once, and lies on the device from then on.
        self.prompts = sorted({EMPTY, *self.train.prompts, *(self.val.prompts if self.val else ())})
        self.contexts: Tensor | None = None
        self.size = len(self.train)
        # Channels last: the hint block at full resolution is the costliest layer on a CPU, and twice as fast so.
        self.module = channels_last(SiameseModule(self.checkpoint, config.objective))

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Tensor]:
        """Latents, hints, context, noise, timesteps, and the rows of samples that are augmented, known here from their t."""
        some = step_draws(
            draws,
            shape=self.train.mean.shape[2:],
            timesteps=len(self.checkpoint.alphas_cumprod),
            variants=self.config.variants,
            prompt_drop=self.config.prompt_drop,
        )
        return self._batch(self.train, indices, some, device)

    def _batch(
        self, examples: Examples, indices: np.ndarray, draws: StepDraws, device: torch.device
    ) -> dict[str, Tensor]:
        mask, image = examples.hints(indices, draws.variant, device)
        prompts = [
            EMPTY if drop else examples.prompts[i] for i, drop in zip(indices, draws.drop, strict=True)
        ]
        early, weight = padded_rows(draws.t <= self.module.objective.augment_t)
        return {
            "z0": latent_batch(examples, indices, draws, device),
            "mask": mask,
            "image": image,
            "context": self._context(prompts, device),
            "early": sent(early, device),
            "early_weight": sent(weight, device),
        } | on_device(draws, device)

    def _context(self, prompts: Sequence[str], device: torch.device) -> Tensor:
        """[B, tokens, D] of ``prompts``, rows of the table of all prompts; 0.24 MB each for Stable Diffusion."""
        if self.contexts is None:
            self.contexts = torch.cat(
                [self.module.embed(self.prompts[i : i + 64]) for i in range(0, len(self.prompts), 64)]
            ).to(device)
        return self.contexts.index_select(0, sent(np.array([self.prompts.index(p) for p in prompts]), device))

    def prepared(self) -> list[nn.Module]:
        """theta' aliases the parameters that accelerate has moved."""
        self.module.objective.build_tied_decoder()
        self.checkpoint.vae.to(next(self.module.parameters()).device)
        return self.module.objective.aliases()

    @torch.no_grad()
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Losses on validation pairs at fixed noise and timesteps, and a sheet of eight validation masks.

        Without validation pairs a sheet of eight training masks alone.
        """
        device = next(self.module.parameters()).device
        if self.val is None:
            without_validation("samples of training masks")
            self._sheet(
                self.train,
                chosen=np.arange(len(self.train)),
                split="train",
                step=step,
                writer=writer,
                device=device,
            )
            return {}
        chosen = np.linspace(0, len(self.val) - 1, min(len(self.val), 96)).astype(int)
        draws = validation_draws(len(chosen), self.val.mean.shape[2:], len(self.checkpoint.alphas_cumprod))
        sums: dict[str, float] = {}
        for part in np.array_split(np.arange(len(chosen)), max(1, len(chosen) // 16)):
            batch = self._batch(self.val, chosen[part], draws.part(part, device), device)
            losses = self.module(batch, self.config.loop.max_steps, self.config.loop.max_steps)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(part) / len(chosen)
        self._sheet(self.val, chosen=chosen, split="val", step=step, writer=writer, device=device)
        return sums

    def _sheet(
        self,
        examples: Examples,
        chosen: np.ndarray,
        split: str,
        step: int,
        writer: SummaryWriter,
        device: torch.device,
    ) -> None:
        """Samples of eight of the ``chosen`` masks."""
        shown = chosen[np.linspace(0, len(chosen) - 1, 8).astype(int)]
        mask, _ = examples.hints(shown, np.zeros(8, int), device)
        add_sheet(
            self.checkpoint,
            writer=writer,
            step=step,
            hints=mask,
            prompts=[examples.prompts[i] for i in shown],
            split=split,
        )

    def export(self, folder: Path) -> None:
        """Save the model folder."""
        save_checkpoint(self.checkpoint, folder)

    def schedule(self, step: int, max_steps: int) -> str:
        """w_i and the augmentation's gate."""
        return describe_schedule(self.config.objective, step, max_steps)


def context_of(context: PromptTable | TextContext, prompt: str | None) -> PromptTable | TextContext:
    """The context for a run on pairs of ``prompt``: a table of prompts grows by one that it does not know, and it says so.

    Prompts in files are not added: there a misspelt one among many would go unnoticed.
    """
    if not prompt or not isinstance(context, PromptTable) or prompt in context.prompts:
        return context
    known = ", ".join(repr(text) for text in context.prompts if text)
    print_once(
        f"The prompt {prompt!r} is new to this model, which knows {known}: its table grows by one row, "
        "and those rows stay as they are."
    )
    return context.grown(prompt)


def new_controlnet(checkpoint: Checkpoint, preset: str) -> SiameseControlNet:
    """A ControlNet that starts as a copy of the U-Net's encoder, with the hint block of ``preset`` (``PRESETS``)."""
    network = PRESETS[preset]
    num_downsamples = int(np.log2(downsampling(checkpoint.vae)))
    controlnet = SiameseControlNet.from_unet(checkpoint.unet, network.hint_widths, num_downsamples)
    if network.hint_keeps_variance:
        controlnet.controlnet_cond_embedding.kaiming_init_()
    return controlnet


def controlnet_of(folder: Path, base: Checkpoint, base_folder: Path) -> SiameseControlNet:
    """The ControlNet in the model ``folder``, for a base model that has none.

    Raises:
        ValueError: the base model has one, ``folder`` has none, or it was made for another U-Net.
    """
    if base.controlnet is not None:
        raise ValueError(
            f"{base_folder} has a ControlNet; leave --controlnet out, or start from a base model."
        )
    controlnet = load_checkpoint(folder).controlnet
    if controlnet is None:
        raise ValueError(f"{folder} is a base model without a ControlNet.")
    check_fit(base.unet, controlnet, folder)
    return controlnet


def check_fit(unet: nn.Module, controlnet: SiameseControlNet, folder: Path) -> None:
    """Raise ValueError if the ControlNet of ``folder`` was made for another U-Net."""
    for name in ("in_channels", "block_out_channels", "layers_per_block", "cross_attention_dim"):
        ours, its = getattr(unet.config, name), getattr(controlnet.config, name)
        if ours != its and tuple(np.atleast_1d(ours)) != tuple(np.atleast_1d(its)):
            raise ValueError(
                f"the ControlNet of {folder} does not fit the U-Net: {name} is {its}, not {ours}."
            )


def main(config: SiameseTrainConfig, reports: bool = True) -> int:
    """Train, export, and print what comes next if ``reports``; returns the updates done."""
    stage = SiameseStage(config)
    return loop.run(
        stage,
        config.loop,
        identity.facts_of(config) | stage.began_with,
        f"To open it in the app:\n  python app.py --model {config.loop.out / 'model'}" if reports else None,
    )
