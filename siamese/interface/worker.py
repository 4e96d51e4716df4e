"""The one thread that imports, loads and runs the models, while the page stays responsive."""
from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from siamese.interface.jobs import (Cancelled, Generated, Loading, ModelInfo, ModelUnavailableError, OutOfMemoryError, Request, Step, Update,
                                    Waiting)
from siamese.library import ModelEntry
from siamese.provenance import Recipe, SyntheticPair

if TYPE_CHECKING:  # torch and diffusers take seconds to import; only the worker's thread does it
    from siamese.sampling import MaskDiffusion, Progress
    from siamese.segmentation import LesionSegmenter

log = logging.getLogger(__name__)

PREVIEW_SHARE = 5
"""A preview is decoded when sampling since the last one took this many times as long as decoding it."""
PREVIEW_PAUSE = 0.6
"""Seconds between previews at least: a browser has to load each."""
TOO_LARGE = "The request does not fit into memory. Ask for fewer variants, or start the studio on a machine with more memory; then try again."


@dataclass
class _Job:
    """A request in the line."""

    updates: queue.SimpleQueue[Update | None] = field(default_factory=queue.SimpleQueue)
    cancelled: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class _Loaded:
    entry: ModelEntry
    diffusion: MaskDiffusion
    segmenter: LesionSegmenter | None


