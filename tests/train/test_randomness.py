"""Random numbers of an update, and data that lies on the device: flips, turns and crops in batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.train.stages import differences, draws_of
from train.engine.device_array import DeviceArray, cropped, images_of, turned
from train.engine.randomness import Draws, key
from train.stages.latent_batches import StepDraws, padded_lengths, padded_rows, step_draws, validation_draws

CPU = torch.device("cpu")


def _plain(draws: StepDraws) -> dict[str, torch.Tensor]:
    return {name: torch.as_tensor(value) for name, value in vars(draws).items()}


def _step(
    count: int = 12, rows: np.ndarray | None = None, step: int = 3, seed: int = 0
) -> dict[str, torch.Tensor]:
    draws = Draws(seed, step, count, np.arange(count) if rows is None else rows, CPU)
    return _plain(step_draws(draws, (4, 2, 2), 1000, 8, 0.5))


def test_key_is_of_all_its_numbers() -> None:
    keys = {key(seed, step, position) for seed in range(5) for step in range(20) for position in range(20)}
    assert len(keys) == 5 * 20 * 20
    assert min(keys) >= 0
    assert max(keys) < 2**63
    assert key(1, 2, 3) == key(1, 2, 3)


@pytest.mark.parametrize("rows", [[0], [11], [1, 4, 7, 10], [6, 7, 8], list(range(12))])
def test_a_part_gets_the_draws_of_its_positions(rows: list[int]) -> None:
    whole, part = _step(), _step(rows=np.array(rows))
    for name, value in part.items():
        assert torch.equal(value, whole[name][rows]), name
    torch.manual_seed(5)  # and not those of the global generator
    assert differences(_step(rows=np.array(rows)), part) == []


def test_draws_differ_by_seed_step_name_and_position() -> None:
    noise = [_step()["noise"], _step(step=4)["noise"], _step(seed=1)["noise"], _step()["posterior"]]
    assert len({row.numpy().tobytes() for draws in noise for row in draws}) == 4 * 12


def test_a_draw_more_changes_no_other() -> None:
    draws = draws_of(3)
    first = draws.integers("turn", 0, 8)
    draws.uniform("new"), draws.normal("new", (2,))
    assert np.array_equal(first, draws.integers("turn", 0, 8))


def test_draws_are_distributed_as_they_should() -> None:
    draws = step_draws(draws_of(2000), (4,), 1000, 3, 0.1)
    for noise in (draws.noise, draws.posterior):
        assert abs(noise.mean()) < 0.05
        assert abs(noise.std() - 1) < 0.05
    assert (draws.noise * draws.posterior).mean().abs() < 0.05
    assert draws.t.min() < 10
    assert draws.t.max() > 989
    assert abs(draws.t.mean() - 500) < 25
    assert abs(np.bincount(draws.variant) / 2000 - 1 / 3).max() < 0.05
    assert 0.07 < draws.drop.mean() < 0.13
    assert not step_draws(draws_of(50), (1,), 10, 1, 0.0).drop.any()
    shift = draws_of(2000).uniform("shift", -0.5, 2, 2)
    assert shift.shape == (2000, 2)
    assert shift.min() < -0.49
    assert shift.max() > 1.99
    assert abs(np.corrcoef(shift.T)[0, 1]) < 0.1


def test_what_a_whole_update_shares_is_the_same_in_every_part() -> None:
    parts = [
        Draws(0, step, 4, np.array(rows), CPU).shared("offset", 0, 4, 2).tolist()
        for step in range(20)
        for rows in ([0, 1], [2], [3])
    ]
    assert all(parts[i] == parts[i + 1] == parts[i + 2] for i in range(0, 60, 3))
    assert len({tuple(p) for p in parts}) > 8
    assert {v for p in parts for v in p} == {0, 1, 2, 3}


def test_validation_draws_are_fixed_and_cover_the_timesteps() -> None:
    draws = validation_draws(50, (2, 2), 1000)
    assert differences(_plain(draws), _plain(validation_draws(50, (2, 2), 1000))) == []
    assert np.histogram(draws.t, 5, (0, 1000))[0].min() >= 8
    assert not torch.equal(draws.noise, draws.posterior)
    assert not draws.drop.any()
    assert not draws.variant.any()


@pytest.mark.parametrize("count", [1, 2, 3, 6, 8, 48])
def test_rows_are_filled_up_to_one_of_few_lengths(count: int) -> None:
    lengths = {0, -(-count // 8), -(-count // 4), -(-count // 2), count}
    assert set(padded_lengths(count)) == lengths
    rng = np.random.default_rng(0)
    for wanted in range(count + 1):
        chosen = np.zeros(count, bool)
        chosen[rng.permutation(count)[:wanted]] = True
        rows, weights = padded_rows(chosen)
        assert len(rows) == len(weights) == min(n for n in lengths if n >= wanted)
        assert rows[weights > 0].tolist() == np.flatnonzero(chosen).tolist()
        assert weights.sum() == wanted
        assert chosen[rows].all(), "what fills up repeats a chosen sample"


def test_eight_flips_and_turns_are_different_and_keep_the_image() -> None:
    image = torch.arange(27).reshape(1, 3, 3, 3)
    seen = turned(image, np.zeros(8, int), np.arange(8))
    assert len({a.numpy().tobytes() for a in seen}) == 8
    assert torch.equal(seen[0], image[0])
    assert torch.equal(seen[4], image[0].flip(1))
    assert torch.equal(seen[1], image[0].rot90(1, (0, 1)))
    assert all(sorted(a.reshape(9, 3).tolist()) == image.reshape(9, 3).tolist() for a in seen)


def test_turns_in_a_batch_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    images, index, codes = (
        rng.integers(0, 255, (5, 6, 6, 3), np.uint8),
        rng.integers(0, 5, 40),
        rng.integers(0, 8, 40),
    )
    for array in (images, images[..., 0]):
        together = turned(torch.from_numpy(array), index, codes)
        for found, i, code in zip(together.numpy(), index, codes, strict=True):
            assert np.array_equal(found, np.rot90(array[i][:, ::-1] if code >= 4 else array[i], code % 4))


def test_crops_in_a_batch_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 255, (2, 5, 9, 9, 3), np.uint8)
    top, left, first, second = (
        rng.integers(0, 6, 30),
        rng.integers(0, 6, 30),
        rng.integers(0, 2, 30),
        rng.integers(0, 5, 30),
    )
    found = cropped(torch.from_numpy(x), top, left, 4, first, second)
    assert found.shape == (30, 4, 4, 3)
    for crop, y, x0, i, j in zip(found.numpy(), top, left, first, second, strict=True):
        assert np.array_equal(crop, x[i, j, y : y + 4, x0 : x0 + 4])


def test_held_array_is_not_copied_on_a_cpu_unless_stored_as_another_type() -> None:
    array = np.arange(6, dtype=np.float32)
    assert DeviceArray(array).on(CPU).data_ptr() == array.ctypes.data
    rounded = DeviceArray(array, torch.bfloat16)
    assert rounded.on(CPU).dtype == torch.bfloat16
    assert rounded.on(CPU) is rounded.on(CPU)


def test_images_are_scaled_to_minus_one_and_one() -> None:
    x = images_of(torch.tensor([0, 255], dtype=torch.uint8).reshape(1, 1, 2, 1).repeat(1, 4, 1, 3))
    assert x.shape == (1, 3, 4, 2)
    assert x[..., 0].eq(-1).all()
    assert x[..., 1].eq(1).all()
    assert x.is_contiguous(memory_format=torch.channels_last)
