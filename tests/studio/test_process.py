"""The engine that runs models, and the process that it lives in: what goes wrong there costs one request."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from siamese.masks.core import MaskError
from siamese.records.catalogue import describe, find_models
from siamese.records.prompts import LESION, POLYP
from siamese.studio.backend import engine as engines
from siamese.studio.backend.engine import Engine
from siamese.studio.backend.messages import (
    Cancelled,
    Generated,
    Loading,
    ModelUnavailableError,
    OutOfMemoryError,
    Request,
    Step,
)
from siamese.studio.backend.process import ModelProcess
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.canvas import canvas_value
from siamese.studio.components.default_mask import example_mask
from siamese.studio.tabs.generate import Finished, Form, generate
from tests.studio_model import model_of_half_known_subjects, model_without_segmenter, small_images_model

ROOT = Path(__file__).parents[2]


def request(**changed) -> Request:
    return Request(
        **(
            {
                "masks": (example_mask(0, 64),),
                "prompt": POLYP,
                "seeds": (0,),
                "overrides": {"num_inference_steps": 1, "guidance_scale": 1},
                "previews": False,
            }
            | changed
        )
    )


def never() -> bool:
    return False


def quiet(_: object) -> None:
    """Hears nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_images_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def engine(folder) -> Engine:
    made = Engine(find_models(str(folder), None))
    assert made.loaded is None
    assert made.info(quiet, never, None).name == folder.name
    return made


@pytest.fixture(scope="module")
def process(folder):
    """One for all tests: each start of one takes seconds, and none of the tests may leave it unusable."""
    process = ModelProcess(find_models(str(folder), None))
    yield process
    process.close()


@pytest.fixture
def fresh(folder):
    """One that has not loaded its model."""
    process = ModelProcess(find_models(str(folder), None))
    yield process
    process.close()


def asked(process: ModelProcess, *call, on_update=quiet, is_cancelled=never):
    return process.ask(*call, on_update=on_update, is_cancelled=is_cancelled)


