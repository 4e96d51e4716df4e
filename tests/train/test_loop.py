"""The training loop: randomness, schedules, averaging, accumulation, limits, records."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.train.stages import ToyStage, checkpoints, draws_of, final_state, interrupted_after, real_stage
from train.engine import loop
from train.engine.log import Throughput
from train.engine.loop import LoopConfig
from train.engine.randomness import Draws, sample_order
from train.engine.schedule import learning_rate
from train.stages.latent_batches import padded_rows


def _config(out: Path, **changes: object) -> LoopConfig:
    return LoopConfig(**({"out": out, "max_steps": 6, "batch_size": 4, "learning_rate": 0.1} | changes))


def _figures(out: Path, name: str) -> dict[int, float]:
    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    return {e.step: e.value for e in events.Scalars(name)}


def test_no_sample_is_dropped_or_repeated_in_an_epoch() -> None:
    size, batch = 10, 4  # the last batch of an epoch is not whole
    seen = np.concatenate([sample_order(3, size, step * batch, batch) for step in range(10)])
    epochs = seen.reshape(4, size)
    assert all(sorted(e) == list(range(size)) for e in epochs)
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], sample_order(4, size, 0, size))
    assert sorted(sample_order(0, 3, 0, 9)) == [
        0,
        0,
        0,
        1,
        1,
        1,
        2,
        2,
        2,
    ]  # a batch larger than the data


def test_learning_rate_rises_then_stays_or_falls(tmp_path: Path) -> None:
    constant = _config(tmp_path, warmup_steps=4, max_steps=10)
    assert [learning_rate(constant, s) for s in range(6)] == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    )
    assert learning_rate(_config(tmp_path), 0) == 0.1
    cosine = _config(tmp_path, schedule="cosine", max_steps=10)
    assert [learning_rate(cosine, s) for s in (0, 5, 10)] == pytest.approx([0.1, 0.05, 0])
    loop.run(ToyStage(), _config(tmp_path, warmup_steps=4, log_every=1))
    assert list(_figures(tmp_path, "train/learning_rate").values()) == pytest.approx(
        [0.025, 0.05, 0.075, 0.1, 0.1, 0.1]
    )


def test_an_update_uses_the_rate_of_its_step(tmp_path: Path) -> None:
    stage = ToyStage()
    loop.run(stage, _config(tmp_path, warmup_steps=4, max_steps=1, weight_decay=0))
    torch.testing.assert_close(
        stage.module.weight.detach().abs(), torch.full((3,), 0.025), rtol=1e-4, atol=0
    )  # Adam's first is the rate


def test_each_sample_gets_the_draws_of_its_position(tmp_path: Path) -> None:
    stage = ToyStage()
    loop.run(stage, _config(tmp_path, seed=7, max_steps=3))
    order = sample_order(7, 10, 0, 12)
    noise = [v for step in range(3) for v in draws_of(4, step, 7).normal("noise", ()).tolist()]
    assert stage.asked == list(zip(order.tolist(), noise, strict=True))
    assert len(set(noise)) == 12


def test_accumulation_asks_for_the_same_samples_and_gives_the_same_weights(tmp_path: Path) -> None:
    whole, parts = ToyStage(), ToyStage()
    loop.run(whole, _config(tmp_path / "whole", batch_size=6, clip_norm=0.5))
    loop.run(parts, _config(tmp_path / "parts", batch_size=6, clip_norm=0.5, accumulation=3))
    assert whole.asked == parts.asked
    torch.testing.assert_close(whole.module.weight, parts.module.weight, rtol=1e-5, atol=1e-6)
    assert _figures(tmp_path / "whole", "train/total") == pytest.approx(
        _figures(tmp_path / "parts", "train/total")
    )


@pytest.mark.slow
def test_accumulated_gradient_of_the_siamese_loss_is_that_of_one_batch(
    polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    """Late in training, with augmentation on for a part of the batch; Adam's first moment is a tenth of the gradient."""
    moments, losses = [], []
    for parts in (1, 4):
        stage, config = real_stage(
            "siamese",
            polyps,
            model_folder,
            tmp_path / str(parts),
            accumulation=parts,
            max_steps=1,
            clip_norm=None,
        )
        ask, forward = stage.batch, stage.module.objective.forward

        def batch(
            indices: np.ndarray, draws: Draws, device: torch.device, ask=ask
        ) -> dict[str, torch.Tensor]:
            made = ask(indices, draws, device)
            early = torch.from_numpy(draws.rows == 1)  # of four; other parts than its own have none
            made |= {"t": torch.where(early, made["t"] % 200, 201 + made["t"] % 700)}
            return made | dict(
                zip(("early", "early_weight"), map(torch.from_numpy, padded_rows(early.numpy())), strict=True)
            )

        stage.batch = batch
        stage.module.objective.forward = lambda *inputs, forward=forward: forward(
            *inputs[:6], 5, 6, inputs[8]
        )
        loop.run(stage, config)
        moments.append(
            [s["exp_avg"] for s in final_state(tmp_path / str(parts))["optimiser"]["state"].values()]
        )
        losses.append(
            {
                name: _figures(tmp_path / str(parts), f"train/{name}")[1]
                for name in ("total", "mask", "image", "augmented")
            }
        )
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    largest = max(float(m.abs().max()) for m in moments[0])
    assert largest > 0
    for whole, split in zip(*moments, strict=True):
        torch.testing.assert_close(whole, split, rtol=1e-3, atol=1e-4 * largest)


