"""The drawing panel: canvas, files to start from, mask tools."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from gradio.events import Dependency

from siamese.masks import editing
from siamese.masks.coco import annotation_zip
from siamese.masks.core import mask_digest, resize_mask
from siamese.masks.shapes import load_statistics, random_lesion
from siamese.prompts import LESION
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
    editor_value,
    fit_photo,
    lesion_canvas,
    read_mask,
    reader,
)
from siamese.studio.components.download import on_demand
from siamese.studio.components.images import mask_view
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.photo import Photo
from siamese.studio.tabs.settings import Restoration
from siamese.studio.visitors.cookie import visitor_of

DECODING = threading.Lock()
"""One photo is read at a time: of the largest size it takes some hundred MB while it is decoded."""
UNDO_STEPS = 20
HOUR = 3600
"""A photo leaves the server's memory after so many seconds without use."""

TOOLS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "Flip ↔": lambda m: editing.flip(m, "horizontal"),
    "Flip ↕": lambda m: editing.flip(m, "vertical"),
    "Turn ↺": lambda m: editing.rotate(m, -15),
    "Turn ↻": lambda m: editing.rotate(m, 15),
    "Move ←": lambda m: editing.shift(m, -0.05, 0),
    "Move →": lambda m: editing.shift(m, 0.05, 0),
    "Move ↑": lambda m: editing.shift(m, 0, -0.05),
    "Move ↓": lambda m: editing.shift(m, 0, 0.05),
    "Larger": lambda m: editing.scale(m, 1.15),
    "Smaller": lambda m: editing.scale(m, 1 / 1.15),
    "Grow": lambda m: editing.grow(m, max(1, max(m.shape) // 100)),
    "Shrink": lambda m: editing.shrink(m, max(1, max(m.shape) // 100)),
    "Smooth": lambda m: editing.smooth(m, max(2, max(m.shape) // 60)),
    "Fill holes": editing.fill_holes,
}
NAMES = {
    "Flip ↔": "Flip left and right",
    "Flip ↕": "Flip up and down",
    "Turn ↺": "Turn left",
    "Turn ↻": "Turn right",
    "Move ←": "Move left",
    "Move →": "Move right",
    "Move ↑": "Move up",
    "Move ↓": "Move down",
}


@dataclass
class DrawPanel:
    """Components that other panels and the wiring need."""

    canvas: gr.ImageEditor
    file: gr.File
    example: gr.Button
    clear: gr.Button
    undo: gr.Button
    tools: dict[str, gr.Button]
    photo_row: gr.Column
    suggest: gr.Button
    export: gr.Button
    drop_photo: gr.Button
    view: gr.HTML
    note: gr.HTML
    photo: gr.State = field(repr=False)
    before: gr.State = field(repr=False)
    """Masks before the last tools, oldest first."""
    digest: gr.State = field(repr=False)
    """``mask_digest`` of the mask after the last stroke, None of an empty one."""


def build_draw(mask: np.ndarray) -> DrawPanel:
    """The panel showing ``mask``."""
    gr.HTML(html.heading(1, "Draw the lesion"))
    canvas = lesion_canvas(mask)
    with gr.Row(elem_classes="buttons"):
        example = gr.Button("Random lesion", size="md")
        clear = gr.Button("Clear", size="md")
        undo = gr.Button("Undo change", size="md", interactive=False)
    with gr.Accordion("Adjust the mask", open=False, elem_id="adjust"), gr.Row(elem_classes="tools"):
        tools = {name: gr.Button(name, size="sm", min_width=64) for name in TOOLS}
    file = gr.File(
        label="Drop a photo to trace, a mask, or an image made here",
        elem_id="file",
        height=116,
        file_count="single",
    )
    with gr.Column(visible=False, elem_id="photo", variant="panel") as photo_row:
        with gr.Row(elem_classes="buttons"):
            suggest = gr.Button("Suggest mask", size="md")
            export = gr.Button("Export annotation", size="md")
            drop_photo = gr.Button("Remove photo", size="md")
        gr.HTML(
            '<p class="hint">Your photo stays in this session’s memory and its temporary files, which are deleted an hour after their last use. '
            "The annotation holds photo, mask and COCO JSON.</p>"
        )
    note = gr.HTML("", elem_id="note")
    view = gr.HTML(mask_view(mask, 256), elem_id="view")
    return DrawPanel(
        canvas,
        file,
        example,
        clear,
        undo,
        tools,
        photo_row,
        suggest,
        export,
        drop_photo,
        view,
        note,
        gr.State(None, time_to_live=HOUR),
        gr.State([]),
        gr.State(mask_digest(mask)),
    )


def _say(text: str, kind: html.Kind = "idle") -> str:
    return html.note(kind, text)


def _drawn(value: dict[str, Any] | None) -> np.ndarray | None:
    try:
        return read_mask(value)
    except EmptyMaskError:
        return None


def _background(photo: Photo | None) -> np.ndarray | None:
    return None if photo is None else photo.pixels


def _value(mask: np.ndarray, photo: Photo | None) -> dict[str, Any]:
    """The editor's value with ``mask`` on the photo, where there is one."""
    return editor_value(mask) if photo is None else editor_value(mask, _background(photo), photo.served)


def forget(photo: Photo) -> None:
    """Delete every file that shows the photo: the upload, what was served of it, and what the editor uploaded with it."""
    photo.forget()
    UPLOADS.delete()
    delete_grounds()


def _blank(photo: Photo | None) -> np.ndarray:
    background = _background(photo)
    return np.zeros((SIDE, SIDE) if background is None else background.shape[:2], np.uint8)


def wire_draw(
    panel: DrawPanel,
    worker: ModelWorker,
    model: gr.State,
    prompt: gr.Radio,
    restore: Callable[[Recipe, Collection[str]], Restoration],
    settings: list[Any],
) -> tuple[list[Dependency], Dependency]:
    """Connect the panel; returns the events after which the photo may be another one, and the one after each change of the mask.

    Args:
        model: name of the chosen model.
        restore: what the recipe of an image that was dropped on the page does to ``settings`` and the model.
    """
    statistics = load_statistics()
    put = [panel.canvas, panel.before, panel.undo, panel.note]

    def replace(
        value: dict[str, Any] | None,
        photo: Photo | None,
        before: list[np.ndarray],
        mask: np.ndarray,
        text: str = "",
    ) -> list[Any]:
        old = _drawn(value)
        before = (before + [_blank(photo) if old is None else old])[-UNDO_STEPS:]
        return [_value(mask, photo), before, gr.update(interactive=True), _say(text)]

    def apply(
        name: str, value: dict[str, Any] | None, photo: Photo | None, before: list[np.ndarray]
    ) -> list[Any]:
        try:
            return replace(value, photo, before, TOOLS[name](read_mask(value)))
        except (EmptyMaskError, editing.EditError) as error:
            return [gr.skip(), gr.skip(), gr.skip(), _say(str(error), "error")]

    def random(
        value: dict[str, Any] | None, photo: Photo | None, before: list[np.ndarray], text: str
    ) -> list[Any]:
        shape = _blank(photo).shape
        mask = random_lesion(
            statistics[text if text in statistics else LESION], secrets.randbelow(2**32), SIDE
        )
        return replace(value, photo, before, resize_mask(mask, shape))

    def clear(value: dict[str, Any] | None, photo: Photo | None, before: list[np.ndarray]) -> list[Any]:
        return replace(value, photo, before, _blank(photo))

    def undo(photo: Photo | None, before: list[np.ndarray]) -> list[Any]:
        if not before:
            return [gr.skip(), [], gr.update(interactive=False), _say("")]
        blank = _blank(photo)
        mask = before[-1] if before[-1].shape == blank.shape else resize_mask(before[-1], blank.shape)
        return [_value(mask, photo), before[:-1], gr.update(interactive=len(before) > 1), _say("")]

    def opened(
        path: str | None, value: dict[str, Any] | None, photo: Photo | None, before: list[np.ndarray]
    ) -> list[Any]:
        """A file was dropped: photo, mask or one of our images. The file itself is deleted at once, a photo's with the photo."""
        same = [None, *[gr.skip()] * len(settings)]
        if path is None:
            return [gr.skip()] * 7 + same
        try:
            with DECODING:
                upload = read_upload(Path(path))
                traced = fit_photo(upload.photo).copy() if upload.kind == "photo" else None
        except UploadError as error:
            Path(path).unlink(missing_ok=True)
            return [gr.skip()] * 3 + [_say(str(error), "error"), gr.skip(), gr.skip(), None] + same
        if traced is None:
            Path(path).unlink(missing_ok=True)
        if photo is not None:
            forget(photo)
        if traced is not None:
            taken = Photo(traced, Path(path).stem, Path(path))
            put_back = replace(
                value,
                taken,
                before,
                _blank(taken),
                "Trace the lesion on the photo, or let the studio suggest a mask.",
            )
            return put_back + [taken, gr.update(visible=True), None] + same
        if upload.kind == "mask":
            return (
                replace(value, None, before, upload.mask, "Mask opened.")
                + [None, gr.update(visible=False), None]
                + same
            )
        restored = restore(upload.pair.recipe, worker.models)
        return (
            replace(value, None, before, upload.pair.drawn, restored.text)
            + [None, gr.update(visible=False), None]
            + [restored.model, *restored.updates]
        )

    def suggest(
        value: dict[str, Any] | None,
        photo: Photo | None,
        before: list[np.ndarray],
        name: str | None,
        request: gr.Request,
    ) -> Iterator[list[Any]]:
        def only(text: str, kind: html.Kind = "error") -> list[Any]:
            return [gr.skip(), gr.skip(), gr.skip(), _say(text, kind)]

        if photo is None:
            yield only("Open a photo first: the one before has expired.")
            return
        try:
            for update in worker.suggesting(photo.pixels, name, visitor_of(request)):
                if isinstance(update, Waiting):
                    yield only(f"{update.ahead} before you.", "idle")
                elif isinstance(update, Loading):
                    yield only("Loading the model…", "idle")
                elif not update.any():
                    yield only("No lesion was found in this photo. Draw it by hand.")
                else:
                    yield replace(
                        value, photo, before, update, "A suggestion. Correct it with brush and eraser."
                    )
        except (BusyError, ModelUnavailableError, OutOfMemoryError) as error:
            yield only(str(error))
        except Cancelled:
            yield only("The studio is being closed.")

    def remove(value: dict[str, Any] | None, photo: Photo | None, before: list[np.ndarray]) -> list[Any]:
        if photo is not None:
            forget(photo)
        mask = _drawn(value)
        square = np.zeros((SIDE, SIDE), np.uint8) if mask is None else resize_mask(mask, SIDE)
        return [editor_value(square), before, gr.skip(), _say("")] + [None, gr.update(visible=False)]

    def watch(value: dict[str, Any] | None) -> list[Any]:
        mask = _drawn(value)
        return [mask_view(mask, 256), mask_digest(mask)]

    (drawn, reading), (seen, watching) = reader(panel.canvas), reader(panel.canvas)
    beside = {
        "show_progress_on": panel.note
    }  # not on the canvas, which would then be read at each step of any event
    quick = QUICK | beside
    for name, button in panel.tools.items():
        reading(button.click)(
            lambda value, photo, before, name=name: apply(name, value, photo, before),
            [drawn, panel.photo, panel.before],
            put,
            **quick,
        )
    reading(panel.example.click)(random, [drawn, panel.photo, panel.before, prompt], put, **quick)
    reading(panel.clear.click)(clear, [drawn, panel.photo, panel.before], put, **quick)
    panel.undo.click(undo, [panel.photo, panel.before], put, **quick)
    wanted = gr.State(None)
    """Name of the model of the image that was opened."""
    upload = reading(panel.file.upload)(
        opened,
        [panel.file, drawn, panel.photo, panel.before],
        put + [panel.photo, panel.photo_row, panel.file, wanted] + settings,
        **quick,
    )
    # In a step of its own, and queued: Gradio reports changes of a state only after queued events.
    upload.then(lambda name, present: name or present, [wanted, model], model, **LINED)
    reading(panel.suggest.click)(suggest, [drawn, panel.photo, panel.before, model], put, **LINED, **beside)
    removal = reading(panel.drop_photo.click)(
        remove, [drawn, panel.photo, panel.before], put + [panel.photo, panel.photo_row], **quick
    )
    watched = watching(panel.canvas.change)(
        watch, seen, [panel.view, panel.digest], trigger_mode="always_last", **QUICK
    )
    on_demand(
        reading(panel.export.click),
        write_annotation,
        [drawn, panel.photo, prompt],
        panel.note,
        lambda path, value, photo, prompt: photo.note(path),
    )
    return [upload, removal], watched


def write_annotation(value: dict[str, Any] | None, photo: Photo | None, prompt: str, folder: Path) -> Path:
    """ZIP of the photo at its own size, the drawn mask resized nearest to it, and COCO JSON; EmptyMaskError without a mask."""
    if photo is None:
        raise EmptyMaskError("Open a photo first.")
    drawn = read_mask(value)
    with DECODING:
        pixels = photo.at_its_own_size()
    category = "lesion" if prompt == LESION else "polyp"
    return annotation_zip(
        pixels, resize_mask(drawn, pixels.shape[:2]), folder / "annotation.zip", photo.name, category
    )