class ModelWorker:
    """Holds one loaded model for all visitors. Everything that touches it runs in one thread, one request after the other.

    Args:
        models: what can be chosen, the default first. A model is loaded by the first request for it, and replaces the
            one before; where that fails, each later request tries again, so that a repaired folder works without a restart.
    """

    def __init__(self, models: Sequence[ModelEntry]) -> None:
        self.models = {m.name: m for m in models}
        self.default = models[0].name
        self._held: _Loaded | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
        self._line: list[_Job] = []
        self._lock = threading.Lock()

    def start(self) -> None:
        """Load the default model in the background; call it once the server is up."""
        self._thread.submit(self._info, None)

    def close(self) -> None:
        """Stop the running request, drop the waiting ones."""
        with self._lock:
            for job in self._line:
                job.cancelled.set()
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def loaded(self) -> ModelInfo | None:
        """The description of the model in memory, None before the first is loaded. Never waits."""
        held = self._held
        return None if held is None else self._describe(held)

    def info(self, model: str | None = None) -> ModelInfo:
        """Wait for a model; ModelUnavailableError where it cannot be loaded."""
        loaded = self.loaded
        if loaded is not None and loaded.name == (model or self.default):
            return loaded
        return self._thread.submit(self._info, model).result()

    def sample(self, request: Request, cancelled: threading.Event | None = None) -> Iterator[Update | Generated]:
        """Sample; yields what happens meanwhile, then the images. Setting ``cancelled`` or closing the iterator stops it.

        Raises:
            ModelUnavailableError: the model cannot be loaded.
            OutOfMemoryError: too many images at once.
            Cancelled: ``cancelled`` was set.
            ValueError: the model refuses a mask, the prompt or a setting.
        """
        job = _Job() if cancelled is None else _Job(cancelled=cancelled)
        future = self._enqueue(job, self._sample, request)
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
        return self._thread.submit(self._suggest, photo, model).result()

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

    def _enqueue(self, job: _Job, work: Callable[..., Any], *args: Any) -> Future[Any]:
        with self._lock:
            self._line.append(job)
            if ahead := len(self._line) - 1:
                job.updates.put(Waiting(ahead))
        future = self._thread.submit(work, job, *args)

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

    def _sample(self, job: _Job, request: Request) -> Generated:
        if job.cancelled.is_set():
            raise Cancelled
        held = self._load(request.model, job)
        from siamese.sampling import SamplingCancelled
        diffusion, defaults = held.diffusion, held.diffusion.checkpoint.defaults
        steps = defaults.steps if request.steps is None else request.steps
        guidance = defaults.guidance if request.guidance is None else request.guidance
        scheduler = defaults.scheduler if request.scheduler is None else request.scheduler
        fitted = [diffusion.fit_mask(m) for m in request.masks]
        job.updates.put(Step(0, steps))
        try:
            images = diffusion.sample(request.masks, request.prompt, request.seeds, steps=steps, guidance=guidance, scheduler=scheduler,
                                      reference=request.reference, reference_weight=request.reference_weight,
                                      callback=_Reporter(job, request.previews))
            agreements = self._agreements(held, images, fitted)
        except SamplingCancelled as error:
            raise Cancelled from error
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, MemoryError) or "out of memory" in str(error).lower() or "can't allocate memory" in str(error).lower():
                raise OutOfMemoryError(TOO_LARGE) from error
            raise
        weight = None if request.reference is None else request.reference_weight
        pairs = []
        for i, (image, seed) in enumerate(zip(images, request.seeds, strict=True)):
            one = min(i, len(fitted) - 1)
            recipe = Recipe(request.prompt, seed, steps, float(guidance), scheduler, held.entry.name, weight, defaults.guide, defaults.rescale)
            pairs.append(SyntheticPair(image, fitted[one], request.masks[one], recipe))
        return Generated(tuple(pairs), agreements)

    @staticmethod
    def _agreements(held: _Loaded, images: np.ndarray, masks: list[np.ndarray]) -> tuple[float | None, ...]:
        if held.segmenter is None:
            return (None,) * len(images)
        from siamese.segmentation import dice
        drawn = np.stack([masks[min(i, len(masks) - 1)] for i in range(len(images))])
        return tuple(float(d) for d in dice(held.segmenter.predict(images), drawn))

    def _suggest(self, photo: np.ndarray, model: str | None) -> np.ndarray:
        held = self._load(model)
        if held.segmenter is None:
            raise ModelUnavailableError(f"{held.entry.name} comes without a segmentation network, so it cannot suggest a mask. Draw it by hand.")
        return held.segmenter.predict(photo[None])[0]

    def _info(self, model: str | None) -> ModelInfo:
        return self._describe(self._load(model))

    def _load(self, model: str | None, job: _Job | None = None) -> _Loaded:
        name = model or self.default
        if self._held is not None and self._held.entry.name == name:
            return self._held
        if name not in self.models:
            raise ModelUnavailableError(f"There is no model {name!r} any more; choose another one.")
        if job is not None:
            job.updates.put(Loading())
        entry = self.models[name]
        try:
            from siamese.sampling import MaskDiffusion
            from siamese.segmentation import LesionSegmenter
            self._held = None  # before the next is read: two may not fit
            diffusion = MaskDiffusion.from_pretrained(entry.source)
            folder = Path(entry.source) / "segmenter"
            self._held = _Loaded(entry, diffusion, LesionSegmenter.from_pretrained(folder) if folder.is_dir() else None)
        # Damaged files raise whatever their parser raises (JSON, safetensors, pickle, shapes): all mean the same here.
        except Exception as error:
            log.exception("loading %s failed", entry.source)
            raise ModelUnavailableError(
                f"The model could not be loaded ({error}) Put a complete model folder there, or start the studio with "
                "--model FOLDER; then press Generate again.") from error
        return self._held

    @staticmethod
    def _describe(held: _Loaded) -> ModelInfo:
        defaults = held.diffusion.checkpoint.defaults
        return ModelInfo(held.entry.name, defaults.steps, defaults.guidance, defaults.scheduler, defaults.image_size,
                         held.diffusion.prompts, held.segmenter is not None)


class _Reporter:
    """Sampling's callback: steps, time left and, as far as they cost little, previews."""

    def __init__(self, job: _Job, previews: bool) -> None:
        self.job, self.previews = job, previews
        self.began = self.last = time.monotonic()
        self.cost = 0.0

    def __call__(self, progress: Progress) -> bool:
        now = time.monotonic()
        left = (now - self.began) / progress.step * (progress.steps - progress.step)
        images = None
        if self.previews and progress.step < progress.steps and now - self.last > max(PREVIEW_PAUSE, PREVIEW_SHARE * self.cost):
            images = progress.preview()
            self.last = time.monotonic()
            self.cost = self.last - now
        self.job.updates.put(Step(progress.step, progress.steps, left, images))
        return not self.job.cancelled.is_set()
