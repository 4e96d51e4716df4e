"""The page: layout, and which control calls what."""
from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from siamese.interface import status
from siamese.interface.canvas import SIDE, editor_value, lesion_canvas
from siamese.interface.example import FIRST_VISIT, example_mask
from siamese.interface.generate import Failed, Finished, Started, generate
from siamese.interface.output import provenance, servable, write_png
from siamese.interface.worker import Generated, ModelUnavailableError, ModelWorker
from siamese.prompts import LESION, POLYP

ORGANS = [("Colonoscopy polyp", POLYP), ("Dermoscopy skin lesion", LESION)]
REVEAL = "() => document.querySelector('#message .done') && document.getElementById('result').scrollIntoView({block: 'nearest'})"
"""On a phone the image is below the button: bring it into view once it is there."""
READY = "Draw or change the mask, then press Generate."


def build_page(worker: ModelWorker) -> gr.Blocks:
    """The studio's page on ``worker``'s model. Each visitor's image is in their own session state."""
    # Files in the cache are deleted a day after they were made.
    with gr.Blocks(title="Siamese-Diffusion Studio", analytics_enabled=False, delete_cache=(3600, 86400)) as page:
        shown = gr.State(None)
        gr.HTML(status.HEADER)
        with gr.Row(elem_id="studio"):
            with gr.Column(elem_id="draw"):
                gr.HTML(status.heading(1, "Draw the lesion"))
                canvas = lesion_canvas(example_mask(FIRST_VISIT, SIDE))
                with gr.Row():
                    example = gr.Button("New example", size="md")
                    clear = gr.Button("Clear", size="md")
            with gr.Column(elem_id="settings"):
                gr.HTML(status.heading(2, "Choose"))
                prompt = gr.Radio(ORGANS, value=POLYP, label="Kind of image")
                with gr.Group():
                    seed = gr.Number(value=0, precision=0, label="Seed")
                    random_seed = gr.Checkbox(value=True, label="Random seed")
                with gr.Accordion("Advanced", open=False):
                    # An empty number field reaches the browser as 0, so "the model's" needs a box of its own.
                    defaults = gr.Checkbox(value=True, label="Use the model's defaults")
                    steps = gr.Number(value=20, precision=0, label="Steps", interactive=False)
                    guidance = gr.Number(value=2, step=0.1, label="Guidance", interactive=False)
                button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate")
                message = gr.HTML(status.status("idle", READY), elem_id="message")
                model = gr.HTML(status.model_line(None), elem_id="model")
            with gr.Column(elem_id="result"):
                gr.HTML(status.heading(3, "Synthetic image"))
                image = gr.Image(label="Synthetic image", show_label=False, format="png", interactive=False, buttons=["fullscreen"],
                                 elem_id="image", alt_text="Synthetic image of the drawn lesion")
                caption = gr.HTML(status.caption(None), elem_id="caption")
                with gr.Row():
                    outline = gr.Checkbox(value=True, label="Show outline", container=False, elem_id="outline")
                    download = gr.DownloadButton("Download PNG", size="md", interactive=False, elem_id="download")

        def load_model() -> dict[Any, Any]:
            try:
                info = worker.info()
            except ModelUnavailableError as error:
                return {model: status.model_line(None, str(error))}
            return {model: status.model_line(info), steps: info.steps, guidance: info.guidance}

        def wait() -> dict[Any, Any]:
            return {button: gr.update(interactive=False), message: status.status("busy", "Waiting for its turn…", 0)}

        def run(drawn: dict[str, Any] | None, text: str, number: float | None, is_random: bool, by_model: bool,
                steps_set: float | None, guidance_set: float | None, outlined: bool) -> Iterator[dict[Any, Any]]:
            settings = (None, None) if by_model else (steps_set, guidance_set)
            for event in generate(worker, drawn, text, number, is_random, *settings):
                if isinstance(event, Started):
                    doing = "Sampling…" if worker.loaded else "Loading the model…"
                    yield {seed: event.seed, message: status.status("busy", doing, 0)}
                elif isinstance(event, Failed):
                    yield {message: status.status("error", event.message)}
                elif isinstance(event, Finished):
                    # Gradio copies the file to its cache before it asks for the next event.
                    with tempfile.TemporaryDirectory(prefix="siamese-") as folder:
                        file = write_png(event.generated, Path(folder))
                        yield {shown: event.generated, image: picture(event.generated, outlined), caption: status.caption(event.generated),
                               download: gr.update(value=str(file), interactive=True), model: status.model_line(worker.loaded),
                               message: status.status("done", f"Done in {event.seconds:.1f} s.")}
                else:
                    yield {message: status.status("busy", f"Step {event.step} of {event.steps}", event.step / event.steps)}

        hidden = dict(show_progress="hidden", api_visibility="private")
        quick = hidden | dict(queue=False)
        page.load(load_model, None, [model, steps, guidance], concurrency_limit=None, **hidden)
        inputs = [canvas, prompt, seed, random_seed, defaults, steps, guidance, outline]
        outputs = [message, seed, image, caption, shown, download, model]
        # The button comes back in a step of its own, which runs however the one before it ended.
        (button.click(wait, None, [button, message], **quick)
         .then(run, inputs, outputs, concurrency_limit=1, **hidden)
         .then(lambda: gr.update(interactive=True), None, button, **quick)
         .then(None, js=REVEAL))
        defaults.change(lambda by_model: [gr.update(interactive=not by_model)] * 2, defaults, [steps, guidance], **quick)
        outline.change(picture, [shown, outline], image, **quick)
        example.click(lambda: editor_value(example_mask(secrets.randbelow(2**32), SIDE)), None, canvas, **quick)
        clear.click(lambda: editor_value(np.zeros((SIDE, SIDE), np.uint8)), None, canvas, **quick)
    return page


def picture(generated: Generated | None, outlined: bool) -> Image.Image | None:
    """The image to show, with or without the mask's outline; None before the first."""
    if generated is None:
        return None
    return servable(generated.outlined() if outlined else generated.image, provenance(generated))
