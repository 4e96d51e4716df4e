"""Synthesising many images for measurements and data sets: batches, cached, so that a killed run continues."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import numpy as np
import torch
import tyro
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from tqdm import tqdm

from siamese.models.checkpoint import Checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.records.sampling_settings import SETTINGS, GuidanceMode, SchedulerName
from siamese.sampling import MaskDiffusion
from train.data.cache import cached_array, digest_of
from train.engine.precision import resolved


def _former(name: str) -> Any:
    """An option that is also understood by its former name, with or without the prefix of a nested configuration."""
    return tyro.conf.arg(aliases=(f"--{name}", f"--sampling.{name}"))


@dataclass(frozen=True)
class SamplingOptions:
    """``SamplingSettings`` as options of a command: the model's own defaults are used for those that are not given."""

    num_inference_steps: Annotated[int | None, _former("steps")] = None
    """Steps of the sampler."""
    guidance_scale: Annotated[float | None, _former("guidance")] = None
    """Strength of guidance, 1 (none) or more."""
    scheduler: SchedulerName | None = None
    guidance_mode: Annotated[GuidanceMode | None, _former("guide")] = None
    """What guidance strengthens: ``prompt`` (the paper's) or ``mask``."""
    guidance_rescale: Annotated[float | None, _former("rescale")] = None
    """Share of guidance's contrast that is taken back, 0 to 1."""
    guidance_interval: tuple[float, float] | None = None
    """Lowest and highest noise level at which guidance acts, as shares of all timesteps."""

    def overrides(self) -> dict[str, Any]:
        """The settings that were given."""
        return {name: value for name in SETTINGS if (value := getattr(self, name)) is not None}


@dataclass(frozen=True)
class SamplingConfig(SamplingOptions):
    """How many images are drawn at a time, and with which settings."""

    batch_size: int = 16
    bf16: bool | None = None
    """Sample under bfloat16 autocast; none: if this machine calculates in it."""


def seed_of(seed: int, index: int, variant: int) -> int:
    """Seed of image ``variant`` of mask ``index``: neighbouring masks and variants have different seeds."""
    return int(np.random.SeedSequence((seed, index, variant)).generate_state(1, np.uint32)[0])


def untrained(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same architecture, autoencoder and prompts with fresh weights of U-Net and ControlNet."""
    torch.manual_seed(seed)
    if checkpoint.controlnet is None:
        raise ValueError(f"{checkpoint.name} is a base model without a ControlNet.")
    unet = cast(UNet2DConditionModel, type(checkpoint.unet).from_config(checkpoint.unet.config))
    config = checkpoint.controlnet.config
    controlnet = SiameseControlNet.from_unet(unet, tuple(config.hint_widths), config.hint_mergings)
    return replace(checkpoint, unet=unet.eval(), controlnet=controlnet.eval(), name="untrained")


class Synthesiser:
    """A model with fixed sampling settings, and a cache.

    Args:
        identity: what tells this model's weights from any other's.
        cache: folder of the cached images; None: nothing is cached.
    """

    def __init__(
        self, model: MaskDiffusion, config: SamplingConfig, identity: str, cache: Path | None = None
    ) -> None:
        self.model, self.config = model, config
        self.settings = model.checkpoint.defaults.override(**config.overrides())
        self.bf16 = resolved("auto") == "bf16" if config.bf16 is None else config.bf16
        self.record = self.settings.to_dict() | {"bf16": self.bf16}
        self.folder = (
            None if cache is None else cache / digest_of(identity, model.size, sorted(self.record.items()))
        )

    def draw(self, masks: Sequence[np.ndarray], prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Images uint8 [B, S, S, 3] of a batch of B masks uint8 [S, S] as ``MaskDiffusion.fit_mask`` returns them."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.sample_fitted(masks, prompts, seeds, self.settings)

    def images(
        self, title: str, masks: np.ndarray, prompts: Sequence[str], seeds: Sequence[int]
    ) -> np.ndarray:
        """Images uint8 [N, S, S, 3] of masks uint8 [N, H, W], batch by batch; each finished batch is cached."""
        found = []
        with tqdm(total=len(masks), desc=title, unit="image") as bar:
            for start in range(0, len(masks), self.config.batch_size):
                part = slice(start, start + self.config.batch_size)
                found.append(self._batch(masks[part], list(prompts[part]), list(seeds[part])))
                bar.update(len(found[-1]))
        return np.concatenate(found)

    def _batch(self, masks: np.ndarray, prompts: list[str], seeds: list[int]) -> np.ndarray:
        def draw() -> np.ndarray:
            return self.draw([self.model.fit_mask(m) for m in masks], prompts, seeds)

        if self.folder is None:
            return draw()
        name = digest_of(hashlib.sha256(masks.tobytes()).hexdigest(), masks.shape[1:], prompts, seeds)
        return cached_array(self.folder / f"{name}.npz", draw)


def contact_sheet(rows: Sequence[Sequence[np.ndarray]], gap: int = 4) -> np.ndarray:
    """uint8 [H, W, 3] of rows of equally large tiles, images [S, S, 3] or masks [S, S], on white."""
    side = rows[0][0].shape[0]
    width = max(map(len, rows))
    sheet = np.full((len(rows) * (side + gap) - gap, width * (side + gap) - gap, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, tile in enumerate(row):
            tile = np.repeat(tile[..., None], 3, 2) if tile.ndim == 2 else tile
            sheet[r * (side + gap) :, c * (side + gap) :][:side, :side] = tile
    return sheet
