"""The batch tab: many masks at once, from a ZIP or at random, as a ZIP of pairs."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from siamese.masks.shapes import load_statistics, random_lesion
from siamese.models.prompts import POLYP
from siamese.records.provenance import SyntheticPair
from siamese.studio.backend.messages import (
    BusyError,
    Cancelled,
    Generated,
    ModelUnavailableError,
    OutOfMemoryError,
    Request,
    Waiting,
)
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.turns import Share
from siamese.studio.components import html
from siamese.studio.components.canvas import SIDE
from siamese.studio.components.download import on_demand
from siamese.studio.components.errors import reason, sentence_for, whatever_happens
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.storage.batches import MAX_MASKS, BatchError, BatchJob, NamedMask, read_mask_zip
from siamese.studio.tabs.generate import InputError, Presses, check_seed, check_whole
from siamese.studio.tabs.settings import ORGANS
from siamese.studio.visitors.cookie import NoCookieError, keeper, visitor_of

CHUNK = 4
"""Masks a request: other visitors come in between."""
BATCHES_EACH, BATCHES_ALL = 4, 24
"""Batches that run or are begun: of one visitor, and of all together."""
TOO_MANY = (
    "You have {} batches running already. Wait until one of them is done, or cancel one; then try again."
)
FULL = "As many batches run as this studio takes. Try again in a few minutes."


@dataclass
class BatchTab:
    """The tab's components."""

    source: gr.Radio
    file: gr.File
    count: gr.Number
    prompt: gr.Radio
    seed: gr.Number
    random_seed: gr.Checkbox
    start: gr.Button
    resume: gr.Button
    cancel: gr.Button
    download: gr.Button
    message: gr.HTML


FROM_ZIP, AT_RANDOM = "Masks in a ZIP", "Random lesions"


def build_batch() -> BatchTab:
    """The tab."""
    gr.HTML(
        f'<p class="hint">Up to {MAX_MASKS} masks at a time. Each pair is stored as soon as it is made, so a batch that was cancelled, '
        "or cut off by a closed page or a restart, can be resumed. A new batch replaces the one before; batches are deleted after 7 days.</p>"
    )
    with gr.Row(elem_id="batch"):
        with gr.Column():
            source = gr.Radio([FROM_ZIP, AT_RANDOM], value=AT_RANDOM, label="Masks")
            file = gr.File(
                label="ZIP of mask images",
                file_types=[".zip"],
                visible=False,
                height=120,
                elem_id="batch-file",
            )
            count = gr.Number(value=8, precision=0, label="Number of random lesions", elem_id="batch-count")
        with gr.Column():
            prompt = gr.Radio(
                [(name, text) for text, name in ORGANS.items()], value=POLYP, label="Kind of image"
            )
            with gr.Group():
                # Hidden while it is drawn at random: a number there would say what no pair is made with.
                seed = gr.Number(value=0, precision=0, label="Seed of the batch", visible=False)
                random_seed = gr.Checkbox(value=True, label="Random seed")
    with gr.Row(elem_classes="buttons"):
        start = gr.Button("Start batch", variant="primary", size="md", elem_id="batch-start")
        resume = gr.Button("Resume", size="md", interactive=False, elem_id="batch-resume")
        cancel = gr.Button("Cancel", size="md", interactive=False, elem_id="batch-cancel")
        download = gr.Button("Download pairs (ZIP)", size="md", interactive=False, elem_id="batch-download")
    message = gr.HTML(html.status("idle", "No batch yet."), elem_id="batch-message")
    return BatchTab(source, file, count, prompt, seed, random_seed, start, resume, cancel, download, message)


