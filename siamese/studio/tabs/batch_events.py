"""What the batch tab does when its buttons are pressed: reads what was entered, runs the batch, shows its progress."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr

from siamese.files.listing import describe_passed_over
from siamese.masks.shapes import random_lesion
from siamese.records.catalogue import ModelEntry
from siamese.studio.backend.batch_runner import EXPIRED, BatchOrder, BatchRunner
from siamese.studio.backend.messages import (
    BatchProgress,
    BusyError,
    Cancelled,
    ModelUnavailableError,
    OutOfMemoryError,
    Waiting,
)
from siamese.studio.backend.runs import RunRegistry
from siamese.studio.components import html
from siamese.studio.components.canvas import SIDE
from siamese.studio.components.download import on_demand
from siamese.studio.components.errors import after_event, diagnosis, message_for
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.storage.batch_job import BatchJob
from siamese.studio.storage.frame_zip import read_frame_zip
from siamese.studio.storage.mask_zip import (
    MAX_MASKS,
    BatchError,
    NamedMask,
    NamedMasks,
    augmented,
    read_mask_zip,
)
from siamese.studio.tabs.batch import AT_RANDOM, FRAMES, FROM_ZIP, MAX_VARIATIONS, BatchTab
from siamese.studio.tabs.generate import InputError, check_seed, check_whole
from siamese.studio.visitors.cookie import NoCookieError, keeper, visitor_of

Updates = dict[Any, Any]
"""Updates by component."""


@dataclass(frozen=True)
class BatchForm:
    """What is entered in the tab, unchecked."""

    source: str
    file: str | None
    """Path of the uploaded ZIP."""
    count: float | None
    """Number of random lesions."""
    variations: float | None
    """Number of random variants of each given mask; 0: the masks themselves."""
    prompt: str
    seed: float | None
    is_random: bool
    """Whether the seed is drawn at random."""
    model: str

    def order(self, models: Mapping[str, ModelEntry]) -> BatchOrder:
        """The checked masks and settings.

        Args:
            models: by name; the chosen one's statistics give the shapes of random lesions.

        Raises:
            InputError: a value is missing or out of range.
            BatchError: the ZIP cannot be used.
        """
        seed = secrets.randbelow(2**31) if self.is_random else check_seed(self.seed)
        masks = self._masks(seed, models)
        passed_over = (
            describe_passed_over(masks.passed_over, indent="") if isinstance(masks, NamedMasks) else []
        )
        return BatchOrder(
            masks=masks, prompt=self.prompt, seed=seed, model=self.model, passed_over=passed_over
        )

    def _masks(self, seed: int, models: Mapping[str, ModelEntry]) -> list[NamedMask]:
        if self.source in (FROM_ZIP, FRAMES):
            if self.file is None:
                raise InputError("Choose a ZIP first.")
            variations = check_whole(self.variations, "The number of variations", 0, MAX_VARIATIONS)
            masks = (read_mask_zip if self.source == FROM_ZIP else read_frame_zip)(Path(self.file))
            if not variations:
                return masks
            return NamedMasks(augmented(masks, variations, seed), masks.passed_over)
        count = check_whole(self.count, "The number of lesions", 1, MAX_MASKS)
        if self.model not in models:
            raise InputError("Choose a model first.")
        try:
            statistics = models[self.model].statistics(self.prompt)
            missing = models[self.model].subject(self.prompt).missing
        except ValueError as error:
            raise InputError(str(error)) from error
        if statistics is None:
            raise InputError(" ".join(missing))
        return [
            NamedMask(f"random-{i + 1:03d}", random_lesion(statistics, (seed + i) % 2**32, SIDE))
            for i in range(count)
        ]


class BatchEvents:
    """The handlers of the tab's events; each returns or yields updates by component."""

    def __init__(self, tab: BatchTab, runner: BatchRunner, models: Mapping[str, ModelEntry]) -> None:
        self.tab, self.runner, self.models, self.runs = tab, runner, models, RunRegistry()
        self.run = gr.State(None)
        """Id of the page's run."""

    def show_source(self, source: str) -> Updates:
        """Show the input of the chosen source of masks."""
        return {
            self.tab.file: gr.update(visible=source != AT_RANDOM),
            self.tab.variations: gr.update(visible=source != AT_RANDOM),
            self.tab.frames_hint: gr.update(visible=source == FRAMES),
            self.tab.count: gr.update(visible=source == AT_RANDOM),
        }

    def show(self, text: str = "", kind: html.Kind = "idle") -> Updates:
        """The state of the batch of the visitor whose event runs, with ``text`` in place of the default message."""
        try:
            owner = keeper()
            job = self.runner.job(owner)
        except (NoCookieError, BatchError) as error:
            return self._buttons(None, False) | {self.tab.message: html.status("error", text or str(error))}
        if job is None:
            return self._buttons(None, False) | {self.tab.message: html.status(kind, text or "No batch yet.")}
        running = self.runner.is_running(owner)
        text = f"{text or _count(job.done, job.total)} {_seeds(job)}{_passed_over(job)}"
        message = html.status("busy" if running else kind, text, job.done / job.total)
        return self._buttons(job, running) | {self.tab.message: message}

    def begin(self) -> Updates:
        """A button was pressed: register a run, and disable the buttons that would start a second one."""
        return {
            self.run: self.runs.begin(),
            self.tab.start: gr.update(interactive=False),
            self.tab.resume: gr.update(interactive=False),
            self.tab.cancel: gr.update(interactive=True),
            self.tab.message: html.status("busy", "Reading the masks…", 0),
        }

    def start(
        self,
        run_id: str,
        source: str,
        file: str | None,
        count: float | None,
        variations: float | None,
        prompt: str,
        seed: float | None,
        is_random: bool,
        model: str,
        request: gr.Request,
    ) -> Iterator[Updates]:
        """Run a new batch."""
        form = BatchForm(
            source=source,
            file=file,
            count=count,
            variations=variations,
            prompt=prompt,
            seed=seed,
            is_random=is_random,
            model=model,
        )
        cancelled = self.runs.start(run_id)
        try:
            owner, order = keeper(), form.order(self.models)
        except (InputError, BatchError, NoCookieError) as error:
            yield self._refusal(str(error))
            return
        events = self.runner.start(owner, order, cancelled, visitor_of(request))
        yield from self._follow(owner, events, order.seed if is_random else None)

    def resume(self, run_id: str, request: gr.Request) -> Iterator[Updates]:
        """Continue the visitor's batch."""
        cancelled = self.runs.start(run_id)
        try:
            owner = keeper()
        except NoCookieError as error:
            yield self._refusal(str(error))
            return
        yield from self._follow(owner, self.runner.resume(owner, cancelled, visitor_of(request)))

    def end(self, run_id: str | None) -> Updates:
        """The run is over; its last update has set the buttons."""
        self.runs.end(run_id)
        return gr.skip()

    def fail(self, run_id: str | None) -> Updates:
        """Something failed outside ``start`` and ``resume``; finished pairs are stored."""
        self.runs.end(run_id)
        return self._refusal(diagnosis())

    def rescue(self, run_id: str | None) -> Updates:
        """See ``siamese.studio.components.errors``."""
        return self.fail(run_id) if self.runs.is_pending(run_id) else gr.skip()

    def export(self, folder: Path) -> Path:
        """The ZIP of the finished pairs, in ``folder``; raises BatchError if there is no batch."""
        job = self.runner.job(keeper())
        if job is None:
            raise BatchError(EXPIRED)
        path = folder / "synthetic-batch.zip"
        job.export(path)
        return path

    def _follow(
        self, owner: str, events: Iterator[Waiting | BatchProgress], seed: int | None = None
    ) -> Iterator[Updates]:
        """Show the events of a run, and how it ended.

        Args:
            seed: a seed that was drawn at random; its box shows it as soon as the batch is stored.
        """
        progress = None
        try:
            for event in events:
                update = {}
                if isinstance(event, BatchProgress):
                    update = {} if progress or seed is None else {self.tab.seed: seed}
                    progress = event
                yield {**update, self.tab.message: _status(progress, event)}
        except Cancelled:
            if progress is None:
                yield self.show("Cancelled.")
                return  # otherwise the finished pairs are stored, and the lines below count them
        except (BusyError, ModelUnavailableError, OutOfMemoryError, OSError, ValueError) as error:
            text = message_for(error) if isinstance(error, OSError) else str(error)
            if progress is None:
                yield self._refusal(text)
            else:
                job = self.runner.job(owner) or progress
                yield self.show(
                    f"{text} {job.done} of {job.total} pairs are made; press Resume to continue.", "error"
                )
            return
        if progress is None or progress.done == progress.total:
            yield self.show(kind="done")
        else:
            yield self.show(
                f"Stopped after {progress.done} of {progress.total} pairs. Press Resume to continue."
            )

    def _refusal(self, text: str) -> Updates:
        """The state of the batch, with an error as the whole message."""
        return self.show() | {self.tab.message: html.status("error", text)}

    def _buttons(self, job: BatchJob | None, running: bool) -> Updates:
        resumable = job is not None and job.done < job.total and not running
        return {
            self.tab.start: gr.update(interactive=not running),
            self.tab.resume: gr.update(interactive=resumable),
            self.tab.cancel: gr.update(interactive=running),
            self.tab.download: gr.update(interactive=job is not None and job.done > 0),
        }


