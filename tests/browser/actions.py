"""What a visitor does on the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
from playwright.sync_api import Locator, Page, expect

from siamese.masks.packed import unpack
from tests.browser.conftest import PATIENCE


def open_settings(page: Page) -> None:
    """Open the drawer of expert settings."""
    if not page.get_by_label("Steps").is_visible():
        page.get_by_role("button", name="Expert settings").click()
        page.wait_for_timeout(1000)  # Gradio makes its fields now, and gives them their values a moment later


def set_steps(page: Page, steps: int) -> None:
    """Set the number of steps in the expert settings."""
    open_settings(page)
    page.get_by_label("Steps").fill(str(steps))
    page.get_by_label("Steps").blur()


def outcome(page: Page) -> Locator:
    """The status once a press has ended."""
    return page.locator("#message .status:not([data-before])").and_(page.locator(".done, .error"))


def press(page: Page, button: str = "Generate") -> None:
    """Press a button that samples; returns at once."""
    page.evaluate("document.querySelector('#message .status').dataset.before = ''")
    page.get_by_role("button", name=button, exact=True).click()


def generate(page: Page, steps: int | None = None) -> None:
    """Press Generate and wait for the outcome; if ``steps`` is None in as many as are set, at first the model's few."""
    if steps is not None:
        set_steps(page, steps)
    press(page)
    expect(outcome(page)).to_be_visible(timeout=PATIENCE)


@contextmanager
def changing(page: Page) -> Iterator[None]:
    """Wait until the mask has changed, by the visitor or by the server."""
    before = page.locator(".drawing").get_attribute("data-changes")
    yield
    page.wait_for_function(
        "before => (document.querySelector('.drawing').dataset.changes ?? null) !== before", arg=before
    )


def canvas_point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Page coordinates of a point of the drawing area given in shares of its sides."""
    box = page.get_by_test_id("canvas").bounding_box()
    return box["x"] + box["width"] * x, box["y"] + box["height"] * y


def draw(
    page: Page,
    points: Sequence[tuple[float, float]] = ((1 / 3, 0.5), (0.5, 0.5), (2 / 3, 0.5)),
    tool: str = "brush",
) -> None:
    """A stroke through points in shares of the drawing area; the default is horizontal through the middle, a third of it long."""
    page.get_by_test_id(f"tool-{tool}").click()
    drag(page, points)


def drag(page: Page, points: Sequence[tuple[float, float]]) -> None:
    """The stroke alone, with the tool that is chosen."""
    page.mouse.move(*canvas_point(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*canvas_point(page, *point), steps=8)
    page.mouse.up()


class Fingers:
    """Touches, by the browser's own protocol."""

    def __init__(self, page: Page) -> None:
        self.page, self.session = page, page.context.new_cdp_session(page)

    def send(self, kind: str, *at: tuple[float, float]) -> None:
        """``touchStart``, ``touchMove`` or ``touchEnd`` with all fingers that are down, in shares of the drawing area."""
        places = [canvas_point(self.page, *point) for point in at]
        self.session.send(
            "Input.dispatchTouchEvent",
            {"type": kind, "touchPoints": [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]},
        )

    def stroke(self, points: Sequence[tuple[float, float]]) -> None:
        """One finger through points."""
        self.send("touchStart", points[0])
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            for i in range(1, 9):
                self.send("touchMove", (x0 + (x1 - x0) * i / 8, y0 + (y1 - y0) * i / 8))
        self.send("touchEnd")

    def pinch(self, begin: Sequence[tuple[float, float]], end: Sequence[tuple[float, float]]) -> None:
        """Two fingers, of which the first comes a little earlier, as on a real screen."""
        self.send("touchStart", begin[0])
        self.send("touchMove", (begin[0][0] + 0.01, begin[0][1]))
        self.send("touchStart", *begin)
        for i in range(1, 9):
            share = i / 8
            self.send(
                "touchMove",
                *(
                    (x0 + (x1 - x0) * share, y0 + (y1 - y0) * share)
                    for (x0, y0), (x1, y1) in zip(begin, end, strict=True)
                ),
            )
        self.send("touchEnd")


def touch_draw(page: Page, points: list[tuple[float, float]]) -> None:
    """A stroke of the brush with a finger."""
    page.get_by_test_id("tool-brush").tap()
    Fingers(page).stroke(points)


def mask_of(page: Page) -> np.ndarray:
    """What is drawn, uint8 [H, W] of 0 / 255, as the page would send it."""
    return unpack(page.evaluate("document.querySelector('.drawing').drawnMask()"))


def clear(page: Page) -> None:
    """Empty the canvas."""
    page.get_by_test_id("clear").click()


def open_file(page: Page, path: Path) -> None:
    """Choose a file in the drawing panel's drop zone."""
    page.locator("#file input[type=file]").set_input_files(str(path))


def tab(page: Page, name: str) -> None:
    """Switch to a tab; the two that ask the server what to show have its answer."""
    asks = (
        page.expect_response(lambda r: "/gradio_api/run/" in r.url)
        if name in ("Batch", "Collection")
        else nullcontext()
    )
    with asks:
        page.get_by_role("tab", name=name).click()
    page.wait_for_timeout(500)  # Gradio puts the tab's parts on the page, and the answer into them
