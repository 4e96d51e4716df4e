"""The settings panel: kind of image, variants, seed, advanced settings, reference, Generate and Cancel."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from siamese.interface import status
from siamese.interface.generate import MAX_VARIANTS, MAX_WEIGHT
from siamese.interface.jobs import ModelUnavailableError
from siamese.interface.worker import ModelWorker
from siamese.prompts import LESION, POLYP
from siamese.provenance import Recipe

ORGANS = {POLYP: "Colonoscopy polyp", LESION: "Dermoscopy skin lesion"}
SCHEDULERS = [("DPM-Solver++", "dpm++"), ("DDIM", "ddim")]
READY = "Draw or change the mask, then press Generate."


@dataclass
class SettingsPanel:
    """Components that other panels and the wiring need."""

    prompt: gr.Radio
    variants: gr.Slider
    seed: gr.Number
    random_seed: gr.Checkbox
    use_photo: gr.Checkbox
    weight: gr.Slider
    reference_group: gr.Column
    defaults: gr.Checkbox
    steps: gr.Number
    guidance: gr.Number
    scheduler: gr.Radio
    button: gr.Button
    cancel: gr.Button
    message: gr.HTML
    model: gr.HTML

    @property
    def restored(self) -> list[Any]:
        """What ``restore`` updates, in its order."""
        return [self.prompt, self.seed, self.random_seed, self.defaults, self.steps, self.guidance, self.scheduler]


def restore(recipe: Recipe) -> list[Any]:
    """Updates that put a recipe's settings back."""
    known = gr.update(value=recipe.prompt) if recipe.prompt in ORGANS else gr.skip()
    return [known, recipe.seed, False, False, recipe.steps, recipe.guidance, recipe.scheduler]


def build_settings() -> SettingsPanel:
    """The panel."""
    gr.HTML(status.heading(2, "Choose"))
    prompt = gr.Radio([(name, text) for text, name in ORGANS.items()], value=POLYP, label="Kind of image", elem_id="organ")
    variants = gr.Slider(1, MAX_VARIANTS, value=1, step=1, label="Variants", elem_id="variants")
    with gr.Group():
        seed = gr.Number(value=0, precision=0, label="Seed")
        random_seed = gr.Checkbox(value=True, label="Random seed")
    with gr.Column(visible=False, elem_id="reference", variant="panel") as reference_group:
        use_photo = gr.Checkbox(value=False, label="Use the photo as reference")
        weight = gr.Slider(0, MAX_WEIGHT, value=1, step=0.05, label="Reference weight", interactive=True)
    with gr.Accordion("Advanced", open=False):
        # An empty number field reaches the browser as 0, so "the model's" needs a box of its own.
        defaults = gr.Checkbox(value=True, label="Use the model's defaults")
        steps = gr.Number(value=20, precision=0, label="Steps")
        guidance = gr.Number(value=2, step=0.1, label="Guidance")
        scheduler = gr.Radio(SCHEDULERS, value="dpm++", label="Scheduler")
    with gr.Row(elem_id="actions"):
        button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate", scale=3)
        cancel = gr.Button("Cancel", variant="secondary", size="lg", elem_id="cancel", interactive=False, scale=1, min_width=88)
    message = gr.HTML(status.status("idle", READY), elem_id="message")
    model = gr.HTML(status.model_line(None), elem_id="model")
    return SettingsPanel(prompt, variants, seed, random_seed, use_photo, weight, reference_group, defaults, steps, guidance, scheduler,
                         button, cancel, message, model)


def wire_settings(panel: SettingsPanel, worker: ModelWorker, model: gr.State) -> None:
    """An advanced setting that is edited is used; ticking the model's defaults shows those again."""
    hidden = dict(show_progress="hidden", api_visibility="private", queue=False)
    for field in (panel.steps, panel.guidance, panel.scheduler):
        field.input(None, None, panel.defaults, js="() => false", **hidden)  # in the browser: at once, before Generate can be pressed
    panel.defaults.input(lambda name, by_model: _defaults(worker, name, by_model), [model, panel.defaults],
                         [panel.steps, panel.guidance, panel.scheduler], **hidden)


def wire_model(panel: SettingsPanel, worker: ModelWorker, happens: Callable[..., Dependency], name: Component) -> None:
    """Once ``happens`` does, wait for the model of that name, say that it is ready and show its defaults."""
    def load(name: str) -> str:
        try:
            return status.model_line(worker.info(name))
        except ModelUnavailableError as error:
            return status.model_line(None, str(error))

    # In two steps, for the inputs of the second are read when it begins: settings entered while the model was loading stay.
    (happens(load, name, panel.model, show_progress="hidden", api_visibility="private", concurrency_limit=None)
     .then(lambda name, by_model: _defaults(worker, name, by_model), [name, panel.defaults], [panel.steps, panel.guidance, panel.scheduler],
           show_progress="hidden", api_visibility="private", queue=False))


def _defaults(worker: ModelWorker, name: str, by_model: bool) -> list[Any]:
    """Steps, guidance and scheduler of the model; no change where they are not in use, or while it is not loaded."""
    info = worker.loaded
    if not by_model or info is None or info.name != name:
        return [gr.skip()] * 3
    return [info.steps, info.guidance, info.scheduler]
