"""The page in headless Chromium: what a visitor draws, presses and sees."""
from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, expect, sync_playwright

from siamese.interface.canvas import SIDE
from siamese.interface.example import FIRST_VISIT, example_mask
from siamese.interface.server import launch
from siamese.interface.worker import Generated, ModelWorker, Request, Step
from tests.studio_model import model_folder

pytestmark = pytest.mark.browser
# WebGL without a GPU: the editor draws with it.
ARGUMENTS = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
             "--disable-background-networking", "--disable-quic", "--no-first-run"]
PATIENCE = 60_000
"""Milliseconds; a busy machine loads the model and samples within."""


class RecordingWorker(ModelWorker):
    """Keeps the requests that reach the model."""

    def __init__(self, source: str) -> None:
        super().__init__(source)
        self.requests: list[Request] = []

    def sample(self, request: Request) -> Iterator[Step | Generated]:
        self.requests.append(request)
        return super().sample(request)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        system = shutil.which("chromium")
        if system is None and not Path(playwright.chromium.executable_path).is_file():
            # A laptop may lack it; continuous integration installs it, and there a skip would hide a broken page.
            (pytest.fail if os.environ.get("CI") else pytest.skip)("no Chromium; run: playwright install chromium")
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


def serve(worker: RecordingWorker):
    page, address = launch(worker, "127.0.0.1")
    yield worker, address
    page.close()
    worker.close()


@pytest.fixture(scope="module")
def studio(tmp_path_factory, browser):
    yield from serve(RecordingWorker(str(model_folder(tmp_path_factory.mktemp("model")))))


@pytest.fixture
def visit(browser: Browser):
    """Opens a page as a new visitor; fails the test where the page asks another host for anything or throws."""
    contexts, foreign, errors = [], [], []

    def open_page(address: str, width: int = 1440, height: int = 900) -> Page:
        context = browser.new_context(viewport={"width": width, "height": height})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else foreign.append(r.url))
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(address)
        page.wait_for_selector("#canvas canvas")
        expect(page.locator("#canvas .zoom-number")).to_contain_text("%", timeout=PATIENCE)
        page.wait_for_timeout(1000)  # the editor puts the example on its canvas
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not foreign and not errors


def generate(page: Page, steps: int = 2) -> None:
    """Press Generate with few steps and wait for the outcome."""
    if not page.get_by_label("Steps").is_visible():
        page.get_by_role("button", name="Advanced").click()
        page.get_by_label("Use the model's defaults").uncheck()
    page.get_by_label("Steps").fill(str(steps))
    page.evaluate("document.querySelector('#message .status').dataset.before = ''")
    page.get_by_role("button", name="Generate").click()
    outcome = page.locator("#message .status:not([data-before])").and_(page.locator(".done, .error"))
    expect(outcome).to_be_visible(timeout=PATIENCE)


def draw(page: Page) -> None:
    """A horizontal stroke through the middle of the canvas, a third of it long."""
    page.get_by_role("button", name="Brush", exact=True).click()
    box = page.locator("#canvas .pixi-target canvas").bounding_box()
    x, y, reach = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, box["width"] / 6
    page.mouse.move(x - reach, y)
    page.mouse.down()
    page.mouse.move(x, y, steps=8)
    page.mouse.move(x + reach, y, steps=8)
    page.mouse.up()
    page.wait_for_timeout(500)  # the editor sends its layers after a pause


def test_first_visit_samples_the_example_exactly(studio, visit):
    worker, address = studio
    page = visit(address)
    expect(page.get_by_text("Research use. Images are synthetic. Not for diagnosis.")).to_be_visible()
    expect(page.locator("#model .ready")).to_be_visible(timeout=PATIENCE)
    generate(page)
    image = page.locator("#image img")
    expect(image).to_be_visible()
    page.wait_for_function("document.querySelector('#image img').naturalWidth > 0")
    np.testing.assert_array_equal(worker.requests[-1].mask, example_mask(FIRST_VISIT, SIDE))
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(worker.requests[-1].seed))
    expect(page.locator("#caption")).to_contain_text(f"Seed {worker.requests[-1].seed}")


