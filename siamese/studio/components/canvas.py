"""The drawing canvas and the mask it holds, read to the pixel."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
from gradio.components.base import server
from gradio.components.image_editor import EditorData
from gradio.events import Dependency

from siamese.masks.core import binarise, check_mask, resize_image
from siamese.studio.components.images import servable
from siamese.studio.components.listeners import QUICK
from siamese.studio.visitors.cache import cache_folder
from siamese.studio.visitors.cookie import current
from siamese.studio.visitors.drawings import Drawings, checked
from siamese.studio.visitors.limits import CANVAS_SIDE

SIDE = 512
"""Side of the drawing in pixels, if no photo is traced."""
MAX_SIDE = CANVAS_SIDE
"""Longest side of the drawing over a photo."""
LESION_COLOUR = "#5eead4"
"""What the brush paints; only its opacity means anything."""
BACKGROUND_COLOUR = "#0f172a"
BRUSH_SIZE = 28
_UPLOADED = re.compile(r"(background|composite|layer_\d+)\.png")
"""Names that the editor gives; no other file of the cache is deleted, whatever a client sends."""
STILL_WANTED = 30.0
"""Seconds after which what was read is deleted: two events may have sent the same drawing."""


class EmptyMaskError(ValueError):
    """Nothing is drawn."""


DRAWINGS = Drawings()
# One store for all editors. By default each editor has its own, but a copy must find what its editor received, and Gradio replaces a visitor's
# editor by a new one with an empty store whenever an event does not update it. Its own store would also grow without bounds.
cast(Any, gr.ImageEditor).blob_storage = property(
    lambda editor: DRAWINGS.of(current()), lambda editor, value: None
)
gr.ImageEditor.accept_blobs = server(checked(gr.ImageEditor.accept_blobs, DRAWINGS))


class Uploads:
    """Files in which the editor uploaded a drawing, with the photo under it. Once read they are of no use; an hour is too long for a photo."""

    def __init__(self) -> None:
        self._read: dict[Path, float] = {}
        self._lock = threading.Lock()

    def note(self, payload: EditorData | None) -> None:
        """These are read. Goes on to delete what was read ``STILL_WANTED`` seconds ago: two events may have sent the same drawing."""
        parts = [] if payload is None else [payload.background, payload.composite, *payload.layers]
        with self._lock:
            self._read |= {
                Path(part.path): time.monotonic()
                for part in parts
                if part is not None and _UPLOADED.fullmatch(Path(part.path).name)
            }
        self.delete(STILL_WANTED)

    def delete(self, age: float = 0) -> None:
        """Delete what was read ``age`` seconds ago or earlier."""
        now = time.monotonic()
        with self._lock:
            old = [path for path, at in self._read.items() if now - at >= age]
            for path in old:
                del self._read[path]
        for path in old:
            path.unlink(missing_ok=True)
            with suppress(OSError):  # another file is in the folder, or it is gone
                path.parent.rmdir()


UPLOADS = Uploads()


def delete_grounds() -> None:
    """Delete what the editor of the visitor whose event runs has uploaded with a photo and no event has read, in files and in memory."""
    visitor = current()
    if visitor is None:
        return
    DRAWINGS.forget(visitor)
    for name in ("background.png", "composite.png"):
        for path in Path(cache_folder()).rglob(name):
            path.unlink(missing_ok=True)


_preprocess = gr.ImageEditor.preprocess


def _read_and_note(editor: gr.ImageEditor, payload: EditorData | None) -> Any:
    value = _preprocess(editor, payload)
    UPLOADS.note(payload)
    return value


cast(Any, gr.ImageEditor).preprocess = _read_and_note


def lesion_canvas(mask: np.ndarray) -> gr.ImageEditor:
    """A one-layer editor showing ``mask`` uint8 [SIDE, SIDE] of 0 / 255. With a photo it takes the photo's size.

    PNG and a canvas that is never resampled: the editor's default WebP is lossy, and ``fixed_canvas=True`` or the
    crop and resize transforms interpolate what was drawn.
    """
    return gr.ImageEditor(
        value=cast(Any, editor_value(mask)),  # what the browser gets, which the stub lacks
        label="Lesion mask",
        show_label=False,
        elem_id="canvas",
        type="numpy",
        image_mode="RGBA",
        format="png",
        canvas_size=(SIDE, SIDE),
        fixed_canvas=False,
        transforms=(),
        sources=(),
        layers=gr.LayerOptions(allow_additional_layers=False, layers=["Lesion"], disabled=True),
        brush=gr.Brush(
            default_size=BRUSH_SIZE, colors=[LESION_COLOUR], default_color=LESION_COLOUR, color_mode="fixed"
        ),
        eraser=gr.Eraser(default_size=BRUSH_SIZE),
        buttons=[],
    )


def reader(
    canvas: gr.ImageEditor,
) -> tuple[gr.ImageEditor, Callable[[Callable[..., Dependency]], Callable[..., Dependency]]]:
    """How events of the server read ``canvas``.

    Gradio reads an input or output of such an event again at each later step of any event. Of the editor that is three pictures, drawn,
    encoded and uploaded, many times while the model samples. So it is copied in the browser, once an event, and the copy is the input.

    Returns:
        The copy, which is never shown; and a function that makes of the listener which starts an event (``button.click``) one that copies first.
    """
    drawn = gr.ImageEditor(
        type=cast(Any, canvas.type),
        image_mode=cast(Any, canvas.image_mode),  # annotated as any text, taken as some
        format=canvas.format,
        visible=False,
    )
    return drawn, lambda trigger: trigger(None, canvas, drawn, js="(value) => value", **QUICK).then


def editor_value(
    mask: np.ndarray, background: np.ndarray | None = None, served: Callable[[np.ndarray], Any] = servable
) -> dict[str, Any]:
    """The editor's value with ``mask`` uint8 [H, W] of 0 / 255 as the drawn layer.

    Args:
        background: a photo uint8 [H, W, 3] to trace; None: a plain dark ground.
        served: makes what Gradio serves of the pictures in which the background is seen.
    """
    mask = check_mask(mask)
    ground = np.full((*mask.shape, 4), _rgba(BACKGROUND_COLOUR), np.uint8)
    if background is not None:
        if background.shape != (*mask.shape, 3):
            raise ValueError(f"mask {mask.shape} and background {background.shape} differ in size.")
        ground[:, :, :3] = background
    layer = np.zeros_like(ground)
    layer[mask > 0] = _rgba(LESION_COLOUR)
    composite = np.where(layer[:, :, 3:] > 0, layer, ground)
    return {"background": served(ground), "layers": [servable(layer)], "composite": served(composite)}


def fit_photo(photo: np.ndarray) -> np.ndarray:
    """``photo`` uint8 [H, W, 3], reduced so that its longer side is at most ``MAX_SIDE`` pixels: the size it is traced at."""
    height, width = photo.shape[:2]
    factor = MAX_SIDE / max(height, width)
    if factor >= 1:
        return photo
    return resize_image(photo, (max(1, round(height * factor)), max(1, round(width * factor))))


def drawn_mask(value: Mapping[str, Any] | None) -> np.ndarray:
    """Mask uint8 [H, W] of 0 / 255 from the editor's value: lesion is what the drawn layer covers by more than half.

    The layer is read, not the composite: there the background would count, and half transparent edges are blended.

    Raises:
        EmptyMaskError: nothing is drawn, or nothing of it has arrived.
    """
    layers = [np.asarray(layer) for layer in (value or {}).get("layers") or []]
    if (
        value and not layers and "composite" in value and value["composite"] is None
    ):  # of an empty canvas there is at least the ground
        raise EmptyMaskError(
            "The server did not receive your drawing; its disk may be full. The drawing is still on this page: press again."
        )
    if not layers:
        raise EmptyMaskError("Draw a lesion first: the canvas is empty.")
    for layer in layers:
        if layer.ndim != 3 or layer.shape[2] != 4 or layer.dtype != np.uint8:
            raise ValueError(f"a drawn layer must be uint8 [H, W, 4], not {layer.dtype} {layer.shape}.")
    opacity = np.max([layer[:, :, 3] for layer in layers], axis=0)
    mask = binarise(opacity)
    if not mask.any():
        raise EmptyMaskError("Draw a lesion first: the canvas is empty.")
    return mask


def _rgba(colour: str) -> list[int]:
    """Opaque ``#rrggbb``."""
    return [*bytes.fromhex(colour[1:]), 255]
