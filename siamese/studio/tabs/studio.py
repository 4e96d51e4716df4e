"""The studio tab: draw, choose, look; and which control calls what."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import gradio as gr
import numpy as np

from siamese.sampling_settings import SamplingSettings
from siamese.studio.backend.messages import Loading, Waiting
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components import html
from siamese.studio.components.canvas import SIDE, reader
from siamese.studio.components.default_mask import FIRST_VISIT, example_mask
from siamese.studio.components.download import on_demand
from siamese.studio.components.errors import reason, whatever_happens
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs import gallery as results
from siamese.studio.tabs.draw import DrawPanel, build_draw, wire_draw
from siamese.studio.tabs.gallery import ResultPanel, Shown, build_results
from siamese.studio.tabs.generate import Failed, Finished, Form, Presses, Started, generate
from siamese.studio.tabs.photo import Photo
from siamese.studio.tabs.settings import SettingsPanel, build_settings, restore, wire_model, wire_settings
from siamese.studio.tabs.text_warning import warn_of_text
from siamese.studio.visitors.cookie import visitor_of

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
            settings = build_settings(examples[0].recipe.seed if examples else 0)
        with gr.Column(elem_id="result"):
            result = build_results(examples)
    return Studio(draw, settings, result, model)


def wire_studio(page: gr.Blocks, studio: Studio, worker: ModelWorker, rescue: gr.Button) -> None:
    """Connect the panels. ``rescue``: see ``siamese.studio.components.errors``."""
    draw, settings, result = studio.draw, studio.settings, studio.results
    presses = Presses()
    press = gr.State(None)

    def wait() -> list[Any]:
        # Two at once would show their previews in turns, and Cancel would reach one.
        return [
            presses.begin(),
            gr.update(interactive=False),
            gr.update(interactive=False),
            gr.update(interactive=True),
            html.status("busy", "Waiting for its turn…", 0),
        ]

    def over(name: str | None, shown: Shown, previewing: bool) -> dict[Any, Any]:
        """The press is over, however it ended: the buttons come back."""
        presses.end(name)
        return {
            settings.button: gr.update(interactive=True),
            settings.cancel: gr.update(interactive=False),
            result.more: gr.update(interactive=bool(shown.pairs) and not previewing),
        }

    def failed(*now: Any) -> dict[Any, Any]:
        return {**over(*now), settings.message: html.status("error", reason())}

    def rescued(name: str | None, shown: Shown, previewing: bool) -> dict[Any, Any]:
        """The press did not come to the model: its inputs could not be read."""
        return failed(name, shown, previewing) if presses.waits(name) else gr.skip()

    def settle(
        shown: Shown, previewing: bool, outlined: bool, digest: str | None, photo: Photo | None
    ) -> dict[Any, Any]:
        """Previews that nothing came of give way to the images before them; a photo that was removed meanwhile is not compared with."""
        kept = shown.without(photo)
        again = (
            results.show(result, kept, outlined)
            if previewing
            else results.select(result, kept, outlined)
            if kept is not shown
            else {}
        )
        return {**again, **results.belongs(result, kept, digest)}

    def restore_images(shown: Shown, previewing: bool, *now: Any) -> dict[Any, Any]:
        """After a failure nobody knows what the browser was told last."""
        return settle(shown, True, *now)

    def form(
        drawn: dict[str, Any] | None,
        text: str,
        variants: float,
        seed: float | None,
        is_random: bool,
        by_model: bool,
        steps: float | None,
        guidance: float | None,
        scheduler: str | None,
        restored: SamplingSettings | None,
        name: str,
        use_photo: bool,
        weight: float,
        photo: Photo | None,
    ) -> Form:
        reference = photo.pixels if photo is not None and use_photo else None
        steps, guidance, scheduler, restored = (
            (None,) * 4 if by_model else (steps, guidance, scheduler, restored)
        )
        return Form(
            canvas=drawn,
            prompt=text,
            variants=variants,
            seed=None if is_random else (-1 if seed is None else seed),
            num_inference_steps=steps,
            guidance_scale=guidance,
            scheduler=scheduler,
            restored=restored,
            reference=reference,
            weight=weight,
            model=name,
        )

    def follow(
        asked: Form,
        name: str | None,
        outlined: bool,
        is_random: bool,
        visitor: str,
        photo: Photo | None = None,
    ) -> Iterator[dict[Any, Any]]:
        told = 0.0
        for event in generate(worker, asked, presses.go(name), visitor):
            if isinstance(event, Started):
                yield {settings.message: html.status("busy", "Waiting for its turn…", 0)}
            elif isinstance(event, Waiting):
                yield {settings.message: html.status("busy", f"{event.ahead} before you.", 0)}
            elif isinstance(event, Loading):
                yield {settings.message: html.status("busy", "Loading the model…", 0)}
            elif isinstance(event, Failed):
                kind = "idle" if event.cancelled else "error"
                yield {settings.message: html.status(kind, event.message)}
            elif isinstance(event, Finished):
                made = event.generated
                found = Shown(made.pairs, made.agreements, 0, asked.reference, photo)
                if photo is not None and photo.gone.is_set():
                    found = found.without(None)
                # The seed's box shows what was drawn at random only now that there is an image of it; what was entered stays.
                drawn_seed = {settings.seed: made.pairs[0].recipe.seed} if is_random else {}
                yield {
                    **results.show(result, found, outlined),
                    **drawn_seed,
                    settings.model: html.model_line(worker.loaded),
                    settings.message: html.status("done", f"Done in {event.seconds:.1f} s."),
                }
            elif event.previews is not None or time.monotonic() - told >= STEP_PAUSE:
                told = time.monotonic()
                text = f"Step {event.step} of {event.steps}{html.time_left(event.seconds_left)}"
                update = {settings.message: html.status("busy", text, event.step / event.steps)}
                if event.previews is not None:
                    update |= results.preview(result, event.previews)
                yield update

    def run(
        request: gr.Request,
        name: str | None,
        outlined: bool,
        is_random: bool,
        photo: Photo | None,
        *entered: Any,
    ) -> Iterator[dict[Any, Any]]:
        asked = form(*entered, photo)
        yield from follow(
            asked, name, outlined, is_random, visitor_of(request), None if asked.reference is None else photo
        )

    def more(
        request: gr.Request, name: str | None, outlined: bool, is_random: bool, shown: Shown
    ) -> Iterator[dict[Any, Any]]:
        if shown.pair is None:
            yield {settings.message: html.status("error", "Generate an image first.")}
            return
        recipe = shown.pair.recipe
        canvas = {"layers": [np.repeat(shown.pair.drawn[:, :, None], 4, axis=2)]}
        asked = Form(
            canvas=canvas,
            prompt=recipe.prompt,
            variants=MORE_VARIANTS,
            num_inference_steps=recipe.settings.num_inference_steps,
            guidance_scale=recipe.settings.guidance_scale,
            scheduler=recipe.settings.scheduler,
            restored=recipe.settings,
            reference=shown.pair.image,
            weight=MORE_WEIGHT,
            model=recipe.model,
        )
        yield from follow(asked, name, outlined, is_random, visitor_of(request))

    def chosen(
        name: str | None,
        shown: Shown,
        previewing: bool,
        outlined: bool,
        digest: str | None,
        event: gr.SelectData,
    ) -> dict[Any, Any]:
        if previewing:
            return (
                {result.gallery: gr.update(selected_index=results.NO_FRAME)}
                if presses.runs(name)
                else results.show(result, shown, outlined)
            )
        if event.index < len(shown.pairs):  # else a click on images that are gone
            shown = dataclasses.replace(shown, selected=event.index)
        return {
            result.note: "",
            **results.select(result, shown, outlined),
            **results.belongs(result, shown, digest),
        }

    def outline(name: str | None, shown: Shown, previewing: bool, outlined: bool) -> dict[Any, Any]:
        return gr.skip() if previewing and presses.runs(name) else results.show(result, shown, outlined)

    def photo_changed(
        photo: Photo | None, shown: Shown, previewing: bool, outlined: bool, digest: str | None
    ) -> dict[Any, Any]:
        """A photo that is gone leaves the comparison as well."""
        update = {settings.reference_group: gr.update(visible=photo is not None), settings.use_photo: False}
        kept = shown.without(photo)
        if previewing:
            return update | {result.shown: kept}
        return (
            update
            | ({} if kept is shown else results.select(result, kept, outlined))
            | results.belongs(result, kept, digest)
        )

    def mask_changed(shown: Shown, previewing: bool, digest: str | None) -> dict[Any, Any]:
        return gr.skip() if previewing else results.belongs(result, shown, digest)

    result_parts = result.parts
    wire_model(settings, worker, page.load, studio.model)
    wire_settings(settings)
    now = [result.shown, result.previewing, result.outline]
    photo_events, mask_event = wire_draw(
        draw, worker, studio.model, settings.prompt, restore, settings.restorable
    )
    for event in photo_events:
        event.then(
            photo_changed,
            [draw.photo, *now, draw.digest],
            [settings.reference_group, settings.use_photo, *result_parts],
            **QUICK,
        )
    warn_of_text(draw.photo, [draw.photo_row, settings.reference_group], photo_events)
    mask_event.then(mask_changed, [result.shown, result.previewing, draw.digest], result.outdated, **QUICK)

    drawn, reading = reader(draw.canvas)
    entered = [
        drawn,
        settings.prompt,
        settings.variants,
        settings.seed,
        settings.random_seed,
        settings.defaults,
        settings.steps,
        settings.guidance,
        settings.scheduler,
        settings.restored,
        studio.model,
        settings.use_photo,
        settings.weight,
    ]
    outputs = [settings.message, settings.seed, settings.model, *result_parts]
    started = [press, settings.button, result.more, settings.cancel, settings.message]
    ended = [settings.button, settings.cancel, result.more, settings.message]
    ending = [press, result.shown, result.previewing]
    pressed, more_pressed = (
        button.click(wait, None, started, **QUICK) for button in (settings.button, result.more)
    )
    for happens, work, inputs in (
        (reading(pressed.then), run, [press, result.outline, settings.random_seed, draw.photo, *entered]),
        (more_pressed.then, more, [press, result.outline, settings.random_seed, result.shown]),
    ):
        # The buttons come back in a step of its own, however the one before it ended.
        worked = happens(work, inputs, outputs, **LINED)
        after, broken = whatever_happens(worked, over, failed, ending, ended)
        after.then(settle, [*now, draw.digest, draw.photo], result_parts, **QUICK).then(None, js=REVEAL)
        broken.then(restore_images, [*now, draw.digest, draw.photo], result_parts, **QUICK)
    rescue.click(rescued, ending, ended, **QUICK)
    settings.cancel.click(presses.cancel, press, None, **QUICK)
    result.gallery.select(chosen, [press, *now, draw.digest], result_parts, **QUICK)
    result.outline.change(outline, [press, *now], result_parts, **QUICK)
    result.use_seed.click(
        lambda shown: [shown.pair.recipe.seed, False] if shown.pair else [gr.skip(), gr.skip()],
        result.shown,
        [settings.seed, settings.random_seed],
        **QUICK,
    )
    on_demand(result.download.click, results.write_png, [result.shown], result.note)
