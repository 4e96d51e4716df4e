"""A photo with burned-in text is said to have it, before it is exported or becomes a reference."""

from __future__ import annotations

from PIL import Image
from playwright.sync_api import expect

from siamese.records.burned_in_text import find_text
from tests.browser.actions import open_file
from tests.browser.conftest import PATIENCE
from tests.overlays import overlay
from tests.phantoms import phantom

SMALL = 37
"""Seed of a phantom of 230 x 256 pixels with a date."""


def test_warning_stays_with_the_photo(studio, visit, tmp_path):
    image = overlay(SMALL)[0]
    assert find_text(image)  # loads the detector, so that the page waits for the photo alone
    Image.fromarray(image).save(tmp_path / "dated.png")
    Image.fromarray(phantom(2001, 64, 64)[0]).save(tmp_path / "clean.png")
    page = visit(studio.address)
    beside_export, beside_reference = (
        page.locator("#photo [role=alert]"),
        page.locator("#reference [role=alert]"),
    )
    open_file(page, tmp_path / "dated.png")
    for place in (beside_export, beside_reference):
        expect(place).to_contain_text(
            "burned-in text (upper left), which may name a patient.", timeout=2 * PATIENCE
        )
        expect(place).to_contain_text("the exported annotation shows the text")
    expect(page.get_by_role("button", name="Export annotation")).to_be_enabled()  # the visitor can go on
    open_file(page, tmp_path / "clean.png")
    expect(page.locator("#text-warning-0")).to_be_empty(timeout=2 * PATIENCE)
    expect(beside_export).to_have_count(0)
    expect(page.get_by_role("button", name="Export annotation")).to_be_visible()
