"""Checkpoints that another thread writes, the average of the weights, and losses that are read seldom."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.training_utils import EMAModel

from tests.train.stages import ToyStage, checkpoints, interrupted_after
from train.engine import checkpoints as module
from train.engine import loop
from train.engine.checkpoints import CheckpointWriter, SaveError, on_host
from train.engine.ema import Average, warmed_decay
from train.engine.loop import LoopConfig
from train.engine.readings import NotFinite, Readings


def _config(out: Path, **changes: object) -> LoopConfig:
    return LoopConfig(
        **(
            {"out": out, "max_steps": 6, "batch_size": 4, "learning_rate": 0.1, "checkpoint_every": 2}
            | changes
        )
    )


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Nothing is written before it is set."""
    opened, save = threading.Event(), torch.save

    def wait(state: Any, file: Any) -> None:
        assert opened.wait(60)
        save(state, file)

    monkeypatch.setattr(torch, "save", wait)
    return opened


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path, gate: threading.Event) -> None:
    stage = ToyStage()
    ask = stage.batch

    def batch(*arguments: Any) -> dict[str, torch.Tensor]:
        if (
            len(stage.asked) == 3 * 4
        ):  # the fourth update is being prepared, and the checkpoint of the second not yet there
            assert not (tmp_path / "checkpoints" / "step-00000002").exists()
            gate.set()
        return ask(*arguments)

    stage.batch = batch
    assert loop.run(stage, _config(tmp_path, keep_checkpoints=9)) == 6
    assert checkpoints(tmp_path) == [2, 4, 6]


def test_what_is_written_is_the_state_when_it_was_saved(tmp_path: Path, gate: threading.Event) -> None:
    state = {"weights": [torch.zeros(3)], "step": 1}
    with CheckpointWriter(tmp_path, 2) as writer:
        writer.save(1, state)
        state["weights"][0].fill_(7)
        state["step"] = 9
        writer.check()  # does not wait
        gate.set()
    saved = torch.load(tmp_path / "step-00000001" / "state.pt")
    assert torch.equal(saved["weights"][0], torch.zeros(3))
    assert saved["step"] == 1


def test_only_one_is_written_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save, at_once, most = module.save_state, [0], [0]

    def counted(*arguments: Any) -> Path:
        at_once[0] += 1
        most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.02)
        path = save(*arguments)
        at_once[0] -= 1
        return path

    monkeypatch.setattr(module, "save_state", counted)
    with CheckpointWriter(tmp_path, 9) as writer:
        for step in range(5):
            writer.save(step, {"step": step})
    assert most == [1]
    assert len(list(tmp_path.glob("step-*/state.pt"))) == 5


def test_full_disk_is_reported_with_the_last_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, done = torch.save, [0]

    def full(state: Any, file: Any) -> None:
        done[0] += 1
        if done[0] > 1:
            file.write(b"half of it")
            raise OSError(28, "No space left on device")
        save(state, file)

    monkeypatch.setattr(torch, "save", full)
    stage = ToyStage()
    with pytest.raises(
        SaveError,
        match=r"of step 4 could not be written \(no space is left on the disk\). The checkpoint of step 2 is whole: .*step-00000002\. "
        r"Make space .*the same command goes on from there",
    ):
        loop.run(stage, _config(tmp_path))
    assert not stage.exported
    assert sorted(p.parent.name for p in tmp_path.glob("checkpoints/step-????????/state.pt")) == [
        "step-00000002"
    ]
    monkeypatch.setattr(torch, "save", save)
    assert loop.run(ToyStage(), _config(tmp_path)) == 6


