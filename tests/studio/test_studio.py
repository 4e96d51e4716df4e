"""The studio's events in seeded random orders, with a stand-in for the model: what is framed is what is kept, and nothing is left waiting."""

from __future__ import annotations

import asyncio
import errno
import json
import random
import zipfile
from pathlib import Path

import gradio as gr
import numpy as np
import pytest
from PIL import Image

from siamese.exchange.formats import FORMATS, read
from siamese.masks.core import mask_digest, resize_mask
from siamese.masks.packed import unpack
from siamese.records.burned_in_text import find_text
from siamese.records.provenance import pair_png
from siamese.studio.components import errors as trouble
from siamese.studio.components.canvas import drawn_mask
from siamese.studio.storage.batch_job import BatchJob
from siamese.studio.tabs import gallery as results
from siamese.studio.tabs.gallery import GalleryImages, outdated
from siamese.studio.tabs.photo import Photo
from tests.overlays import overlay
from tests.phantoms import phantom
from tests.studio.stand_in_model import made
from tests.studio.window import Window


def masks(seed: int) -> np.ndarray:
    return phantom(seed, 64, 64)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_what_is_framed_is_what_is_kept_after_any_order(window, seed):
    rng, running = random.Random(seed), None
    result, settings = window.result, window.settings
    window.check()
    for _ in range(60):
        action = rng.choice(
            [
                "generate",
                "more",
                "go on",
                "go on",
                "go on",
                "click",
                "click",
                "cancel",
                "outline",
                "draw",
                "broken",
                "keep",
                "download",
            ]
        )
        if action in ("generate", "more") and running is None:
            window[settings.variants] = rng.randint(1, 8)
            button = settings.button if action == "generate" else result.more
            if window.prop(button, "interactive") is not False:
                window.worker.fault = None
                running = window.begin(button, "click")
        elif action == "go on" and running is not None:
            running = running if next(running, "over") is None else None
        elif action == "click":
            window.click(result.gallery, rng.randrange(len(window[result.gallery])))
        elif action == "cancel":
            window.press(settings.cancel)
        elif action == "outline":
            window[result.outline] = not window[result.outline]
            window.fire(result.outline, "change")
        elif action == "draw":
            window.paint(masks(rng.randrange(3)))
        elif action == "broken":
            window.worker.fault = rng.choice([ValueError("a fault"), None])
        elif action in ("keep", "download") and (framed := window.framed()) is not None:
            assert (window.keeps() if action == "keep" else window.downloads()) == framed
        window.check()
    for _ in running or ():
        pass
    window.check()
    assert window.prop(settings.button, "interactive")
    assert not window.prop(settings.cancel, "interactive")
    assert not window.errors
    drawn = mask_digest(drawn_mask(window[window.draw.canvas]))
    assert (results.MASK_CHANGED in window[result.outdated]) == (
        mask_digest(window.shown.pair.drawn) != drawn
    )


@pytest.mark.slow
def test_a_new_image_is_framed_and_not_the_number_of_the_one_before(window):
    result = window.result
    window[window.settings.variants] = 4
    window.press(window.settings.button)
    window.click(result.gallery, 3)
    assert window.framed() == window.shown.pairs[3].recipe == window.keeps()
    window.press(window.settings.button)
    assert window.prop(result.gallery, "selected_index") == 0
    assert window.framed() == window.shown.pairs[0].recipe == window.downloads()


def test_previews_are_neither_kept_nor_captioned_as_images(window):
    result, settings = window.result, window.settings
    window[settings.variants] = 2
    running = window.begin(settings.button, "click")
    while not window[result.previewing]:
        next(running)
    assert window.framed() is None
    assert "preview" in window[result.caption]
    assert window[result.outdated] == ""
    window.click(result.gallery, 1)
    assert (
        window.framed() is None and window.shown.pair is window.worker.example
    ) or window.shown.selected == 0
    window.press(settings.cancel)
    for _ in running:
        pass
    window.check()
    assert window.framed() == window.worker.example.recipe
    assert "Example" in window[result.caption]


