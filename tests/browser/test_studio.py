"""Draw, generate, look: the studio tab in headless Chromium."""

from __future__ import annotations

import errno
import re
import threading

import numpy as np
import pytest
from gradio import processing_utils
from PIL import Image
from playwright.sync_api import expect

from siamese.records.catalogue import describe
from siamese.records.prompts import LESION
from siamese.records.provenance import read_png
from siamese.studio.backend.messages import Request
from siamese.studio.components.canvas import SIDE
from tests.browser.actions import (
    Fingers,
    changing,
    clear,
    draw,
    generate,
    open_settings,
    outcome,
    press,
    set_steps,
)
from tests.browser.conftest import PATIENCE, PHONE
from tests.studio.stand_in_model import StandIn
from tests.studio_model import quick_model


def test_first_visit_samples_the_example_exactly(studio, visit):
    page = visit(studio.address)
    expect(page.get_by_text("Research use. Images are synthetic. Not for diagnosis.")).to_be_visible()
    expect(page.locator("#model .ready")).to_be_visible(timeout=PATIENCE)
    open_settings(page)
    generate(page)
    page.wait_for_function("document.querySelector('#image img').naturalWidth > 0")
    request = studio.worker.requests[-1]
    assert request.masks[0].shape == (SIDE, SIDE)
    assert request.masks[0].any()
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(request.seeds[0]))
    expect(page.locator("#caption")).to_contain_text(f"Seed {request.seeds[0]}")


def test_draw_generate_outline_download(studio, visit, tmp_path):
    page = visit(studio.address)
    clear(page)
    before = len(studio.worker.requests)
    generate(page)
    expect(page.locator("#message [role=alert]")).to_contain_text("Draw a lesion first")
    assert len(studio.worker.requests) == before

    draw(page)
    page.get_by_label("Dermoscopy skin lesion").first.check()
    open_settings(page)
    page.get_by_label("Random seed").first.uncheck()
    page.get_by_label("Seed", exact=True).fill("77")
    generate(page, steps=3)
    request = studio.worker.requests[-1]
    assert (request.seeds, request.prompt, request.overrides["num_inference_steps"]) == ((77,), LESION, 3)

    image = page.locator("#image img").first
    outlined = image.get_attribute("src")
    page.get_by_label("Show outline").uncheck()
    expect(image).not_to_have_attribute("src", outlined)
    with page.expect_download() as download:
        page.get_by_role("button", name="Download PNG").click()
    download.value.save_as(tmp_path / "image.png")
    pair = read_png((tmp_path / "image.png").read_bytes())
    assert (pair.recipe.seed, pair.recipe.prompt, pair.recipe.settings.num_inference_steps) == (77, LESION, 3)
    np.testing.assert_array_equal(pair.drawn, request.masks[0])


def test_variants_select_use_this_seed_and_more(studio, visit):
    page = visit(studio.address)
    page.locator("#variants input[type=number]").fill("3")
    page.locator("#variants input[type=number]").blur()
    generate(page)
    request = studio.worker.requests[-1]
    assert len(request.seeds) == 3
    expect(page.locator("#image img")).to_have_count(3)
    page.locator("#image button:has(img)").nth(2).click()
    expect(page.locator("#caption")).to_contain_text(f"Image 3 of 3 · Seed {request.seeds[2]}")
    open_settings(page)
    page.get_by_role("button", name="Use this seed").click()
    expect(page.get_by_label("Seed", exact=True)).to_have_value(str(request.seeds[2]))
    expect(page.get_by_label("Random seed").first).not_to_be_checked()
    press(page, "More of this")
    expect(outcome(page)).to_be_visible(timeout=PATIENCE)
    more: Request = studio.worker.requests[-1]
    assert more.reference is not None
    assert len(more.seeds) == 4
    assert more.overrides["num_inference_steps"] == 2
    np.testing.assert_array_equal(more.masks[0], request.masks[0])
    expect(page.locator("#image img")).to_have_count(4)
    expect(page.locator("#compare")).to_be_visible()


