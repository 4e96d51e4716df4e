"""Live: an image follows the drawing. After each change a quick image of a fixed seed, then a refined one; a newer change ends both."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio as gr
from gradio.events import Dependency

from siamese.studio.backend.messages import Waiting
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components import html
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs import gallery
from siamese.studio.tabs.gallery import GalleryImages, ResultPanel
from siamese.studio.tabs.generate import Failed, Finished, generate
from siamese.studio.tabs.generate_events import GenerateEvents, form_of
from siamese.studio.visitors.cookie import visitor_of

QUICK_STEPS = 4
"""Steps of the quick image."""
REFINING, REFINED = "A quick look; refining…", "Live: this image follows the drawing."

Updates = dict[Any, Any]
"""Updates by component."""


class LatestRuns:
    """The latest run of each open page; a newer one ends the one before. Safe for any number of threads."""

    def __init__(self) -> None:
        self._latest: dict[str, threading.Event] = {}
        self._lock = threading.Lock()

    @contextmanager
    def run(self, page: str) -> Iterator[threading.Event]:
        """Begin a run of ``page``, and end the one before. The event is set if a newer run begins, or by ``end``."""
        own = threading.Event()
        with self._lock:
            before, self._latest[page] = self._latest.get(page), own
        if before is not None:
            before.set()
        try:
            yield own
        finally:
            with self._lock:
                if self._latest.get(page) is own:
                    del self._latest[page]

    def end(self, page: str) -> None:
        """End the page's run if it has one."""
        with self._lock:
            running = self._latest.get(page)
        if running is not None:
            running.set()


class LiveEvents:
    """The handlers of Live.

    Args:
        runs: Generate's events; they know what is entered, and whether a press of Generate is under way, which goes first.
    """

    def __init__(self, result: ResultPanel, worker: ModelWorker, runs: GenerateEvents) -> None:
        self.result, self.worker, self.runs = result, worker, runs
        self.latest = LatestRuns()

    @property
    def outputs(self) -> list[Any]:
        """What ``follow`` updates."""
        return [self.runs.settings.message, *self.result.parts]

    def follow(
        self, request: gr.Request, is_on: bool, run_id: str | None, outlined: bool, *values: Any
    ) -> Iterator[Updates]:
        """After a change of the drawing: a quick image, then a refined one. ``values`` are those of ``GenerateEvents.entered``."""
        if not is_on or self.runs.runs.is_active(run_id):
            yield gr.skip()
            return
        entered = dict(zip(self.runs.entered, values, strict=True))
        form = dataclasses.replace(form_of(entered), variants=1, seed=entered["seed"] or 0, previews=False)
        photo = entered["photo"] if form.reference is not None else None
        with self.latest.run(request.session_hash or "") as replaced:
            for quick in (True, False):
                steps = QUICK_STEPS if quick else form.num_inference_steps
                one = dataclasses.replace(form, num_inference_steps=steps)
                for event in generate(self.worker, one, replaced, visitor_of(request)):
                    if isinstance(event, Finished):
                        made = event.generated
                        images = GalleryImages(
                            made.pairs, made.agreements, reference=form.reference, photo=photo
                        )
                        yield {
                            **gallery.show(self.result, images, outlined),
                            self.result.outdated: "",
                            self.runs.settings.message: html.status("busy", REFINING)
                            if quick
                            else html.status("done", REFINED),
                        }
                    elif isinstance(event, Failed):
                        yield (
                            gr.skip()
                            if event.cancelled
                            else _say(self.runs, html.note("error", event.message))
                        )
                        return
                    elif isinstance(event, Waiting):
                        yield _say(self.runs, html.status("busy", f"{event.ahead} before you."))

    def stop(self, request: gr.Request) -> None:
        """Generate was pressed, or Live was switched off."""
        self.latest.end(request.session_hash or "")


def _say(runs: GenerateEvents, line: str) -> Updates:
    return {runs.settings.message: line}


def wire_live(live: gr.Checkbox, canvas: gr.HTML, events: LiveEvents) -> list[Dependency]:
    """Follow ``canvas``, which submits its drawing while ``live`` is ticked. Returns the events that may have made images."""
    runs = events.runs
    inputs = [live, runs.run, events.result.outline, *runs.entered.values()]
    # Several at a time: the newer one ends the older one.
    follows = [
        trigger(events.follow, inputs, events.outputs, trigger_mode="multiple", **LINED)
        for trigger in (canvas.submit, live.input)
    ]
    runs.settings.button.click(events.stop, None, None, **QUICK)
    return follows
