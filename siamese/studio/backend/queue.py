"""Scheduling: many visitors send requests, and one thread passes them to the model's process, one at a time, each visitor in turn.

``ModelWorker`` is what the page calls. It puts each request into the ``Line`` of ``turns``, which knows limits and order, waits for it
together with the visitor, and yields the events of ``messages``. Its thread takes the next request and calls ``ModelProcess.ask``, the
transport; the execution is the engine's.
"""

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
"""Seconds between two checks whether a request was cancelled."""
REPEAT = 5.0
"""Seconds after which a waiting visitor gets the same event again: sending it shows whether the page is still open."""
LOADING = "The server is loading the model for other visitors, so its defaults are not known yet. You can press Generate at any time."
ASKING_EACH, ASKING_ALL = 4, 32
"""How many may wait for a model's description: calls of one visitor, and of all together."""


class ModelWorker:
    """One loaded model for all visitors, in a process of its own, and the thread that passes requests to it.

    ``visitor``, any text, says whose request it is: visitors take turns, and each has a limit; see ``siamese.studio.backend.turns``.

    Args:
        models: the models to choose from, the default first. The first request for a model loads it in place of the one
            before. If that fails, each later request tries again, so that a repaired folder works without a restart.
        silence: seconds without a sign of life after which the process is killed. The request fails, and the next one starts another process.
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
        """Load the default model in the background. It takes seconds, so call this as early as possible."""
        self._process.start()
        self._describe(self.default)

    def close(self) -> None:
        """Stop the running request, drop the waiting ones and end the process."""
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
        """Wait until a model is loaded, and return its description. All calls for the same model share one request in the line.

        Raises:
            ModelUnavailableError: it cannot be loaded.
            BusyError: too many calls wait for a description.
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
        """Sample; yields events, then the images. Setting ``cancelled`` or closing the iterator stops the run.

        Raises:
            ModelUnavailableError: the model cannot be loaded, or its process hung.
            OutOfMemoryError: too many images at once.
            BusyError: too many requests wait, of this visitor or of all.
            Cancelled: ``cancelled`` was set. This does not wait for the process.
            ValueError: the model refuses a mask, the prompt or a setting.
        """
        yield (yield from self._follow(self._job("sample", request, cancelled=cancelled, visitor=visitor)))

    def suggest(
        self, photo: np.ndarray, model: str | None = None, visitor: str = "", prompt: str | None = None
    ) -> np.ndarray:
        """Mask uint8 [H, W] of 0 / 255 of the lesion that the segmentation network finds in ``photo`` uint8 [H, W, 3]; all 0 if it finds none.

        ``prompt`` is that of the photo's subject; None: the model's first.

        Raises:
            ModelUnavailableError: the model cannot be loaded, its process hung, or it has no segmentation network for the subject.
            BusyError: see ``sample``.
        """
        *_, mask = self.suggesting(photo, model, visitor, prompt)
        assert isinstance(mask, np.ndarray)  # the last that ``suggesting`` yields
        return mask

    def suggesting(
        self, photo: np.ndarray, model: str | None = None, visitor: str = "", prompt: str | None = None
    ) -> Iterator[Update | np.ndarray]:
        """As ``suggest``; yields events, then the mask. Closing the iterator stops the run."""
        yield (yield from self._follow(self._job("suggest", photo, model, prompt, visitor=visitor)))

    @contextmanager
    def turn(self, visitor: str) -> Iterator[None]:
        """Wait for a turn in the line and hold it inside: for work outside the model's process that uses the machine as much.

        No limit applies. Raises Cancelled if the worker is closed while this waits.
        """
        started, ended = threading.Event(), threading.Event()

        def work(job: Job) -> None:
            started.set()
            while not ended.wait(PAUSE):
                if job.cancelled.is_set():  # the worker is closed
                    return

        job = Job(work, visitor)
        self._enqueue(job, limited=False)
        try:
            while not started.wait(PAUSE):
                if job.cancelled.is_set():
                    raise Cancelled
            yield
        finally:
            ended.set()
            self._line.leave(job)

    def _describe(self, name: str) -> Job:
        with self._lock:
            job = self._infos.get(name)
            if job is not None:
                return job
            if name not in self.models:
                raise ModelUnavailableError(
                    f"The model {name!r} is not available any more; choose another one."
                )
            job = self._infos[name] = self._job("info", name)

        def forget(_: object) -> None:
            with self._lock:
                del self._infos[name]

        job.result.add_done_callback(forget)
        try:
            self._enqueue(job, limited=False)
        except Cancelled as error:  # all callers that wait for this description get it
            job.result.set_exception(error)
        return job

    def _job(self, call: str, *args: Any, cancelled: threading.Event | None = None, visitor: str = "") -> Job:
        def work(job: Job) -> Any:
            if job.cancelled.is_set():
                raise Cancelled
            return self._process.ask(
                call, *args, on_update=job.updates.put, is_cancelled=job.cancelled.is_set
            )

        return Job(work, visitor, cancelled or threading.Event())

    def _enqueue(self, job: Job, limited: bool = True) -> None:
        self._line.join(job, limited)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=_serve, args=(self._line,), name="model", daemon=True)
                self._thread.start()

    def _follow(self, job: Job) -> Iterator[Update]:
        """Yield a request's events and return its result. A caller that closes the iterator ends the request."""
        self._enqueue(job)
        try:
            while (update := self._next(job)) is not None:
                yield update
            return job.result.result()
        finally:
            if (
                not job.result.done()
            ):  # a finished request does not set it: the next chunk of a batch uses the same event
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
                # Cancelling waits neither for the turn nor for the process, which may hang; the model's thread handles that.
                if job.cancelled.is_set():
                    raise Cancelled from None
                if isinstance(job.last, Waiting | Loading) and time.monotonic() - began >= REPEAT:
                    return job.last


def _serve(line: Line) -> None:
    """Run one request after the other until the line is closed."""
    while (job := line.take()) is not None:
        try:
            result = job.work(job)
        except Exception as error:  # the caller gets it
            line.done()
            job.result.set_exception(error)
        else:
            line.done()
            job.result.set_result(result)
        job.updates.put(None)
