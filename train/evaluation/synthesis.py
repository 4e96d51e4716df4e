"""Synthesising many images for measurements and data sets: batches, cached, so that a killed run continues."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from siamese.models.checkpoint import Checkpoint, SamplingDefaults
from siamese.models.controlnet import SiameseControlNet
from siamese.sampling import GuideName, MaskDiffusion, SchedulerName
from train.data.cache import cached_array, digest_of
from train.engine.precision import resolved


@dataclass(frozen=True)
class SamplingConfig:
    """How images are drawn; the model's own defaults where none is given."""

    steps: int | None = None
    guidance: float | None = None
    scheduler: SchedulerName | None = None
    guide: GuideName | None = None
    """What guidance strengthens: ``prompt`` (the paper's) or ``mask``."""
    rescale: float | None = None
    """Share of guidance's contrast that is taken back, 0 to 1."""
    guide_above: float | None = None
    """Lowest noise level at which guidance acts, as a share of all timesteps."""
    guide_below: float | None = None
    """Highest, likewise."""
    batch_size: int = 16
    bf16: bool | None = None
    """Sample under bfloat16 autocast; none: if this machine calculates in it."""


def seed_of(seed: int, index: int, variant: int) -> int:
    """Seed of image ``variant`` of mask ``index``: neighbouring masks and variants share none."""
    return int(np.random.SeedSequence((seed, index, variant)).generate_state(1, np.uint32)[0])


def untrained(checkpoint: Checkpoint, seed: int) -> Checkpoint:
    """The same architecture, autoencoder and prompts with fresh weights of U-Net and ControlNet."""
    torch.manual_seed(seed)
    unet = type(checkpoint.unet).from_config(checkpoint.unet.config)
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
        defaults = model.checkpoint.defaults
        names = [f.name for f in fields(SamplingDefaults) if f.name != "image_size"]
        chosen = defaults.chosen(**{name: getattr(config, name) for name in names})
        self.settings = {name: getattr(chosen, name) for name in names}
        self.bf16 = resolved("auto") == "bf16" if config.bf16 is None else config.bf16
        self.record = self.settings | {"bf16": self.bf16}
        self.folder = (
            None
            if cache is None
            else cache / digest_of(identity, defaults.image_size, sorted(self.record.items()))
        )

    def draw(self, masks: np.ndarray, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Images uint8 [B, S, S, 3] of one batch of masks uint8 [B, H, W]."""
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.bf16):
            return self.model.sample(masks, prompts, seeds, **self.settings)

    def images(
        self, title: str, masks: np.ndarray, prompts: Sequence[str], seeds: Sequence[int]
    ) -> np.ndarray:
        """Images uint8 [N, S, S, 3] of masks uint8 [N, H, W], batch by batch; each finished batch is cached."""
        found = []
        with tqdm(total=len(masks), desc=title, unit="image") as bar:
            for start in range(0, len(masks), self.config.batch_size):
                part = slice(start, start + self.config.batch_size)
                arguments = masks[part], list(prompts[part]), list(seeds[part])
                if self.folder is None:
                    found.append(self.draw(*arguments))
                else:
                    name = digest_of(
                        hashlib.sha256(masks[part].tobytes()).hexdigest(), masks.shape[1:], *arguments[1:]
                    )
                    found.append(
                        cached_array(
                            self.folder / f"{name}.npz", lambda arguments=arguments: self.draw(*arguments)
                        )
                    )
                bar.update(len(found[-1]))
        return np.concatenate(found)


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
