"""Publish: a trained model and its figures as a folder for ``assets/``, in half precision, with card and licence."""
from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from siamese.prompts import LESION, POLYP
from siamese.provenance import Recipe, SyntheticPair, pair_png
from siamese.sampling import GuideName, MaskDiffusion, SchedulerName
from siamese.shapes import load_statistics, random_lesion

LICENCE = """Weights of {name}: research and education only, non-commercial. Not for diagnosis.

The weights were trained on public research data and follow its terms:

  Kvasir-SEG (research and education only). Jha et al., "Kvasir-SEG: A Segmented Polyp Dataset", MMM 2020, arXiv:1911.07069.
  CVC-ClinicDB (research and education only). Bernal et al., "WM-DOVA maps for accurate polyp highlighting in colonoscopy",
      Computerized Medical Imaging and Graphics 43, 2015.
  ISIC 2018, task 1 (CC BY-NC 4.0). Codella et al. 2019, arXiv:1902.03368; Tschandl et al. 2018, "The HAM10000 dataset".

No image of these data sets is in this folder. The code of this repository is licensed apart from this, under Apache-2.0.
"""

EXAMPLE_SIDE = 512
"""Side of an example's mask as drawn: the page's."""


@dataclass(frozen=True)
class PublishConfig:
    """Write a model folder for distribution."""

    model: Path
    """Trained model folder."""
    out: Path = Path("assets/siamese-tiny")
    segmenter: Path | None = None
    """Folder of the small segmentation network, copied beside the model."""
    steps: int | None = None
    """Default steps of sampling, as chosen on val; none: keep."""
    guidance: float | None = None
    """Default guidance, as chosen on val; none: keep."""
    scheduler: SchedulerName | None = None
    guide: GuideName | None = None
    """What guidance strengthens, as chosen on val; none: keep."""
    rescale: float | None = None
    """Share of guidance's contrast that is taken back, as chosen on val; none: keep."""
    guide_above: float | None = None
    """Lowest noise level of guidance, as a share of all timesteps, as chosen on val; none: keep."""
    guide_below: float | None = None
    """Highest, likewise."""
    example_seeds: tuple[int, ...] = (1, 1)
    """Seed of each organ's example, of its random mask as well as of its image: what a first visit to the page shows."""


def write_examples(folder: Path, seeds: tuple[int, ...]) -> None:
    """``examples/POLYP.png`` and ``examples/LESION.png``: images of random lesions, with their recipes, for the organs that the model knows."""
    model = MaskDiffusion.from_pretrained(folder, "cpu")
    defaults = model.checkpoint.defaults
    (folder / "examples").mkdir(exist_ok=True)
    for (prompt, statistics), seed in zip(load_statistics().items(), seeds, strict=True):
        if model.prompts is not None and prompt not in model.prompts:
            continue
        drawn = random_lesion(statistics, seed, EXAMPLE_SIDE)
        image = model.sample(drawn, prompt, [seed])[0]
        recipe = Recipe.of(defaults, prompt, seed, folder.name)
        name = {POLYP: "a-polyp.png", LESION: "b-lesion.png"}[prompt]
        (folder / "examples" / name).write_bytes(pair_png(SyntheticPair(image, model.fit_mask(drawn), drawn, recipe)))


def main(config: PublishConfig) -> None:
    """Save in float16 and print the size; figures and card are written by ``evaluate`` and by hand."""
    checkpoint = load_checkpoint(config.model)
    names = ("steps", "guidance", "scheduler", "guide", "rescale", "guide_above", "guide_below")
    changes = {k: v for k in names if (v := getattr(config, k)) is not None}
    checkpoint.defaults = replace(checkpoint.defaults, **changes)
    for part in ("vae", "unet", "controlnet", "context", "scheduler"):
        shutil.rmtree(config.out / part, ignore_errors=True)
    save_checkpoint(checkpoint, config.out, torch.float16)
    if config.segmenter:
        shutil.copytree(config.segmenter, config.out / "segmenter", dirs_exist_ok=True)
    write_examples(config.out, config.example_seeds)
    (config.out / "LICENSE").write_text(LICENCE.format(name=config.out.name))
    size = sum(f.stat().st_size for f in config.out.rglob("*") if f.is_file())
    print(json.dumps({"folder": str(config.out), "megabytes": round(size / 1e6, 2), **changes}))
