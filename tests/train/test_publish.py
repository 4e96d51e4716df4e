"""A published folder: half precision, licence, card, defaults, and no part of an older model left behind."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from siamese.models.checkpoint import save_checkpoint, weights_hash
from siamese.models.prompt_embeddings import PromptTable
from siamese.records.prompts import LESION, POLYP
from siamese.records.provenance import read_png
from siamese.sampling import MaskDiffusion
from tests.models import build
from train.evaluation.synthesis import SamplingOptions
from train.tools.card import NOT_MEASURED
from train.tools.licence import licence
from train.tools.publish import PublishConfig, main


@pytest.mark.slow
def test_published_model_is_half_precision_and_samples(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    save_checkpoint(build("small"), tmp_path / "model")
    (tmp_path / "assets" / "unet").mkdir(parents=True)
    (tmp_path / "assets" / "unet" / "old.safetensors").write_bytes(b"old")
    (tmp_path / "assets" / "README.md").write_text("card")
    main(
        PublishConfig(
            tmp_path / "model",
            tmp_path / "assets",
            ("kvasir-seg",),
            sampling=SamplingOptions(num_inference_steps=3, guidance_scale=1.5),
        )
    )
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert said["num_inference_steps"] == 3
    assert 0 < said["megabytes"] < 80
    weights = load_file(next((tmp_path / "assets" / "unet").glob("*.safetensors")))
    assert {t.dtype for t in weights.values()} == {torch.float16}
    assert not (tmp_path / "assets" / "unet" / "old.safetensors").exists()
    assert (tmp_path / "assets" / "README.md").read_text() == "card"
    assert "Not for diagnosis" in (tmp_path / "assets" / "LICENSE").read_text()
    model = MaskDiffusion.from_pretrained(tmp_path / "assets", "cpu")
    defaults = model.checkpoint.defaults
    assert (defaults.num_inference_steps, defaults.guidance_scale) == (3, 1.5)
    examples = [read_png(p.read_bytes()) for p in sorted((tmp_path / "assets" / "examples").glob("*.png"))]
    assert [e.recipe.prompt for e in examples] == [p for p in (POLYP, LESION) if p in model.prompts]
    for pair in examples:
        again = model.sample(pair.drawn, pair.recipe.prompt, [pair.recipe.seed])[0]
        assert np.abs(again.astype(int) - pair.image).max() <= 1, "the recipe makes the image again"
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    assert model.sample(mask, model.prompts[0], [1]).shape == (1, 64, 64, 3)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "model"
    save_checkpoint(build("small"), folder)
    return folder


def test_nothing_is_published_if_files_are_tracked_unless_asked() -> None:
    assert PublishConfig(Path("model")).out == Path("runs/published")


@pytest.mark.slow
def test_terms_that_nobody_stated_are_not_guessed(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--trained-on"):
        main(PublishConfig(trained, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "LICENSE").write_text("as agreed")
    main(PublishConfig(trained, tmp_path / "out"))
    assert (tmp_path / "out" / "LICENSE").read_text() == "as agreed"


def test_licence_of_the_embedded_weights_is_what_their_sets_give() -> None:
    assets = Path(__file__).parents[2] / "assets" / "siamese-tiny"
    assert (
        licence("siamese-tiny", ("cvc-clinicdb", "isic2018", "kvasir-seg"))
        == (assets / "LICENSE").read_text()
    )


def test_licence_names_the_users_own_data() -> None:
    assert "and on other data, and follow its terms as well: ward." in licence("m", ("kvasir-seg", "ward"))
    own = licence("m", ("ward", "clinic"))
    assert "that they were trained on: ward, clinic." in own
    assert "Kvasir" not in own
    assert "Not for diagnosis" in own
    with pytest.raises(ValueError, match="names of the data"):
        licence("m", ())


@pytest.mark.slow
def test_card_tells_training_and_figures(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    run, out = tmp_path / "siamese", tmp_path / "out"
    (run / "checkpoints" / "step-00000120").mkdir(parents=True)
    (run / "run.json").write_text(
        json.dumps({"batch_size": 16, "learning_rate": 4e-4, "samples": 2872, "max_steps": 500})
    )
    (tmp_path / "metrics.json").write_text(json.dumps({"polyp": {"mask_agreement": 0.5}}))
    config = PublishConfig(trained, out, ("kvasir-seg",), runs=(run,))
    main(config)
    card = (out / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    assert "Research and education. Not for diagnosis." in card
    assert "| siamese | 120 | 16 | 1,920 | 2,872 | 0.0004 |  |" in card
    assert NOT_MEASURED in card
    assert '"a colonoscopy image of a polyp"' in card
    assert str(tmp_path) not in card, "no places of this machine"
    main(replace(config, metrics=tmp_path / "metrics.json"))
    assert (out / "README.md").read_text() == card
    assert "README.md is kept" in capsys.readouterr().out
    (run / "progress.json").write_text(json.dumps({"updates": 120, "seconds": 90.0, "complete": True}))
    main(replace(config, metrics=tmp_path / "metrics.json", card=True))
    card = (out / "README.md").read_text()
    assert "| polyp | mask agreement | 0.500 |" in card
    assert NOT_MEASURED not in card
    assert "| 0.0004 | 1.5 |" in card
    assert json.loads((out / "metrics.json").read_text())["polyp"]
    assert "of other weights" not in capsys.readouterr().out
    (out / "metrics-settings.json").write_text(json.dumps({"model_weights": "of the model before"}))
    main(config)
    assert "of other weights" in capsys.readouterr().out
    (out / "metrics-settings.json").write_text(json.dumps({"model_weights": weights_hash(out)}))
    main(config)
    assert "of other weights" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match=r"no run.json"):
        main(replace(config, runs=(tmp_path,)))


@pytest.mark.slow
def test_own_prompts_have_no_examples_and_older_ones_go(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    checkpoint = build("small")
    checkpoint.context = PromptTable(("a stain on a wall", ""), 16, tokens=4)
    save_checkpoint(checkpoint, tmp_path / "model")
    (tmp_path / "out" / "examples").mkdir(parents=True)
    (tmp_path / "out" / "examples" / "a-polyp.png").write_bytes(b"of another model")
    main(PublishConfig(tmp_path / "model", tmp_path / "out", ("walls",)))
    assert "No examples" in capsys.readouterr().out
    assert not (tmp_path / "out" / "examples").exists()
