"""The studio tab: draw, choose settings, look at images; and which control calls what."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import gradio as gr
from gradio.events import Dependency

from siamese.records.provenance import Recipe
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.canvas import SIDE
from siamese.studio.components.default_mask import FIRST_VISIT, example_mask
from siamese.studio.components.download import on_demand
from siamese.studio.components.errors import after_event
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.draw import DrawPanel, build_draw
from siamese.studio.tabs.draw_events import DrawEvents, Updates, wire_draw
from siamese.studio.tabs.gallery import ResultPanel, build_gallery, build_results, example_images, write_png
from siamese.studio.tabs.gallery_events import GalleryEvents
from siamese.studio.tabs.generate_events import GenerateEvents
from siamese.studio.tabs.history import HistoryEvents, HistoryStrip, build_history, wire_history
from siamese.studio.tabs.live import LiveEvents, wire_live
from siamese.studio.tabs.settings import (
    SettingsPanel,
    build_actions,
    build_settings,
    missing_note,
    restored_settings,
    wire_kept,
    wire_model,
    wire_settings,
)
from siamese.studio.tabs.text_warning import warn_of_text

REVEAL = "() => studioPage.revealImages()"


@dataclasses.dataclass
class StudioTab:
    """The tab's panels."""

    draw: DrawPanel
    settings: SettingsPanel
    results: ResultPanel
    history: HistoryStrip
    model: gr.State
    """Name of the chosen model."""


def build_studio(worker: ModelWorker) -> StudioTab:
    """Build the tab's components for ``worker``'s models. It shows an example mask, and the model's example image if it has one."""
    examples = worker.models[worker.default].examples()
    mask = examples[0].drawn if examples else example_mask(FIRST_VISIT, SIDE)
    model = gr.State(worker.default)
    with gr.Row(elem_id="studio"):
        with gr.Column(elem_id="draw"):
            draw = build_draw(mask)
        with gr.Column(elem_id="result"):
            first = example_images(examples)
            with gr.Row(elem_id="pictures"):
                gallery, history = build_gallery(first), build_history()
            actions = build_actions(bool(examples))
            result = build_results(first, gallery, keep=actions.keep, live=actions.live)
            settings = build_settings(
                actions,
                entry=worker.models[worker.default],
                seed=examples[0].recipe.seed if examples else 0,
            )
    return StudioTab(draw=draw, settings=settings, results=result, history=history, model=model)


def wire_studio(page: gr.Blocks, studio: StudioTab, worker: ModelWorker, rescue: gr.Button) -> None:
    """Connect the panels. ``rescue``: see ``siamese.studio.components.errors``."""
    settings = studio.settings
    wire_model(settings, worker, page.load, studio.model)
    wire_settings(settings)
    settings.prompt.change(
        lambda prompt, name: missing_note(worker.models[name], prompt),
        [settings.prompt, studio.model],
        settings.missing,
        **QUICK,
    )
    wire_kept(settings, studio.results.outline, page.load)

    wanted = gr.State(None)  # the model of the image that was opened last
    photo_events, mask_event = wire_draw(
        DrawEvents(studio.draw, worker, restorer(settings, worker, wanted)),
        studio.model,
        settings.prompt,
        [wanted, *settings.restorable],
    )
    runs = GenerateEvents(
        settings,
        studio.results,
        worker,
        canvas=studio.draw.canvas,
        model=studio.model,
        photo=studio.draw.photo,
    )
    images = GalleryEvents(studio.results, settings, runs.runs)
    ends = _wire_runs(studio, runs, images)
    live = LiveEvents(studio.results, worker, runs)
    ends += wire_live(studio.results.live, studio.draw.canvas, live)
    restored = restorer(settings, worker, wanted)
    reopened = wire_history(
        HistoryEvents(studio.history, studio.draw, studio.results, restored),
        ends,
        [wanted, *settings.restorable],
    )
    for event in (photo_events[0], reopened):
        # Queued: Gradio reports changes of a state only after queued events.
        event.then(
            lambda name, present: {studio.model: name or present, wanted: None},
            [wanted, studio.model],
            [studio.model, wanted],
            **LINED,
        )
    rescue.click(
        runs.rescue, [runs.run, studio.results.shown, studio.results.previewing], runs.end_outputs, **QUICK
    )
    _wire_images(studio, runs, images)
    _wire_changes(studio, images, photo_events, mask_event)


def _wire_runs(studio: StudioTab, runs: GenerateEvents, images: GalleryEvents) -> list[Dependency]:
    """Connect the buttons that start and cancel a run. Returns the events after a run that has made images."""
    result, settings = studio.results, studio.settings
    ends = []
    generating = settings.button.click(runs.begin, None, runs.begin_outputs, **QUICK)
    more = result.more.click(runs.begin, None, runs.begin_outputs, **QUICK)
    for trigger, work, inputs in (
        (generating.then, runs.generate, [runs.run, result.outline, *runs.entered.values()]),
        (more.then, runs.more, [runs.run, result.outline, settings.random_seed, result.shown]),
    ):
        worked = trigger(work, inputs, runs.run_outputs, **LINED)
        # The buttons are enabled by an event of its own, so that they are after a failure, too.
        ended, failed = after_event(
            worked,
            succeeded=runs.end,
            failed=runs.fail,
            inputs=[runs.run, result.shown, result.previewing],
            outputs=runs.end_outputs,
        )
        state = [*images.state, studio.draw.digest, studio.draw.photo]
        settled = ended.then(images.settle, state, result.parts, **QUICK)
        settled.then(None, js=REVEAL)
        ends.append(settled)
        failed.then(images.restore, state, result.parts, **QUICK)
    settings.cancel.click(runs.runs.cancel, runs.run, None, **QUICK)
    return ends


def restorer(
    settings: SettingsPanel, worker: ModelWorker, wanted: gr.State
) -> Callable[[Recipe], tuple[str, Updates]]:
    """The function that puts a recipe back: it returns what is restored, in words, and the updates of ``settings``
    and of ``wanted``, the recipe's model; None if the page has no such model."""

    def restored(recipe: Recipe) -> tuple[str, Updates]:
        restoration = restored_settings(recipe, worker.models)
        updates = dict(zip(settings.restorable, restoration.updates, strict=True))
        updates[wanted] = restoration.model
        return restoration.text, updates

    return restored


def _wire_images(studio: StudioTab, runs: GenerateEvents, images: GalleryEvents) -> None:
    """Connect what can be done with the images."""
    result, settings = studio.results, studio.settings
    inputs = [runs.run, *images.state]
    result.gallery.select(images.select_image, [*inputs, studio.draw.digest], result.parts, **QUICK)
    result.outline.change(images.redraw, inputs, result.parts, **QUICK)
    result.use_seed.click(images.use_seed, result.shown, [settings.seed, settings.random_seed], **QUICK)
    on_demand(result.download.click, write_png, [result.shown], result.note)


def _wire_changes(
    studio: StudioTab, images: GalleryEvents, photo_events: Sequence[Dependency], mask_event: Dependency
) -> None:
    """Connect what a changed photo or mask means for the images and the settings."""
    draw, result, settings = studio.draw, studio.results, studio.settings
    for event in photo_events:
        event.then(
            images.change_photo,
            [draw.photo, *images.state, draw.digest],
            [settings.reference_group, settings.use_photo, *result.parts],
            **QUICK,
        )
    warn_of_text(draw.photo, [draw.photo_row, settings.reference_group], photo_events)
    mask_event.then(
        images.change_mask, [result.shown, result.previewing, draw.digest], result.outdated, **QUICK
    )
