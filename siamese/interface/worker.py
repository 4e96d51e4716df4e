"""The line before the model: many visitors ask, one process samples, one request after the other."""
from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from siamese.interface.jobs import Cancelled, Generated, ModelInfo, Request, Update, Waiting
from siamese.interface.model_process import ModelProcess
from siamese.library import ModelEntry


@dataclass
class _Job:
    """A request in the line."""

    updates: queue.SimpleQueue[Update | None] = field(default_factory=queue.SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)


class ModelWorker:
    """The process that holds one loaded model for all visitors, and the thread that asks it.

    Args:
        models: what can be chosen, the default first. A model is loaded by the first request for it, and replaces the
            one before; where that fails, each later request tries again, so that a repaired folder works without a restart.
    """

    def __init__(self, models: Sequence[ModelEntry]) -> None:
        self.models = {m.name: m for m in models}
        self.default = models[0].name
        self._process = ModelProcess(models)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._line: list[_Job] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load the default model in the background. The earlier the better: it takes seconds, on a core of its own."""
        self._process.start()
        self._thread.submit(self._ask, None, "info", None)

    def close(self) -> None:
        """Stop the running request, drop the waiting ones, end the process."""
        with self._lock:
            for job in self._line:
                job.cancelled.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._process.close()
        self._thread.shutdown(wait=True)

    @property
    def loaded(self) -> ModelInfo | None:
        """The description of the model in memory, None before the first is loaded. Never waits."""
        return self._process.loaded

    def info(self, model: str | None = None) -> ModelInfo:
        """Wait for a model; ModelUnavailableError where it cannot be loaded."""
        loaded = self.loaded
        if loaded is not None and loaded.name == (model or self.default):
            return loaded
        return self._thread.submit(self._ask, None, "info", model).result()

    def sample(self, request: Request, cancelled: threading.Event | None = None) -> Iterator[Update | Generated]:
        """Sample; yields what happens meanwhile, then the images. Setting ``cancelled`` or closing the iterator stops it.

        Raises:
            ModelUnavailableError: the model cannot be loaded.
            OutOfMemoryError: too many images at once.
            Cancelled: ``cancelled`` was set.
            ValueError: the model refuses a mask, the prompt or a setting.
        """
        job = _Job() if cancelled is None else _Job(cancelled=cancelled)
        future = self._enqueue(job, "sample", request)
        try:
            while (update := self._next(job)) is not None:
                yield update
            if future.cancelled():
                raise Cancelled
            yield future.result()
        finally:
            if not future.done():  # a finished request leaves the event alone: a batch's next one has the same
                job.cancelled.set()
                future.cancel()

    def suggest(self, photo: np.ndarray, model: str | None = None) -> np.ndarray:
        """Mask uint8 [H, W] of 0 / 255 of the lesion that the shipped network finds in ``photo`` uint8 [H, W, 3]; empty where none.

        Raises:
            ModelUnavailableError: the model cannot be loaded, or comes without a segmentation network.
        """
        return self._thread.submit(self._ask, None, "suggest", photo, model).result()

    def _ask(self, job: _Job | None, call: str, *args: Any) -> Any:
        if job is None:
            return self._process.ask(call, *args, tell=lambda update: None, asked_to_stop=lambda: False)
        if job.cancelled.is_set():
            raise Cancelled
        return self._process.ask(call, *args, tell=job.updates.put, asked_to_stop=job.cancelled.is_set)

    def _next(self, job: _Job) -> Update | None:
        # With a time limit: a request that is cancelled while it waits in line must not wait for its turn to end.
        while True:
            try:
                return job.updates.get(timeout=0.2)
            except queue.Empty:
                with self._lock:
                    waiting = job in self._line[1:]
                if waiting and job.cancelled.is_set():
                    raise Cancelled from None

    def _enqueue(self, job: _Job, call: str, *args: Any) -> Future[Any]:
        with self._lock:
            self._line.append(job)
            if ahead := len(self._line) - 1:
                job.updates.put(Waiting(ahead))
        future = self._thread.submit(self._ask, job, call, *args)

        def finished(_: Future[Any]) -> None:
            self._leave(job)
            job.updates.put(None)
        future.add_done_callback(finished)
        return future

    def _leave(self, job: _Job) -> None:
        with self._lock:
            if job in self._line:
                self._line.remove(job)
                for ahead, other in enumerate(self._line):
                    if ahead:
                        other.updates.put(Waiting(ahead))
