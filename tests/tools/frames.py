"""How long the drawing area takes for a frame of a stroke: ``python -m tests.tools.frames``.

A stroke of 300 pointer moves with a brush of 60 px at 1440 px, in headless Chromium without a graphics card. The time of a frame is what
the page's own script takes: its handlers of the pointer's events, and its painting in the frame after them. Frames without a move do not
count.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from siamese.records.catalogue import find_models
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.server import Studio
from tests.browser.actions import canvas_point
from tests.browser.conftest import ARGUMENTS, ready

MOVES, BRUSH = 300, 60
TIMED = """() => {
  window.spent = {frames: [], now: 0, moved: false};
  const timed = (call) => function (...given) { const began = performance.now(); try { return call.apply(this, given); } finally { spent.now += performance.now() - began; } };
  const listen = EventTarget.prototype.addEventListener;
  EventTarget.prototype.addEventListener = function (kind, call, options) {
    return listen.call(this, kind, kind.startsWith('pointer') && typeof call === 'function' ? timed(function (event) { spent.moved = true; return call.call(this, event); }) : call, options); };
  const frame = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (call) => frame((now) => { timed(call)(now); if (spent.moved) { spent.frames.push(spent.now); spent.now = 0; spent.moved = false; } });
}"""
"""Runs before the page's scripts: adds up the milliseconds of their handlers and frames."""


def measure(address: str, browser_path: str | None) -> list[float]:
    """Milliseconds of each frame."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        page.add_init_script(f"({TIMED})()")
        page.goto(address)
        ready(page)
        page.get_by_test_id("tool-brush").click()
        page.get_by_test_id("brush-size").fill(str(BRUSH))
        page.mouse.move(*canvas_point(page, 0.5, 0.2))
        page.mouse.down()
        page.evaluate("spent.frames = []")
        for i in range(MOVES):
            angle = 2 * math.pi * i / 60
            page.mouse.move(
                *canvas_point(page, 0.5 + 0.3 * math.sin(angle), 0.5 - (0.3 - i / 2000) * math.cos(angle))
            )
        frames = page.evaluate("spent.frames")
        page.mouse.up()
        browser.close()
    return frames


def main() -> None:
    """Print the figures."""
    with tempfile.TemporaryDirectory() as folder:
        studio = Studio(ModelWorker(find_models("nowhere", None)), Path(folder), "127.0.0.1")
        try:
            frames = measure(studio.address, shutil.which("chromium"))
        finally:
            studio.close()
    middle, high = np.percentile(frames, [50, 95])
    print(
        f"{MOVES} moves, {len(frames)} frames: median {middle:.1f} ms, p95 {high:.1f} ms, longest {max(frames):.1f} ms"
    )


if __name__ == "__main__":
    main()
