"""A run that is interrupted, killed or stopped and then continued ends bit for bit as an uninterrupted one."""

from __future__ import annotations

import dataclasses
import os
import signal
import time
from pathlib import Path

import pytest
import torch

from siamese.models.checkpoint import load_checkpoint, save_checkpoint
from tests.child import Child, start
from tests.models import build
from tests.train.stages import ToyStage, checkpoints, differences, final_state, interrupted_after, real_stage
from train.engine import loop, signals
from train.engine.checkpoints import ResumeError
from train.engine.loop import LoopConfig, ParameterGroup


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["base", "siamese"])
def test_continued_run_equals_uninterrupted_run(
    kind: str, polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    loop.run(*real_stage(kind, polyps, model_folder, tmp_path / "whole"))
    stage, config = real_stage(kind, polyps, model_folder, tmp_path / "parts")
    assert loop.run(interrupted_after(stage, 3), config) == 3
    assert checkpoints(tmp_path / "parts") == [3]
    assert loop.run(*real_stage(kind, polyps, model_folder, tmp_path / "parts")) == 6
    whole, parts = final_state(tmp_path / "whole"), final_state(tmp_path / "parts")
    assert whole["step"] == 6
    assert {"module", "optimiser", "ema"} <= whole.keys()
    assert differences(whole, parts) == []
    # It has trained: what is compared is not the state at the start.
    start, _ = real_stage(kind, polyps, model_folder, tmp_path / "none")
    weights = start.module.state_dict()
    moved = sum(not torch.equal(value, weights[name]) for name, value in whole["module"].items())
    assert moved > 0.9 * len(whole["module"])
    exported = [load_checkpoint(tmp_path / run / "model") for run in ("whole", "parts")]
    assert differences(*(m.unet.state_dict() for m in exported)) == []
    # Exported are the averaged weights.
    name = "objective.unet.conv_out.weight"
    assert not torch.equal(exported[0].unet.conv_out.weight, whole["module"][name])
    assert any(torch.equal(exported[0].unet.conv_out.weight, average) for average in whole["ema"]["values"])


def _child(mode: str, kind: str, data: Path, model: Path, out: Path, steps: int, every: int) -> Child:
    out.parent.mkdir(exist_ok=True)
    return start(
        [mode, kind, str(data), str(model), str(out), str(steps), str(every)], out.with_suffix(".errors")
    )


@pytest.fixture(scope="module")
def kl_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose latents are drawn from a posterior."""
    folder = tmp_path_factory.mktemp("models") / "sd"
    save_checkpoint(build("sd"), folder)
    return folder


@pytest.mark.slow
def test_run_killed_in_the_middle_of_a_save_continues_from_the_save_before(
    polyps: Path, kl_model: Path, tmp_path: Path
) -> None:
    child = _child("killed", "siamese", polyps, kl_model, tmp_path / "killed", 6, 2)
    assert child.wait(300) == -signal.SIGKILL, child.said
    left = {p.name: (p / "state.pt").stat().st_size for p in (tmp_path / "killed" / "checkpoints").iterdir()}
    assert left.keys() == {"step-00000002", "step-00000004.part"}
    assert 0 < left["step-00000004.part"] < 0.6 * left["step-00000002"]
    loop.run(*real_stage("siamese", polyps, kl_model, tmp_path / "killed", checkpoint_every=2))
    assert checkpoints(tmp_path / "killed") == [4, 6]
    loop.run(*real_stage("siamese", polyps, kl_model, tmp_path / "whole"))
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "killed")) == []


@pytest.mark.slow
def test_interrupt_saves_and_ends_cleanly(polyps: Path, kl_model: Path, tmp_path: Path) -> None:
    steps = 40
    child = _child("run", "base", polyps, kl_model, tmp_path / "stopped", steps, 1)
    limit = time.monotonic() + 300
    while not (tmp_path / "stopped" / "checkpoints" / "step-00000002").is_dir():
        assert child.process.is_alive(), child.said
        assert time.monotonic() < limit, child.said
        time.sleep(0.01)
    os.kill(child.process.pid, signal.SIGINT)
    assert child.wait(120) == 0, child.said
    assert "Traceback" not in child.said
    assert 2 <= checkpoints(tmp_path / "stopped")[-1] < steps
    assert (tmp_path / "stopped" / "model" / "unet").is_dir()
    loop.run(*real_stage("base", polyps, kl_model, tmp_path / "stopped", max_steps=steps))
    loop.run(*real_stage("base", polyps, kl_model, tmp_path / "whole", max_steps=steps))
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "stopped")) == []


def _toy(out: Path, **changes: object) -> LoopConfig:
    return LoopConfig(
        **({"out": out, "max_steps": 6, "batch_size": 4, "learning_rate": 0.1, "ema_decay": 0.9} | changes)
    )


def test_continuing_twice_changes_nothing(tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path / "whole"))
    for updates in (1, 2):
        loop.run(interrupted_after(ToyStage(), updates), _toy(tmp_path / "parts"))
    for _ in range(2):  # the second finds nothing to do
        stage = ToyStage()
        assert loop.run(stage, _toy(tmp_path / "parts")) == 6
    assert stage.asked == []
    assert len(stage.exported) == 1
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "parts")) == []


def test_interrupt_that_comes_after_a_look_stops_after_the_next_update_and_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is one look an update: what is not seen by it is seen by the next."""

    class Late(signals.StopSignals):
        looks = 0

        @property
        def received(self) -> bool:
            type(self).looks += 1
            return type(self).looks >= 2

        @received.setter
        def received(self, value: bool) -> None:
            assert value is False

    monkeypatch.setattr(loop, "StopSignals", Late)
    assert loop.run(ToyStage(), _toy(tmp_path)) == 2
    assert checkpoints(tmp_path) == [2]


def test_second_interrupt_stops_at_once(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run(interrupted_after(interrupted_after(ToyStage(), 1), 1), _toy(tmp_path))
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_steps": 12}, "max_steps was 6, now 12"),
        ({"batch_size": 5}, "batch_size was 4, now 5"),
        ({"seed": 1}, "seed was 0, now 1"),
        ({"learning_rate": 0.2}, r"learning_rate was 0.1, now 0.2"),
        ({"ema_decay": None}, "ema_decay was 0.9, now None"),
        ({"betas": (0.5, 0.9)}, r"betas was \[0.9, 0.999\], now \[0.5, 0.9\]"),
        ({"schedule": "cosine", "seed": 3}, "seed .*schedule|schedule .*seed"),
    ],
)
def test_other_settings_are_another_run(change: dict, message: str, tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path))
    before = final_state(tmp_path)
    with pytest.raises(ResumeError, match=message) as error:
        loop.run(ToyStage(), _toy(tmp_path, **change))
    assert "another --loop.out" in str(error.value)
    assert differences(before, final_state(tmp_path)) == []


