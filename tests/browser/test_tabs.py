"""Collection, batch and models tabs, and accessibility of all of them."""

from __future__ import annotations

import io
import json
import re
import zipfile

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from siamese.records.catalogue import find_models
from siamese.records.provenance import mask_png, read_png
from tests.browser.actions import generate, open_settings, tab
from tests.browser.conftest import PATIENCE, PHONE, ready
from tests.studio_model import quick_model


def download(page, name: str) -> zipfile.ZipFile:
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    with open(download.value.path(), "rb") as file:
        return zipfile.ZipFile(io.BytesIO(file.read()))


class TestCollection:
    def test_keep_reload_download_delete(self, studio, visit):
        page = visit(studio.address)
        generate(page)
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.locator("#result-note")).to_contain_text("1 pair")
        page.reload()
        ready(page)
        tab(page, "Collection")
        expect(page.locator("#collection img")).to_have_count(1)
        expect(page.locator("#collection-summary")).to_contain_text("7 days")
        archive = download(page, "Download all")
        lines = archive.read("manifest.jsonl").decode().splitlines()
        assert len(lines) == 1
        assert json.loads(lines[0])["seed"] == studio.worker.requests[-1].seeds[0]
        pair = read_png(
            archive.read(
                next(n for n in archive.namelist() if n.startswith("images/") and n.endswith(".png"))
            )
        )
        np.testing.assert_array_equal(pair.drawn, studio.worker.requests[-1].masks[0])
        page.get_by_role("button", name="Delete everything").click()
        page.get_by_role("button", name="Yes, delete everything").click()
        expect(page.locator("#collection img")).to_have_count(0)
        expect(page.locator("#collection-summary")).to_contain_text("Nothing is kept yet")

    def test_survives_a_restart_and_is_the_visitors_own(self, serve, visit, tmp_path):
        models = find_models(str(quick_model(tmp_path / "model")), None)
        first = serve(models, tmp_path / "data")
        serving = next(first)
        page = visit(serving.address)
        generate(page)
        page.get_by_role("button", name="Keep", exact=True).click()
        expect(page.locator("#result-note")).to_contain_text("1 pair")
        other = visit(serving.address)
        tab(other, "Collection")
        expect(other.locator("#collection-summary")).to_contain_text("Nothing is kept yet")
        page.close(), other.close()  # a page whose server is gone complains of it
        next(first, None)
        second = serve(models, tmp_path / "data")
        serving = next(second)
        try:
            again = page.context.new_page()  # a cookie is the same on every port
            again.goto(serving.address)
            ready(again)
            tab(again, "Collection")
            expect(again.locator("#collection img")).to_have_count(1)
            again.close()
        finally:
            next(second, None)

    def test_two_windows_have_one_collection(self, studio, visit):
        one = visit(studio.address)
        two = one.context.new_page()
        two.goto(studio.address)
        ready(two)
        for number, page in enumerate((one, two), 1):
            page.bring_to_front()
            generate(page)
            page.get_by_role("button", name="Keep", exact=True).click()
            expect(page.locator("#result-note")).to_contain_text(f"{number} pair")

    def test_remove_one(self, studio, visit):
        page = visit(studio.address)
        for number in (1, 2):
            generate(page)
            page.get_by_role("button", name="Keep", exact=True).click()
            expect(page.locator("#result-note")).to_contain_text(f"holds {number} pair")
        tab(page, "Collection")
        page.locator("#collection button:has(img)").first.click()
        page.get_by_role("button", name="Remove selected").click()
        expect(page.locator("#collection img")).to_have_count(1)