class TestEngine:
    @pytest.mark.slow
    def test_it_tells_of_steps_and_returns_images(self, engine):
        updates = []
        made = engine.sample(
            updates.append,
            never,
            request(seeds=(1, 2), overrides={"num_inference_steps": 2, "guidance_scale": 1}),
        )
        assert [u.step for u in updates] == [0, 1, 2]
        assert len(made.pairs) == len(made.agreements) == 2

    @pytest.mark.slow
    def test_it_stops_within_a_step(self, engine):
        updates = []
        with pytest.raises(Cancelled):
            engine.sample(
                updates.append,
                lambda: len(updates) > 2,
                request(overrides={"num_inference_steps": 100, "guidance_scale": 1}),
            )
        assert [u.step for u in updates] == [0, 1, 2]

    @pytest.mark.slow
    def test_previews_come_while_sampling(self, engine, monkeypatch):
        monkeypatch.setattr(engines, "PREVIEW_PAUSE", 0)
        monkeypatch.setattr(engines, "PREVIEW_SHARE", 0)
        updates = []
        made = engine.sample(
            updates.append,
            never,
            request(seeds=(1, 2), overrides={"num_inference_steps": 4, "guidance_scale": 1}, previews=True),
        )
        shown = [u.previews for u in updates if u.previews is not None]
        assert len(shown) == 3, "after each step but the last"
        assert all(p.shape == (2, *made.pairs[0].image.shape) and p.dtype == np.uint8 for p in shown)
        updates.clear()
        engine.sample(
            updates.append, never, request(overrides={"num_inference_steps": 4, "guidance_scale": 1})
        )
        assert all(u.previews is None for u in updates)

    def test_a_lesion_in_a_photo_leaves_the_photo_and_says_so(self, engine):
        photo = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)
        mask = np.zeros((90, 140), np.uint8)
        mask[20:40, 90:120] = 255
        made = engine.sample(quiet, never, request(masks=(mask,), frame=photo, seeds=(1, 2)))
        assert len(made.pairs) == len(made.agreements) == 2
        for pair, agreement in zip(made.pairs, made.agreements, strict=True):
            assert pair.image.shape == photo.shape
            assert np.array_equal(pair.mask, mask)
            assert np.array_equal(pair.drawn, mask)
            assert np.array_equal(pair.image[:, :40], photo[:, :40])
            assert (pair.image[mask > 0] != photo[mask > 0]).mean() > 0.9
            assert pair.recipe.background == "real photo"
            assert 0 <= agreement <= 1
        with pytest.raises(MaskError, match="draw the lesion on the photo"):
            engine.sample(quiet, never, request(frame=photo))
        plain = engine.sample(quiet, never, request())
        assert plain.pairs[0].recipe.background is None

    @pytest.mark.slow
    @pytest.mark.parametrize(
        "error",
        [
            RuntimeError(
                "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
            ),
            RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."),
            MemoryError(),
        ],
    )
    def test_out_of_memory_says_what_to_do(self, engine, monkeypatch, error):
        def full(*_, **__):
            raise error

        with monkeypatch.context() as patch:
            patch.setattr(engine._held.diffusion, "sample_fitted", full)
            with pytest.raises(OutOfMemoryError, match="fewer variants"):
                engine.sample(quiet, never, request())
        assert isinstance(engine.sample(quiet, never, request()), Generated)

    def test_a_failed_load_leaves_nothing_behind(self, tmp_path):
        missing = Engine([describe(str(tmp_path / "none"))])
        with pytest.raises(ModelUnavailableError, match="--model"):
            missing.info(quiet, never, None)
        assert missing.loaded is None

    def test_suggestions(self, engine):
        assert engine.loaded.can_suggest
        mask = engine.suggest(quiet, never, np.zeros((40, 60, 3), np.uint8), None)
        assert mask.shape == (40, 60)
        assert set(np.unique(mask)) <= {0, 255}

    def test_without_a_segmenter_a_suggestion_says_what_to_do(self, tmp_path):
        engine = Engine(find_models(str(model_without_segmenter(tmp_path)), None))
        assert not engine.info(quiet, never, None).can_suggest
        with pytest.raises(ModelUnavailableError, match="Draw the mask by hand"):
            engine.suggest(quiet, never, np.zeros((40, 60, 3), np.uint8), None)

    def test_a_network_judges_the_subjects_that_it_knows(self, tmp_path):
        engine = Engine(find_models(str(model_of_half_known_subjects(tmp_path)), None))
        photo = np.zeros((40, 60, 3), np.uint8)
        assert engine.sample(quiet, never, request(prompt=POLYP)).agreements == (None,)
        [agreement] = engine.sample(quiet, never, request(prompt=LESION)).agreements
        assert 0 <= agreement <= 1
        assert engine.loaded.can_suggest
        assert engine.suggest(quiet, never, photo, None, LESION).shape == (40, 60)
        for prompt in (POLYP, None):  # the first subject is meant if nothing is said
            with pytest.raises(ModelUnavailableError, match="Moles has no segmentation network"):
                engine.suggest(quiet, never, photo, None, prompt)


