"""The mask at canvas resolution is bit for bit what was drawn, at any pixel ratio and by touch; the mask tools."""

from __future__ import annotations

import io
import itertools
import re
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import expect

from siamese.masks.editing import flip
from siamese.records.provenance import mask_png, pair_png
from siamese.studio.components.canvas import SIDE
from siamese.studio.visitors import upload_folder as folder
from tests.browser.actions import (
    changing,
    clear,
    draw,
    generate,
    mask_of,
    open_file,
    open_settings,
    touch_draw,
)
from tests.browser.conftest import PATIENCE, PHONE
from tests.factories import make_pair

BRUSH = 28
"""Diameter of the brush at first, in pixels of the drawing."""


def discs(points: np.ndarray, size: int) -> np.ndarray:
    """Pixels [SIDE, SIDE] within ``size`` / 2 of a line through points [N, 2] (x, y) in pixels."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    nearest = np.full((SIDE, SIDE), np.inf)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        along = np.clip(
            ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2), 0, 1
        )
        nearest = np.minimum(
            nearest, np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0))
        )
    return nearest < size / 2


def kept(folder: Path) -> set[Path]:
    """Files of collections and batches."""
    return {p for part in ("collections", "batches") for p in (folder / part).rglob("*") if p.is_file()}


def served(photo: np.ndarray, since: float) -> list[Path]:
    """Files in visitors' folders that hold ``photo``, recognised by its corner: pictures and ZIPs that were written after ``since``."""
    found = []
    for path in folder._place().rglob("*.*"):
        if path.suffix == ".zip" and path.stat().st_mtime > since:
            with zipfile.ZipFile(path) as archive:
                pictures = [
                    io.BytesIO(archive.read(name))
                    for name in archive.namelist()
                    if name.startswith("images/")
                ]
        else:
            pictures = [path] if path.suffix in (".png", ".jpg") and path.stat().st_mtime > since else []
        for picture in pictures:
            with Image.open(picture) as image:
                if min(image.size) >= 8 and (np.asarray(image.convert("RGB"))[:8, :8] == photo[:8, :8]).all():
                    found.append(path)
    return found


def sampled_mask(studio, page) -> np.ndarray:
    generate(page)
    return studio.worker.requests[-1].masks[0]


@pytest.mark.parametrize("ratio", [1, 2, 3])
def test_a_mask_of_single_pixels_comes_through_exactly(studio, visit, tmp_path, ratio):
    mask = (np.random.default_rng(ratio).random((SIDE, SIDE)) < 0.3).astype(np.uint8) * 255
    (tmp_path / "mask.png").write_bytes(mask_png(mask))
    page = visit(studio.address, ratio=ratio)
    with changing(page):
        open_file(page, tmp_path / "mask.png")
    np.testing.assert_array_equal(sampled_mask(studio, page), mask)
    page.get_by_role("button", name="Flip left and right").click()
    np.testing.assert_array_equal(sampled_mask(studio, page), flip(mask, "horizontal"))


@pytest.mark.parametrize(("ratio", "touch"), [(1, False), (2, True), (3, False)])
def test_a_stroke_is_where_the_pointer_went(studio, visit, ratio, touch):
    page = visit(studio.address, **(PHONE if touch else {}) | {"ratio": ratio})
    clear(page)
    points = [(0.4, 0.4), (0.55, 0.5), (0.5, 0.6)]
    touch_draw(page, points) if touch else draw(page, points)
    expected = discs(np.array(points) * SIDE, BRUSH)
    drawn = mask_of(page)
    mask = sampled_mask(studio, page) > 0
    assert mask.shape == (SIDE, SIDE)
    np.testing.assert_array_equal(mask, drawn > 0, "bit for bit as drawn")
    overlap = 2 * (mask & expected).sum() / (mask.sum() + expected.sum())
    assert overlap > 0.97, f"Dice {overlap:.3f} with the stroke that was made"


def test_the_drawing_is_sent_once_a_press_and_not_while_the_model_samples(studio, visit):
    page = visit(studio.address)
    with page.expect_response(lambda r: "/gradio_api/" in r.url and '"bits"' in (r.request.post_data or "")):
        draw(page)  # what is drawn is told the server, too, for the line below the image
    sent = []
    page.on(
        "request",
        lambda r: sent.append(r.url) if r.method == "POST" and '"bits"' in (r.post_data or "") else None,
    )
    generate(page, steps=12)
    assert len(sent) == 1


