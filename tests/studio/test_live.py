"""Live, and the strip of what was generated in the visit."""

from __future__ import annotations

import numpy as np

from siamese.masks.core import mask_digest
from siamese.masks.packed import pack, unpack
from siamese.studio.components.canvas import drawn_mask
from siamese.studio.tabs.gallery import GalleryImages
from siamese.studio.tabs.history import LIMIT
from siamese.studio.tabs.live import QUICK_STEPS, LatestRuns
from tests.phantoms import phantom
from tests.studio.stand_in_model import made
from tests.studio.window import Window


def masks(seed: int) -> np.ndarray:
    return phantom(seed, 64, 64)[1]


def steps(window: Window, since: int) -> list[int | None]:
    """The steps of the requests after the first ``since``."""
    return [request.overrides["num_inference_steps"] for request in window.worker.requests[since:]]


class TestLive:
    def test_nothing_is_sampled_while_it_is_off(self, window: Window) -> None:
        before = len(window.worker.requests)
        window.paint(masks(2))
        assert len(window.worker.requests) == before

    def test_a_quick_image_and_then_a_refined_one_of_the_same_seed(self, window: Window) -> None:
        window[window.result.live] = True
        seed, before = window[window.settings.seed], len(window.worker.requests)
        shown = []
        window[window.draw.canvas] = pack(masks(2))
        for _ in window.begin(window.draw.canvas, "submit"):
            shown.append(window.shown)
        assert steps(window, before) == [QUICK_STEPS, None]
        recipes = [
            images.pair.recipe for images in dict.fromkeys(shown) if images.pair and not images.example
        ]
        assert [recipe.settings.num_inference_steps for recipe in recipes] == [QUICK_STEPS, 2]
        assert {recipe.seed for recipe in recipes} == {seed}, (
            "otherwise the image would jump with each stroke"
        )
        assert not window[window.result.outdated]
        assert mask_digest(window.shown.pair.drawn) == mask_digest(drawn_mask(window[window.draw.canvas]))
        window.check()

    def test_a_newer_change_ends_the_older_run(self, window: Window) -> None:
        window[window.result.live] = True
        window.paint(masks(2))
        older = window.begin(window.draw.canvas, "submit")
        while window.shown.pair.recipe.settings.num_inference_steps != QUICK_STEPS:
            next(older)
        before = len(window.worker.requests)
        window.paint(masks(3))
        for _ in older:
            pass
        assert mask_digest(window.shown.pair.drawn) == mask_digest(masks(3))
        assert window.shown.pair.recipe.settings.num_inference_steps == 2
        assert len(window.worker.requests) - before <= 3, (
            "of the older run at most the refined one, which ended"
        )

    def test_generate_goes_first(self, window: Window) -> None:
        window[window.result.live] = True
        running = window.begin(window.settings.button, "click")
        while not window[window.result.previewing]:
            next(running)
        before = len(window.worker.requests)
        window.paint(masks(3))
        assert len(window.worker.requests) == before
        for _ in running:
            pass
        window.check()

    def test_a_fault_is_said_and_an_empty_drawing_too(self, window: Window) -> None:
        window[window.result.live] = True
        window.worker.fault = ValueError("a fault")
        window.paint(masks(2))
        assert "A fault" in window[window.settings.message]
        window.paint(np.zeros((64, 64), np.uint8))
        assert "Draw a lesion first" in window[window.settings.message]
        assert not window.errors

    def test_the_latest_run_of_a_page(self) -> None:
        runs = LatestRuns()
        with runs.run("page") as first:
            with runs.run("other"):
                assert not first.is_set()
            with runs.run("page") as second:
                assert first.is_set()
                assert not second.is_set()
                runs.end("page")
                assert second.is_set()
            runs.end("page")
        assert not runs._latest


class TestHistory:
    def test_a_click_brings_mask_settings_image_and_agreement_back(self, window: Window) -> None:
        window[window.settings.random_seed] = False
        for number in (1, 2):
            window.paint(masks(number))
            window[window.settings.seed] = number
            window[window.settings.variants] = number
            window.press(window.settings.button)
        labels = [item["label"].rpartition(" ")[2] for item in window[window.history.strip]]
        assert labels == ["2", "1"], "the seeds, the latest first"
        window.fire(window.history.strip, "click", {"index": 1})
        window.settle()
        assert window.shown.pair.recipe.seed == 1
        assert window.shown.agreement == 0.5
        assert window[window.settings.seed] == 1
        np.testing.assert_array_equal(unpack(window[window.draw.canvas]), masks(1))
        assert not window[window.result.outdated]
        window.check()
        assert len(window[window.history.past]) == 2, "coming back is no new result"

    def test_numbers_that_are_no_item_do_nothing(self, window: Window) -> None:
        window.press(window.settings.button)
        before = window.shown
        for index in (1, -1, "0", True, None, 10**30):
            window.fire(window.history.strip, "click", {"index": index})
        window.fire(window.history.strip, "click")
        assert window.shown is before
        assert not window.errors

    def test_the_oldest_leave(self, window: Window) -> None:
        for number in range(LIMIT + 3):
            window[window.result.shown] = GalleryImages((made(masks(1), number),), (None,))
            window.press(window.settings.button)
        assert len(window[window.history.past]) == len(window[window.history.strip]) == LIMIT
