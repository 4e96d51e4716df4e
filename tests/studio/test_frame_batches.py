"""Batches of lesions in photos, and of random variants of masks: reading, storing, running, continuing."""

from __future__ import annotations

import io
import threading
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siamese.masks.augment import augment
from siamese.records.prompts import POLYP
from siamese.records.provenance import FRAME_NOTICE, Recipe, SyntheticPair, read_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend.batch_runner import CHUNK, BatchOrder, BatchRunner, run_job
from siamese.studio.backend.messages import Generated, ModelInfo, Request
from siamese.studio.storage import batch_job, frame_zip
from siamese.studio.storage.batch_job import BatchJob
from siamese.studio.storage.batch_settings import BatchSettings
from siamese.studio.storage.frame_zip import read_frame_zip
from siamese.studio.storage.mask_zip import MAX_MASKS, BatchError, Frame, NamedMask, NamedMasks, augmented
from tests.phantoms import phantom
from tests.studio.test_mask_zip import make_zip, picture

SETTINGS = BatchSettings.of(prompt=POLYP, seed=7, steps=2, guidance=2.0, scheduler="dpm++")
SIZE = (30, 50)


def photo(number: int) -> np.ndarray:
    return phantom(number, *SIZE)[0]


def mask(number: int) -> np.ndarray:
    return phantom(number, *SIZE)[1]


def framed(count: int = 2, of_each: int = 1) -> list[NamedMask]:
    frames = [Frame(f"f{i}", picture(photo(i))) for i in range(count)]
    return [
        NamedMask(f"f{i}-{k}", mask(i + k), frame) for i, frame in enumerate(frames) for k in range(of_each)
    ]


def painted(image: np.ndarray, lesion: np.ndarray, seed: int) -> SyntheticPair:
    """What the model makes: here the lesion in one colour."""
    made = np.where(lesion[..., None] > 0, np.uint8(seed % 256), image)
    recipe = Recipe(POLYP, seed, SamplingSettings(2, 2.0, "dpm++"), "stand-in", background="real photo")
    return SyntheticPair(made, lesion, lesion, recipe)