def test_settings_of_the_stage_data_and_frozen_weights_belong_to_the_run(tmp_path: Path) -> None:
    facts = {"size": 64, "weights": LoopConfig(), "init": Path("a")}
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path), facts)
    with pytest.raises(ResumeError, match="size was 64, now 32"):
        loop.run(ToyStage(), _toy(tmp_path), facts | {"size": 32})
    with pytest.raises(ResumeError, match="samples was 10, now 9"):
        loop.run(ToyStage(9), _toy(tmp_path), facts)
    stage = ToyStage()
    stage.module.frozen.data += 1
    with pytest.raises(ResumeError, match="frozen_weights was"):
        loop.run(stage, _toy(tmp_path), facts)
    stage = ToyStage()
    stage.module.frozen.requires_grad_(True)
    with pytest.raises(ResumeError, match="frozen"):
        loop.run(stage, _toy(tmp_path), facts)
    assert loop.run(ToyStage(), _toy(tmp_path), facts | {"init": Path("b")}) == 6  # a folder may have moved


def test_checkpoint_of_other_weights_is_refused_though_it_knows_no_facts(tmp_path: Path) -> None:
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path))
    file = tmp_path / "checkpoints" / "step-00000002" / "state.pt"
    state = torch.load(file, weights_only=True)
    del state["facts"]
    torch.save(state, file)
    other = ToyStage()
    other.module.more = torch.nn.Parameter(torch.zeros(1))
    with pytest.raises(ResumeError, match=r"trains other weights than this run .more, 1 in all"):
        loop.run(other, _toy(tmp_path))
    assert loop.run(ToyStage(), _toy(tmp_path)) == 6


def test_run_that_was_begun_with_other_drawing_is_refused(tmp_path: Path) -> None:
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path))
    file = tmp_path / "checkpoints" / "step-00000002" / "state.pt"
    state = torch.load(file, weights_only=True)
    del state["drawing"]  # as earlier versions wrote it
    torch.save(state, file)
    with pytest.raises(
        ResumeError,
        match="step-00000002 was begun with a version of this program that drew its random numbers in another way",
    ):
        loop.run(ToyStage(), _toy(tmp_path))
    assert differences(state, torch.load(file, weights_only=True)) == []


def test_what_does_not_change_the_result_may_change(tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path / "whole"))
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path / "parts"))
    config = dataclasses.replace(
        _toy(tmp_path / "parts"), log_every=1, evaluate_every=2, checkpoint_every=2, keep_checkpoints=1
    )
    assert loop.run(ToyStage(), config) == 6
    assert checkpoints(tmp_path / "parts") == [6]
    assert differences(final_state(tmp_path / "whole"), final_state(tmp_path / "parts")) == []


def test_optimiser_of_other_parameter_groups_is_refused(tmp_path: Path) -> None:
    """As of the VGG16 U-Net before its slow convolutions had a parameter group of their own."""

    class Grouped(ToyStage):
        def parameter_groups(self) -> list[ParameterGroup]:
            return [ParameterGroup([self.module.weight]), ParameterGroup([self.module.more], 0.05)]

    def grouped() -> ToyStage:
        stage = Grouped()
        stage.module.more = torch.nn.Parameter(torch.ones(1))
        return stage

    loop.run(interrupted_after(grouped(), 2), _toy(tmp_path / "new"))
    assert loop.run(grouped(), _toy(tmp_path / "new")) == 6
    one = ToyStage()
    one.module.more = torch.nn.Parameter(torch.ones(1))
    loop.run(interrupted_after(one, 2), _toy(tmp_path / "old"))
    with pytest.raises(ResumeError, match="learning rates of pretrained and new weights in another way"):
        loop.run(grouped(), _toy(tmp_path / "old"))
    incomplete = Grouped()
    incomplete.module.more = torch.nn.Parameter(torch.ones(1))
    incomplete.module.third = torch.nn.Parameter(torch.ones(1))
    with pytest.raises(ValueError, match="every trainable parameter"):
        loop.run(incomplete, _toy(tmp_path / "incomplete"))