def test_failure_of_the_very_last_checkpoint_is_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(state: Any, file: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    stage = ToyStage()
    with pytest.raises(
        SaveError, match=r"checkpoint of step 6 could not be written .*There is no checkpoint yet"
    ):
        loop.run(stage, _config(tmp_path, checkpoint_every=100))
    assert not stage.exported


@pytest.mark.parametrize("end", ["second interrupt", "fault"])
def test_checkpoint_in_flight_is_finished_whatever_happens(
    end: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = torch.save
    monkeypatch.setattr(torch, "save", lambda state, file: (threading.Event().wait(0.3), save(state, file)))
    stage = ToyStage()
    ask = stage.batch

    def batch(*arguments: Any) -> dict[str, torch.Tensor]:
        if len(stage.asked) == 2 * 4 and end == "fault":
            raise ValueError("no such sample")
        return ask(*arguments)

    stage.batch = batch
    if end == "second interrupt":
        stage = interrupted_after(interrupted_after(stage, 3), 3)
    with pytest.raises(KeyboardInterrupt if end == "second interrupt" else ValueError):
        loop.run(stage, _config(tmp_path))
    assert checkpoints(tmp_path) == [2]
    assert not [t for t in threading.enumerate() if t.name.startswith("checkpoint")]


def test_copy_on_the_host_keeps_the_kinds() -> None:
    state = {"a": [torch.ones(2), 3], "b": (torch.zeros(1), None), 4: {"c": "text", "d": 0.5}}
    copied = on_host(state)
    assert copied[4] == state[4]
    assert isinstance(copied["b"], tuple)
    assert copied["a"][1] == 3
    assert torch.equal(copied["a"][0], state["a"][0])
    assert copied["a"][0].data_ptr() != state["a"][0].data_ptr()


def test_average_is_diffusers_with_its_warm_up() -> None:
    """The same decays, and the same values to rounding."""
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.nn.Parameter(torch.randn(n, generator=generator)) for n in (3, 5)]
    ours, theirs = Average(parameters, 0.9), EMAModel(parameters, decay=0.9, use_ema_warmup=True, power=0.75)
    for update in range(1, 60):
        with torch.no_grad():
            for p in parameters:
                p.add_(torch.randn(p.shape, generator=generator))
        ours.update()
        theirs.step(parameters)
        assert warmed_decay(update, 0.9) == theirs.cur_decay_value
    for mine, other in zip(ours.values, theirs.shadow_params, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_average_in_place_gives_the_weights_back() -> None:
    weight = torch.nn.Parameter(torch.zeros(2))
    average = Average([weight], 0.5)
    with torch.no_grad():
        weight += 4
    average.values[0].fill_(1)
    with pytest.raises(RuntimeError), average.in_place():
        assert weight.tolist() == [1, 1]
        raise RuntimeError
    assert weight.tolist() == [4, 4]
    assert average.values[0].tolist() == [1, 1]


def _add(readings: Readings, step: int, total: float, norm: float = 1.0) -> None:
    readings.add(
        step,
        {
            "total": torch.tensor(total),
            "mask": torch.tensor(2.0 * total),
            "gradient_norm": torch.tensor(norm),
        },
    )


def test_readings_are_of_the_last_update() -> None:
    readings = Readings()
    assert readings.read() == {}
    _add(readings, 0, 3.0)
    _add(readings, 1, 4.0)
    assert readings.read() == readings.read() == {"total": 4, "mask": 8, "gradient_norm": 1}


@pytest.mark.parametrize(
    ("bad", "message"),
    [((float("nan"), 1.0), "loss is nan at step 2"), ((1.0, float("inf")), "the gradient is inf at step 2")],
)
def test_readings_remember_the_first_update_that_was_not_finite(
    bad: tuple[float, float], message: str
) -> None:
    readings = Readings()
    for step, values in enumerate([(1.0, 1.0), (1.0, 1.0), bad, (1.0, 1.0), (float("inf"), 1.0)]):
        _add(readings, step, *values)
    with pytest.raises(NotFinite, match=message) as error:
        readings.read()
    assert error.value.step == 2


def test_gradients_that_the_optimiser_skips_are_no_fault() -> None:
    readings = Readings(skips=True)
    _add(readings, 0, 1.0, float("inf"))
    _add(readings, 1, 1.0)
    assert readings.read()["total"] == 1
    _add(readings, 2, float("nan"))
    with pytest.raises(NotFinite, match="loss is nan at step 2"):
        readings.read()