def test_the_seeds_box_names_an_image_that_there_is(window):
    settings = window.settings
    assert window[settings.seed] == window.worker.example.recipe.seed
    running = window.begin(settings.button, "click")
    while not window[window.result.previewing]:
        next(running)
    window.press(settings.cancel)
    for _ in running:
        pass
    assert window[settings.seed] == window.worker.example.recipe.seed
    window.press(settings.button)
    assert window[settings.seed] == window.shown.pair.recipe.seed
    window[settings.random_seed], window[settings.seed] = False, 7
    window.press(window.result.more)
    assert window[settings.seed] == 7, "a seed that was entered stays"


class TestOutdated:
    def test_says_so_until_the_drawing_is_the_same_again(self, window):
        line = window.result.outdated
        assert window[line] == ""
        window.paint(masks(2))
        assert results.MASK_CHANGED in window[line]
        window.paint(window.worker.example.drawn)
        assert window[line] == ""
        window.paint(masks(2))
        window.press(window.settings.button)
        assert window[line] == ""
        window.paint(np.zeros((64, 64), np.uint8))
        assert results.MASK_CHANGED in window[line]

    def test_a_mask_that_is_changed_while_the_model_samples(self, window):
        running = window.begin(window.settings.button, "click")
        while not window[window.result.previewing]:
            next(running)
        window.paint(masks(2))
        assert window[window.result.outdated] == "", "previews are not of the image that the line is about"
        for _ in running:
            pass
        assert results.MASK_CHANGED in window[window.result.outdated]

    def test_rule(self):
        mask = masks(1)
        plain, guided = (
            GalleryImages((made(mask, 1),), (None,)),
            GalleryImages((made(mask, 1, 0.5),), (None,), reference=np.zeros((4, 4, 3), np.uint8)),
        )
        assert (
            outdated(GalleryImages(), None)
            == outdated(plain, mask_digest(mask))
            == outdated(guided, mask_digest(mask))
            == ""
        )
        assert outdated(plain, mask_digest(masks(2))) == outdated(plain, None) == results.MASK_CHANGED
        photo = Photo(np.zeros((4, 4, 3), np.uint8), "photo", Path("nowhere"))
        with_photo = GalleryImages(guided.pairs, (None,), reference=photo.pixels, photo=photo)
        assert with_photo.without(photo) is with_photo
        assert guided.without(None) is guided
        assert outdated(with_photo.without(None), mask_digest(mask)) == results.PHOTO_CHANGED