def test_batch_that_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match="batch_size 4 is not a multiple of processes x accumulation = 1 x 3"
    ):
        loop.run(ToyStage(), _config(tmp_path, accumulation=3))


def test_average_is_evaluated_and_exported_and_training_goes_on_without_it(tmp_path: Path) -> None:
    plain, averaged = ToyStage(), ToyStage()
    loop.run(plain, _config(tmp_path / "plain", evaluate_every=2))
    loop.run(averaged, _config(tmp_path / "averaged", evaluate_every=2, ema_decay=0.9))
    assert torch.equal(plain.module.weight, averaged.module.weight)
    assert [s for s, _ in averaged.evaluated] == [2, 4, 6]
    # diffusers' average by hand: decay min(0.9, 1 - (1 + n)^-0.75) for update n from 0.
    by_hand, average = ToyStage(), torch.zeros(3)
    for n in range(6):
        if n:
            by_hand = ToyStage()
        loop.run(interrupted_after(by_hand, n + 1) if n < 5 else by_hand, _config(tmp_path / f"to {n}"))
        decay = min(0.9, 1 - (1 + n) ** -0.75) if n else 0.0
        average = decay * average + (1 - decay) * by_hand.module.weight.detach()
    torch.testing.assert_close(averaged.exported[0], average)
    assert torch.equal(averaged.exported[0], averaged.evaluated[-1][1])
    assert torch.equal(final_state(tmp_path / "averaged")["ema"]["values"][0], averaged.exported[0])
    assert not torch.equal(averaged.exported[0], averaged.module.weight)
    assert torch.equal(plain.exported[0], plain.module.weight)
    assert "ema" not in final_state(tmp_path / "plain")
    assert _figures(tmp_path / "averaged", "val/distance")[6] == pytest.approx(
        float((average - 1).abs().sum()), rel=1e-5
    )


def test_only_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    loop.run(ToyStage(), _config(tmp_path, max_steps=9, checkpoint_every=2, keep_checkpoints=3))
    assert checkpoints(tmp_path) == [6, 8, 9]


def test_checkpoint_holds_trained_weights_only(tmp_path: Path) -> None:
    loop.run(ToyStage(), _config(tmp_path))
    assert final_state(tmp_path)["module"].keys() == {"weight"}


def test_minutes_stop_the_run_early(tmp_path: Path) -> None:
    stage = ToyStage()
    assert loop.run(stage, _config(tmp_path, minutes=0)) == 1
    assert checkpoints(tmp_path) == [1]
    assert len(stage.exported) == 1
    assert loop.run(ToyStage(), _config(tmp_path, minutes=5)) == 6