def wire_batch(
    tab: BatchTab, worker: ModelWorker, folder: Path, model: gr.State, entering: gr.Tab, rescue: gr.Button
) -> None:
    """Connect the tab. Each visitor has one batch at a time, in a folder of ``folder`` keyed like their collection: by the visitor, who
    cannot name another. ``rescue``: see ``siamese.studio.components.errors``."""
    presses, press = Presses(), gr.State(None)
    statistics = load_statistics()
    lock, running = threading.Lock(), set()
    batches = Share(BATCHES_EACH, BATCHES_ALL, TOO_MANY, FULL)

    def place(name: str) -> Path:
        # As collections do: a listing of the disk gives nobody a token.
        return folder / hashlib.sha256(name.encode()).hexdigest()

    def job_of(name: str | None) -> BatchJob | None:
        return BatchJob.open(place(name)) if name and (place(name) / "job.json").is_file() else None

    def idle(name: str | None, text: str = "", kind: html.Kind = "idle") -> dict[Any, Any]:
        job = job_of(name)
        if job is None:
            return {
                tab.message: html.status(kind, text or "No batch yet."),
                tab.start: gr.update(interactive=True),
                tab.resume: gr.update(interactive=False),
                tab.cancel: gr.update(interactive=False),
                tab.download: gr.update(interactive=False),
            }
        there = text or (
            f"{job.done} of {job.total} pairs are made."
            if job.done < job.total
            else f"All {job.total} pairs are made."
        )
        there += f" {_seeds(job)}{_passed_over(job)}"
        busy = str(place(name)) in running
        return {
            tab.message: html.status("busy" if busy else kind, there, job.done / job.total),
            tab.start: gr.update(interactive=not busy),
            tab.resume: gr.update(interactive=job.done < job.total and not busy),
            tab.cancel: gr.update(interactive=busy),
            tab.download: gr.update(interactive=job.done > 0),
        }

    def begin() -> list[Any]:
        return [
            presses.begin(),
            gr.update(interactive=False),
            gr.update(interactive=False),
            gr.update(interactive=True),
            html.status("busy", "Reading the masks…", 0),
        ]

    def masks(kind: str, path: str | None, count: float | None, prompt: str, first: int) -> list[NamedMask]:
        if kind == FROM_ZIP:
            if path is None:
                raise InputError("Choose a ZIP of mask images first.")
            return read_mask_zip(Path(path))
        total = check_whole(count, "The number of lesions", 1, MAX_MASKS)
        return [
            NamedMask(f"random-{i + 1:03d}", random_lesion(statistics[prompt], (first + i) % 2**32, SIDE))
            for i in range(total)
        ]

    def now(text: str = "", kind: html.Kind = "idle") -> dict[Any, Any]:
        """The tab of the visitor whose event runs."""
        try:
            return idle(keeper(), text, kind)
        except NoCookieError as error:
            return idle(None, str(error), "error")

    def visited() -> dict[Any, Any]:
        return now()

    def start(
        running_press: str,
        kind: str,
        path: str | None,
        count: float | None,
        prompt: str,
        seed: float | None,
        is_random: bool,
        chosen: str,
        request: gr.Request,
    ) -> Iterator[dict[Any, Any]]:
        visitor = visitor_of(request)
        yield from bounded(
            visitor,
            lambda name: begun(
                name, running_press, kind, path, count, prompt, seed, is_random, chosen, visitor
            ),
        )

    def bounded(visitor: str, work: Callable[[str], Iterator[dict[Any, Any]]]) -> Iterator[dict[Any, Any]]:
        try:
            with batches.held(visitor):
                yield from work(keeper())
        except (BusyError, NoCookieError) as error:
            yield {**now(), tab.message: html.status("error", str(error))}

    def begun(
        name: str,
        running_press: str,
        kind: str,
        path: str | None,
        count: float | None,
        prompt: str,
        seed: float | None,
        is_random: bool,
        chosen: str,
        visitor: str,
    ) -> Iterator[dict[Any, Any]]:
        try:
            first = secrets.randbelow(2**31) if is_random else check_seed(seed)
            found = masks(kind, path, count, prompt, first)
            info = worker.info(
                chosen, presses.go(running_press), visitor
            )  # waits, perhaps long, so it holds no lock
            with lock:
                if str(place(name)) in running:
                    raise InputError("Your batch is still running in another window. Cancel it there first.")
                shutil.rmtree(
                    place(name), ignore_errors=True
                )  # the batch before; the page says that a new one replaces it
                job = BatchJob.create(
                    place(name),
                    found,
                    prompt,
                    first,
                    info.steps,
                    info.guidance,
                    info.scheduler,
                    chosen,
                    info.size,
                )
        except OSError as error:
            yield {
                **idle(name),
                tab.message: html.status(
                    "error", f"The server could not store the masks ({error.strerror}). Try again later."
                ),
            }
            return
        except (BatchError, BusyError, InputError, ModelUnavailableError) as error:
            yield {**idle(name), tab.message: html.status("error", str(error))}
            return
        except Cancelled:
            yield idle(name, "Cancelled.")
            return
        if is_random:
            yield {tab.seed: first}
        yield from advance(name, job, running_press, visitor)

    def resume(running_press: str, request: gr.Request) -> Iterator[dict[Any, Any]]:
        visitor = visitor_of(request)
        yield from bounded(visitor, lambda name: resumed(name, running_press, visitor))

    def resumed(name: str, running_press: str, visitor: str) -> Iterator[dict[Any, Any]]:
        job = job_of(name)
        if job is None:
            yield {
                **idle(name),
                tab.message: html.status(
                    "error", "There is no batch to resume; it has expired. Start a new one."
                ),
            }
            return
        yield from advance(name, job, running_press, visitor)

    def advance(name: str, job: BatchJob, running_press: str, visitor: str) -> Iterator[dict[Any, Any]]:
        stop, where = presses.go(running_press), str(place(name))
        with lock:
            if where in running:
                yield {
                    tab.message: html.status(
                        "error", "Your batch is still running in another window. Cancel it there first."
                    )
                }
                return
            running.add(where)

        latest: list[float | None] = []

        def sample(some: list[np.ndarray], seeds: list[int]) -> Generator[Waiting, None, list[SyntheticPair]]:
            want = job.settings
            request = Request(
                tuple(some),
                want.prompt,
                tuple(seeds),
                want.steps,
                want.guidance,
                want.scheduler,
                model=want.model,
                previews=False,
            )
            for update in worker.sample(request, stop, visitor):
                if isinstance(update, Generated):
                    latest[:] = update.agreements
                    return list(update.pairs)
                if isinstance(update, Waiting):
                    yield update
            raise Cancelled

        try:
            yield {tab.message: html.status("busy", f"{job.done} of {job.total} pairs", job.done / job.total)}
            for progress in job.run(sample, CHUNK, stop.is_set, lambda _: latest):
                if isinstance(progress, Waiting):
                    text = f"{job.done} of {job.total} pairs, {progress.ahead} before you."
                    yield {tab.message: html.status("busy", text, job.done / job.total)}
                    continue
                text = f"{progress.done} of {progress.total} pairs{html.time_left(progress.seconds_left)}"
                yield {tab.message: html.status("busy", text, progress.done / progress.total)}
        except Cancelled:
            pass  # what is made is stored; the line below says how much that is
        except (BusyError, ModelUnavailableError, OutOfMemoryError, OSError, ValueError) as error:
            running.discard(where)
            what = sentence_for(error) if isinstance(error, OSError) else str(error)
            yield idle(
                name, f"{what} {job.done} of {job.total} pairs are made; press Resume to go on.", "error"
            )
            return
        finally:
            running.discard(where)
        rest = (
            f"All {job.total} pairs are made."
            if job.done == job.total
            else f"Stopped after {job.done} of {job.total} pairs. Press Resume to go on."
        )
        yield idle(name, rest, "done" if job.done == job.total else "idle")

    def over(running_press: str | None) -> dict[Any, Any]:
        presses.end(running_press)
        return gr.skip()

    def failed(running_press: str | None) -> dict[Any, Any]:
        """What broke was around the work; what is made is stored."""
        presses.end(running_press)
        return {**now(), tab.message: html.status("error", reason())}

    def rescued(running_press: str | None) -> dict[Any, Any]:
        return failed(running_press) if presses.waits(running_press) else gr.skip()

    def export(target: Path) -> Path:
        job = job_of(keeper())
        if job is None:
            raise ValueError("The batch has expired. Start a new one.")
        path = target / "synthetic-batch.zip"
        job.export(path)
        return path

    parts = [tab.message, tab.start, tab.resume, tab.cancel, tab.download]
    started = [press, tab.start, tab.resume, tab.cancel, tab.message]
    tab.source.change(
        lambda kind: [gr.update(visible=kind == FROM_ZIP), gr.update(visible=kind == AT_RANDOM)],
        tab.source,
        [tab.file, tab.count],
        **QUICK,
    )
    entering.select(visited, None, parts, **QUICK)
    entered = [tab.source, tab.file, tab.count, tab.prompt, tab.seed, tab.random_seed, model]
    for button, work, inputs, outputs in (
        (tab.start, start, entered, [*parts, tab.seed]),
        (tab.resume, resume, [], parts),
    ):
        worked = button.click(begin, None, started, **QUICK).then(work, [press, *inputs], outputs, **LINED)
        whatever_happens(worked, over, failed, press, parts)
    rescue.click(rescued, press, parts, **QUICK)
    tab.random_seed.change(
        lambda is_random: gr.update(visible=not is_random), tab.random_seed, tab.seed, **QUICK
    )
    tab.cancel.click(presses.cancel, press, None, **QUICK)
    on_demand(tab.download.click, export, [], tab.message)


def _seeds(job: BatchJob) -> str:
    """With what the job's pairs are made, in words."""
    return f"Seed of the batch: {job.settings.seed}; the seed of each pair, which follows from it, is in the ZIP’s manifest."


def _passed_over(job: BatchJob) -> str:
    """What of the ZIP was not read, in words."""
    return f" Not read from the ZIP: {'; '.join(job.passed_over)}." if job.passed_over else ""
