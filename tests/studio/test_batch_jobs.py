"""Jobs of many masks: they continue after any interruption with the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import zipfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siamese.masks.core import resize_mask
from siamese.records.dataset_zip import PairsError
from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend import batch_runner
from siamese.studio.backend.batch_runner import run_job
from siamese.studio.backend.messages import Generated
from siamese.studio.storage.batch_job import BatchJob, item_seed
from siamese.studio.storage.batch_settings import BatchSettings
from siamese.studio.storage.mask_zip import BatchError, NamedMask
from tests.clock import set_clock
from tests.factories import mask_of

# Jobs. The stand-in sampler's images depend on mask, seed and, as a real one's last bits may, on the size of the batch.

SETTINGS = {"prompt": "a polyp", "seed": 7, "steps": 20, "guidance": 2.0, "scheduler": "dpm++"}


def pairs_of(masks: list[np.ndarray], seeds: list[int]) -> list[SyntheticPair]:
    pairs = []
    for mask, seed in zip(masks, seeds, strict=True):
        image = np.random.default_rng((seed, len(masks))).integers(0, 256, (16, 16, 3), np.uint8)
        fitted = resize_mask(mask, 16)
        pairs.append(
            SyntheticPair(
                image | fitted[..., None],
                fitted,
                mask,
                Recipe("a polyp", seed, SamplingSettings(20, 2.0, "dpm++"), "phantom"),
            )
        )
    return pairs


def sampler(masks: list[np.ndarray], seeds: list[int]) -> Generator[Any, None, Generated]:
    yield from ()
    return Generated(tuple(pairs_of(masks, seeds)), (None,) * len(seeds))


def never() -> bool:
    return False


def masks_of(count: int) -> list[NamedMask]:
    return [NamedMask(f"m{i}", mask_of(i)) for i in range(count)]


def new_job(folder: Path, count: int = 7) -> BatchJob:
    return BatchJob.create(folder, masks_of(count), BatchSettings.of(**SETTINGS))


@pytest.fixture
def whole(tmp_path) -> bytes:
    """The ZIP of an uninterrupted job of seven masks in chunks of three."""
    job = new_job(tmp_path / "whole")
    assert [(p.done, p.total) for p in run_job(job, sampler, 3, never)] == [(3, 7), (6, 7), (7, 7)]
    assert job.export(tmp_path / "whole.zip") == 7
    return (tmp_path / "whole.zip").read_bytes()


def finish(folder: Path, tmp_path: Path) -> bytes:
    job = BatchJob.open(folder)
    list(run_job(job, sampler, 3, never))
    assert job.done == job.total == 7
    assert job.pending() == []
    job.export(tmp_path / "again.zip")
    return (tmp_path / "again.zip").read_bytes()


def test_a_job_samples_every_mask_with_its_seed(tmp_path, whole):
    with zipfile.ZipFile(tmp_path / "whole.zip") as archive:
        rows = [json.loads(line) for line in archive.read("manifest.jsonl").decode().splitlines()]
        for i, row in enumerate(rows):
            assert row["id"] == f"m{i}"
            assert row["seed"] == item_seed(7, i)
            assert row["prompt"] == "a polyp"
            assert row["mask_agreement"] is None
            np.testing.assert_array_equal(np.array(Image.open(archive.open(row["drawn_mask"]))), mask_of(i))


def test_seeds_of_items():
    seeds = [item_seed(base, i) for base in range(20) for i in range(50)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= s < 2**32 for s in seeds)
    assert item_seed(7, 3) == 3466196061  # jobs on disk rely on it: it must not change


def test_stops_when_cancelled_and_continues_from_disk(tmp_path, whole):
    job = new_job(tmp_path / "job")
    answers = iter([False, True])
    assert [p.done for p in run_job(job, sampler, 3, lambda: next(answers))] == [3]
    again = BatchJob.open(tmp_path / "job")
    assert again.done == 3
    assert [i.name for i in again.pending()] == ["m3", "m4", "m5", "m6"]
    assert [i.seed for i in again.pending()] == [item_seed(7, i) for i in range(3, 7)]
    np.testing.assert_array_equal(again.pending()[0].mask, mask_of(3))
    assert finish(tmp_path / "job", tmp_path) == whole


@pytest.mark.parametrize("stored", [1, 2, 4, 5])
def test_a_chunk_that_was_stored_in_part_gives_the_same_bytes(tmp_path, whole, stored):
    job, real, count = new_job(tmp_path / "job"), BatchJob.store, [0]

    class Killed(BaseException):
        pass

    def store(self, *arguments):
        if count[0] == stored:
            raise Killed
        count[0] += 1
        real(self, *arguments)

    job.store = store.__get__(job)
    with pytest.raises(Killed):
        list(run_job(job, sampler, 3, never))
    assert BatchJob.open(tmp_path / "job").done == stored
    assert finish(tmp_path / "job", tmp_path) == whole


_CHILD = """
import os, signal, sys
from pathlib import Path
from siamese.studio.backend.batch_runner import run_job
from siamese.studio.storage.batch_job import BatchJob
from tests.studio.test_batch_jobs import never, sampler
real, count = os.replace, 0
def replace(*paths):  # the kill comes between the files of one item
    global count
    count += 1
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(*paths)
os.replace = replace
list(run_job(BatchJob.open(Path(sys.argv[1])), sampler, 3, never))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="needs SIGKILL")
@pytest.mark.parametrize(("replaced", "done"), [(1, 0), (10, 4)])
def test_continues_after_a_kill(tmp_path, whole, replaced, done):
    new_job(tmp_path / "job")
    child = subprocess.run([sys.executable, "-c", _CHILD, str(tmp_path / "job"), str(replaced)], timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert BatchJob.open(tmp_path / "job").done == done
    assert finish(tmp_path / "job", tmp_path) == whole


def test_a_sampler_that_fails_loses_nothing(tmp_path, whole):
    calls = []

    def failing(masks, seeds):
        calls.append(seeds)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return (yield from sampler(masks, seeds))

    with pytest.raises(RuntimeError, match="out of memory"):
        list(run_job(new_job(tmp_path / "job"), failing, 3, never))
    assert BatchJob.open(tmp_path / "job").done == 3
    assert finish(tmp_path / "job", tmp_path) == whole


def test_agreement_is_measured_and_exported(tmp_path):
    job = new_job(tmp_path / "job", 3)

    def measured(masks, seeds):
        made = yield from sampler(masks, seeds)
        return Generated(made.pairs, (0.5,) * len(seeds))

    list(run_job(job, measured, 2, never))
    job.export(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert [
            json.loads(line)["mask_agreement"]
            for line in archive.read("manifest.jsonl").decode().splitlines()
        ] == [0.5] * 3


def test_time_left_counts_sampling_alone(tmp_path, monkeypatch):
    now = [0.0]
    set_clock(monkeypatch, batch_runner, monotonic=lambda: now[0])

    def slow(masks, seeds):
        now[0] += 2.0 * len(masks)
        return (yield from sampler(masks, seeds))

    left = []
    for progress in run_job(new_job(tmp_path / "job"), slow, 3, never):
        left.append(progress.seconds_left)
        now[0] += 100  # a page that is slow to show it
    assert left == [8.0, 2.0, 0.0]


def test_a_finished_job_samples_nothing(tmp_path):
    job = new_job(tmp_path / "job", 2)
    list(run_job(job, sampler, 2, never))
    assert list(run_job(job, lambda *_: pytest.fail("sampled again"), 2, never)) == []


def test_store_refuses_images_of_other_settings(tmp_path):
    job = BatchJob.create(tmp_path / "job", masks_of(2), BatchSettings.of(**SETTINGS, model="other"))
    first, second = job.items
    (pair,) = pairs_of([first.mask], [first.seed])
    with pytest.raises(BatchError, match="model 'phantom' instead of 'other'"):
        job.store(first, pair)
    job = new_job(tmp_path / "job 2", 2)
    with pytest.raises(BatchError, match=r"m1 was sampled with seed .*another mask"):
        job.store(second, pair)
    with pytest.raises(PairsError, match=r"0..1"):
        job.store(first, pair, 7.0)
    assert job.done == 0
    job.store(first, pair, 1.0)
    assert job.done == 1
    assert [i.name for i in job.pending()] == ["m1"]


def test_run_refuses_wrong_numbers(tmp_path):
    def nothing(masks, seeds):
        yield from ()
        return Generated((), ())

    job = new_job(tmp_path / "job", 2)
    with pytest.raises(ValueError, match="chunk is 0"):
        next(run_job(job, sampler, 0, never))
    with pytest.raises(ValueError, match="zip"):
        next(run_job(job, nothing, 2, never))


def test_export_of_a_part_and_of_nothing(tmp_path):
    job = new_job(tmp_path / "job")
    with pytest.raises(BatchError, match="nothing is finished"):
        job.export(tmp_path / "a.zip")
    next(run_job(job, sampler, 3, never))
    assert job.export(tmp_path / "a.zip") == 3


@pytest.mark.parametrize(
    "harm", [lambda f: f.write_bytes(f.read_bytes()[:-60]), lambda f: f.with_suffix(".json").unlink()]
)
def test_a_damaged_result_is_sampled_again(tmp_path, whole, harm):
    job = new_job(tmp_path / "job")
    list(run_job(job, sampler, 3, never))
    harm(tmp_path / "job" / "done" / "m4.png")
    with pytest.raises(BatchError, match=r"m4 was damaged.*run the job again"):
        job.export(tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()
    assert [i.name for i in job.pending()] == ["m4"]
    assert finish(tmp_path / "job", tmp_path) == whole


@pytest.mark.parametrize(
    ("masks", "changed", "message"),
    [
        ([], {}, "0 masks"),
        (masks_of(1) * 201, {}, "201 masks"),
        (masks_of(1) * 2, {}, "the same name"),
        ([NamedMask("m", np.zeros((4, 4), np.uint8))], {}, "m: the mask is empty"),
        ([NamedMask("m", np.ones((4, 4), bool))], {}, "m: a mask must be uint8"),
        ([NamedMask("m", np.full((1, 4097), 255, np.uint8))], {}, "m: is 4097 x 1"),
        (
            [NamedMask("m", np.pad(np.full((1, 1), 255, np.uint8), 99))],
            {"size": 16},
            "m: the lesion vanishes",
        ),
        (masks_of(1), {"seed": -1}, "seed is -1"),
        (masks_of(1), {"seed": 1.5}, "seed is 1.5"),
        (masks_of(1), {"steps": 0}, "steps is 0"),
        (masks_of(1), {"guidance": float("nan")}, "guidance is nan"),
        (masks_of(1), {"prompt": "x" * 1000}, "prompt is xxx"),
    ],
)
def test_create_refuses(tmp_path, masks, changed, message):
    size = changed.pop("size", None)
    with pytest.raises(BatchError, match=message):
        BatchJob.create(tmp_path / "job", masks, BatchSettings.of(**SETTINGS | changed), size)
    assert not (tmp_path / "job").exists()


def test_what_was_not_read_of_the_zip_is_stored(tmp_path):
    lines = ["3 files: text beside masks"]
    BatchJob.create(tmp_path / "job", masks_of(1), BatchSettings.of(**SETTINGS), passed_over=lines)
    assert BatchJob.open(tmp_path / "job").passed_over == tuple(lines)
    values = json.loads((tmp_path / "job" / "job.json").read_text())
    del values["passed_over"]
    (tmp_path / "job" / "job.json").write_text(json.dumps(values))  # as version 0.2 wrote it
    old = BatchJob.open(tmp_path / "job")
    assert old.passed_over == ()
    assert old.settings == BatchSettings.of(**SETTINGS)


def test_create_refuses_names_and_used_folders(tmp_path):
    with pytest.raises(PairsError, match="cannot name a file"):
        BatchJob.create(tmp_path / "job", [NamedMask("../m", mask_of())], BatchSettings.of(**SETTINGS))
    new_job(tmp_path / "job", 1)
    with pytest.raises(BatchError, match="a job in this folder already"):
        new_job(tmp_path / "job", 1)


def test_a_job_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            new_job(tmp_path / "job", 2)
    with pytest.raises(BatchError, match="no job in this folder"):
        BatchJob.open(tmp_path / "job")
    assert new_job(tmp_path / "job", 2).total == 2


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"names": ["a"]}', '{"names": ["../a"]}', '{"names": 3}'])
def test_open_names_a_damaged_job(tmp_path, text):
    new_job(tmp_path / "job", 1)
    (tmp_path / "job" / "job.json").write_text(text)
    with pytest.raises(BatchError, match="damaged"):
        BatchJob.open(tmp_path / "job")
