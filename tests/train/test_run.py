"""``python -m train all``: every stage in order to a folder that the app opens, the same after any interruption."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from siamese.masks.segmenter import LesionSegmenter
from siamese.models.checkpoint import weights_hash
from siamese.records.catalogue import find_models
from siamese.records.prompts import POLYP
from siamese.sampling import MaskDiffusion
from siamese.studio.backend.engine import Engine
from tests.phantoms import phantom, write_folder
from tests.train.recipes import UPDATES, small_recipe, use
from tests.train.stages import interrupted_after
from train import __main__ as command
from train.engine import loop
from train.recipe import run as everything
from train.recipe.plan import PlanError, StageProgress, write_json
from train.recipe.rehearsal import Timed
from train.recipe.run import STOPPED, AllConfig
from train.recipe.stages import RECIPES, TINY_RECIPE, Workplace
from train.stages import autoencoder as vae
from train.stages import siamese

STAGES = ["vae", "base", "siamese", "decoder", "segment"]
NONE = Path("none")


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """The small recipe in the place of the tiny one."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, small_recipe())
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(
        tmp_path_factory.mktemp("data") / "kvasir-seg", 14, {"train": range(10), "val": range(10, 14)}
    )


def run(data: Path, out: Path, **changes: object) -> str:
    """What a run prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        everything.main(AllConfig(**({"data": (data,), "out": out, "weights": NONE} | changes)))
    return said.getvalue()


def stopped(data: Path, out: Path, **changes: object) -> str:
    """What a run that is stopped prints."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit) as error:
        everything.main(AllConfig(**({"data": (data,), "out": out, "weights": NONE} | changes)))
    assert error.value.code == STOPPED
    assert "The same command continues" in said.getvalue()
    return said.getvalue()


