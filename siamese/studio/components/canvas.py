"""The drawing area: a component of our own, whose script is ``static/canvas/``, and the mask that it holds, exact to the pixel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import gradio as gr
import numpy as np
from gradio.data_classes import FileData

from siamese.masks.core import resize_image, resize_mask
from siamese.masks.packed import MAX_SIDE, pack, unpack

SIDE = 512
"""Side of the drawing in pixels, if no photo is traced."""
STATIC_PATH = "studio-static"
"""Below the page's address, the folder ``static`` is served here."""
MARKUP = Path(__file__).parent.parent / "static" / "canvas" / "canvas.html"
MOUNT = f"""
import(new URL('{STATIC_PATH}/canvas/main.js', document.baseURI).href)
  .then((canvas) => canvas.mount({{ element, props, trigger, watch }}))
  .catch((error) => {{
    console.error(error);
    element.querySelector('.drawing-state').textContent = 'The drawing area could not be loaded. Reload the page.';
  }});
"""
"""Runs in the browser once the component is on the page; a script of the page cannot be a module and know the component."""


class EmptyMaskError(ValueError):
    """Nothing is drawn."""


def lesion_canvas(mask: np.ndarray) -> gr.HTML:
    """A drawing area showing ``mask`` uint8 [H, W] of 0 / 255.

    Functions of the page receive the drawing packed (``siamese.masks.packed``), which ``drawn_mask`` reads; they return ``canvas_value``.
    The event ``input`` follows each step of the drawing, also those that the server made; ``submit`` too, while Live is ticked.
    """
    return gr.HTML(
        cast(Any, canvas_value(mask)),  # a value of any kind, which the annotation lacks
        html_template=MARKUP.read_text(encoding="utf-8"),
        js_on_load=MOUNT,
        apply_default_css=False,
        elem_id="canvas",
    )


def canvas_value(
    mask: np.ndarray,
    background: np.ndarray | None = None,
    served: Callable[[np.ndarray], str] | None = None,
    *,
    keep_background: bool = False,
) -> dict[str, Any]:
    """A value that shows ``mask`` uint8 [H, W] of 0 / 255.

    Args:
        background: a photo uint8 [H, W, 3] to trace; None: a plain dark ground.
        served: writes the photo to a file that Gradio serves, and returns its path.
        keep_background: whatever is below the mask stays.
    """
    value = pack(mask)
    if keep_background:
        return value
    if background is None:
        return value | {"photo": None}
    if background.shape != (*mask.shape, 3):
        raise ValueError(f"mask {mask.shape} and background {background.shape} differ in size.")
    if served is None:
        raise ValueError("a background needs `served`, which writes it to a file.")
    return value | {"photo": FileData(path=served(background)).model_dump()}


def fit_size(height: int, width: int) -> tuple[int, int]:
    """Height and width at which a picture is drawn on: its own, reduced so that the longer side is at most ``MAX_SIDE`` pixels."""
    factor = min(1, MAX_SIDE / max(height, width))
    return max(1, round(height * factor)), max(1, round(width * factor))


def fit_photo(photo: np.ndarray) -> np.ndarray:
    """``photo`` uint8 [H, W, 3] at the size it is traced at, see ``fit_size``."""
    size = fit_size(*photo.shape[:2])
    return photo if size == photo.shape[:2] else resize_image(photo, size)


def fit_drawing(mask: np.ndarray) -> np.ndarray:
    """``mask`` uint8 [H, W] of 0 / 255 at the size it is drawn at, see ``fit_size``; nearest."""
    size = fit_size(*mask.shape)
    return mask if size == mask.shape else resize_mask(mask, size)


def drawn_mask(value: Mapping[str, Any] | None) -> np.ndarray:
    """The drawn mask uint8 [H, W] of 0 / 255 from the value that the page sent, if there is a lesion in it.

    Raises:
        EmptyMaskError: nothing is drawn.
        MaskError: the page does not send such a value.
    """
    mask = None if value is None else unpack(value)
    if mask is None or not mask.any():
        raise EmptyMaskError("Draw a lesion first: the canvas is empty.")
    return mask


def drawn_or_none(value: Mapping[str, Any] | None) -> np.ndarray | None:
    """``drawn_mask``, or None if nothing is drawn."""
    try:
        return drawn_mask(value)
    except EmptyMaskError:
        return None
