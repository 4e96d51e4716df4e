"""What a run prints at its start and end, extending it, and what must not have changed: data, weights, settings."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from siamese.objective import SiameseConfig, describe_schedule
from tests.train.stages import ToyStage, checkpoints, differences, final_state, interrupted_after
from train import __main__ as command
from train.engine import loop, messages, signals
from train.engine.checkpoints import ResumeError, SaveError
from train.engine.disk import DiskFull, is_full, replacing, writing
from train.engine.loop import LoopConfig
from train.engine.schedule import learning_rate

FULL = OSError(28, "No space left on device")


def _toy(out: Path, **changes: object) -> LoopConfig:
    return LoopConfig(
        **({"out": out, "max_steps": 6, "batch_size": 4, "learning_rate": 0.1, "ema_decay": 0.9} | changes)
    )


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process was started as a user starts it."""
    monkeypatch.setattr(
        sys, "argv", ["/anywhere/train/__main__.py", "siamese", "--data", "my pairs", "--loop.extend_to", "6"]
    )


def test_end_of_a_run_says_where_the_model_is_and_what_comes_next(
    tmp_path: Path, typed: None, capsys: pytest.CaptureFixture
) -> None:
    loop.run(ToyStage(), _toy(tmp_path), {}, "Next: look at it.")
    said = capsys.readouterr().out
    assert f"Done: 6 of 6 updates. The model: {tmp_path / 'model'}. Next: look at it." in said
    assert "python -m train siamese --data 'my pairs' --loop.extend-to 12\n" in said
    loop.run(ToyStage(), _toy(tmp_path), {}, "")
    assert (
        f"The run in {tmp_path} is complete, 6 of 6 updates: nothing is left to train."
        in capsys.readouterr().out
    )


@pytest.mark.parametrize("how", ["Ctrl-C", "minutes"])
def test_stopped_run_says_where_the_model_is_and_how_to_go_on(
    how: str, tmp_path: Path, typed: None, capsys: pytest.CaptureFixture
) -> None:
    if how == "Ctrl-C":
        loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path), {}, "")
    else:
        loop.run(ToyStage(), _toy(tmp_path, minutes=0), {}, "")
    step = checkpoints(tmp_path)[-1]
    said = capsys.readouterr().out
    assert (
        f"Stopped after {step} of 6 updates. The checkpoint of step {step} is whole: {tmp_path / 'checkpoints' / f'step-{step:08d}'}."
        in said
    )
    assert (
        f"The model as it is now: {tmp_path / 'model'}. To go on from there:\n"
        "  python -m train siamese --data 'my pairs' --loop.extend_to 6\n"
    ) in said
    loop.run(ToyStage(), _toy(tmp_path), {}, "")
    assert f"Continues after {step} of 6 updates, from {tmp_path / 'checkpoints'}" in capsys.readouterr().out