def _count(done: int, total: int) -> str:
    return f"All {total} pairs are made." if done == total else f"{done} of {total} pairs are made."


def _seeds(job: BatchJob) -> str:
    return f"Seed of the batch: {job.settings.seed}; the seed of each pair, which follows from it, is in the ZIP’s manifest."


def _passed_over(job: BatchJob) -> str:
    return f" Not read from the ZIP: {'; '.join(job.passed_over)}." if job.passed_over else ""


def _status(progress: BatchProgress | None, event: Waiting | BatchProgress) -> str:
    done, total = (progress.done, progress.total) if progress else (0, 1)
    if isinstance(event, Waiting):
        return html.status("busy", f"{done} of {total} pairs, {event.ahead} before you.", done / total)
    return html.status("busy", f"{done} of {total} pairs{html.time_left(event.seconds_left)}", done / total)


def wire_batch(
    tab: BatchTab,
    *,
    runner: BatchRunner,
    models: Mapping[str, ModelEntry],
    model: gr.State,
    entering: gr.Tab,
    rescue: gr.Button,
) -> None:
    """Connect the tab. Each visitor has one batch at a time.

    Args:
        models: the models of the page by name.
        model: name of the chosen model.
        entering: the tab that shows the components; its state is read each time it is opened.
        rescue: see ``siamese.studio.components.errors``.
    """
    events = BatchEvents(tab, runner, models)
    tab.source.change(
        events.show_source, tab.source, [tab.file, tab.variations, tab.frames_hint, tab.count], **QUICK
    )
    tab.random_seed.change(
        lambda is_random: gr.update(visible=not is_random), tab.random_seed, tab.seed, **QUICK
    )
    entering.select(events.show, None, tab.parts, **QUICK)
    entered = [tab.source, tab.file, tab.count, tab.variations, tab.prompt, tab.seed, tab.random_seed, model]
    for button, work, inputs in ((tab.start, events.start, entered), (tab.resume, events.resume, [])):
        begun = button.click(events.begin, None, [events.run, *tab.parts], **QUICK)
        worked = begun.then(work, [events.run, *inputs], [*tab.parts, tab.seed], **LINED)
        after_event(worked, succeeded=events.end, failed=events.fail, inputs=events.run, outputs=tab.parts)
    rescue.click(events.rescue, events.run, tab.parts, **QUICK)
    tab.cancel.click(events.runs.cancel, events.run, None, **QUICK)
    on_demand(tab.download.click, events.export, [], tab.message)