def test_the_framed_image_is_captioned_kept_and_downloaded(studio, visit, tmp_path, monkeypatch):
    model = StandIn()
    monkeypatch.setattr(studio.worker, "sample", model.sample)
    page = visit(studio.address)
    frame, caption = page.locator("#image .thumbnail-item.selected"), page.locator("#caption")
    expect(frame).to_have_count(1)
    page.locator("#variants input[type=number]").fill("4")
    page.locator("#variants input[type=number]").blur()
    generate(page)
    page.locator("#image button:has(img)").nth(3).click()
    expect(caption).to_contain_text("Image 4 of 4")
    model.seconds = 60
    press(page)
    expect(caption).to_contain_text("4 previews", timeout=PATIENCE)
    expect(frame).to_have_count(0)
    expect(page.locator("#keep")).to_be_disabled()
    page.locator("#image button:has(img)").nth(3).click()
    page.get_by_role("button", name="Cancel", exact=True).first.click()
    expect(page.locator("#message")).to_contain_text("Cancelled.")
    expect(caption).to_contain_text("Image 4 of 4")
    expect(frame).to_have_attribute("aria-label", "Thumbnail 4 of 4")

    model.seconds = 0
    open_settings(page)
    generate(page)
    seed = int(page.get_by_label("Seed", exact=True).input_value())
    expect(caption).to_contain_text(f"Image 1 of 4 · Seed {seed}")
    expect(frame).to_have_attribute("aria-label", "Thumbnail 1 of 4")
    page.get_by_label("Show outline").uncheck()
    expect(frame).to_have_attribute("aria-label", "Thumbnail 1 of 4")
    before = set((studio.data / "collections").rglob("*.png"))
    page.locator("#keep").click()
    expect(page.locator("#result-note")).to_contain_text("Kept.")
    (kept,) = set((studio.data / "collections").rglob("*.png")) - before
    with page.expect_download() as download:
        page.locator("#download").click()
    download.value.save_as(tmp_path / "image.png")
    assert [read_png(path.read_bytes()).recipe.seed for path in (kept, tmp_path / "image.png")] == [seed] * 2

    outdated = page.locator("#outdated")
    expect(outdated).not_to_contain_text("changed")
    draw(page)
    expect(outdated).to_contain_text("The mask has changed since this image was made.")
    page.get_by_test_id("undo").click()
    expect(outdated).not_to_contain_text("changed")


@pytest.mark.parametrize("what", ["the drawing cannot be sent", "the images cannot be stored"])
def test_a_failure_around_generate_is_a_message_and_the_button_comes_back(studio, visit, monkeypatch, what):
    monkeypatch.setattr(studio.worker, "sample", StandIn().sample)
    page = visit(studio.address)
    with monkeypatch.context() as patch:
        if what == "the drawing cannot be sent":
            page.route(
                re.compile("/gradio_api/queue/join"), lambda route: route.fulfill(status=500, body="full")
            )
        else:

            def refuse(*_, **__):
                raise OSError(errno.ENOSPC, "No space left on device")

            patch.setattr(processing_utils, "save_pil_to_cache", refuse)
        generate(page)
        expect(page.locator("#message .error")).to_contain_text("your request failed")
        expect(page.locator("#generate")).to_be_enabled()
        expect(page.locator("#cancel")).to_be_disabled()
    page.unroute_all()
    generate(page)
    expect(page.locator("#message .done")).to_be_visible()


@pytest.mark.parametrize("entered", ["before", "just after"])
def test_settings_entered_while_the_model_loads_stay(entered, studio, visit, monkeypatch):
    loaded, info = threading.Event(), studio.worker.info

    def slow(model, **options):
        loaded.wait()
        return info(model, **options)

    monkeypatch.setattr(studio.worker, "info", slow)
    page = visit(studio.address)
    if entered == "before":
        set_steps(page, 3)
    held = []
    page.route(
        lambda url: "/gradio_api/run/" in url, lambda route: held.append(route)
    )  # a slow network: short questions from now on wait
    expect(page.locator("#model .busy")).to_be_visible()
    loaded.set()
    expect(page.locator("#model .ready")).to_be_visible()
    if entered == "just after":
        set_steps(page, 3)
    for route in held:
        route.continue_()
    page.unroute_all()
    page.wait_for_timeout(500)
    expect(page.get_by_label("Steps")).to_have_value("3")
    page.get_by_label("Use the model's defaults").check()
    expect(page.get_by_label("Steps")).to_have_value(str(info().settings.num_inference_steps))
    set_steps(page, 5)
    expect(page.get_by_label("Use the model's defaults")).not_to_be_checked()


