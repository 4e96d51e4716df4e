"""The components of the drawing panel: the drawing area, and what to start from."""

from __future__ import annotations

from dataclasses import dataclass, field

import gradio as gr
import numpy as np

from siamese.masks.core import mask_digest
from siamese.studio.components.canvas import lesion_canvas

PHOTO_SECONDS = 3600
"""The server's memory keeps a photo for so many seconds after its last use."""


@dataclass
class DrawPanel:
    """Components that other panels and the wiring need."""

    canvas: gr.HTML
    file: gr.File
    example: gr.Button
    photo_row: gr.Column
    suggest: gr.Button
    export: gr.Button
    cover: gr.Button
    drop_photo: gr.Button
    note: gr.HTML
    photo: gr.State = field(repr=False)
    digest: gr.State = field(repr=False)
    """``mask_digest`` of the mask after the last change; None if it is empty."""


def build_draw(mask: np.ndarray) -> DrawPanel:
    """The panel showing ``mask``."""
    canvas = lesion_canvas(mask)
    with gr.Row(elem_id="start"):
        example = gr.Button("Random lesion", size="md", elem_id="random-lesion", scale=0)
        file = gr.File(
            label="Open a photo to trace, a mask, or an image made here",
            show_label=False,
            elem_id="file",
            height=64,
            file_count="single",
        )
    with gr.Column(visible=False, elem_id="photo", variant="panel") as photo_row:
        with gr.Row(elem_classes="buttons"):
            suggest = gr.Button("Suggest mask", size="md")
            export = gr.Button("Export annotation", size="md")
            cover = gr.Button("Cover burned-in text", size="md")
            drop_photo = gr.Button("Remove photo", size="md")
        gr.HTML(
            '<p class="hint">Your photo stays in this session’s memory and its temporary files, which are deleted an hour after their last use. '
            "The annotation holds photo, mask and COCO JSON.</p>"
        )
    note = gr.HTML("", elem_id="note")
    return DrawPanel(
        canvas=canvas,
        file=file,
        example=example,
        photo_row=photo_row,
        suggest=suggest,
        export=export,
        cover=cover,
        drop_photo=drop_photo,
        note=note,
        photo=gr.State(None, time_to_live=PHOTO_SECONDS),
        digest=gr.State(mask_digest(mask)),
    )
