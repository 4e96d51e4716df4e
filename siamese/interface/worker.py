"""The one thread that imports, loads and runs the model, while the page stays responsive."""
from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # torch and diffusers take seconds to import; only the worker's thread does it
    from siamese.sampling import Callback, MaskDiffusion, Progress

log = logging.getLogger(__name__)


class ModelUnavailableError(RuntimeError):
    """The model cannot be loaded; the message says what to do."""


@dataclass(frozen=True)
class Request:
    """One image to sample."""

    mask: np.ndarray
    """uint8 [H, W] of 0 / 255, any size."""
    prompt: str
    seed: int
    steps: int | None = None
    """The checkpoint's where None, as ``guidance``."""
    guidance: float | None = None


@dataclass(frozen=True)
class Step:
    """Sampling did ``step`` of ``steps``; 0 before the first."""

    step: int
    steps: int


@dataclass(frozen=True)
class Generated:
    """A synthetic image and all that it was made with."""

    image: np.ndarray
    """uint8 [S, S, 3]."""
    mask: np.ndarray
    """The mask as the model saw it: uint8 [S, S] of 0 / 255."""
    prompt: str
    seed: int
    steps: int
    guidance: float
    scheduler: str
    model: str

    def outlined(self) -> np.ndarray:
        """Copy of the image uint8 [S, S, 3] with the mask's contour."""
        from siamese.masks import outline  # imports torch; long done where there is an image
        return outline(self.image, self.mask)


@dataclass(frozen=True)
class ModelInfo:
    """What the page shows of the loaded model."""

    name: str
    steps: int
    guidance: float


class ModelWorker:
    """Holds one model for all visitors. Everything that touches it runs in one thread, one job after the other.

    Args:
        source: model folder or hub id. It is loaded by the first job; where that fails, each later job tries again,
            so that a repaired folder works without a restart.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._model: MaskDiffusion | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")

    def start(self) -> None:
        """Load in the background; call it once the server is up."""
        self._thread.submit(self._info)

    def close(self) -> None:
        """Drop waiting jobs and wait for the running one."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    @property
    def loaded(self) -> ModelInfo | None:
        """The model's description, None before it is loaded. Never waits."""
        return None if self._model is None else self._describe(self._model)

    def info(self) -> ModelInfo:
        """Wait for the model.

        Raises:
            ModelUnavailableError: it cannot be loaded.
        """
        return self.loaded or self._thread.submit(self._info).result()

    def sample(self, request: Request) -> Iterator[Step | Generated]:
        """Sample one image; yields a Step after each step, then the image. Closing the iterator stops sampling.

        Raises:
            ModelUnavailableError: the model cannot be loaded.
            ValueError: the model refuses the mask, the prompt or a setting.
        """
        updates: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        wanted = threading.Event()
        wanted.set()

        def callback(progress: Progress) -> bool:
            updates.put(Step(progress.step, progress.steps))
            return wanted.is_set()

        job = self._thread.submit(self._sample, request, updates.put, callback)
        job.add_done_callback(lambda _: updates.put(None))
        try:
            while (update := updates.get()) is not None:
                yield update
            yield job.result()
        finally:
            wanted.clear()
            job.cancel()

    def _sample(self, request: Request, report: Callable[[Step], None], callback: Callback) -> Generated:
        model = self._load()
        defaults = model.checkpoint.defaults
        steps = defaults.steps if request.steps is None else request.steps
        guidance = defaults.guidance if request.guidance is None else request.guidance
        mask = model.fit_mask(request.mask)
        report(Step(0, steps))
        image = model.sample(request.mask, request.prompt, [request.seed], steps=steps, guidance=guidance, callback=callback)[0]
        return Generated(image, mask, request.prompt, request.seed, steps, guidance, defaults.scheduler, model.checkpoint.name)

    def _info(self) -> ModelInfo:
        return self._describe(self._load())

    def _load(self) -> MaskDiffusion:
        if self._model is None:
            try:
                from siamese.sampling import MaskDiffusion
                self._model = MaskDiffusion.from_pretrained(self.source)
            # Damaged files raise whatever their parser raises (JSON, safetensors, pickle, shapes): all mean the same here.
            except Exception as error:
                log.exception("loading %s failed", self.source)
                raise ModelUnavailableError(
                    f"The model could not be loaded ({error}) Put a complete model folder there, or start the studio with "
                    "--model FOLDER; then press Generate again.") from error
        return self._model

    @staticmethod
    def _describe(model: MaskDiffusion) -> ModelInfo:
        defaults = model.checkpoint.defaults
        return ModelInfo(model.checkpoint.name, defaults.steps, defaults.guidance)