class TestPhoto:
    PIXELS = np.random.default_rng(3).integers(0, 256, (60, 80, 3), np.uint8)

    def open(self, window: Window, path: Path) -> None:
        Image.fromarray(self.PIXELS).save(path)
        window[window.draw.file] = str(path)
        window.fire(window.draw.file, "upload")
        window.settle()

    def with_comparison(self, window: Window, tmp_path: Path) -> None:
        self.open(window, tmp_path / "photo.png")
        window.paint(resize_mask(masks(1), (60, 80)))
        window[window.settings.use_photo] = True
        window.press(window.settings.button)
        assert window.prop(window.result.compare, "visible")
        assert window.shown.reference is not None
        assert not window.errors
        for _ in window.begin(window.draw.export, "click"):
            pass
        assert len(window.served()) == 3, "ground, comparison and annotation"

    @pytest.mark.parametrize("how", ["removed", "another photo", "another file"])
    def test_a_removed_photo_is_nowhere(self, window, tmp_path, how):
        self.with_comparison(window, tmp_path)
        photo, before = window[window.draw.photo], window.served()
        if how == "removed":
            window.press(window.draw.drop_photo)
        elif how == "another photo":
            self.PIXELS = 255 - self.PIXELS
            self.open(window, tmp_path / "other.png")
        else:
            (tmp_path / "pair.png").write_bytes(pair_png(made(masks(2), 9)))
            window[window.draw.file] = str(tmp_path / "pair.png")
            window.fire(window.draw.file, "upload")
        assert not before & window.served()
        assert not (tmp_path / "photo.png").exists()
        assert window[window.draw.photo] is not photo
        assert window.shown.reference is None
        assert window.shown.photo is None
        assert not window.prop(window.result.compare, "visible")
        assert window[window.result.slider] is None
        assert not window[window.settings.use_photo]
        if how != "another photo":
            assert window[window.draw.canvas]["photo"] is None
        window.settle()
        if how == "removed":
            window.press(window.draw.export)
            assert "Open a photo first" in window[window.draw.note]
            window.click(window.result.gallery, 0)
            assert not window.prop(window.result.compare, "visible")
        assert window[window.result.outdated]
        assert not window.errors

    @pytest.mark.slow
    def test_burned_in_text_is_covered_in_the_photo_and_in_its_export(self, window, tmp_path):
        image, _ = overlay(37)
        Image.fromarray(image).save(tmp_path / "dated.png")
        window[window.draw.file] = str(tmp_path / "dated.png")
        window.fire(window.draw.file, "upload")
        window.settle()
        before = window.served()
        drawn = np.zeros(image.shape[:2], np.uint8)
        drawn[-40:, -40:] = 255
        window.paint(drawn)
        window.press(window.draw.cover)
        assert "The text is covered" in window[window.draw.note]
        np.testing.assert_array_equal(unpack(window[window.draw.canvas]), drawn)
        photo = window[window.draw.photo]
        assert not find_text(photo.at_its_own_size())
        assert not find_text(photo.pixels)
        assert not before & window.served()
        assert not (tmp_path / "dated.png").exists()
        window.press(window.draw.cover)
        assert "No burned-in text was found" in window[window.draw.note]
        window.press(window.draw.drop_photo)
        assert not photo.original.exists()
        window.press(window.draw.cover)
        assert "Open it again" in window[window.draw.note]
        assert not window.errors

    def test_a_photo_that_is_removed_while_the_model_samples(self, window, tmp_path):
        self.with_comparison(window, tmp_path)
        running = window.begin(window.settings.button, "click")
        while not window[window.result.previewing]:
            next(running)
        window.press(window.draw.drop_photo)
        for _ in running:
            pass
        assert window.shown.reference is None
        assert not window.prop(window.result.compare, "visible")
        assert not window.served()
        assert not window.errors


class TestTrouble:
    FULL = OSError(errno.ENOSPC, "No space left on device", "/secret/path")

    def test_a_failure_around_an_event_gives_the_buttons_back(self, window, monkeypatch):
        monkeypatch.setattr(results, "items", lambda *_: (_ for _ in ()).throw(self.FULL))
        window.press(window.settings.button)
        assert window.errors == [self.FULL] * 2, "the images and, as the disk is still full, those before"
        monkeypatch.undo()
        assert window.prop(window.settings.button, "interactive")
        assert not window.prop(window.settings.cancel, "interactive")
        assert "error" in window[window.settings.message]
        window.fire(window.result.outline, "change")  # there is space again
        window.check()
        assert window.framed() == window.worker.example.recipe

    def test_an_event_that_never_came_to_the_model_is_given_up(self, window):
        rescue = next(
            block for block in window.page.blocks.values() if getattr(block, "elem_id", None) == "rescue"
        )
        for button, cancel, message in (
            (window.settings.button, window.settings.cancel, window.settings.message),
            (window.batch.start, window.batch.cancel, window.batch.message),
        ):
            next(window.begin(button, "click"))  # the first step alone, which takes the button away
            assert window.prop(button, "interactive") is False
            window.fire(rescue, "click")
            assert window.prop(button, "interactive")
            assert not window.prop(cancel, "interactive")
            assert "error" in window[message]

    def test_the_rescue_leaves_a_press_that_samples(self, window):
        rescue = next(
            block for block in window.page.blocks.values() if getattr(block, "elem_id", None) == "rescue"
        )
        running = window.begin(window.settings.button, "click")
        while not window[window.result.previewing]:
            next(running)
        window.fire(rescue, "click")
        assert window.prop(window.settings.button, "interactive") is False
        for _ in running:
            pass
        assert window.framed() is not None
        assert "Done" in window[window.settings.message]

    def test_a_file_that_cannot_be_made(self, window, monkeypatch):
        monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(self.FULL))
        window.press(window.result.download)
        assert trouble.FULL in window[window.result.note]
        assert not window.errors

    @pytest.mark.slow
    def test_around_every_event(self):
        def broken() -> None:
            raise errors[-1]

        with trouble.Page() as page:
            gr.Button().click(broken, None, None)
        for error, words in (
            (self.FULL, trouble.FULL),
            (OSError(errno.EACCES, "no"), trouble.BROKEN),
            (KeyError("x"), trouble.BROKEN),
        ):
            errors = [error]
            with pytest.raises(gr.Error) as caught:
                asyncio.run(page.process_api(0, []))
            assert caught.value.message == words
            assert "secret" not in words