class Painter:
    """A sampler that notes what it is asked for."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, np.ndarray]] = []

    def __call__(
        self, masks: list[np.ndarray], seeds: list[int], frame: np.ndarray
    ) -> Generator[Any, None, Generated]:
        yield from ()
        self.calls.append((len(masks), frame))
        return Generated(
            tuple(painted(frame, m, s) for m, s in zip(masks, seeds, strict=True)), (0.5,) * len(masks)
        )


def never() -> bool:
    return False


def faults_of(files: dict[str, bytes], tmp_path: Path) -> str:
    with pytest.raises(BatchError) as caught:
        read_frame_zip(make_zip(tmp_path / "a.zip", files))
    return str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        ("images/{}.jpg", "masks/{}.png"),
        ("set/Images/{}.JPG", "set/Masks/{}_mask.png"),
        ("{}.png", "{}_segmentation.png"),
        ("frames/{}.png", "frames/{}-mask.bmp"),
    ],
)
def test_photos_and_masks_are_paired_by_name(tmp_path, names):
    image, lesion = names
    files = {}
    for i in range(3):
        suffix = Path(image).suffix.lower()
        files[image.format(f"case {i}")] = picture(
            photo(i), suffix, **({"quality": 100} if suffix == ".jpg" else {})
        )
        files[lesion.format(f"case {i}")] = picture(mask(i), Path(lesion).suffix)
    found = read_frame_zip(make_zip(tmp_path / "a.zip", files))
    assert [named.name for named in found] == ["case_0", "case_1", "case_2"]
    for i, named in enumerate(found):
        assert np.array_equal(named.mask, mask(i))
        assert named.frame is not None
        assert named.frame.name == named.name
        assert np.abs(named.frame.photo().astype(int) - photo(i)).mean() < 3


def test_what_is_not_read_is_named(tmp_path):
    files = {
        "images/a.png": picture(photo(0)),
        "images/b.png": picture(photo(1)),
        "masks/a.png": picture(mask(0)),
        "drawn_masks/a.png": picture(mask(0)),
        "notes.txt": b"hello",
    }
    found = read_frame_zip(make_zip(tmp_path / "a.zip", files))
    assert [named.name for named in found] == ["a"]
    assert sorted(one.name for one in found.passed_over) == ["drawn_masks/a.png", "images/b.png", "notes.txt"]
    assert next(one.reason for one in found.passed_over if one.name == "images/b.png") == frame_zip.ALONE


def test_every_fault_is_named(tmp_path):
    text = faults_of(
        {
            "images/a.png": picture(photo(0)),
            "masks/a.png": picture(mask(0)[:-1]),
            "images/b.png": b"nothing",
            "masks/b.png": picture(mask(0)),
            "images/c.png": picture(photo(0)),
            "masks/c.png": picture(np.zeros_like(mask(0))),
            "masks/D.png": picture(mask(0)),
            "images/d.png": picture(photo(0)),
            "images/e.dcm": b"?",
        },
        tmp_path,
    )
    assert "masks/a.png: has 50 x 29 pixels, its photo 50 x 30" in text
    assert "images/b.png: This file is not an image" in text
    assert "masks/c.png:" in text
    assert "masks/D.png: there is no photo of this name (there is 'd'" in text
    assert "images/e.dcm: is not a file of a known kind" in text


def test_zips_that_cannot_be_used(tmp_path, monkeypatch):
    assert "no photo with a mask" in faults_of({"a.png": picture(photo(0))}, tmp_path)
    assert "not a ZIP file" in _refused(tmp_path, b"nothing")
    two = {"a.png": picture(photo(0)), "a_mask.png": picture(mask(0)), "a_gt.png": picture(mask(0))}
    assert "several masks of one image" in faults_of(two, tmp_path)
    same = {"x/a.png": picture(photo(0)), "x/a_mask.png": picture(mask(0))}
    same |= {f"y/{Path(name).name}": data for name, data in same.items()}
    assert "the same name as another photo" in faults_of(same, tmp_path)
    monkeypatch.setattr(frame_zip, "MAX_ZIP_BYTES", 10)
    assert "Split it" in faults_of(same, tmp_path)


def _refused(tmp_path: Path, data: bytes) -> str:
    (tmp_path / "b.zip").write_bytes(data)
    with pytest.raises(BatchError) as caught:
        read_frame_zip(tmp_path / "b.zip")
    return str(caught.value)


def test_variants_of_each_mask():
    masks = NamedMasks([NamedMask("a", mask(0)), replace(framed(1)[0], name="b")], [])
    variants = augmented(masks, 3, seed=5)
    assert [v.name for v in variants] == ["a-001", "a-002", "a-003", "b-001", "b-002", "b-003"]
    assert [v.frame for v in variants] == [None] * 3 + [masks[1].frame] * 3
    assert len({v.mask.tobytes() for v in variants}) == 6
    assert all(v.mask.shape == SIZE and v.mask.any() for v in variants)
    assert all(
        np.array_equal(a.mask, b.mask) for a, b in zip(variants, augmented(masks, 3, seed=5), strict=True)
    )
    assert not np.array_equal(variants[0].mask, augmented(masks, 3, seed=6)[0].mask)
    long = augmented([NamedMask("n" * 120, mask(0))], 2, seed=5)
    assert [v.name[-4:] for v in long] == ["-001", "-002"]
    for count in (0, MAX_MASKS // 2 + 1):
        with pytest.raises(BatchError, match="variants"):
            augmented(masks, count, seed=5)
    assert augment(mask(0), 1).shape == SIZE


def test_a_job_with_frames_is_stored_run_and_continued(tmp_path):
    job = BatchJob.create(tmp_path / "job", framed(2, of_each=CHUNK + 1), SETTINGS, size=32)
    assert sorted(p.name for p in (tmp_path / "job" / "frames").iterdir()) == ["f0.png", "f1.png"]
    sampler = Painter()
    events = run_job(job, sampler, CHUNK, never)
    next(events)
    events.close()
    job = BatchJob.open(tmp_path / "job")
    assert job.done == CHUNK
    list(run_job(job, sampler, CHUNK, never))
    assert job.done == job.total == 2 * (CHUNK + 1)
    assert [count for count, _ in sampler.calls] == [CHUNK, 1, CHUNK, 1], "a chunk has one frame"
    for (_, used), number in zip(sampler.calls, (0, 0, 1, 1), strict=True):
        assert np.array_equal(used, photo(number))
    job.export(tmp_path / "job.zip")
    pair = read_png((tmp_path / "job" / "done" / "f1-2.png").read_bytes())
    assert np.array_equal(pair.image[mask(3) == 0], photo(1)[mask(3) == 0])
    assert pair.fields()["Disclaimer"] == FRAME_NOTICE


def test_frames_are_stored_as_pixels_alone(tmp_path):
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x010E] = "Jane Doe"
    Image.fromarray(photo(0)).save(buffer, "JPEG", exif=exif, comment=b"Jane Doe")
    assert b"Jane Doe" in buffer.getvalue()
    BatchJob.create(tmp_path / "job", [NamedMask("a", mask(0), Frame("a", buffer.getvalue()))], SETTINGS)
    stored = (tmp_path / "job" / "frames" / "a.png").read_bytes()
    assert b"Jane Doe" not in stored
    assert not Image.open(io.BytesIO(stored)).getexif()


def test_a_job_without_frames_is_stored_as_before(tmp_path):
    BatchJob.create(tmp_path / "job", [NamedMask("a", mask(0))], SETTINGS)
    assert "frames" not in (tmp_path / "job" / "job.json").read_text()
    assert not (tmp_path / "job" / "frames").exists()
    assert BatchJob.open(tmp_path / "job").items[0].frame is None


def test_jobs_that_cannot_be_made(tmp_path, monkeypatch):
    one, two = framed(2)
    wrong = {
        "others have none": [one, replace(two, frame=None)],
        "two frames are named": [one, replace(two, frame=Frame("F0", picture(photo(1))))],
        "has 50 x 29 pixels, its frame 50 x 30": [replace(one, mask=one.mask[:-1])],
        "not an image": [replace(one, frame=Frame("f0", b"nothing"))],
    }
    for i, (words, masks) in enumerate(wrong.items()):
        with pytest.raises(BatchError, match=words):
            BatchJob.create(tmp_path / str(i), masks, SETTINGS)
        with pytest.raises(BatchError, match="no job"):
            BatchJob.open(tmp_path / str(i))
    monkeypatch.setattr(batch_job, "MAX_RESULT_BYTES", 3 * SIZE[0] * SIZE[1])
    BatchJob.create(tmp_path / "fits", [one], SETTINGS)
    with pytest.raises(BatchError, match="fewer or smaller frames"):
        BatchJob.create(tmp_path / "more", [one, two], SETTINGS)


def test_a_lesion_that_would_vanish_in_the_whole_photo_is_taken(tmp_path):
    large = np.zeros((600, 800), np.uint8)
    large[101:104, 203:206] = 255
    frame = Frame("a", picture(np.zeros((600, 800, 3), np.uint8)))
    with pytest.raises(BatchError, match="vanishes"):
        BatchJob.create(tmp_path / "whole", [NamedMask("a", large)], SETTINGS, size=32)
    assert BatchJob.create(tmp_path / "frame", [NamedMask("a", large, frame)], SETTINGS, size=32).total == 1


def test_a_pair_of_another_kind_is_refused(tmp_path):
    job = BatchJob.create(tmp_path / "job", framed(1), SETTINGS)
    item = job.items[0]
    pair = painted(photo(0), mask(0), item.seed)
    plain = replace(pair, recipe=replace(pair.recipe, background=None))
    with pytest.raises(BatchError, match="background None instead of 'real photo'"):
        job.store(item, plain)
    job.store(item, pair)
    assert job.done == 1


def test_the_runner_passes_the_frame_to_the_model(tmp_path):
    class Model:
        def __init__(self) -> None:
            self.requests: list[Request] = []

        def info(self, *_: Any) -> ModelInfo:
            return ModelInfo("stand-in", SamplingSettings(2, 2.0, "dpm++"), 32, None, True)

        def sample(self, request: Request, *_: Any):
            self.requests.append(request)
            assert request.frame is not None
            pairs = [painted(request.frame, m, s) for m, s in zip(request.masks, request.seeds, strict=True)]
            yield Generated(tuple(pairs), (None,) * len(pairs))

    model = Model()
    runner = BatchRunner(model, tmp_path / "batches")  # pyright: ignore[reportArgumentType]  # a stand-in
    order = BatchOrder(framed(2, of_each=2), POLYP, 3, "stand-in")
    *_, last = runner.start("owner", order, threading.Event(), "visitor")
    assert (last.done, last.total) == (4, 4)
    assert [len(r.masks) for r in model.requests] == [2, 2]
    assert np.array_equal(model.requests[1].frame, photo(1))
