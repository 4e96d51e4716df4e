"""The settings panel: kind of image, variants, seed, advanced settings, reference, Generate and Cancel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component
from gradio.events import Dependency

from siamese.records.catalogue import ModelEntry
from siamese.records.provenance import Recipe
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend.messages import BusyError, ModelUnavailableError
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components import html
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.generate import MAX_VARIANTS, MAX_WEIGHT
from siamese.studio.visitors.cookie import visitor_of

SCHEDULERS = [("DPM-Solver++", "dpm++"), ("DDIM", "ddim")]
READY = "Draw or change the mask, then press Generate."
SHOW_DEFAULTS = "(known, inUse, ...entered) => inUse && known ? known : entered"
"""Runs in the browser, so that nothing can be entered meanwhile: an answer of the server could undo what was entered after the question."""


@dataclass
class SettingsPanel:
    """Components that other panels and the wiring need."""

    prompt: gr.Radio
    missing: gr.HTML
    """What the model lacks for this kind of image."""
    variants: gr.Slider
    seed: gr.Number
    random_seed: gr.Checkbox
    use_photo: gr.Checkbox
    weight: gr.Slider
    reference_group: gr.Column
    defaults: gr.Checkbox
    known_defaults: gr.JSON
    restored: gr.State
    """``SamplingSettings`` of an image that was opened again, None otherwise: those that the page does not show are used."""
    restored_note: gr.HTML
    """Says which they are."""
    steps: gr.Number
    guidance: gr.Number
    scheduler: gr.Radio
    button: gr.Button
    cancel: gr.Button
    message: gr.HTML
    model: gr.HTML

    @property
    def advanced(self) -> list[Any]:
        """What the model has defaults of."""
        return [self.steps, self.guidance, self.scheduler]

    @property
    def restorable(self) -> list[Any]:
        """What ``Restoration.updates`` updates, in its order."""
        return [
            self.prompt,
            self.seed,
            self.random_seed,
            self.weight,
            self.defaults,
            *self.advanced,
            self.restored,
            self.restored_note,
        ]


@dataclass(frozen=True)
class Restoration:
    """What opening an image again does to the settings."""

    updates: list[Any]
    """Of ``SettingsPanel.restorable``."""
    model: str | None
    """Name of the recipe's model; None if the page has no such model."""
    text: str
    """What was restored and what could not be, in words for the visitor."""


def restored_settings(recipe: Recipe, models: Mapping[str, ModelEntry]) -> Restoration:
    """Put a recipe's settings back, on a page with ``models``."""
    used, weight = recipe.settings, recipe.reference_weight
    is_known = recipe.prompt in {subject.prompt for entry in models.values() for subject in entry.subjects}
    text = f"Mask and settings of seed {recipe.seed} are restored: {used.describe()}"
    text += f", reference weight {weight:g}." if weight is not None else "."
    if not is_known:
        text += f" Its prompt, “{shorten_text(recipe.prompt)}”, is not one of this page's kinds of image: choose one."
    if recipe.model not in models:
        text += f" Its model, “{shorten_text(recipe.model)}”, is not available here, so images will differ from it."
    if weight is not None:
        text += " Its reference photo is not stored in the file; open it again to use it."
    updates = [
        gr.update(value=recipe.prompt) if is_known else gr.skip(),
        recipe.seed,
        False,
        gr.skip() if weight is None else min(weight, MAX_WEIGHT),
        False,
        used.num_inference_steps,
        used.guidance_scale,
        used.scheduler,
        used,
        hidden_note(used),
    ]
    return Restoration(updates, recipe.model if recipe.model in models else None, text)


def shorten_text(text: str, most: int = 60) -> str:
    """``text``, cut if it is longer than ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def hidden_note(restored: SamplingSettings | None) -> str:
    """The line below the advanced settings: the restored ones that have no control on the page."""
    if restored is None:
        return ""
    low, high = restored.guidance_interval
    return html.note(
        "idle",
        f"Also used, from the opened image: guidance by the {restored.guidance_mode} at noise levels {low:g} to {high:g}, "
        f"rescale {restored.guidance_rescale:g}. Tick “Use the model's defaults” to drop these.",
    )


@dataclass
class ActionBar:
    """What starts and stops a run, and tells about it."""

    button: gr.Button
    live: gr.Checkbox
    keep: gr.Button
    cancel: gr.Button
    message: gr.HTML


def build_actions(has_image: bool) -> ActionBar:
    """The bar with Generate and Keep; ``has_image``: there is an example to keep."""
    with gr.Row(elem_id="actions"):
        button = gr.Button("Generate", variant="primary", size="lg", elem_id="generate", scale=3)
        live = gr.Checkbox(value=False, label="Live", container=False, elem_id="live", scale=0)
        keep = gr.Button("Keep", size="lg", elem_id="keep", interactive=has_image, scale=1, min_width=80)
        cancel = gr.Button(
            "Cancel",
            variant="secondary",
            size="lg",
            elem_id="cancel",
            interactive=False,
            scale=1,
            min_width=88,
        )
    return ActionBar(button, live, keep, cancel, gr.HTML(html.status("idle", READY), elem_id="message"))


def choose_subject(entry: ModelEntry, prompt: str | None = None) -> dict[str, Any]:
    """What a choice of the kinds of image of ``entry``'s model shows; ``prompt`` stays if the model knows it."""
    prompts = [subject.prompt for subject in entry.subjects]
    return {
        "choices": [(subject.name, subject.prompt) for subject in entry.subjects],
        "value": prompt if prompt in prompts else next(iter(prompts), None),
    }