class TestCollection:
    def entries(self, window: Window) -> list[str]:
        return [entry.id for entry in window.collections.entries(window.token())]

    def three(self, window: Window) -> list[str]:
        for _ in range(3):
            window.press(window.settings.button)
            window.press(window.result.keep)
        window.enter_collection()
        ids = self.entries(window)
        assert len(ids) == len(window[window.kept.gallery]) == 3
        return ids

    def test_a_removal_in_another_window_removes_no_other_pair(self, window):
        ids = self.three(window)
        window.click(window.kept.gallery, 1)
        window.collections.remove(window.token(), ids[0])  # in another window
        window.press(window.kept.remove)
        assert self.entries(window) == [ids[2]]

    def test_nothing_is_framed_after_a_removal(self, window):
        ids = self.three(window)
        window.click(window.kept.gallery, 2)
        window.press(window.kept.remove)
        assert self.entries(window) == ids[:2]
        assert window.prop(window.kept.gallery, "selected_index") == results.NO_FRAME
        assert window.prop(window.kept.remove, "interactive") is False
        window.click(window.kept.gallery, 2)  # on the image that was there
        assert window.prop(window.kept.remove, "interactive") is False
        assert window.prop(window.kept.gallery, "selected_index") == results.NO_FRAME

    def test_the_collection_in_other_programs_formats(self, window, tmp_path):
        ids = self.three(window)
        for name in FORMATS:
            window[window.kept.format_] = name
            read_back = read(window.collection_zip(), name)
            assert len(read_back) == 3, name
            assert all(item.mask.any() for item in read_back), name
            assert {item.name for item in read_back} == set(ids) or name == "nnunet", name
            assert all(item.synthetic and item.category == "polyp" for item in read_back), name
        window[window.kept.format_] = "of another program"
        window.press(window.kept.download)
        assert "is not a known format" in window[window.kept.note]
        assert not window.errors

    def test_the_number_kept_is_not_stated_any_more_once_it_may_have_changed(self, window):
        self.three(window)
        assert window[window.result.note] == ""


class TestBatch:
    def test_says_the_seed_that_was_drawn(self, window):
        batch = window.batch
        assert window.prop(batch.seed, "visible") is False, "a number that no pair is made with"
        window[batch.count] = 3
        window.press(batch.start)
        first = window[batch.seed]
        assert first > 0
        assert f"Seed of the batch: {first};" in window[batch.message]
        assert "All 3 pairs" in window[batch.message]
        (folder,) = (
            f for f in (window.folder.parent / "batches").iterdir() if BatchJob.open(f).settings.seed == first
        )
        job = BatchJob.open(folder)
        assert job.export(window.folder.parent / "batch.zip") == 3
        with zipfile.ZipFile(window.folder.parent / "batch.zip") as archive:
            rows = [json.loads(line) for line in archive.read("manifest.jsonl").decode().splitlines()]
        assert [row["seed"] for row in rows] == [item.seed for item in job.items]

    @pytest.mark.slow
    def test_and_after_it_is_resumed(self, window):
        batch = window.batch
        window[batch.count] = 6
        window.worker.fault = ValueError("A fault.")
        window.press(batch.start)
        first = window[batch.seed]
        assert "A fault." in window[batch.message]
        assert f"Seed of the batch: {first};" in window[batch.message]
        window.worker.fault, window[batch.seed] = None, 0
        window.press(batch.resume)
        assert f"Seed of the batch: {first};" in window[batch.message]
        assert "All 6 pairs" in window[batch.message]
        assert not window.errors
