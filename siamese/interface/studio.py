"""The studio tab: draw, choose, look; and which control calls what."""
from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np

from siamese.interface import results, status
from siamese.interface.canvas import SIDE, reader
from siamese.interface.download import on_demand
from siamese.interface.draw import DrawPanel, Photo, build_draw, wire_draw
from siamese.interface.events import LINED, QUICK
from siamese.interface.example import FIRST_VISIT, example_mask
from siamese.interface.generate import Failed, Finished, Form, Presses, Started, generate
from siamese.interface.jobs import Loading, Waiting
from siamese.interface.results import ResultPanel, Shown, build_results
from siamese.interface.settings import SettingsPanel, build_settings, restore, wire_model, wire_settings
from siamese.interface.text_warning import warn_of_text
from siamese.interface.visitor import visitor_of
from siamese.interface.worker import ModelWorker

REVEAL = "() => document.querySelector('#message .done') && document.getElementById('result').scrollIntoView({block: 'nearest'})"
"""On a phone the images are below the button: bring them into view once they are there."""
STEP_PAUSE = 0.25
"""Seconds between two steps that are shown: painting each would take a slow browser, and the model beside it, as long as a step."""
MORE_WEIGHT = 0.5
"""Weight of the selected image as reference in "More of this"."""
MORE_VARIANTS = 4


@dataclasses.dataclass
class Studio:
    """The tab's panels."""

    draw: DrawPanel
    settings: SettingsPanel
    results: ResultPanel
    model: gr.State
    """Name of the chosen model."""


def build_studio(worker: ModelWorker) -> Studio:
    """The tab's components on ``worker``'s models, with an example drawn and, where the model brings one, generated."""
    examples = worker.models[worker.default].examples()
    mask = examples[0].drawn if examples else example_mask(FIRST_VISIT, SIDE)
    model = gr.State(worker.default)
    with gr.Row(elem_id="studio"):
        with gr.Column(elem_id="draw"):
            draw = build_draw(mask)
        with gr.Column(elem_id="settings"):
            settings = build_settings()
        with gr.Column(elem_id="result"):
            result = build_results(examples)
    return Studio(draw, settings, result, model)