def test_random_lesions_differ_and_can_be_undone(studio, visit):
    page = visit(studio.address)
    masks = [mask_of(page)]
    for _ in range(2):
        with changing(page):
            page.get_by_role("button", name="Random lesion").click()
        masks.append(mask_of(page))
    assert len({mask.tobytes() for mask in masks}) == 3
    for mask in (masks[1], masks[0]):
        page.get_by_test_id("undo").click()
        np.testing.assert_array_equal(mask_of(page), mask)
    expect(page.get_by_test_id("undo")).to_be_disabled()


class TestFiles:
    def test_an_image_made_here_restores_mask_and_settings(self, studio, visit, tmp_path):
        pair = make_pair()
        (tmp_path / "pair.png").write_bytes(pair_png(pair))
        page = visit(studio.address)
        with changing(page):
            open_file(page, tmp_path / "pair.png")
        expect(page.locator("#note")).to_contain_text("restored")
        open_settings(page)
        expect(page.get_by_label("Seed", exact=True)).to_have_value(str(pair.recipe.seed))
        expect(page.get_by_label("Steps")).to_have_value(str(pair.recipe.settings.num_inference_steps))
        np.testing.assert_array_equal(sampled_mask(studio, page), pair.drawn)

    def test_photo_is_traced_used_as_reference_and_exported(self, studio, visit, tmp_path):
        photo = np.full((300, 400, 3), (200, 120, 90), np.uint8)
        photo[100:200, 150:300] = (120, 40, 30)
        photo += np.random.default_rng().integers(
            0, 6, photo.shape, np.uint8
        )  # flat tones would be a label map; no other run's
        Image.fromarray(photo).save(tmp_path / "photo.png")
        began = time.time()
        page = visit(studio.address)
        before = kept(studio.data)
        with changing(page):
            open_file(page, tmp_path / "photo.png")
        expect(page.locator("#photo")).to_be_visible()
        page.get_by_role("button", name="Suggest mask").click()
        expect(page.locator("#note")).to_contain_text(
            re.compile("A suggestion|No lesion was found"), timeout=PATIENCE
        )
        draw(page)
        page.get_by_label("Use the photo as reference").check()
        mask = sampled_mask(studio, page)
        assert mask.shape == (300, 400), "the drawing has the photo's size"
        request = studio.worker.requests[-1]
        assert np.abs(request.reference.astype(int) - photo).mean() < 5
        expect(page.locator("#compare")).to_be_visible()
        with page.expect_download() as download:
            page.get_by_role("button", name="Export annotation").click()
        assert download.value.suggested_filename.endswith(".zip")
        assert served(photo, began), "else what follows finds nothing anyway"
        page.get_by_role("button", name="Remove photo").click()
        expect(page.locator("#photo")).not_to_be_visible()
        expect(page.locator("#compare")).not_to_be_visible()
        expect(page.locator("#outdated")).to_contain_text("changed")
        assert served(photo, began) == []
        assert kept(studio.data) == before, "nothing of a photo is written outside the temporary area"

    def test_bad_files_are_a_message_and_the_page_lives_on(self, studio, visit, tmp_path):
        whole = mask_png(np.random.default_rng(0).integers(0, 2, (64, 64), np.uint8) * 255)
        (tmp_path / "broken.png").write_bytes(whole[: len(whole) // 2])
        (tmp_path / "text.txt").write_text("hello")
        page = visit(studio.address)
        for name, words in (("broken.png", "damaged"), ("text.txt", "not an image")):
            open_file(page, tmp_path / name)
            expect(page.locator("#note [role=alert]")).to_contain_text(words)
        generate(page)
        expect(page.locator("#message .done")).to_be_visible()

    def test_a_file_dropped_anywhere_reaches_the_drop_zone(self, studio, visit):
        page = visit(studio.address)
        handle = page.evaluate_handle("""() => { const data = new DataTransfer();
            data.items.add(new File([new Uint8Array([1, 2, 3])], 'x.png', {type: 'image/png'})); return data; }""")
        page.dispatch_event("h1", "drop", {"dataTransfer": handle})
        expect(page.locator("#note [role=alert]")).to_be_visible()
