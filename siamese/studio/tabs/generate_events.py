"""What Generate and "More of this" do: read the form, follow the run, show its images; and how the buttons come back."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

import gradio as gr
from gradio.components import Component

from siamese.masks.packed import pack
from siamese.studio.backend.messages import Loading, Step, Waiting
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.runs import RunRegistry
from siamese.studio.components import html
from siamese.studio.components.errors import diagnosis
from siamese.studio.tabs import gallery
from siamese.studio.tabs.gallery import GalleryImages, ResultPanel
from siamese.studio.tabs.generate import Failed, Finished, Form, Started, generate
from siamese.studio.tabs.photo import Photo
from siamese.studio.tabs.settings import SettingsPanel
from siamese.studio.visitors.cookie import visitor_of

STEP_PAUSE = 0.25
"""Minimum seconds between two steps that are shown: on a slow machine, painting one takes the browser as long as a step."""
MORE_WEIGHT = 0.5
"""Weight of the selected image as reference in "More of this"."""
MORE_VARIANTS = 4

Updates = dict[Any, Any]
"""Updates by component."""


class GenerateEvents:
    """The handlers of a run's events; each returns or yields updates by component.

    Args:
        canvas: the drawing area.
        model: name of the chosen model.
        photo: the visitor's photo.
    """

    def __init__(
        self,
        settings: SettingsPanel,
        result: ResultPanel,
        worker: ModelWorker,
        *,
        canvas: gr.HTML,
        model: gr.State,
        photo: gr.State,
    ) -> None:
        self.settings, self.result, self.worker = settings, result, worker
        self.runs = RunRegistry()
        self.run = gr.State(None)
        """Id of the page's run."""
        self.entered: dict[str, Component] = {
            "canvas": canvas,
            "prompt": settings.prompt,
            "variants": settings.variants,
            "seed": settings.seed,
            "random_seed": settings.random_seed,
            "defaults": settings.defaults,
            "steps": settings.steps,
            "guidance": settings.guidance,
            "scheduler": settings.scheduler,
            "restored": settings.restored,
            "model": model,
            "use_photo": settings.use_photo,
            "weight": settings.weight,
            "photo": photo,
        }
        """What Generate reads, by name."""

    @property
    def run_outputs(self) -> list[Any]:
        """What a run updates."""
        return [self.settings.message, self.settings.seed, self.settings.model, *self.result.parts]

    @property
    def begin_outputs(self) -> list[Any]:
        """What ``begin`` updates."""
        return [self.run, *self.end_outputs]

    @property
    def end_outputs(self) -> list[Any]:
        """What ``end``, ``fail`` and ``rescue`` update."""
        return [self.settings.button, self.result.more, self.settings.cancel, self.settings.message]

    def begin(self) -> Updates:
        """A button was pressed: register a run, and disable the buttons that would start a second one.

        Two runs of one page would show their previews in turns, and Cancel would reach one of them.
        """
        return {
            self.run: self.runs.begin(),
            self.settings.button: gr.update(interactive=False),
            self.result.more: gr.update(interactive=False),
            self.settings.cancel: gr.update(interactive=True),
            self.settings.message: html.status("busy", "Waiting for its turn…", 0),
        }

    def generate(
        self, request: gr.Request, run_id: str | None, outlined: bool, *values: Any
    ) -> Iterator[Updates]:
        """Sample images of the drawing with the settings that are entered; ``values`` are those of ``entered``."""
        entered = dict(zip(self.entered, values, strict=True))
        form, photo = form_of(entered), entered["photo"]
        yield from self._follow(
            form,
            run_id,
            outlined,
            is_random=entered["random_seed"],
            visitor=visitor_of(request),
            photo=None if form.reference is None else photo,
        )

    def more(
        self,
        request: gr.Request,
        run_id: str | None,
        outlined: bool,
        is_random: bool,
        shown: GalleryImages,
    ) -> Iterator[Updates]:
        """Sample images of the selected image's mask, with that image as reference."""
        if shown.pair is None:
            yield {self.settings.message: html.status("error", "Generate an image first.")}
            return
        recipe = shown.pair.recipe
        form = Form(
            canvas=pack(shown.pair.drawn),
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
        visitor = visitor_of(request)
        yield from self._follow(form, run_id, outlined, is_random=is_random, visitor=visitor)

    def end(self, run_id: str | None, shown: GalleryImages, previewing: bool) -> Updates:
        """The run is over, however it ended: enable the buttons."""
        self.runs.end(run_id)
        return {
            self.settings.button: gr.update(interactive=True),
            self.settings.cancel: gr.update(interactive=False),
            self.result.more: gr.update(interactive=bool(shown.pairs) and not previewing),
        }

    def fail(self, run_id: str | None, shown: GalleryImages, previewing: bool) -> Updates:
        """Something failed outside the handlers above."""
        message = html.status("error", diagnosis())
        return {**self.end(run_id, shown, previewing), self.settings.message: message}

    def rescue(self, run_id: str | None, shown: GalleryImages, previewing: bool) -> Updates:
        """See ``siamese.studio.components.errors``. A run that waits still has sent no request: its inputs could not be read."""
        return self.fail(run_id, shown, previewing) if self.runs.is_pending(run_id) else gr.skip()

    def _follow(
        self,
        form: Form,
        run_id: str | None,
        outlined: bool,
        *,
        is_random: bool,
        visitor: str,
        photo: Photo | None = None,
    ) -> Iterator[Updates]:
        """Show the events of a run. ``photo``: the visitor's, if it is the reference."""
        last_step = 0.0
        for event in generate(self.worker, form, self.runs.start(run_id), visitor):
            if isinstance(event, Finished):
                yield self._finished(event, form, outlined, is_random=is_random, photo=photo)
            elif isinstance(event, Step):
                if event.previews is not None or time.monotonic() - last_step >= STEP_PAUSE:
                    last_step = time.monotonic()
                    yield self._step(event)
            else:
                yield {self.settings.message: status_html(event)}

    def _step(self, step: Step) -> Updates:
        text = f"Step {step.step} of {step.steps}{html.time_left(step.seconds_left)}"
        update = {self.settings.message: html.status("busy", text, step.step / step.steps)}
        return update if step.previews is None else update | gallery.preview(self.result, step.previews)

    def _finished(
        self, event: Finished, form: Form, outlined: bool, *, is_random: bool, photo: Photo | None
    ) -> Updates:
        made = event.generated
        images = GalleryImages(
            pairs=made.pairs, agreements=made.agreements, selected=0, reference=form.reference, photo=photo
        )
        if photo is not None and photo.gone.is_set():
            images = images.without(None)
        # The box shows a random seed only now that there is an image of it; a seed that was entered stays.
        seed = {self.settings.seed: made.pairs[0].recipe.seed} if is_random else {}
        return {
            **gallery.show(self.result, images, outlined),
            **seed,
            self.settings.model: html.model_line(self.worker.loaded),
            self.settings.message: html.status("done", f"Done in {event.seconds:.1f} s."),
        }


def form_of(entered: Mapping[str, Any]) -> Form:
    """The form of what is entered, by the names in ``GenerateEvents.entered``."""
    photo, seed = entered["photo"], entered["seed"]
    by_model = entered["defaults"]
    return Form(
        canvas=entered["canvas"],
        prompt=entered["prompt"],
        variants=entered["variants"],
        # An empty box is not a random seed: -1 is refused with a message.
        seed=None if entered["random_seed"] else (-1 if seed is None else seed),
        num_inference_steps=None if by_model else entered["steps"],
        guidance_scale=None if by_model else entered["guidance"],
        scheduler=None if by_model else entered["scheduler"],
        restored=None if by_model else entered["restored"],
        reference=photo.pixels if photo is not None and entered["use_photo"] else None,
        weight=entered["weight"],
        model=entered["model"],
    )


def status_html(event: Started | Waiting | Loading | Failed) -> str:
    """The status line of an event without a picture."""
    if isinstance(event, Waiting):
        return html.status("busy", f"{event.ahead} before you.", 0)
    if isinstance(event, Loading):
        return html.status("busy", "Loading the model…", 0)
    if isinstance(event, Failed):
        return html.status("idle" if event.cancelled else "error", event.message)
    return html.status("busy", "Waiting for its turn…", 0)
