"""The events of the drawing panel that need the server: random lesions, files that are opened, the suggested mask, the annotation."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency
from PIL import Image

from siamese.masks import editing
from siamese.masks.coco import annotation_zip
from siamese.masks.core import mask_digest, resize_mask
from siamese.masks.shapes import random_lesion
from siamese.records.burned_in_text import find_text
from siamese.records.covering import cover
from siamese.records.provenance import Recipe
from siamese.records.uploads import UploadError, read_upload
from siamese.studio.backend.messages import (
    BusyError,
    Cancelled,
    Loading,
    ModelUnavailableError,
    OutOfMemoryError,
    Waiting,
)
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components import html
from siamese.studio.components.canvas import (
    SIDE,
    EmptyMaskError,
    canvas_value,
    drawn_mask,
    drawn_or_none,
    fit_drawing,
    fit_photo,
)
from siamese.studio.components.download import on_demand
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.draw import DrawPanel
from siamese.studio.tabs.photo import Photo
from siamese.studio.visitors.cache import scratch
from siamese.studio.visitors.cookie import visitor_of

DECODING = threading.Lock()
"""Held while a photo is decoded, one at a time: the largest takes some hundred MB meanwhile."""
SMOOTHING = 80
"""A suggested mask is smoothed by its longer side divided by this: the network's stairs vanish, the shape stays."""

Drawing = dict[str, Any] | None
"""What the page sends of the canvas, see ``siamese.masks.packed``."""
Updates = dict[Any, Any]
"""Updates by component."""


class DrawEvents:
    """The handlers of the panel's events; each returns or yields updates by component.

    Args:
        restored: for the recipe of an image that the visitor opens: what is restored, in words, and the updates that do it.
    """

    def __init__(
        self, panel: DrawPanel, worker: ModelWorker, restored: Callable[[Recipe], tuple[str, Updates]]
    ) -> None:
        self.panel, self.worker, self.restored = panel, worker, restored

    @property
    def changed(self) -> list[Any]:
        """The components that a change of the mask updates."""
        return [self.panel.canvas, self.panel.note]

    def random(self, photo: Photo | None, prompt: str, model: str) -> Updates:
        """Draw a random lesion of the kind of ``prompt``."""
        try:
            statistics = self.worker.models[model].statistics(prompt)
            missing = " ".join(self.worker.models[model].subject(prompt).missing)
        except (KeyError, ValueError) as error:
            return self._say(
                str(error) if isinstance(error, ValueError) else "Choose a model first.", "error"
            )
        if statistics is None:
            return self._say(missing, "error")
        mask = random_lesion(statistics, secrets.randbelow(2**32), SIDE)
        return self._replace(resize_mask(mask, _blank(photo).shape))

    def open_file(self, path: str | None, photo: Photo | None) -> Updates:
        """A file was chosen: photo, mask or one of our images. The file is deleted at once, a photo's file with the photo."""
        if path is None:
            return gr.skip()
        try:
            with DECODING:
                upload = read_upload(Path(path))
                traced = fit_photo(upload.photo).copy() if upload.photo is not None else None
        except UploadError as error:
            Path(path).unlink(missing_ok=True)
            return {**self._say(str(error), "error"), self.panel.file: None}
        if photo is not None:
            photo.forget()
        if traced is not None:
            return self._trace(Photo(traced, Path(path).stem, Path(path)))
        Path(path).unlink(missing_ok=True)
        if upload.mask is not None:
            return self._show(fit_drawing(upload.mask), None, "Mask opened.") | self._use_photo(None)
        assert upload.pair is not None  # exactly one of the three is set
        text, settings = self.restored(upload.pair.recipe)
        return self._show(fit_drawing(upload.pair.drawn), None, text) | self._use_photo(None) | settings

    def suggest(
        self, photo: Photo | None, model: str | None, prompt: str, request: gr.Request
    ) -> Iterator[Updates]:
        """Draw the lesion that the model's segmentation network finds in the photo."""
        if photo is None:
            yield self._say("The photo has expired. Open it again first.", "error")
            return
        try:
            for update in self.worker.suggesting(photo.pixels, model, visitor_of(request), prompt):
                if isinstance(update, Waiting):
                    yield self._say(f"{update.ahead} before you.")
                elif isinstance(update, Loading):
                    yield self._say("Loading the model…")
                elif not isinstance(update, np.ndarray):
                    continue  # steps count sampling, of which there is none here
                elif not update.any():
                    yield self._say("No lesion was found in this photo. Draw it by hand.", "error")
                else:
                    text = "A suggestion. Correct it with lasso, brush and eraser."
                    yield self._replace(one_smooth_lesion(update), text)
        except (BusyError, ModelUnavailableError, OutOfMemoryError) as error:
            yield self._say(str(error), "error")
        except Cancelled:
            yield self._say("The studio is shutting down. Try again later.", "error")

    def cover_text(self, value: Drawing, photo: Photo | None) -> Updates:
        """Cover the text that is burned into the photo, here and in the file that is exported; the drawing stays."""
        if photo is None:
            return self._say("The photo has expired. Open it again first.", "error")
        try:
            with DECODING:
                pixels = photo.at_its_own_size()
        except UploadError as error:
            return self._say(str(error), "error")
        boxes = find_text(pixels)
        if not boxes:
            return self._say("No burned-in text was found in this photo.")
        path = scratch() / "covered.png"
        Image.fromarray(cover(pixels, boxes)).save(path)
        photo.forget()
        covered = Photo(fit_photo(cover(pixels, boxes)).copy(), photo.name, path)
        drawn = drawn_or_none(value)
        mask = _blank(covered) if drawn is None else resize_mask(drawn, covered.pixels.shape[:2])
        return self._show(mask, covered, "The text is covered.") | self._use_photo(covered)

    def remove_photo(self, value: Drawing, photo: Photo | None) -> Updates:
        """Remove the photo and keep the mask, at the canvas's own size."""
        drawn = drawn_or_none(value)
        if photo is not None:
            photo.forget()
        square = np.zeros((SIDE, SIDE), np.uint8) if drawn is None else resize_mask(drawn, SIDE)
        return self._show(square, None) | self._use_photo(None)

    def watch(self, value: Drawing) -> str | None:
        """After each change: the mask's digest; None if it is empty."""
        return mask_digest(drawn_or_none(value))

    def _trace(self, photo: Photo) -> Updates:
        text = "Trace the lesion on the photo, or let the studio suggest a mask."
        return self._show(_blank(photo), photo, text) | self._use_photo(photo)

    def _use_photo(self, photo: Photo | None) -> Updates:
        return {
            self.panel.photo: photo,
            self.panel.photo_row: gr.update(visible=photo is not None),
            self.panel.file: None,
        }

    def _replace(self, mask: np.ndarray, text: str = "") -> Updates:
        """Show ``mask`` in place of the drawn one, on what is below it; the browser's history has the one before."""
        return {self.panel.canvas: canvas_value(mask, keep_background=True), **self._say(text)}

    def _show(self, mask: np.ndarray, photo: Photo | None, text: str = "") -> Updates:
        """Show ``mask`` on ``photo``, or on the plain ground."""
        value = canvas_value(mask) if photo is None else canvas_value(mask, photo.pixels, photo.served)
        return {self.panel.canvas: value, **self._say(text)}

    def _say(self, text: str, kind: html.Kind = "idle") -> Updates:
        return {self.panel.note: html.note(kind, text)}


