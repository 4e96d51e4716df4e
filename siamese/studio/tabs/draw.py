"""The components of the drawing panel: canvas, files to start from, mask tools."""

from __future__ import annotations

from dataclasses import dataclass, field

import gradio as gr
import numpy as np

from siamese.masks.core import mask_digest
from siamese.studio.components import html
from siamese.studio.components.canvas import lesion_canvas
from siamese.studio.components.images import mask_view
from siamese.studio.tabs.mask_tools import TOOLS

PHOTO_SECONDS = 3600
"""The server's memory keeps a photo for so many seconds after its last use."""
VIEW_SIDE = 256
"""Side in pixels of the small picture of the mask as the model sees it."""


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
    """Masks before the last changes by buttons, oldest first, for undo."""
    digest: gr.State = field(repr=False)
    """``mask_digest`` of the mask after the last stroke; None if it is empty."""


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
    view = gr.HTML(mask_view(mask, VIEW_SIDE), elem_id="view")
    return DrawPanel(
        canvas=canvas,
        file=file,
        example=example,
        clear=clear,
        undo=undo,
        tools=tools,
        photo_row=photo_row,
        suggest=suggest,
        export=export,
        drop_photo=drop_photo,
        view=view,
        note=note,
        photo=gr.State(None, time_to_live=PHOTO_SECONDS),
        before=gr.State([]),
        digest=gr.State(mask_digest(mask)),
    )
