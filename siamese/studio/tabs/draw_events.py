"""The events of the drawing panel: tools, undo, files that are opened, the suggested mask, the annotation."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from siamese.masks import editing
from siamese.masks.coco import annotation_zip
from siamese.masks.core import mask_digest, resize_mask
from siamese.masks.shapes import load_statistics, random_lesion
from siamese.records.prompts import LESION
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
    UPLOADS,
    EmptyMaskError,
    delete_grounds,
    drawn_mask,
    editor_value,
    fit_photo,
    reader,
)
from siamese.studio.components.download import on_demand
from siamese.studio.components.images import mask_view
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.draw import VIEW_SIDE, DrawPanel
from siamese.studio.tabs.mask_tools import TOOLS
from siamese.studio.tabs.photo import Photo
from siamese.studio.visitors.cookie import visitor_of

DECODING = threading.Lock()
"""Held while a photo is decoded, one at a time: the largest takes some hundred MB meanwhile."""
UNDO_STEPS = 20

EditorValue = dict[str, Any]
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
        self.statistics = load_statistics()

    @property
    def changed(self) -> list[Any]:
        """The components that a change of the mask updates."""
        return [self.panel.canvas, self.panel.before, self.panel.undo, self.panel.note]

    def tool(self, name: str) -> Callable[[EditorValue | None, Photo | None, list[np.ndarray]], Updates]:
        """The handler of a tool's button."""

        def apply(value: EditorValue | None, photo: Photo | None, before: list[np.ndarray]) -> Updates:
            try:
                return self._replace(value, photo, before, TOOLS[name](drawn_mask(value)))
            except (EmptyMaskError, editing.EditError) as error:
                return self._say(str(error), "error")

        return apply

    def random(
        self, value: EditorValue | None, photo: Photo | None, before: list[np.ndarray], prompt: str
    ) -> Updates:
        """Draw a random lesion of the kind of ``prompt``."""
        statistics = self.statistics[prompt if prompt in self.statistics else LESION]
        mask = random_lesion(statistics, secrets.randbelow(2**32), SIDE)
        return self._replace(value, photo, before, resize_mask(mask, _blank(photo).shape))

    def clear(self, value: EditorValue | None, photo: Photo | None, before: list[np.ndarray]) -> Updates:
        """Empty the canvas."""
        return self._replace(value, photo, before, _blank(photo))

    def undo(self, photo: Photo | None, before: list[np.ndarray]) -> Updates:
        """Go back to the mask before the last change by a button."""
        if not before:
            return {self.panel.undo: gr.update(interactive=False), **self._say("")}
        blank = _blank(photo)
        mask = before[-1] if before[-1].shape == blank.shape else resize_mask(before[-1], blank.shape)
        return {
            self.panel.canvas: _editor_value(mask, photo),
            self.panel.before: before[:-1],
            self.panel.undo: gr.update(interactive=len(before) > 1),
            **self._say(""),
        }

    def open_file(
        self,
        path: str | None,
        value: EditorValue | None,
        photo: Photo | None,
        before: list[np.ndarray],
    ) -> Updates:
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
            forget(photo)
        if traced is not None:
            return self._trace(value, before, Photo(traced, Path(path).stem, Path(path)))
        Path(path).unlink(missing_ok=True)
        if upload.mask is not None:
            return self._replace(
                value, photo=None, before=before, mask=upload.mask, text="Mask opened."
            ) | self._use_photo(None)
        assert upload.pair is not None  # exactly one of the three is set
        text, settings = self.restored(upload.pair.recipe)
        return (
            self._replace(value, photo=None, before=before, mask=upload.pair.drawn, text=text)
            | self._use_photo(None)
            | settings
        )

    def suggest(
        self,
        value: EditorValue | None,
        photo: Photo | None,
        before: list[np.ndarray],
        model: str | None,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Draw the lesion that the model's segmentation network finds in the photo."""
        if photo is None:
            yield self._say("The photo has expired. Open it again first.", "error")
            return
        try:
            for update in self.worker.suggesting(photo.pixels, model, visitor_of(request)):
                if isinstance(update, Waiting):
                    yield self._say(f"{update.ahead} before you.")
                elif isinstance(update, Loading):
                    yield self._say("Loading the model…")
                elif not isinstance(update, np.ndarray):
                    continue  # steps count sampling, of which there is none here
                elif not update.any():
                    yield self._say("No lesion was found in this photo. Draw it by hand.", "error")
                else:
                    text = "A suggestion. Correct it with brush and eraser."
                    yield self._replace(value, photo=photo, before=before, mask=update, text=text)
        except (BusyError, ModelUnavailableError, OutOfMemoryError) as error:
            yield self._say(str(error), "error")
        except Cancelled:
            yield self._say("The studio is shutting down. Try again later.", "error")

    def remove_photo(self, value: EditorValue | None, photo: Photo | None) -> Updates:
        """Remove the photo and keep the mask, at the canvas's own size."""
        if photo is not None:
            forget(photo)
        mask = _drawn(value)
        square = np.zeros((SIDE, SIDE), np.uint8) if mask is None else resize_mask(mask, SIDE)
        return {
            self.panel.canvas: editor_value(square),
            self.panel.photo: None,
            self.panel.photo_row: gr.update(visible=False),
            **self._say(""),
        }

    def watch(self, value: EditorValue | None) -> Updates:
        """After each stroke: the model's view of the mask."""
        mask = _drawn(value)
        return {self.panel.view: mask_view(mask, VIEW_SIDE), self.panel.digest: mask_digest(mask)}

    def _trace(self, value: EditorValue | None, before: list[np.ndarray], photo: Photo) -> Updates:
        text = "Trace the lesion on the photo, or let the studio suggest a mask."
        return self._replace(
            value, photo=photo, before=before, mask=_blank(photo), text=text
        ) | self._use_photo(photo)

    def _use_photo(self, photo: Photo | None) -> Updates:
        return {
            self.panel.photo: photo,
            self.panel.photo_row: gr.update(visible=photo is not None),
            self.panel.file: None,
        }

    def _replace(
        self,
        value: EditorValue | None,
        photo: Photo | None,
        before: list[np.ndarray],
        mask: np.ndarray,
        text: str = "",
    ) -> Updates:
        """Show ``mask`` in place of the drawn one, which undo brings back."""
        old = _drawn(value)
        return {
            self.panel.canvas: _editor_value(mask, photo),
            self.panel.before: [*before, _blank(photo) if old is None else old][-UNDO_STEPS:],
            self.panel.undo: gr.update(interactive=True),
            **self._say(text),
        }

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
    (drawn, reading), (seen, watching) = reader(panel.canvas), reader(panel.canvas)
    # Gradio would show progress on the canvas, and then read it at each step of every event.
    beside: dict[str, Any] = {"show_progress_on": panel.note}
    quick = QUICK | beside
    mask = [drawn, panel.photo, panel.before]
    for name, button in panel.tools.items():
        reading(button.click)(events.tool(name), mask, events.changed, **quick)
    reading(panel.example.click)(events.random, [*mask, prompt], events.changed, **quick)
    reading(panel.clear.click)(events.clear, mask, events.changed, **quick)
    panel.undo.click(events.undo, [panel.photo, panel.before], events.changed, **quick)
    opened = [*events.changed, panel.photo, panel.photo_row, panel.file, *settings]
    opening = reading(panel.file.upload)(events.open_file, [panel.file, *mask], opened, **quick)
    reading(panel.suggest.click)(events.suggest, [*mask, model], events.changed, **LINED, **beside)
    removal = reading(panel.drop_photo.click)(
        events.remove_photo,
        [drawn, panel.photo],
        [panel.canvas, panel.photo, panel.photo_row, panel.note],
        **quick,
    )
    watched = watching(panel.canvas.change)(
        events.watch, seen, [panel.view, panel.digest], trigger_mode="always_last", **QUICK
    )
    on_demand(
        reading(panel.export.click),
        make=write_annotation,
        inputs=[drawn, panel.photo, prompt],
        note=panel.note,
        made=lambda path, value, photo, prompt: photo.note(path),
    )
    return [opening, removal], watched


def write_annotation(value: EditorValue | None, photo: Photo | None, prompt: str, folder: Path) -> Path:
    """ZIP of the photo at its own size, the drawn mask resized nearest to it, and COCO JSON.

    Raises:
        EmptyMaskError: there is no mask or no photo.
    """
    if photo is None:
        raise EmptyMaskError("Open a photo first.")
    drawn = drawn_mask(value)
    with DECODING:
        pixels = photo.at_its_own_size()
    category = "lesion" if prompt == LESION else "polyp"
    return annotation_zip(
        pixels,
        mask=resize_mask(drawn, pixels.shape[:2]),
        path=folder / "annotation.zip",
        name=photo.name,
        category=category,
    )


def forget(photo: Photo) -> None:
    """Delete every file that shows the photo: the upload, what was served of it, and what the editor uploaded with it."""
    photo.forget()
    UPLOADS.delete()
    delete_grounds()


def _drawn(value: EditorValue | None) -> np.ndarray | None:
    try:
        return drawn_mask(value)
    except EmptyMaskError:
        return None


def _editor_value(mask: np.ndarray, photo: Photo | None) -> EditorValue:
    """The editor's value with ``mask`` on the photo if there is one."""
    return editor_value(mask) if photo is None else editor_value(mask, photo.pixels, photo.served)


def _blank(photo: Photo | None) -> np.ndarray:
    """An empty mask of the canvas's size."""
    return np.zeros((SIDE, SIDE) if photo is None else photo.pixels.shape[:2], np.uint8)