def wire_studio(page: gr.Blocks, studio: Studio, worker: ModelWorker) -> None:
    """Connect the panels."""
    draw, settings, result = studio.draw, studio.settings, studio.results
    presses = Presses()
    press = gr.State(None)

    def wait() -> list[Any]:
        return [presses.begin(), gr.update(interactive=False), gr.update(interactive=True),
                status.status("busy", "Waiting for its turn…", 0)]

    def release(name: str | None) -> list[Any]:
        presses.end(name)
        return [gr.update(interactive=True), gr.update(interactive=False)]

    def form(drawn: dict[str, Any] | None, text: str, variants: float, seed: float | None, is_random: bool, by_model: bool, steps: float | None,
             guidance: float | None, scheduler: str | None, name: str, photo: Photo | None, use_photo: bool, weight: float) -> Form:
        reference = photo.pixels if photo is not None and use_photo else None
        chosen = (None, None, None) if by_model else (steps, guidance, scheduler)
        return Form(drawn, text, variants, None if is_random else (-1 if seed is None else seed), *chosen, reference, weight, name)

    def follow(asked: Form, name: str | None, outlined: bool, visitor: str) -> Iterator[dict[Any, Any]]:
        told = 0.0
        for event in generate(worker, asked, presses.event(name), visitor):
            if isinstance(event, Started):
                yield {settings.seed: event.seed, settings.message: status.status("busy", "Waiting for its turn…", 0)}
            elif isinstance(event, Waiting):
                yield {settings.message: status.status("busy", f"{event.ahead} before you.", 0)}
            elif isinstance(event, Loading):
                yield {settings.message: status.status("busy", "Loading the model…", 0)}
            elif isinstance(event, Failed):
                kind = "idle" if event.cancelled else "error"
                yield {settings.message: status.status(kind, event.message)}
            elif isinstance(event, Finished):
                made = event.generated
                found = Shown(made.pairs, made.agreements, 0, asked.reference)
                yield {**results.show(result, found, outlined), settings.model: status.model_line(worker.loaded),
                       settings.message: status.status("done", f"Done in {event.seconds:.1f} s.")}
            elif event.previews is not None or time.monotonic() - told >= STEP_PAUSE:
                told = time.monotonic()
                text = f"Step {event.step} of {event.steps}{status.time_left(event.seconds_left)}"
                update = {settings.message: status.status("busy", text, event.step / event.steps)}
                if event.previews is not None:
                    update[result.gallery] = results.previews(event.previews)
                yield update

    def run(request: gr.Request, name: str | None, shown: Shown, outlined: bool, *entered: Any) -> Iterator[dict[Any, Any]]:
        yield from restoring(follow(form(*entered), name, outlined, visitor_of(request)), shown, outlined)

    def more(request: gr.Request, name: str | None, shown: Shown, outlined: bool) -> Iterator[dict[Any, Any]]:
        if shown.pair is None:
            yield {settings.message: status.status("error", "Generate an image first.")}
            return
        recipe = shown.pair.recipe
        canvas = {"layers": [np.repeat(shown.pair.drawn[:, :, None], 4, axis=2)]}
        asked = Form(canvas, recipe.prompt, MORE_VARIANTS, None, recipe.steps, recipe.guidance, recipe.scheduler, shown.pair.image, MORE_WEIGHT, recipe.model)
        yield from restoring(follow(asked, name, outlined, visitor_of(request)), shown, outlined)

    def restoring(updates: Iterator[dict[Any, Any]], shown: Shown, outlined: bool) -> Iterator[dict[Any, Any]]:
        """Previews of a request that came to nothing give way to the images before it."""
        finished = previewed = False
        for update in updates:
            finished |= result.shown in update
            previewed |= result.gallery in update
            yield update
        if previewed and not finished:
            yield {result.gallery: gr.update(value=results.items(shown, outlined), columns=results.columns(len(shown.pairs)))}

    def chosen(shown: Shown, outlined: bool, event: gr.SelectData) -> dict[Any, Any]:
        if event.index is None or event.index >= len(shown.pairs):
            return {result.note: ""}
        return results.select(result, dataclasses.replace(shown, selected=event.index), outlined)

    result_parts = [result.shown, result.gallery, result.caption, result.keep, result.use_seed, result.more, result.download, result.compare,
                    result.slider, result.note]
    wire_model(settings, worker, page.load, studio.model)
    wire_settings(settings)
    photo_events = wire_draw(draw, worker, studio.model, settings.prompt, restore, settings.restored)
    warn_of_text(draw.photo, [draw.photo_row, settings.reference_group], photo_events)
    for event in photo_events:
        event.then(lambda photo: [gr.update(visible=photo is not None), False], draw.photo, [settings.reference_group, settings.use_photo], **QUICK)

    drawn, reading = reader(draw.canvas)
    entered = [drawn, settings.prompt, settings.variants, settings.seed, settings.random_seed, settings.defaults, settings.steps,
               settings.guidance, settings.scheduler, studio.model, draw.photo, settings.use_photo, settings.weight]
    outputs = [settings.message, settings.seed, settings.model, *result_parts]
    started = [press, settings.button, settings.cancel, settings.message]
    pressed, more_pressed = (button.click(wait, None, started, **QUICK) for button in (settings.button, result.more))
    for happens, work, inputs in ((reading(pressed.then), run, [press, result.shown, result.outline, *entered]),
                                  (more_pressed.then, more, [press, result.shown, result.outline])):
        # The button comes back in a step of its own, which runs however the one before it ended.
        (happens(work, inputs, outputs, **LINED)
         .then(release, press, [settings.button, settings.cancel], **QUICK)
         .then(None, js=REVEAL))
    settings.cancel.click(presses.cancel, press, None, **QUICK)
    result.gallery.select(chosen, [result.shown, result.outline], result_parts, **QUICK)
    result.outline.change(lambda shown, outlined: results.items(shown, outlined), [result.shown, result.outline], result.gallery, **QUICK)
    result.use_seed.click(lambda shown: [shown.pair.recipe.seed, False] if shown.pair else [gr.skip(), gr.skip()], result.shown,
                          [settings.seed, settings.random_seed], **QUICK)
    on_demand(result.download.click, results.write_png, [result.shown], result.note)