class TestProcess:
    @pytest.mark.slow
    def test_it_answers_as_the_engine_does(self, fresh, engine):
        updates = []
        assert fresh.loaded is None
        there = asked(
            fresh,
            "sample",
            request(seeds=(3,), overrides={"num_inference_steps": 2, "guidance_scale": 1}),
            on_update=updates.append,
        )
        assert updates[0] == Loading()
        assert [u.step for u in updates[1:]] == [0, 1, 2]
        here = engine.sample(
            quiet, never, request(seeds=(3,), overrides={"num_inference_steps": 2, "guidance_scale": 1})
        )
        assert np.abs(there.pairs[0].image.astype(int) - here.pairs[0].image).max() <= 1
        assert there.pairs[0].recipe == here.pairs[0].recipe
        assert fresh.loaded == engine.loaded

    @pytest.mark.slow
    def test_a_word_to_stop_reaches_only_the_running_request(self, process):
        updates = []
        with pytest.raises(Cancelled):
            asked(
                process,
                "sample",
                request(overrides={"num_inference_steps": 100, "guidance_scale": 1}),
                on_update=updates.append,
                is_cancelled=lambda: len(updates) > 2,
            )
        assert max(u.step for u in updates if isinstance(u, Step)) < 30
        assert isinstance(
            asked(process, "sample", request(overrides={"num_inference_steps": 3, "guidance_scale": 1})),
            Generated,
        )

    @pytest.mark.slow
    def test_errors_arrive_as_they_are(self, process, tmp_path, caplog):
        with pytest.raises(ValueError, match=r"(?i)unknown prompt"):
            asked(process, "sample", request(prompt="a photo of a cat"))
        with pytest.raises(ModelUnavailableError, match="choose another one"):
            asked(process, "sample", request(model="gone"))
        with pytest.raises(RuntimeError, match="AttributeError"):
            asked(process, "no such call")
        assert isinstance(asked(process, "sample", request()), Generated)

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("number", "error", "message"),
        [
            (signal.SIGKILL, OutOfMemoryError, "lack of memory"),
            (signal.SIGABRT, ModelUnavailableError, "ended unexpectedly"),
        ],
    )
    def test_a_process_that_dies_costs_one_request(self, process, number, error, message):
        child = []

        def kill(update):
            if isinstance(update, Step) and update.step == 1:
                child.append(process._process.pid)
                os.kill(process._process.pid, number)

        with pytest.raises(error, match=message):
            asked(
                process,
                "sample",
                request(overrides={"num_inference_steps": 100, "guidance_scale": 1}),
                on_update=kill,
            )
        assert child
        assert process.loaded is None
        assert isinstance(asked(process, "sample", request()), Generated)
        assert process._process.pid != child[0]

    @pytest.mark.slow
    def test_one_that_died_unnoticed_is_a_message_too(self, process):
        asked(process, "info", None)
        os.kill(process._process.pid, signal.SIGKILL)
        process._process.wait()
        with pytest.raises(OutOfMemoryError):
            asked(process, "info", None)
        assert asked(process, "info", None) == process.loaded

    @pytest.mark.slow
    def test_it_ends_with_whoever_started_it(self, folder):
        code = (
            "import sys, time; from siamese.studio.backend.queue import ModelWorker; from siamese.records.catalogue import find_models;"
            "w = ModelWorker(find_models(sys.argv[1], None)); w.start(); w.info(); print(w._process._process.pid, flush=True); time.sleep(60)"
        )
        parent = subprocess.Popen(
            [sys.executable, "-c", code, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
        parent.wait()
        child.wait(timeout=20)  # raises if it lives on


@pytest.mark.slow
def test_closing_ends_waiting_requests_and_the_process(folder):
    worker = ModelWorker(find_models(str(folder), None))
    running = worker.sample(request(overrides={"num_inference_steps": 100, "guidance_scale": 1}))
    assert isinstance(next(running), Loading)
    child = psutil.Process(worker._process._process.pid)
    began = time.monotonic()
    worker.close()
    assert time.monotonic() - began < 10
    assert not child.is_running()
    with pytest.raises(Cancelled):
        list(running)
    with pytest.raises(Cancelled):
        worker._process.ask("info", None, on_update=quiet, is_cancelled=never)


@pytest.mark.slow
def test_generate_goes_on_after_the_process_was_killed(folder):
    worker = ModelWorker(find_models(str(folder), None))
    try:
        form = Form(
            canvas_value(example_mask(3, 64)), POLYP, seed=0, num_inference_steps=100, guidance_scale=1
        )
        for event in generate(worker, form):
            if isinstance(event, Step) and event.step == 1:
                os.kill(worker._process._process.pid, signal.SIGKILL)
        assert "lack of memory" in event.message
        assert isinstance(
            list(
                generate(
                    worker,
                    Form(
                        canvas_value(example_mask(3, 64)),
                        POLYP,
                        seed=0,
                        num_inference_steps=1,
                        guidance_scale=1,
                    ),
                )
            )[-1],
            Finished,
        )
    finally:
        worker.close()