@pytest.fixture(scope="module")
def whole(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that was never stopped, and what it printed."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    return out, run(data, out)


@pytest.mark.slow
def test_plan_and_stages_are_reported_in_order(whole: tuple[Path, str]) -> None:
    out, said = whole
    places = [
        said.index(text)
        for text in (
            "10 training and 4 validation pairs (kvasir-seg)",
            "Without perceptual weights",
            "Rehearsal",
            "siamese: ",
            "The plan:",
            "About ",
            "vae (1 of 6)",
            "base (2 of 6)",
            "siamese (3 of 6)",
            "decoder (4 of 6)",
            "segment (5 of 6)",
            "publish (6 of 6)",
            f"python app.py --model {out / 'model'}",
        )
    ]
    assert places == sorted(places)
    table = said[said.index("The plan:") : said.index("About ")].splitlines()[2:]
    assert [line.split()[0] for line in table] == [*STAGES, "publish"]
    for line, name in zip(table[:-1], STAGES, strict=True):
        assert str(UPDATES[name]) in line.split()
        assert str(out / name) in line
    assert "seconds, until" in said
    assert "for the stages that follow" in said


@pytest.mark.slow
def test_every_stage_makes_the_recipes_updates_and_nothing_of_the_rehearsal_is_left(
    whole: tuple[Path, str],
) -> None:
    out, _ = whole
    for name in STAGES:
        progress = StageProgress.of(Workplace(out, ()).run(name))
        assert progress.complete
        assert progress.updates == UPDATES[name]
        assert progress.seconds > 0
    assert not (out / "rehearsal").exists()
    for name in STAGES:  # each knows what it was trained on, and from
        facts = json.loads((Workplace(out, ()).run(name) / "run.json").read_text())
        assert facts["training pairs"]["count"] == 10
        assert facts["validation pairs"]["count"] == 4
        assert {"base": "autoencoder_weights", "siamese": "init_weights", "decoder": "init_weights"}.get(
            name, "samples"
        ) in facts
    settings = json.loads((out / "siamese" / "run.json").read_text())
    assert settings["max_steps"] == UPDATES["siamese"]
    assert settings["train_encoder"]
    assert settings["objective"]["weighting"] == "velocity"


@pytest.mark.slow
def test_published_folder_opens_and_samples(whole: tuple[Path, str]) -> None:
    folder = whole[0] / "model"
    model = MaskDiffusion.from_pretrained(folder, "cpu")
    assert model.prompts == (POLYP, "")
    assert model.checkpoint.defaults == TINY_RECIPE.sampling.override(num_inference_steps=3)
    assert model.size == 64
    images = model.sample(phantom(40)[1], POLYP, [1, 2])
    assert images.shape == (2, 64, 64, 3)
    assert LesionSegmenter.from_pretrained(folder / "segmenter").predict(images).shape == (2, 64, 64)
    assert {t.dtype for t in load_file(next((folder / "unet").glob("*.safetensors"))).values()} == {
        torch.float16
    }


@pytest.mark.slow
def test_the_app_opens_it_with_card_licence_and_example(whole: tuple[Path, str]) -> None:
    [entry] = entries = find_models(str(whole[0] / "model"), None)
    assert "Not for diagnosis" in entry.card
    assert "| siamese | 9 | 4 | 36 | 10 |" in entry.card
    assert "Not measured" in entry.card
    assert "Kvasir-SEG" in entry.licence
    assert "ISIC" not in entry.licence
    [example] = entry.examples()
    assert example.recipe.prompt == POLYP
    assert example.recipe.settings.num_inference_steps == 3
    info = Engine(entries).info(lambda _: None, lambda: False, None)
    assert info.name == "model"
    assert info.can_suggest


@pytest.mark.slow
def test_once_complete_it_trains_nothing_and_leaves_an_edited_card(
    whole: tuple[Path, str], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, _ = whole
    card = (out / "model" / "README.md").read_text()
    (out / "model" / "README.md").write_text("edited")
    monkeypatch.setattr(loop, "run", lambda *_: pytest.fail("it trains"))
    said = run(data, out)
    assert said.count("complete since before") == 6
    assert "Rehearsal" not in said
    assert (out / "model" / "README.md").read_text() == "edited"
    (out / "model" / "README.md").write_text(card)


@pytest.fixture
def rehearsed(whole: tuple[Path, str], tmp_path: Path) -> Path:
    """A folder whose plan is made and nothing else. Updates are said to take so long that each is a checkpoint."""
    plan = json.loads((whole[0] / "plan.json").read_text())
    paces = {name: pace | {"update": 100.0} for name, pace in plan["paces"].items()}
    write_json(
        tmp_path / "rehearsed" / "plan.json",
        plan | {"paces": paces, "updates": {}, "expected": {}, "published": False},
    )
    return tmp_path / "rehearsed"


@pytest.mark.slow
def test_stopped_killed_and_continued_run_has_the_weights_of_one_that_was_not(
    whole: tuple[Path, str], data: Path, rehearsed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = rehearsed
    child = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "tests.train.recipes",
            "all",
            "--data",
            str(data),
            "--out",
            str(out),
            "--weights",
            "none",
        ],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 240
    while not (out / "base" / "checkpoints" / "step-00000003").is_dir():
        assert child.poll() is None, child.stderr.read()
        assert time.monotonic() < limit, child.stderr.read()
        time.sleep(0.01)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    assert StageProgress.of(out / "vae").complete
    assert 3 <= StageProgress.of(out / "base").updates < 10
    assert not (out / "base" / "progress.json").exists()
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run", _interrupting(siamese.SiameseStage, 5))
        said = stopped(data, out)
    assert "Rehearsal" not in said
    assert "vae (1 of 6): complete since before" in said
    assert "more of 10 updates" in said
    assert StageProgress.of(out / "base").seconds > 300  # those of the killed session, as its updates tell
    assert StageProgress.of(out / "siamese").updates == 5
    assert not (out / "decoder").exists()
    said = run(data, out)
    assert "base (2 of 6): complete since before" in said
    assert "siamese (3 of 6), Mask-Diffusion, which follows a mask: 4 more of 9 updates" in said
    for part in ("vae", "base", "siamese", "decoder", "segment/small"):
        assert weights_hash(out / part / "model") == weights_hash(whole[0] / part / "model"), part
    assert weights_hash(out / "model") == weights_hash(whole[0] / "model")


def _interrupting(kind: type, updates: int) -> Callable[..., int]:
    """``loop.run``, but Ctrl-C comes while a stage of that kind, be it in the rehearsal, prepares that update."""
    genuine = loop.run

    def run(stage: loop.Stage, *arguments: object) -> int:
        its = isinstance(stage, kind) or (isinstance(stage, Timed) and isinstance(stage._stage, kind))
        return genuine(interrupted_after(stage, updates) if its else stage, *arguments)

    return run


@pytest.mark.slow
def test_a_stop_in_the_rehearsal_is_heard_inside_and_outside_the_loop(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run", _interrupting(vae.VaeStage, 2))
        assert "The plan" not in stopped(data, tmp_path)
    monkeypatch.setattr(vae, "check_pairs", lambda *_: signal.raise_signal(signal.SIGTERM))
    said = stopped(data, tmp_path)
    assert "Rehearsal" in said
    assert "The plan" not in said
    assert not any(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.slow
def test_a_stop_that_comes_after_the_last_update_of_a_stage_is_heard(
    data: Path, rehearsed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vae.VaeStage, "evaluate", lambda *_: signal.raise_signal(signal.SIGINT) or {})
    said = stopped(data, rehearsed)
    assert StageProgress.of(rehearsed / "vae").complete
    assert "base (2 of 6)" not in said


@pytest.fixture
def begun(whole: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of the complete run, which may be spoilt."""
    return shutil.copytree(whole[0], tmp_path / "moved")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"minutes": 5.0}, "minutes was not given, now 5.0"),
        ({"prompt": "a leaf"}, 'prompt was not given, now "a leaf"'),
        ({"minutes": 5.0, "extend": True}, "extend was False, now True"),
    ],
)
def test_another_request_is_refused(change: dict, message: str, begun: Path, data: Path) -> None:
    with pytest.raises(PlanError, match=message) as error:
        run(data, begun, **change)
    assert "for a new run give another --out" in str(error.value)


@pytest.mark.slow
def test_other_data_is_refused_and_moved_data_is_not(begun: Path, data: Path, tmp_path: Path) -> None:
    moved = shutil.copytree(data, tmp_path / "kvasir-seg")
    assert run(moved, begun).count("complete since before") == 6
    (moved / "val.txt").write_text("case 10\ncase 11\n")
    with pytest.raises(PlanError, match="the validation pairs have changed") as error:
        run(moved, begun)
    assert "training pairs" not in str(error.value)
    image = np.asarray(Image.open(moved / "images" / "case 00.png")).copy()
    image[0, 0] ^= 1
    Image.fromarray(image).save(moved / "images" / "case 00.png")
    with pytest.raises(PlanError, match="the training pairs have changed"):
        run(moved, begun)


@pytest.mark.slow
def test_another_recipe_is_refused(begun: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RECIPES, "tiny", small_recipe(lambda name: 7 if name == "decoder" else UPDATES[name]))
    with pytest.raises(PlanError, match="recipe decoder loop max_steps was 4, now 7"):
        run(data, begun)


@pytest.mark.slow
def test_damaged_or_foreign_folders_are_refused(begun: Path, data: Path) -> None:
    (begun / "vae" / "progress.json").write_text("{")
    with pytest.raises(PlanError, match=r"progress.json is damaged"):
        run(data, begun)
    (begun / "plan.json").write_text('{"paces": 1}')
    with pytest.raises(PlanError, match=r"plan.json is damaged"):
        run(data, begun)
    (begun / "plan.json").unlink()
    with pytest.raises(PlanError, match=r"checkpoints of single stages, but no plan.json"):
        run(data, begun)


@pytest.mark.slow
def test_a_lost_model_folder_is_made_again(begun: Path, data: Path, whole: tuple[Path, str]) -> None:
    for lost in ("model", "segment/small/model"):
        shutil.rmtree(begun / lost)
    said = run(data, begun)
    assert said.count("complete since before") == 4
    assert "segment (5 of 6), segmentation network: 0 more of 6" in said
    assert weights_hash(begun / "model") == weights_hash(whole[0] / "model")


def test_missing_perceptual_weights_are_reported_before_anything_is_trained(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(everything, "check_pairs", lambda _: pytest.fail("it goes on"))
    with pytest.raises(SystemExit) as error:
        command.run_command(
            ["all", "--data", str(data), "--out", str(tmp_path / "out"), "--weights", str(tmp_path)]
        )
    assert "alexnet_lpips.safetensors: no perceptual weights" in str(error.value)
    assert "--weights none" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_stages_with_perceptual_weights_take_them(tmp_path: Path) -> None:
    with_them, without = (
        [
            stage.configured(Workplace(tmp_path, (tmp_path,), weights=weights), 10)
            for stage in TINY_RECIPE.stages
        ]
        for weights in (tmp_path, None)
    )
    vae, decoder = with_them[0], with_them[3]
    assert vae.lpips_weight > 0
    assert decoder.lpips_weight > 0
    assert vae.weights == decoder.weights == tmp_path
    assert vae.texture_weight > 0
    assert vae.adversarial_weight > 0
    assert [c.lpips_weight for c in (without[0], without[3])] == [0, 0]
    assert without[0].texture_weight == without[0].adversarial_weight == 0  # both look through AlexNet


@pytest.mark.parametrize("options", [{"minutes": 0.0}, {"minutes": -1.0}, {"extend": True}])
def test_options_that_make_no_sense_are_refused(options: dict, data: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="--minutes must be positive, and --extend needs them"):
        run(data, tmp_path / "out", **options)


def test_several_processes_are_refused(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="one process"):
        run(data, tmp_path / "out")


@pytest.mark.slow
def test_three_minutes_on_phantoms_of_the_users_own(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The command as typed, with the user's prompt and no split files. The recipe's updates end it long before."""
    own, out, started = write_folder(tmp_path / "walls", 8), tmp_path / "out", time.monotonic()
    command.run_command(
        [
            "all",
            "--preset",
            "tiny",
            "--data",
            str(own),
            "--prompt",
            "a stain on a wall",
            "--minutes",
            "3",
            "--out",
            str(out),
            "--weights",
            "none",
        ]
    )
    assert time.monotonic() - started < 180
    said = capsys.readouterr().out
    assert "8 training and 0 validation pairs (walls)" in said
    assert "No validation pairs" in said
    assert "No examples" in said
    model = MaskDiffusion.from_pretrained(out / "model", "cpu")
    assert model.prompts == ("a stain on a wall", "")
    assert model.sample(phantom(1)[1], "a stain on a wall", [1]).shape == (1, 64, 64, 3)
    assert LesionSegmenter.from_pretrained(out / "model" / "segmenter").size == 32
    licence = (out / "model" / "LICENSE").read_text()
    assert "terms of the data that they were trained on: walls" in licence
    assert "Kvasir" not in licence
    plan = json.loads((out / "plan.json").read_text())
    assert plan["request"]["minutes"] == 3
    assert plan["updates"] == UPDATES