def test_loss_that_is_not_finite_stops_the_run_before_it_is_saved(tmp_path: Path) -> None:
    """It is noticed before the next checkpoint, and the first of the updates that it has spoilt is named."""
    stage = ToyStage(poison=3 * 4)
    with pytest.raises(
        FloatingPointError, match=r"loss is nan at step 3; .*The checkpoint of step 2 is whole"
    ):
        loop.run(stage, _config(tmp_path, checkpoint_every=2, max_steps=8, log_every=100, batch_size=4))
    assert len(stage.asked) == 4 * 4
    assert checkpoints(tmp_path) == [2]
    [exported] = stage.exported
    assert torch.equal(
        exported, final_state(tmp_path)["module"]["weight"]
    )  # the checkpoint's, not those that the fault has spoilt
    assert loop.run(ToyStage(), _config(tmp_path, checkpoint_every=2, max_steps=8)) == 8
    stage = ToyStage(poison=4)
    with pytest.raises(
        FloatingPointError, match=r"loss is nan at step 1; .*There is no checkpoint yet"
    ) as error:
        loop.run(stage, _config(tmp_path / "other", log_every=3))
    assert not stage.exported
    assert "needs another --loop.out" in str(error.value)


@pytest.mark.parametrize("clip_norm", [1.0, None])
def test_gradient_that_is_not_finite_stops_the_run(clip_norm: float | None, tmp_path: Path) -> None:
    """Also if it is one update's only, whose losses nobody has read, and the last before a checkpoint."""
    stage, calls = ToyStage(), [0]

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        calls[0] += 1
        return gradient * (math.inf if calls[0] == 4 else 1)

    stage.module.weight.register_hook(spoil)
    with pytest.raises(
        FloatingPointError, match=r"the gradient is (inf|nan) at step 3; .*The checkpoint of step 2 is whole"
    ):
        loop.run(stage, _config(tmp_path, clip_norm=clip_norm, checkpoint_every=2, log_every=100))
    assert checkpoints(tmp_path) == [2]
    assert torch.isfinite(stage.exported[0]).all()
    assert all(torch.isfinite(v).all() for v in final_state(tmp_path)["module"].values())


def test_norm_of_the_gradient_is_limited(tmp_path: Path) -> None:
    loop.run(ToyStage(), _config(tmp_path, clip_norm=0.01, max_steps=1, betas=(0.0, 0.9)))
    (moment,) = (s["exp_avg"] for s in final_state(tmp_path)["optimiser"]["state"].values())
    assert float(moment.norm()) == pytest.approx(0.01, rel=1e-3)
    assert _figures(tmp_path, "train/gradient_norm")[1] > 0.1


def test_record_of_the_run(tmp_path: Path) -> None:
    loop.run(ToyStage(), _config(tmp_path, log_every=4), {"colour": Path("red")})
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["colour"] == "red"
    assert record["samples"] == 10
    assert record["max_steps"] == 6
    assert len(record["frozen_weights"]) == 16
    assert sorted(_figures(tmp_path, "train/first")) == [4, 6]


def test_figures_of_undone_updates_are_purged(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError):
        loop.run(ToyStage(poison=4 * 4), _config(tmp_path, log_every=1, checkpoint_every=2, max_steps=5))
    stopped = _figures(tmp_path, "train/total")
    assert sorted(stopped) == [1, 2, 3, 4]
    for old in (tmp_path / "checkpoints").glob("step-00000004"):
        (old / "state.pt").unlink()
        old.rmdir()
    loop.run(ToyStage(), _config(tmp_path, log_every=1, checkpoint_every=2, max_steps=5))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [e.step for e in events.Scalars("train/total")] == [1, 2, 3, 4, 5]


def test_samples_a_second_are_of_the_time_since_the_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A continued run counts its own updates, and evaluations are no part of the time."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    clock = Throughput(batch_size=8, step=50)
    now[0] += 2
    assert clock.samples_per_second(60) == pytest.approx(10 * 8 / 2)
    with clock.paused():
        now[0] += 100
    now[0] += 1
    assert clock.samples_per_second(65) == pytest.approx(5 * 8 / 1)


def test_speed_is_recorded_with_the_losses(tmp_path: Path) -> None:
    loop.run(ToyStage(), _config(tmp_path, log_every=3))
    assert sorted(_figures(tmp_path, "train/samples_per_s")) == [3, 6]
    assert min(_figures(tmp_path, "train/samples_per_s").values()) > 0