def test_cancel(studio, visit):
    page = visit(studio.address)
    expect(page.locator("#model .ready")).to_be_visible(timeout=PATIENCE)
    set_steps(page, 100)
    press(page)
    expect(page.locator("#message")).to_contain_text(re.compile("Step [1-9]"), timeout=PATIENCE)
    expect(page.locator("#message")).to_contain_text(" left")
    page.get_by_role("button", name="Cancel", exact=True).first.click()
    expect(page.locator("#message")).to_contain_text("Cancelled.", timeout=5000)
    expect(page.locator("#generate")).to_be_enabled()
    generate(page, steps=2)
    expect(page.locator("#message .done")).to_be_visible()


def test_second_visitor_sees_who_is_before_them_and_nothing_else(studio, visit):
    first, second = visit(studio.address), visit(studio.address)
    clear(second)
    draw(second)
    set_steps(first, 100)
    first.locator("#variants input[type=number]").fill("8")  # long enough for the second to press meanwhile
    first.locator("#variants input[type=number]").blur()
    images = second.locator("#image img").count()
    press(first)
    expect(first.locator("#message")).to_contain_text(re.compile("Step [1-9]"), timeout=PATIENCE)
    press(second)
    expect(second.locator("#message")).to_contain_text("1 before you.")
    assert second.locator("#image img").count() == images
    first.get_by_role("button", name="Cancel", exact=True).first.click()
    expect(outcome(second)).to_be_visible(timeout=PATIENCE)
    assert (studio.worker.requests[-1].masks[0] != studio.worker.requests[-2].masks[0]).any()
    expect(first.locator("#message")).to_contain_text("Cancelled.")


@pytest.mark.parametrize(("width", "height"), [(390, 844), (820, 1180), (1440, 900)])
def test_fits_the_window_and_does_not_jump(studio, visit, width, height):
    page = visit(studio.address, width, height)
    # On a phone Generate stands at the window's lower edge, wherever the page is.
    names = "'#canvas', '#image', '#download'" + ("" if width < 700 else ", '#generate'")
    places = (
        f"[{names}].map(s => {{ const r = document.querySelector(s).getBoundingClientRect();"
        " return [r.left, r.top + scrollY, r.width] })"
    )
    expect(page.locator("#model .ready")).to_be_visible(timeout=PATIENCE)
    set_steps(page, 12)
    before = page.evaluate(places)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert all(left >= 0 and left + wide <= width for left, _, wide in before)
    press(page)
    seen = []
    while not outcome(page).is_visible():
        seen.append(page.evaluate(places))
        page.wait_for_timeout(100)
    expect(page.locator("#image img").first).to_be_visible()
    seen.append(page.evaluate(places))
    jumps = [place for place in seen if place != before]
    assert not jumps, f"{before} became {jumps[0]}"
    # The images come into view once they are there.
    place = ".stage" if width < 700 else "#image"
    page.wait_for_function(
        "place => document.querySelector(place).getBoundingClientRect().top < innerHeight - 100", arg=place
    )


def test_whole_flow_on_a_phone(studio, visit):
    page = visit(studio.address, **PHONE)
    with changing(page):
        page.get_by_role("button", name="Random lesion").tap()
    generate(page)
    blend = page.get_by_test_id("blend")
    expect(blend).to_have_value("100")  # the image is shown in the drawing's place
    Fingers(page).stroke([(0.1, 0.1), (0.3, 0.1), (0.3, 0.3)])
    expect(blend).to_have_value("30")  # and the drawing again while one draws
    page.get_by_role("button", name="Keep", exact=True).tap()
    expect(page.locator("#result-note")).to_contain_text("Kept. Your collection holds 1 pair.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_without_a_model_the_page_says_what_to_do(serve, visit, tmp_path):
    serving = serve([describe(str(tmp_path / "absent"))], tmp_path / "data")
    broken = next(serving)
    try:
        page = visit(broken.address)
        expect(page.locator("#model .error")).to_contain_text("--model", timeout=PATIENCE)
        generate(page)
        expect(page.locator("#message .error")).to_contain_text("could not be loaded")
        (tmp_path / "absent").symlink_to(quick_model(tmp_path))
        generate(page)
        expect(page.locator("#message .done")).to_be_visible()
        expect(page.locator("#model .ready")).to_be_visible()
        page.close()  # a page whose server is gone complains of it
    finally:
        next(serving, None)


def test_shown_images_say_that_they_are_synthetic(studio, visit, tmp_path):
    page = visit(studio.address)
    generate(page)
    source = page.locator("#image img").first.get_attribute("src")
    (tmp_path / "shown.png").write_bytes(page.request.get(source).body())
    with Image.open(tmp_path / "shown.png") as image:
        assert image.text["Synthetic"] == "true"
