"""A small world to measure in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stand_ins import write_model, write_perceptual, write_set
from train.networks.lpips import load_perceptual
from train.networks.vgg_unet import VggSegmenter, VggUNet


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """Data, weights, model and segmenter."""
    folder = tmp_path_factory.mktemp("world")
    write_set(folder / "kvasir-seg", {"train": 7, "val": 4, "test": 3})
    write_set(folder / "isic2018", {"train": 6, "val": 5, "test": 4}, 50)
    write_perceptual(folder / "weights")
    write_model(folder / "model")
    unet = VggUNet.from_perceptual(load_perceptual("vgg16", folder / "weights"), decoder=(8, 8, 8, 8, 8))
    VggSegmenter(unet, 32).save_pretrained(folder / "segmenter")
    return folder