class TestBatch:
    def test_zip_of_masks_with_cancel_and_resume(self, studio, visit, tmp_path):
        with zipfile.ZipFile(tmp_path / "masks.zip", "w") as archive:
            for i in range(12):
                mask = np.zeros((64, 64), np.uint8)
                mask[10 : 30 + i, 20:50] = 255
                archive.writestr(f"some/mask-{i}.png", mask_png(mask))
        page = visit(studio.address)
        tab(page, "Batch")
        page.get_by_label("Masks in a ZIP", exact=True).check()
        page.locator("#batch-file input[type=file]").set_input_files(str(tmp_path / "masks.zip"))
        expect(page.locator("#batch-file")).to_contain_text(
            re.compile(r"masks\s*\.zip")
        )  # Gradio may part the name from its ending
        page.locator("#batch-start").click()
        expect(page.locator("#batch-message")).to_contain_text(
            re.compile("[48] of 12 pairs"), timeout=PATIENCE
        )
        page.locator("#batch-cancel").click()
        expect(page.locator("#batch-message")).to_contain_text(
            re.compile(r"Stopped after (4|8) of 12"), timeout=PATIENCE
        )
        page.locator("#batch-resume").click()
        expect(page.locator("#batch-message .done")).to_contain_text(
            "All 12 pairs are made", timeout=4 * PATIENCE
        )
        archive = download(page, "Download pairs")
        assert sorted(
            n for n in archive.namelist() if n.startswith("images/") and n.endswith(".png")
        ) == sorted(f"images/mask-{i}.png" for i in range(12))

    def test_random_lesions_and_bad_numbers(self, studio, visit):
        page = visit(studio.address)
        tab(page, "Batch")
        page.locator("#batch-count input").fill("1000")
        page.locator("#batch-count input").blur()
        page.wait_for_timeout(500)
        page.locator("#batch-start").click()
        expect(page.locator("#batch-message .error")).to_contain_text("from 1 to 200")
        page.locator("#batch-count input").fill("2")
        page.locator("#batch-count input").blur()
        page.wait_for_timeout(500)
        page.locator("#batch-start").click()
        expect(page.locator("#batch-message .done")).to_contain_text("All 2 pairs are made", timeout=PATIENCE)

    def test_a_zip_without_masks_is_a_message(self, studio, visit, tmp_path):
        with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
            archive.writestr("a.png", b"no image")
        page = visit(studio.address)
        tab(page, "Batch")
        page.get_by_label("Masks in a ZIP", exact=True).check()
        page.locator("#batch-file input[type=file]").set_input_files(str(tmp_path / "wrong.zip"))
        expect(page.locator("#batch-file")).to_contain_text(re.compile(r"wrong\s*\.zip"))
        page.locator("#batch-start").click()
        expect(page.locator("#batch-message .error")).to_contain_text("a.png", timeout=PATIENCE)


def test_models_show_card_licence_and_figures(studio, visit):
    page = visit(studio.address)
    tab(page, "Models")
    entry = studio.worker.models[studio.worker.default]
    expect(page.locator("#model-choice")).to_contain_text(entry.name)
    expect(page.locator("#card")).to_be_visible()
    page.get_by_role("button", name="Licence").click()
    expect(page.get_by_label("Licence of the weights")).to_be_visible()


@pytest.mark.parametrize(
    "window",
    [{"width": 1440, "height": 900}, {"width": 1440, "height": 900, "dark": True}, PHONE],
    ids=["desktop", "dark", "phone"],
)
def test_accessible_by_wcag_aa(studio, visit, window):
    page = visit(studio.address, **window)
    if window.get("dark"):
        assert page.evaluate("document.body.classList.contains('dark')"), (
            "the page follows the system's dark mode"
        )
    generate(page)
    open_settings(page)
    found = {}
    for name in ("Studio", "Batch", "Collection", "Models"):
        tab(page, name)
        report = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).response
        found[name] = [
            (v["id"], [(n["target"], n["failureSummary"]) for n in v["nodes"]][:4])
            for v in report["violations"]
        ]
    assert found == {name: [] for name in found}


def test_keyboard_reaches_the_primary_action(studio, visit):
    page = visit(studio.address)
    for _ in range(80):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id === 'generate'"):
            break
    else:
        pytest.fail("Generate is not reached with the Tab key")
    page.keyboard.press("Enter")
    expect(page.locator("#message")).to_contain_text(re.compile("Waiting|Step|Loading|Done"))