def wire_draw(
    events: DrawEvents, model: gr.State, prompt: gr.Radio, settings: list[Any]
) -> tuple[list[Dependency], Dependency]:
    """Connect the panel.

    Args:
        model: name of the chosen model.
        settings: the components that ``events.restored`` updates.

    Returns:
        The events that may change the photo, and the one after each change of the mask.
    """
    panel = events.panel
    # Gradio would show progress on the drawing area.
    beside: dict[str, Any] = {"show_progress_on": panel.note}
    quick = QUICK | beside
    panel.example.click(events.random, [panel.photo, prompt, model], events.changed, **quick)
    opened = [*events.changed, panel.photo, panel.photo_row, panel.file, *settings]
    opening = panel.file.upload(events.open_file, [panel.file, panel.photo], opened, **quick)
    panel.suggest.click(events.suggest, [panel.photo, model, prompt], events.changed, **LINED, **beside)
    covering = panel.cover.click(
        events.cover_text,
        [panel.canvas, panel.photo],
        [panel.canvas, panel.photo, panel.photo_row, panel.file, panel.note],
        **quick,
    )
    removal = panel.drop_photo.click(
        events.remove_photo,
        [panel.canvas, panel.photo],
        [panel.canvas, panel.photo, panel.photo_row, panel.file, panel.note],
        **quick,
    )
    watched = panel.canvas.input(
        events.watch, panel.canvas, panel.digest, trigger_mode="always_last", **QUICK
    )
    on_demand(
        panel.export.click,
        make=lambda drawn, photo, prompt, name, folder: write_annotation(
            drawn, photo, events.worker.models[name].subject(prompt).noun, folder
        ),
        inputs=[panel.canvas, panel.photo, prompt, model],
        note=panel.note,
        made=lambda path, drawn, photo, prompt, name: photo.note(path),
    )
    return [opening, covering, removal], watched


def write_annotation(value: Drawing, photo: Photo | None, category: str, folder: Path) -> Path:
    """ZIP of the photo at its own size, the drawn mask resized nearest to it, and COCO JSON.

    Raises:
        EmptyMaskError: there is no mask or no photo.
    """
    if photo is None:
        raise EmptyMaskError("Open a photo first.")
    drawn = drawn_mask(value)
    with DECODING:
        pixels = photo.at_its_own_size()
    return annotation_zip(
        pixels,
        mask=resize_mask(drawn, pixels.shape[:2]),
        path=folder / "annotation.zip",
        name=photo.name,
        category=category,
    )


def one_smooth_lesion(mask: np.ndarray) -> np.ndarray:
    """The largest part of a suggested mask uint8 [H, W], its margin smoothed."""
    return editing.keep_largest(editing.smooth(editing.keep_largest(mask), max(mask.shape) / SMOOTHING))


def _blank(photo: Photo | None) -> np.ndarray:
    """An empty mask of the canvas's size."""
    return np.zeros((SIDE, SIDE) if photo is None else photo.pixels.shape[:2], np.uint8)
