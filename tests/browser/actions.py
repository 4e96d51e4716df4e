"""What a visitor does on the page."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from playwright.sync_api import Locator, Page, expect

from tests.browser.conftest import PATIENCE


def set_steps(page: Page, steps: int) -> None:
    """Set the number of steps under Advanced."""
    if not page.get_by_label("Steps").is_visible():
        page.get_by_role("button", name="Advanced").click()
        page.wait_for_timeout(1000)  # Gradio makes its fields now, and gives them their values a moment later
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
    """Wait until the mask that is changed inside has reached the server: the model's view of it is another one then."""
    before = page.locator(
        "#view .view"
    ).inner_html()  # not #view's, in which Gradio also marks that an update is on its way
    yield
    page.wait_for_function(
        "before => { const view = document.querySelector('#view .view'); return view && view.innerHTML !== before; }",
        arg=before,
    )
    page.wait_for_timeout(500)  # the editor may still be sending the end of a stroke


def canvas_point(page: Page, x: float, y: float) -> tuple[float, float]:
    """Page coordinates of a point of the drawing area given in shares of its sides."""
    box = page.locator("#canvas .pixi-target canvas").bounding_box()
    return box["x"] + box["width"] * x, box["y"] + box["height"] * y


def draw(
    page: Page,
    points: Sequence[tuple[float, float]] = ((1 / 3, 0.5), (0.5, 0.5), (2 / 3, 0.5)),
    tool: str = "Brush",
) -> None:
    """A stroke through points in shares of the drawing area; the default is horizontal through the middle, a third of it long."""
    page.get_by_role("button", name=tool, exact=True).click()
    with changing(page):
        move_brush(page, points)


def move_brush(page: Page, points: Sequence[tuple[float, float]]) -> None:
    """The stroke alone, with the tool that is chosen; does not wait for the server."""
    page.mouse.move(*canvas_point(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*canvas_point(page, *point), steps=8)
    page.mouse.up()


def touch_draw(page: Page, points: list[tuple[float, float]]) -> None:
    """The same with a finger."""
    page.get_by_role("button", name="Brush", exact=True).tap()
    session = page.context.new_cdp_session(page)

    def send(kind: str, *at: tuple[float, float]) -> None:
        session.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in at]}
        )

    places = [canvas_point(page, *p) for p in points]
    with changing(page):
        send("touchStart", places[0])
        for (x0, y0), (x1, y1) in itertools.pairwise(places):
            for i in range(1, 9):
                send("touchMove", (x0 + (x1 - x0) * i / 8, y0 + (y1 - y0) * i / 8))
        send("touchEnd")


def clear(page: Page) -> None:
    """Empty the canvas."""
    with changing(page):
        page.get_by_role("button", name="Clear", exact=True).click()


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
