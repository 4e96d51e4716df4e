"""How the frozen test data in this folder were made: ``python -m tests.frozen.make``, with the code of commit a321234.

The data stand for files that people have already, so they are not made again when the code changes, and this script, which is their
record, is not kept up with the code: check out that commit to run it. If a later version writes something else, add a file beside
the old one; the old one must still be read.

  pair.png             a synthetic image with recipe and drawn mask, every optional setting given
  collection.zip       what "Download" gives of a collection of two pairs
  batch.zip            what a finished batch of two masks gives
  visitor.zip          the collection's folder and the batch's folder as they lie on the server's disk
  run.zip              a tiny model, four training pairs, and the folder of a Siamese run of four updates; the checkpoint of
                       update 2 is inside as the newest
  run_end.safetensors  some of the weights after update 4
  sampled.png          two images that the tiny model samples, one above the other
  lesion_shapes.json   shape statistics of 120 ellipses
  subjects.json        names of two subjects, added by hand in the form that `python -m train siamese --name` first wrote
  frame.png            a lesion in a stand-in for a real photo, 28 x 20 pixels; added later, with ``pair_png`` of the commit that
                       added it and a recipe with ``background``
  expected.json        the values that must be read from all of these
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from siamese.masks.shapes import ShapeStatistics, random_lesion, save_statistics
from siamese.models.autoencoder import SmallAutoencoder
from siamese.models.checkpoint import Checkpoint, save_checkpoint
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import NetworkConfig
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.sampling import MaskDiffusion
from siamese.studio.storage.batch_job import BatchJob
from siamese.studio.storage.collections import Collections
from siamese.studio.storage.mask_zip import NamedMask
from tests.frozen.values import HERE, PROMPT, TOKEN, arguments, described, digest
from tests.phantoms import phantom, write_folder
from train.__main__ import run_command as train_command


def recipe(seed: int = 7, **changes: Any) -> Recipe:
    """A recipe in which no optional setting has its default."""
    values: dict[str, Any] = {
        "prompt": PROMPT,
        "seed": seed,
        "steps": 20,
        "guidance": 2.5,
        "scheduler": "ddim",
        "model": "frozen-model",
        "reference_weight": 0.5,
        "guide": "mask",
        "rescale": 0.25,
        "guide_above": 0.125,
        "guide_below": 0.75,
        "version": "0.2.0",
    }
    return Recipe(**(values | changes))


def pair(number: int, made: Recipe) -> SyntheticPair:
    """A 32 x 32 image of a drawn mask of 48 x 64."""
    _, drawn = phantom(number)
    image, mask = phantom(number, 32, 32)
    mask = np.asarray(np.where(_nearest(drawn, 32) > 127, 255, 0), np.uint8)
    return SyntheticPair(image, mask, drawn, made)


def _nearest(mask: np.ndarray, side: int) -> np.ndarray:
    return np.array(Image.fromarray(mask).resize((side, side), Image.Resampling.NEAREST))


def model() -> Checkpoint:
    """A model of 10,000 weights: 32 pixels are 2 x 2 latents."""
    torch.manual_seed(0)
    network = NetworkConfig(
        block_out_channels=(4, 4),
        attention=(False, True),
        layers_per_block=1,
        cross_attention_dim=4,
        attention_heads=1,
        norm_num_groups=2,
        time_scale_shift=True,
        latent_channels=16,
        latent_size=2,
        prediction="v_prediction",
        hint_widths=(2, 2, 2, 2, 2),
        hint_mergings=4,
    )
    vae = SmallAutoencoder(
        widths=(4, 4, 4, 4), encoder_layers=(1,) * 4, decoder_layers=(1,) * 4, pack=2, scaling_factor=0.7
    )
    unet = network.build_unet()
    controlnet = SiameseControlNet.from_unet(unet, network.hint_widths, network.hint_mergings)
    for conv in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        nn.init.normal_(conv.weight, std=0.1)
    return Checkpoint(
        vae,
        unet,
        controlnet,
        PromptTable((PROMPT, ""), network.cross_attention_dim, tokens=2),
        network.scheduler_config(),
        SamplingSettings(num_inference_steps=4, guidance_scale=2.0, scheduler="ddim"),
        image_size=32,
    )


def pack(folder: Path, parts: list[str], file: Path) -> None:
    """A ZIP of the files below ``parts`` of ``folder``."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(p for part in parts for p in (folder / part).rglob("*") if p.is_file()):
            archive.writestr(
                zipfile.ZipInfo(path.relative_to(folder).as_posix(), (1980, 1, 1, 0, 0, 0)),
                path.read_bytes(),
                zipfile.ZIP_DEFLATED,
                9,
            )


