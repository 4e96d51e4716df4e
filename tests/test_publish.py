"""A published folder: half precision, licence, defaults, and no part of an older model left behind."""
from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from siamese.models.checkpoint import save_checkpoint
from siamese.prompts import LESION, POLYP
from siamese.provenance import read_png
from siamese.sampling import MaskDiffusion
from tests.models import build
from train.publish import PublishConfig, main


def test_published_model_is_half_precision_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_checkpoint(build("small"), tmp_path / "model")
    (tmp_path / "assets" / "unet").mkdir(parents=True)
    (tmp_path / "assets" / "unet" / "old.safetensors").write_bytes(b"old")
    (tmp_path / "assets" / "README.md").write_text("card")
    main(PublishConfig(tmp_path / "model", tmp_path / "assets", steps=3, guidance=1.5))
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["steps"] == 3 and 0 < said["megabytes"] < 80
    weights = load_file(next((tmp_path / "assets" / "unet").glob("*.safetensors")))
    assert {t.dtype for t in weights.values()} == {torch.float16}
    assert not (tmp_path / "assets" / "unet" / "old.safetensors").exists() and (tmp_path / "assets" / "README.md").read_text() == "card"
    assert "Not for diagnosis" in (tmp_path / "assets" / "LICENSE").read_text()
    model = MaskDiffusion.from_pretrained(tmp_path / "assets", "cpu")
    assert (model.checkpoint.defaults.steps, model.checkpoint.defaults.guidance) == (3, 1.5)
    examples = [read_png(p.read_bytes()) for p in sorted((tmp_path / "assets" / "examples").glob("*.png"))]
    assert [e.recipe.prompt for e in examples] == [p for p in (POLYP, LESION) if p in model.prompts]
    for pair in examples:
        again = model.sample(pair.drawn, pair.recipe.prompt, [pair.recipe.seed])[0]
        assert np.abs(again.astype(int) - pair.image).max() <= 1, "the recipe makes the image again"
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    assert model.sample(mask, model.prompts[0], [1]).shape == (1, 64, 64, 3)