def test_draw_generate_outline_download(studio, visit, tmp_path):
    worker, address = studio
    page = visit(address)
    page.get_by_role("button", name="Clear", exact=True).click()
    page.wait_for_timeout(1000)
    before = len(worker.requests)
    generate(page)
    expect(page.locator("#message [role=alert]")).to_contain_text("Draw a lesion first")
    assert len(worker.requests) == before

    draw(page)
    page.get_by_label("Dermoscopy skin lesion").check()
    page.get_by_label("Random seed").uncheck()
    page.get_by_label("Seed", exact=True).fill("77")
    generate(page)
    request = worker.requests[-1]
    assert (request.seed, request.prompt, request.steps) == (77, "a dermoscopy image of a skin lesion", 2)
    mask = request.mask > 0
    assert mask.shape == (SIDE, SIDE)
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    assert mask[SIDE // 2, SIDE // 2], "the stroke went through the middle"
    assert len(columns) > 2 * len(rows) > 20, "and was long and thin"
    assert abs(columns.mean() - SIDE / 2) < 8 and abs(rows.mean() - SIDE / 2) < 8

    image = page.locator("#image img")
    outlined = image.get_attribute("src")
    page.get_by_label("Show outline").uncheck()
    expect(image).not_to_have_attribute("src", outlined)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    download.value.save_as(tmp_path / "image.png")
    with Image.open(tmp_path / "image.png") as saved:
        assert saved.text["Synthetic"] == "true" and saved.text["Seed"] == "77" and saved.text["Prompt"] == request.prompt
        assert saved.mode == "RGB" and saved.width == saved.height


def test_visitors_do_not_see_each_other(studio, visit):
    worker, address = studio
    first, second = visit(address), visit(address)
    second.get_by_role("button", name="Clear", exact=True).click()
    generate(first)
    expect(first.locator("#image img")).to_be_visible()
    expect(second.locator("#image img")).to_have_count(0)
    expect(second.locator("#message .idle")).to_be_visible()
    second.get_by_label("Show outline").uncheck()
    second.wait_for_timeout(1000)
    expect(second.locator("#image img")).to_have_count(0)


@pytest.mark.parametrize("width, height", [(390, 844), (820, 1180), (1440, 900)])
def test_fits_the_window_and_does_not_jump(studio, visit, width, height):
    _, address = studio
    page = visit(address, width, height)
    places = "['#canvas', '#generate', '#image', '#download'].map(s => { const r = document.querySelector(s).getBoundingClientRect();" \
             " return [r.left, r.top + scrollY, r.width] })"
    expect(page.locator("#model .ready")).to_be_visible(timeout=PATIENCE)
    before = page.evaluate(places)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(left >= 0 and left + wide <= width for left, _, wide in before)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#message .done")).to_be_visible(timeout=PATIENCE)
    expect(page.locator("#image img")).to_be_visible()
    assert page.evaluate(places) == before
    image = page.locator("#image").bounding_box()
    assert image["y"] < height, "the image is in view once it is there"


def test_without_a_model_the_page_says_what_to_do(browser, visit, tmp_path):
    serving = serve(RecordingWorker(str(tmp_path / "absent")))
    _, address = next(serving)
    try:
        page = visit(address)
        expect(page.locator("#model .error")).to_contain_text("--model", timeout=PATIENCE)
        generate(page)
        expect(page.locator("#message .error")).to_contain_text("could not be loaded")
        (tmp_path / "absent").symlink_to(model_folder(tmp_path))
        generate(page)
        expect(page.locator("#message .done")).to_be_visible()
        expect(page.locator("#model .ready")).to_be_visible()
    finally:
        next(serving, None)