def test_second_interrupt_says_that_nothing_was_saved(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(KeyboardInterrupt):
        loop.run(
            interrupted_after(interrupted_after(ToyStage(), 4), 4), _toy(tmp_path, checkpoint_every=2), {}, ""
        )
    assert "Stopped at once, without saving. The checkpoint of step 2 is whole" in capsys.readouterr().out


def test_command_of_several_processes_and_of_none(typed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert messages.typed().startswith("torchrun --nproc-per-node 2 -m train siamese --data")
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert messages.typed() == "the same again"
    assert messages.typed(9) == "the same again with --loop.extend-to 9"


@pytest.mark.parametrize(
    ("end", "status"), [("stopped", 130), ("interrupt", 130), ("full", None), ("done", 0)]
)
def test_exit_status_and_no_traceback(
    end: str, status: int | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A script does not go on with half a model; a full disk outside the loop is a sentence as well."""

    def main(config: object) -> None:
        if end == "interrupt":
            raise KeyboardInterrupt
        if end == "full":
            raise OSError(28, "No space left on device", "cache.npz")

    monkeypatch.setattr("train.stages.lesion_shapes.main", main)
    monkeypatch.setattr(signals, "interrupted", lambda: end == "stopped")
    arguments = ["shapes", "--data", str(tmp_path)]
    if end == "done":
        command.run_command(arguments)
        return
    with pytest.raises(SystemExit) as error:
        command.run_command(arguments)
    assert (
        error.value.code == status
        if status
        else "no space is left on the disk for cache.npz. Make space" in error.value.code
    )


@pytest.mark.parametrize("place", ["log", "sheet", "model", "run.json"])
def test_full_disk_is_a_sentence_wherever_it_is_met(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise FULL

    stage, what = (
        ToyStage(),
        {
            "log": "the log",
            "sheet": "the sample sheet",
            "model": f"the model ({tmp_path / 'model'})",
            "run.json": str(tmp_path / "run.json"),
        }[place],
    )
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path))
    before = (tmp_path / "model" / "weight.txt").read_text()
    with monkeypatch.context() as patch:
        if place == "log":
            patch.setattr("torch.utils.tensorboard.SummaryWriter.add_scalar", full)
        elif place == "run.json":
            patch.setattr(Path, "write_text", full)
        else:
            stage.evaluate, stage.export = (
                (full, stage.export) if place == "sheet" else (stage.evaluate, full)
            )
        with pytest.raises(SaveError) as error:
            loop.run(stage, _toy(tmp_path, log_every=1, evaluate_every=3))
    message = str(error.value)
    assert message.startswith(
        f"No space is left on the disk: {what} could not be written. The checkpoint of step "
    ), message
    assert "Make space" in message
    assert "the same command goes on from there" in message
    assert (tmp_path / "model" / "weight.txt").read_text() == before
    assert json.loads((tmp_path / "run.json").read_text())["max_steps"] == 6
    assert loop.run(ToyStage(), _toy(tmp_path)) == 6


def test_failed_checkpoint_leaves_its_space_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(state: Any, file: Any) -> None:
        file.write(b"half of it")
        raise FULL

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(
        SaveError, match=r"There is no checkpoint yet in .* Make space; then the same command starts over"
    ):
        loop.run(ToyStage(), _toy(tmp_path, checkpoint_every=2))
    assert not any((tmp_path / "checkpoints").iterdir())


def test_export_that_fails_halfway_leaves_the_model_before_whole(tmp_path: Path) -> None:
    loop.run(interrupted_after(ToyStage(), 2), _toy(tmp_path))
    (tmp_path / "model" / "segmenter").mkdir()
    before, stage = (tmp_path / "model" / "weight.txt").read_text(), ToyStage()

    def half(folder: Path) -> None:
        folder.mkdir()
        (folder / "weight.txt").write_text("half")
        raise FULL

    stage.export = half
    with pytest.raises(SaveError):
        loop.run(stage, _toy(tmp_path))
    assert (tmp_path / "model" / "weight.txt").read_text() == before
    assert not [p.name for p in tmp_path.iterdir() if ".part" in p.name]
    loop.run(ToyStage(), _toy(tmp_path))
    assert (tmp_path / "model" / "weight.txt").read_text() != before
    assert (tmp_path / "model" / "segmenter").is_dir()


def test_full_disk_is_recognised_behind_other_errors(tmp_path: Path) -> None:
    rust = RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)")
    masked = RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")
    masked.__context__ = FULL
    assert is_full(FULL)
    assert is_full(rust)
    assert is_full(masked)
    assert not is_full(RuntimeError("unexpected pos"))
    assert not is_full(OSError(2, "x"))
    with pytest.raises(DiskFull, match="the cache could not be written"), writing("the cache"):
        raise rust
    with pytest.raises(OSError, match="no such file"), writing("the cache"):
        raise OSError(2, "no such file")
    file = tmp_path / "a.txt"
    file.write_text("old")
    with pytest.raises(OSError, match="No space"), replacing(file) as part:
        part.write_text("ne")
        raise FULL
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "old"


def test_missing_checkpoints_are_reported_and_the_model_is_not_overwritten(tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path))
    before = (tmp_path / "model" / "weight.txt").read_text()
    shutil.rmtree(tmp_path / "checkpoints")
    with pytest.raises(
        ResumeError,
        match=r"model is there, but no checkpoint in .*checkpoints: .*another --loop.out, or remove",
    ):
        loop.run(ToyStage(), _toy(tmp_path))
    assert (tmp_path / "model" / "weight.txt").read_text() == before
    with pytest.raises(
        ResumeError,
        match=r"--loop.extend-to trains an earlier run further, but there is no checkpoint in .*elsewhere",
    ):
        loop.run(ToyStage(), _toy(tmp_path / "elsewhere", extend_to=9))


def test_damaged_checkpoint_is_reported_with_the_one_before(tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path, checkpoint_every=3))
    file = tmp_path / "checkpoints" / "step-00000006" / "state.pt"
    file.write_bytes(file.read_bytes()[:-200])
    with pytest.raises(
        ResumeError,
        match=r"step-00000006 cannot be read .* Remove that folder, .* from the checkpoint of step 3",
    ):
        loop.run(ToyStage(), _toy(tmp_path))
    shutil.rmtree(file.parent)
    assert loop.run(ToyStage(), _toy(tmp_path)) == 6


def test_extended_run_equals_one_that_was_extended_while_it_ran(tmp_path: Path) -> None:
    for out in ("finished", "running"):
        loop.run(interrupted_after(ToyStage(), 3) if out == "running" else ToyStage(), _toy(tmp_path / out))
        stage = ToyStage()
        steps, forward = [], stage.module.forward
        stage.module.forward = lambda batch, step, most, steps=steps, forward=forward: (
            steps.append((step, most)) or forward(batch, step, most)
        )
        assert loop.run(stage, _toy(tmp_path / out, extend_to=9)) == 9
        assert steps[-4:] == (
            [(6, 6)] * 3 if out == "finished" else [(5, 6)] + [(6, 6)] * 3
        )  # the schedule is the run's, and stays at its end
    assert differences(final_state(tmp_path / "finished"), final_state(tmp_path / "running")) == []
    assert (
        final_state(tmp_path / "finished")["ends"]
        == [6, 9]
        == json.loads((tmp_path / "finished" / "run.json").read_text())["ends"]
    )
    assert (
        loop.run(ToyStage(), _toy(tmp_path / "finished")) == 9
    )  # without the option: as far as it was extended
    assert loop.run(ToyStage(), _toy(tmp_path / "finished", extend_to=11)) == 11
    with pytest.raises(
        ResumeError, match=r"--loop.extend-to is 8, and the run in .* is to have 11 updates already"
    ):
        loop.run(ToyStage(), _toy(tmp_path / "finished", extend_to=8))


def test_updates_before_an_extension_are_those_of_the_run(tmp_path: Path) -> None:
    """A longer run from the start has other weights if the rate falls; an extended one has the same up to its first end."""
    plain = _toy(tmp_path / "plain", schedule="cosine")
    extended = replace(plain, out=tmp_path / "extended", checkpoint_every=6, keep_checkpoints=9)
    loop.run(ToyStage(), plain)
    loop.run(interrupted_after(ToyStage(), 2), extended)
    loop.run(ToyStage(), replace(extended, extend_to=10))
    at = torch.load(tmp_path / "extended" / "checkpoints" / "step-00000006" / "state.pt", weights_only=True)
    assert differences(at["module"], final_state(tmp_path / "plain")["module"]) == []


def test_cosine_falls_again_in_an_extension(tmp_path: Path) -> None:
    config = _toy(tmp_path, schedule="cosine", max_steps=10)
    rates = [learning_rate(config, step, [10, 14, 20]) for step in range(20)]
    assert rates[:10] == [learning_rate(config, step) for step in range(10)]
    assert rates[10:] == pytest.approx(
        [
            0.05 * (1 + np.cos(np.pi * x))
            for x in (0, 1 / 4, 2 / 4, 3 / 4, 0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6)
        ]
    )


def test_a_run_that_is_to_be_longer_is_reported_how(tmp_path: Path) -> None:
    loop.run(ToyStage(), _toy(tmp_path))
    with pytest.raises(
        ResumeError,
        match=r"max_steps was 6, now 12.*To train this run longer leave --loop.max-steps and add --loop.extend-to 12",
    ):
        loop.run(ToyStage(), _toy(tmp_path, max_steps=12))


def test_ramp_and_gate_are_reported() -> None:
    config = SiameseConfig()
    assert describe_schedule(config, 3, 12) == "w_i = 0.25, augmentation off (after step 4)"
    assert describe_schedule(config, 12, 12) == "w_i = 1, augmentation on (after step 4)"
    assert (
        describe_schedule(replace(config, ramp=False, w_a=0.0), 3, 12)
        == "w_i = 1 throughout, no augmentation (w_a = 0)"
    )
