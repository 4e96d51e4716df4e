"""The model's thread: many visitors ask, one process samples, one request after the other, each visitor in turn."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import wait
from contextlib import contextmanager
from typing import Any

import numpy as np

from siamese.records.catalogue import ModelEntry
from siamese.studio.backend.messages import (
    Cancelled,
    Generated,
    Loading,
    ModelInfo,
    ModelUnavailableError,
    Request,
    Update,
    Waiting,
)
from siamese.studio.backend.process import SILENCE, ModelProcess
from siamese.studio.backend.turns import Job, Line, Share

PAUSE = 0.2
"""Seconds between two looks at whether a request was cancelled."""
REPEAT = 5.0
"""Seconds after which a place in the line is told again: whoever passes it on then notices that nobody listens any more."""
LOADING = "The model is being read for other visitors; its defaults are not known yet. Press Generate whenever you are ready."
ASKING_EACH, ASKING_ALL = 4, 32
"""Who may wait for a model's description: a visitor, and all together."""


class ModelWorker:
    """The process that holds one loaded model for all visitors, and the thread that asks it.

    Whose request it is says ``visitor``, any text: visitors take turns, and each has a limit; see ``siamese.studio.backend.turns``.

    Args:
        models: what can be chosen, the default first. A model is loaded by the first request for it, and replaces the
            one before; where that fails, each later request tries again, so that a repaired folder works without a restart.
        silence: seconds without a sign of life after which the process is ended; the request fails, and the next starts another.
    """

    def __init__(self, models: Sequence[ModelEntry], silence: float = SILENCE) -> None:
        self.models = {m.name: m for m in models}
        self.default = models[0].name
        self._process = ModelProcess(models, silence)
        self._thread: threading.Thread | None = None
        self._line = Line()
        self._asking = Share(ASKING_EACH, ASKING_ALL, LOADING, LOADING)
        self._infos: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load the default model in the background. The earlier the better: it takes seconds, on a core of its own."""
        self._process.start()
        self._describe(self.default)

    def close(self) -> None:
        """Stop the running request, drop the waiting ones, end the process."""
        self._line.close()
        self._process.close()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    @property
    def loaded(self) -> ModelInfo | None:
        """The description of the model in memory, None before the first is loaded. Never waits."""
        return self._process.loaded

    def info(
        self, model: str | None = None, cancelled: threading.Event | None = None, visitor: str = ""
    ) -> ModelInfo:
        """Wait for a model. All who wait for the same one are one request in the line.

        Raises:
            ModelUnavailableError: it cannot be loaded.
            BusyError: too many wait for a description.
            Cancelled: ``cancelled`` was set.
        """
        name, loaded = model or self.default, self.loaded
        if loaded is not None and loaded.name == name:
            return loaded
        with self._asking.held(visitor):
            described = self._describe(name).result
            while not described.done():
                wait([described], PAUSE)
                if cancelled is not None and cancelled.is_set():
                    raise Cancelled
            return described.result()

    def sample(
        self, request: Request, cancelled: threading.Event | None = None, visitor: str = ""
    ) -> Iterator[Update | Generated]:
        """Sample; yields what happens meanwhile, then the images. Setting ``cancelled`` or closing the iterator stops it.

        Raises:
            ModelUnavailableError: the model cannot be loaded, or its process hung.
            OutOfMemoryError: too many images at once.
            BusyError: too many requests wait, of this visitor or of all.
            Cancelled: ``cancelled`` was set. At once, whatever the process does.
            ValueError: the model refuses a mask, the prompt or a setting.
        """
        yield (yield from self._follow(self._job("sample", request, cancelled=cancelled, visitor=visitor)))

    def suggest(self, photo: np.ndarray, model: str | None = None, visitor: str = "") -> np.ndarray:
        """Mask uint8 [H, W] of 0 / 255 of the lesion that the shipped network finds in ``photo`` uint8 [H, W, 3]; empty where none.

        Raises:
            ModelUnavailableError: the model cannot be loaded, its process hung, or it comes without a segmentation network.
            BusyError: see ``sample``.
        """
        *_, mask = self.suggesting(photo, model, visitor)
        return mask

    def suggesting(
        self, photo: np.ndarray, model: str | None = None, visitor: str = ""
    ) -> Iterator[Update | np.ndarray]:
        """``suggest``, which yields what happens meanwhile, then the mask. Closing the iterator stops it."""
        yield (yield from self._follow(self._job("suggest", photo, model, visitor=visitor)))

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        """Wait for a turn in the line and hold it inside: for work beside the model's process that takes as much of the machine.

        No limit keeps it out; Cancelled where the worker is closed meanwhile.
        """
        mine, over = threading.Event(), threading.Event()

        def work(job: Job) -> None:
            mine.set()
            while not over.wait(PAUSE):
                if job.cancelled.is_set():  # closed
                    return

        job = Job(work, visitor)
        self._enqueue(job, limited=False)
        try:
            while not mine.wait(PAUSE):
                if job.cancelled.is_set():
                    raise Cancelled
            yield
        finally:
            over.set()
            self._line.leave(job)

    def _describe(self, name: str) -> Job:
        with self._lock:
            job = self._infos.get(name)
            if job is not None:
                return job
            if name not in self.models:
                raise ModelUnavailableError(f"There is no model {name!r} any more; choose another one.")
            job = self._infos[name] = self._job("info", name)

        def forget(_: object) -> None:
            with self._lock:
                del self._infos[name]

        job.result.add_done_callback(forget)
        try:
            self._enqueue(job, limited=False)
        except Cancelled as error:  # whoever waits for it hears so, too
            job.result.set_exception(error)
        return job

    def _job(self, call: str, *args: Any, cancelled: threading.Event | None = None, visitor: str = "") -> Job:
        def work(job: Job) -> Any:
            if job.cancelled.is_set():
                raise Cancelled
            return self._process.ask(call, *args, tell=job.updates.put, asked_to_stop=job.cancelled.is_set)

        return Job(work, visitor, cancelled or threading.Event())

    def _enqueue(self, job: Job, limited: bool = True) -> None:
        self._line.join(job, limited)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=_serve, args=(self._line,), name="model", daemon=True)
                self._thread.start()

    def _follow(self, job: Job) -> Iterator[Update]:
        """Yield what a request is told; return its result. Nobody who stops to listen leaves it running."""
        self._enqueue(job)
        try:
            while (update := self._next(job)) is not None:
                yield update
            return job.result.result()
        finally:
            if (
                not job.result.done()
            ):  # a finished request leaves the event alone: a batch's next one has the same
                job.cancelled.set()
                self._line.leave(job)

    @staticmethod
    def _next(job: Job) -> Update | None:
        began = time.monotonic()
        while True:
            try:
                job.last = job.updates.get(timeout=PAUSE)
                return job.last
            except queue.Empty:
                # Neither a turn nor an answer is waited for: the process may hang, and the model's thread sees to that.
                if job.cancelled.is_set():
                    raise Cancelled from None
                if isinstance(job.last, Waiting | Loading) and time.monotonic() - began >= REPEAT:
                    return job.last


def _serve(line: Line) -> None:
    """Run one request after the other until the line is closed."""
    while (job := line.take()) is not None:
        try:
            result = job.work(job)
        except Exception as error:  # whoever asked gets it
            line.done()
            job.result.set_exception(error)
        else:
            line.done()
            job.result.set_result(result)
        job.updates.put(None)