def main() -> None:
    """Write all files."""
    expected: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as scratch:
        expected["pairs"] = make_pairs(Path(scratch))
    with tempfile.TemporaryDirectory() as scratch:
        make_run(Path(scratch))
    expected["shapes"] = make_shapes()
    (HERE / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def make_pairs(scratch: Path) -> dict[str, object]:
    """The PNG, a collection and a batch."""
    single = pair(1, recipe())
    (HERE / "pair.png").write_bytes(pair_png(single))
    collections = Collections(scratch / "collections", clock=lambda: datetime(2026, 11, 1, tzinfo=UTC))
    kept = [pair(n, recipe(n, reference_weight=None)) for n in (2, 3)]
    ids = [collections.add(TOKEN, p, agreement) for p, agreement in zip(kept, (0.875, None), strict=True)]
    collections.export(TOKEN, HERE / "collection.zip")
    job = BatchJob.create(
        scratch / "batch",
        [NamedMask("first", phantom(4)[1]), NamedMask("Läsion 2".replace(" ", "_"), phantom(5)[1])],
        PROMPT,
        seed=11,
        steps=20,
        guidance=2.5,
        scheduler="ddim",
        model="frozen-model",
    )
    made = []

    def sample(masks: list[np.ndarray], seeds: list[int]) -> list[SyntheticPair]:
        plain = {
            "reference_weight": None,
            "guide": "prompt",
            "rescale": 0.0,
            "guide_above": 0.0,
            "guide_below": 1.0,
        }
        made.extend(pair(4 + i, recipe(seed, **plain)) for i, seed in enumerate(seeds))
        return made

    list(job.run(sample, 2, lambda: False, lambda pairs: [0.75, 1.0]))
    job.export(HERE / "batch.zip")
    shutil.rmtree(scratch / "collections" / ".locks")
    pack(scratch, ["collections", "batch"], HERE / "visitor.zip")
    return {
        "png": described(single),
        "collection": {i: described(p) for i, p in zip(ids, kept, strict=True)},
        "collection_agreement": dict(zip(ids, (0.875, None), strict=True)),
        "batch": {item.name: described(p) for item, p in zip(job.items, made, strict=True)},
        "batch_agreement": {"first": 0.75, job.items[1].name: 1.0},
    }


def make_run(scratch: Path) -> None:
    """A run, whose checkpoint of update 2 is left as its newest."""
    save_checkpoint(model(), scratch / "model")
    write_folder(scratch / "pairs", 4, height=32, width=32)
    train_command(arguments(scratch))
    checkpoints = scratch / "run" / "checkpoints"
    end = torch.load(checkpoints / "step-00000004" / "state.pt", weights_only=True)
    some = {
        name: tensor.contiguous()
        for name, tensor in end["module"].items()
        if name.endswith((".bias", "conv_out.weight"))
    }
    save_file(some, HERE / "run_end.safetensors")
    shutil.rmtree(checkpoints / "step-00000004")
    pack(scratch, ["model", "pairs", "run/checkpoints"], HERE / "run.zip")
    _, mask = phantom(9, 32, 32)
    images = MaskDiffusion.from_pretrained(str(scratch / "model")).sample(
        mask, PROMPT, [3, 4], steps=3, guidance=1.5
    )
    Image.fromarray(np.concatenate(list(images))).save(HERE / "sampled.png")


def make_shapes() -> dict[str, object]:
    """Statistics, and a lesion drawn from them."""
    statistics = ShapeStatistics.fit(phantom(i, 64, 64)[1] for i in range(120))
    save_statistics({PROMPT: statistics}, HERE / "lesion_shapes.json")
    again = ShapeStatistics.from_dict(statistics.to_dict())
    return {"count": statistics.count, "lesion": digest(random_lesion(again, 5, 64))}


if __name__ == "__main__":
    main()