def missing_note(entry: ModelEntry, prompt: str | None) -> str:
    """What the model lacks for the kind of image, as lines; empty if nothing."""
    subject = next((subject for subject in entry.subjects if subject.prompt == prompt), None)
    return "".join(html.note("idle", sentence) for sentence in subject.missing) if subject else ""


def build_settings(actions: ActionBar, entry: ModelEntry, seed: int = 0) -> SettingsPanel:
    """The panel for ``entry``'s model, with the seed of the image that is shown."""
    chosen = choose_subject(entry)
    with gr.Row(elem_id="choices"):
        prompt = gr.Radio(**chosen, label="Kind of image", elem_id="organ")
        variants = gr.Slider(1, MAX_VARIANTS, value=1, step=1, label="Variants", elem_id="variants")
    missing = gr.HTML(missing_note(entry, chosen["value"]), elem_id="missing")
    with gr.Column(visible=False, elem_id="reference", variant="panel") as reference_group:
        use_photo = gr.Checkbox(value=False, label="Use the photo as reference")
        weight = gr.Slider(0, MAX_WEIGHT, value=1, step=0.05, label="Reference weight", interactive=True)
    with gr.Accordion("Expert settings", open=False, elem_id="expert"):
        with gr.Row():
            seed_box = gr.Number(value=seed, precision=0, label="Seed")
            random_seed = gr.Checkbox(value=True, label="Random seed")
        # An empty number field reaches the browser as 0, so "the model's" needs a box of its own.
        defaults = gr.Checkbox(value=True, label="Use the model's defaults")
        known_defaults = gr.JSON(visible=False)
        with gr.Row():
            steps = gr.Number(
                value=20, precision=0, label="Steps", info="More take longer, and change little."
            )
            guidance = gr.Number(
                value=2,
                step=0.1,
                label="Guidance",
                info="Higher follows the mask more closely, and varies less.",
            )
        scheduler = gr.Radio(SCHEDULERS, value="dpm++", label="Scheduler")
        restored, restored_note = gr.State(None), gr.HTML("", elem_id="restored")
    model = gr.HTML(html.model_line(None), elem_id="model")
    return SettingsPanel(
        prompt=prompt,
        missing=missing,
        variants=variants,
        seed=seed_box,
        random_seed=random_seed,
        use_photo=use_photo,
        weight=weight,
        reference_group=reference_group,
        defaults=defaults,
        known_defaults=known_defaults,
        restored=restored,
        restored_note=restored_note,
        steps=steps,
        guidance=guidance,
        scheduler=scheduler,
        button=actions.button,
        cancel=actions.cancel,
        message=actions.message,
        model=model,
    )


def wire_settings(panel: SettingsPanel) -> None:
    """An advanced setting that is edited is used; ticking the model's defaults shows those again."""
    for field in panel.advanced:
        field.input(
            None, None, panel.defaults, js="() => false", **QUICK
        )  # in the browser: at once, before Generate can be pressed
    _show_defaults(panel, panel.defaults.input)
    panel.defaults.input(
        lambda ticked, restored: (None, "") if ticked else (restored, hidden_note(restored)),
        [panel.defaults, panel.restored],
        [panel.restored, panel.restored_note],
        **QUICK,
    )


def wire_kept(panel: SettingsPanel, outline: gr.Checkbox, trigger: Callable[..., Dependency]) -> None:
    """Keep the settings in the browser for the next visit; the event ``trigger`` (``page.load``) brings them back."""
    kept = gr.BrowserState(None, storage_key="siamese-settings", secret="settings")
    parts = [panel.prompt, panel.variants, panel.seed, panel.random_seed, outline]
    trigger(
        None,
        [kept, *parts],
        parts,
        js="(kept, ...now) => Array.isArray(kept) && kept.length === now.length ? kept : now",
        **QUICK,
    )
    for part in parts:
        part.change(None, parts, kept, js="(...now) => [now]", **QUICK)


def wire_model(
    panel: SettingsPanel, worker: ModelWorker, trigger: Callable[..., Dependency], name: Component
) -> None:
    """On the event ``trigger``, wait for the model of that name, say that it is ready and show its defaults."""

    def load(name: str, request: gr.Request) -> list[Any]:
        try:
            info = worker.info(name, visitor=visitor_of(request))
        except (BusyError, ModelUnavailableError) as error:
            return [html.model_line(None, str(error)), None]
        shown = info.settings
        return [
            html.model_line(info),
            [shown.num_inference_steps, shown.guidance_scale, shown.scheduler],
        ]

    loaded = trigger(load, name, [panel.model, panel.known_defaults], **LINED)
    _show_defaults(panel, loaded.then)


def _show_defaults(panel: SettingsPanel, trigger: Callable[..., Dependency]) -> None:
    """On the event ``trigger``, show the model's defaults if they are known and in use; other settings stay as they were entered."""
    trigger(
        None,
        [panel.known_defaults, panel.defaults, *panel.advanced],
        panel.advanced,
        js=SHOW_DEFAULTS,
        **QUICK,
    )
