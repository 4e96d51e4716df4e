"""The line before the model and one press of Generate: events, line, cancelling, errors, several models."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest

from siamese.records.catalogue import describe, find_models
from siamese.records.prompts import LESION, POLYP
from siamese.studio.backend.messages import (
    Cancelled,
    Generated,
    Loading,
    ModelUnavailableError,
    Request,
    Step,
    Waiting,
)
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.runs import RunRegistry
from siamese.studio.components.canvas import canvas_value
from siamese.studio.components.default_mask import example_mask
from siamese.studio.tabs.generate import (
    MAX_STEPS,
    MAX_VARIANTS,
    Failed,
    Finished,
    Form,
    Started,
    generate,
)
from tests.studio_model import small_images_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return small_images_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def worker(folder):
    worker = ModelWorker(find_models(str(folder), None))
    worker.info()
    yield worker
    worker.close()


def form(**changed) -> Form:
    return Form(
        **(
            {
                "canvas": canvas_value(example_mask(3, 64)),
                "prompt": POLYP,
                "seed": 0,
                "num_inference_steps": 1,
                "guidance_scale": 1,
            }
            | changed
        )
    )


def last(events):
    return list(events)[-1]


def begun(events):
    """Up to its first step: a request that was cancelled before may still be ending."""
    return next(e for e in events if isinstance(e, Step))


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


class TestGenerate:
    def test_events_and_images(self, worker):
        started, *steps, finished = generate(
            worker, form(prompt=LESION, seed=11, variants=2, num_inference_steps=3, guidance_scale=1.5)
        )
        assert started == Started(11)
        assert [s.step for s in steps if isinstance(s, Step)] == [0, 1, 2, 3]
        assert steps[-1].seconds_left == 0
        assert steps[0].seconds_left is None
        first, second = finished.generated.pairs
        size = first.image.shape[0]
        assert first.image.shape == (size, size, 3)
        assert first.image.dtype == np.uint8
        assert first.mask.shape == (size, size)
        assert set(np.unique(first.mask)) == {0, 255}
        np.testing.assert_array_equal(first.drawn, example_mask(3, 64))
        assert (first.recipe.seed, second.recipe.seed) == (11, 12)
        assert (
            first.recipe.prompt,
            first.recipe.settings.num_inference_steps,
            first.recipe.settings.guidance_scale,
            first.recipe.reference_weight,
        ) == (LESION, 3, 1.5, None)
        assert all(a is None or 0 <= a <= 1 for a in finished.generated.agreements)

    def test_seed_decides_the_image_alone_or_among_variants(self, worker):
        one, two = (
            last(generate(worker, form(seed=5))).generated.pairs,
            last(generate(worker, form(seed=4, variants=2))).generated.pairs,
        )
        assert np.abs(one[0].image.astype(int) - two[1].image).max() <= 1
        assert (two[0].image != two[1].image).any()

    def test_random_seeds_differ_and_are_reported(self, worker):
        runs = [list(generate(worker, form(seed=None))) for _ in range(2)]
        assert [r[0].seed == r[-1].generated.pairs[0].recipe.seed for r in runs] == [True, True]
        assert runs[0][0].seed != runs[1][0].seed

    def test_empty_fields_mean_the_models_defaults(self, worker):
        recipe = (
            last(generate(worker, form(num_inference_steps=None, guidance_scale=None)))
            .generated.pairs[0]
            .recipe
        )
        assert recipe.settings == worker.info().settings

    def test_scheduler_and_reference_reach_the_model(self, worker):
        photo = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
        plain = last(generate(worker, form(scheduler="ddim"))).generated.pairs[0]
        guided = last(generate(worker, form(scheduler="ddim", reference=photo, weight=0.5))).generated.pairs[
            0
        ]
        assert plain.recipe.settings.scheduler == guided.recipe.settings.scheduler == "ddim"
        assert (plain.recipe.reference_weight, guided.recipe.reference_weight) == (None, 0.5)
        assert (plain.image != guided.image).any()

    @pytest.mark.parametrize(
        ("changed", "message"),
        [
            ({"canvas": None}, "Draw a lesion first"),
            ({"seed": -1}, "seed must be a whole number"),
            ({"seed": 2**32}, "seed must be a whole number"),
            ({"seed": float("nan")}, "seed must be a whole number"),
            ({"variants": 0}, "variants must be"),
            ({"variants": MAX_VARIANTS + 1}, "variants must be"),
            ({"variants": None}, "variants must be"),
            ({"num_inference_steps": float("inf")}, "Steps must be"),
            ({"num_inference_steps": 0}, "Steps must be"),
            ({"num_inference_steps": MAX_STEPS + 1}, "Steps must be"),
            ({"guidance_scale": 0.5}, "Guidance must be"),
            ({"guidance_scale": float("nan")}, "Guidance must be"),
            ({"scheduler": "euler"}, "scheduler"),
            ({"prompt": "a photo of a cat"}, "Unknown prompt"),
            ({"reference": np.zeros((4, 4, 3), np.uint8), "weight": -1}, "weight must be"),
            ({"model": "gone"}, "choose another one"),
        ],
    )
    def test_bad_input_is_one_clear_message_and_the_next_request_works(self, worker, changed, message):
        failed = last(generate(worker, form(**changed)))
        assert isinstance(failed, Failed)
        assert message in failed.message
        assert not failed.cancelled
        assert isinstance(last(generate(worker, form())), Finished)

    @pytest.mark.parametrize("name", ["full", "one pixel"])
    def test_extreme_masks(self, worker, name):
        mask = np.zeros((64, 64), np.uint8)
        mask[:] = 255 if name == "full" else 0
        mask[32, 32] = 255
        assert isinstance(last(generate(worker, form(canvas=canvas_value(mask)))), Finished)

    def test_lesion_that_vanishes_at_the_models_size(self, worker):
        mask = np.zeros((1024, 1024), np.uint8)
        mask[0, 0] = 255
        assert "draw a larger lesion" in last(generate(worker, form(canvas=canvas_value(mask)))).message

    def test_unexpected_errors_are_logged_not_shown(self, caplog):
        class Broken:
            def sample(self, *_):
                raise KeyError("secret detail")

        failed = last(generate(Broken(), form()))
        assert isinstance(failed, Failed)
        assert "secret" not in failed.message
        assert "secret detail" in caplog.text


class TestCancelling:
    def test_closing_the_iterator_stops_sampling(self, worker, monkeypatch):
        heard, ask = [], worker._process.ask
        monkeypatch.setattr(
            worker._process,
            "ask",
            lambda call, *args, on_update, is_cancelled: ask(
                call,
                *args,
                on_update=lambda update: (heard.append(update), on_update(update)),
                is_cancelled=is_cancelled,
            ),
        )
        events = worker.sample(request(overrides={"num_inference_steps": 100, "guidance_scale": 1}))
        assert begun(events).step == 0
        assert next(events).step == 1
        events.close()
        assert isinstance(
            last(worker.sample(request())), Generated
        )  # after the stopped one, in the same process
        assert max(u.step for u in heard[:-2]) < 30

    def test_cancel_stops_within_a_step(self, worker):
        runs = RunRegistry()
        name, steps = runs.begin(), []
        events = generate(worker, form(num_inference_steps=100), runs.event(name))
        for event in events:
            if isinstance(event, Step):
                steps.append(event.step)
                if event.step == 1:
                    runs.cancel(name)
        assert isinstance(event, Failed)
        assert event.cancelled
        assert max(steps) < 20
        runs.end(name)
        assert not runs.event(name).is_set()

    def test_cancelling_while_waiting_does_not_wait_for_the_turn(self, worker):
        stop = threading.Event()
        running = worker.sample(request(overrides={"num_inference_steps": 100, "guidance_scale": 1}))
        begun(running)
        waiting = worker.sample(request(), stop)
        assert next(waiting) == Waiting(1)
        stop.set()
        with pytest.raises(Cancelled):
            next(waiting)
        running.close()
        assert isinstance(last(worker.sample(request())), Generated)

    def test_requests_with_one_event_follow_each_other(self, worker):
        stop = threading.Event()
        for _ in range(2):  # as a batch does, which leaves the iterator once it has the images
            assert isinstance(
                next(u for u in worker.sample(request(), stop) if isinstance(u, Generated)), Generated
            )
        assert not stop.is_set()

    def test_the_line_moves_up(self, worker):
        first = worker.sample(request(overrides={"num_inference_steps": 100, "guidance_scale": 1}))
        begun(first)
        others = [worker.sample(request()) for _ in range(2)]
        assert [next(o) for o in others] == [Waiting(1), Waiting(2)]
        first.close()
        assert isinstance(last(others[0]), Generated)
        assert Waiting(1) in list(others[1])


class TestModels:
    def test_missing_model_says_what_to_do_and_a_repaired_one_works(self, folder, tmp_path):
        place = tmp_path / "model"
        late = ModelWorker([describe(str(place))])
        try:
            with pytest.raises(ModelUnavailableError, match="--model"):
                late.info()
            failed = last(generate(late, form()))
            assert "no such folder" in failed.message
            assert "--model" in failed.message
            place.symlink_to(folder)
            assert isinstance(last(generate(late, form())), Finished)
        finally:
            late.close()

    def test_damaged_weights(self, folder, tmp_path):
        copy = shutil.copytree(folder, tmp_path / "model")
        weights = next((copy / "unet").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:1000])
        damaged = ModelWorker([describe(str(copy))])
        try:
            assert "could not be loaded" in last(generate(damaged, form())).message
        finally:
            damaged.close()

    def test_switching_models(self, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "other")
        both = ModelWorker(find_models(str(folder), tmp_path))
        try:
            assert list(both.models) == [folder.name, "other"]
            updates = list(both.sample(request(model="other")))
            assert Loading() in updates
            assert updates[-1].pairs[0].recipe.model == "other"
            assert both.loaded.name == "other"
            assert both.info().name == folder.name
        finally:
            both.close()

    def test_a_suggestion_comes_from_the_process(self, worker):
        mask = worker.suggest(np.zeros((40, 60, 3), np.uint8))
        assert mask.shape == (40, 60)
        assert set(np.unique(mask)) <= {0, 255}
