"""Runs visitors' batches on the model: one folder each, claimed while its batch runs. Knows nothing of the page.

A batch holds no lock of another's: while one waits for its model to be loaded, all others go on.
"""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from siamese.files.folders import remove_tree, set_aside
from siamese.records.sampling_settings import SamplingOverrides, SchedulerName
from siamese.studio.backend.messages import (
    BatchProgress,
    BusyError,
    Cancelled,
    Generated,
    Request,
    Update,
    Waiting,
)
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.turns import Share
from siamese.studio.storage.batch_job import JOB_FILE, BatchItem, BatchJob
from siamese.studio.storage.batch_settings import BatchSettings
from siamese.studio.storage.mask_zip import BatchError, NamedMask

CHUNK = 4
"""Masks in one request to the model: other visitors' requests come in between."""
BATCHES_EACH, BATCHES_ALL = 4, 24
"""How many batches may run at once: of one visitor, and of all together."""
TOO_MANY = (
    "You already have {} running batches. Wait until one of them is done, or cancel one; then try again."
)
FULL = "The studio is running as many batches as it can. Try again in a few minutes."
CLAIMED = "Your batch is still running in another window. Cancel it there first."
EXPIRED = "Your batch has expired, so it cannot be resumed. Start a new one."

Sample = Callable[..., Generator[Update, None, Generated]]
"""Samples the images of masks uint8 [H, W] and their seeds: yields events, returns the images. A job with frames passes a third
argument, the photo uint8 [H, W, 3] that all of the masks are on."""


@dataclass(frozen=True)
class BatchOrder:
    """What a new batch is made of."""

    masks: Sequence[NamedMask]
    prompt: str
    seed: int
    """Base of the images' seeds."""
    model: str
    """The model's name; the batch uses its default settings."""
    passed_over: Sequence[str] = ()
    """Lines for the visitor about files of the ZIP that were not read."""


class FolderClaims:
    """Which folders are in use. For any number of threads of this process."""

    def __init__(self) -> None:
        self._claimed: set[Path] = set()
        self._lock = threading.Lock()

    def __contains__(self, folder: Path) -> bool:
        with self._lock:
            return folder in self._claimed

    @contextmanager
    def held(self, folder: Path) -> Iterator[None]:
        """Claim ``folder`` inside; raises BusyError at once if somebody holds it. Never waits."""
        with self._lock:
            if folder in self._claimed:
                raise BusyError(CLAIMED)
            self._claimed.add(folder)
        try:
            yield
        finally:
            with self._lock:
                self._claimed.discard(folder)


class BatchRunner:
    """Visitors' batches below one folder, at most one for each owner.

    ``owner`` is the key of what a visitor keeps, ``visitor`` whose turn it is in the line before the model. Every run may be stopped
    by setting its event ``cancelled`` or by closing the iterator; what is finished stays.

    Args:
        root: holds a folder for each owner. Its name is a digest, so that a listing of the disk shows nobody's key.
    """

    def __init__(self, worker: ModelWorker, root: Path) -> None:
        self._worker, self._root = worker, Path(root)
        self._claims = FolderClaims()
        self._share = Share(BATCHES_EACH, BATCHES_ALL, TOO_MANY, FULL)

    def job(self, owner: str) -> BatchJob | None:
        """The owner's batch; None if the owner has no batch. Raises BatchError if it is damaged."""
        folder = self._folder(owner)
        return BatchJob.open(folder) if (folder / JOB_FILE).is_file() else None

    def is_running(self, owner: str) -> bool:
        """Whether the owner's batch runs or is being prepared, in any window."""
        return self._folder(owner) in self._claims

    def start(
        self, owner: str, order: BatchOrder, cancelled: threading.Event, visitor: str
    ) -> Iterator[Waiting | BatchProgress]:
        """Replace the owner's batch by a new one, and run it.

        Yields:
            ``BatchProgress`` as soon as the batch is stored and after each chunk, ``Waiting`` between.

        Raises:
            BusyError: the owner's batch runs already, or too many batches run.
            BatchError: masks or settings cannot be used, or the disk fails while the batch is stored.
            Cancelled, ModelUnavailableError, OutOfMemoryError, OSError, ValueError: see ``ModelWorker.sample`` and ``BatchJob.store``.
        """
        folder = self._folder(owner)
        with self._share.held(visitor), self._claims.held(folder):
            info = self._worker.info(order.model, cancelled, visitor)  # may take minutes
            settings = BatchSettings.of(
                prompt=order.prompt,
                seed=order.seed,
                steps=info.settings.num_inference_steps,
                guidance=info.settings.guidance_scale,
                scheduler=info.settings.scheduler,
                model=order.model,
            )
            try:
                if folder.exists():
                    remove_tree(set_aside(folder))
                job = BatchJob.create(
                    folder,
                    masks=order.masks,
                    settings=settings,
                    size=info.size,
                    passed_over=order.passed_over,
                )
            except OSError as error:
                raise BatchError(
                    f"The server could not store the masks ({error.strerror}). Try again later."
                ) from error
            yield from self._run(job, cancelled, visitor)

    def resume(
        self, owner: str, cancelled: threading.Event, visitor: str
    ) -> Iterator[Waiting | BatchProgress]:
        """Continue the owner's batch. Yields and raises as ``start``; BatchError also if there is no batch."""
        folder = self._folder(owner)
        with self._share.held(visitor), self._claims.held(folder):
            job = self.job(owner)
            if job is None:
                raise BatchError(EXPIRED)
            yield from self._run(job, cancelled, visitor)

    def _folder(self, owner: str) -> Path:
        return self._root / hashlib.sha256(owner.encode()).hexdigest()

    def _run(
        self, job: BatchJob, cancelled: threading.Event, visitor: str
    ) -> Iterator[Waiting | BatchProgress]:
        def sample(
            masks: list[np.ndarray], seeds: list[int], frame: np.ndarray | None = None
        ) -> Generator[Update, None, Generated]:
            request = Request(
                masks=tuple(masks),
                prompt=job.settings.prompt,
                seeds=tuple(seeds),
                overrides=SamplingOverrides(
                    num_inference_steps=job.settings.steps,
                    guidance_scale=job.settings.guidance,
                    scheduler=cast("SchedulerName", job.settings.scheduler),
                ),
                model=job.settings.model,
                previews=False,
                frame=frame,
            )
            for update in self._worker.sample(request, cancelled, visitor):
                if isinstance(update, Generated):
                    return update
                yield update
            raise Cancelled

        yield BatchProgress(job.done, job.total)
        for update in run_job(job, sample, CHUNK, cancelled.is_set):
            if isinstance(update, Waiting | BatchProgress):
                yield update


def run_job(
    job: BatchJob, sample: Sample, chunk: int, is_cancelled: Callable[[], bool]
) -> Iterator[Update | BatchProgress]:
    """Sample a job's pending items. Run it again, also in a new process, to continue.

    A chunk always has the same items: if only some of them were stored, the whole chunk is sampled again. So a continued job has
    the same bytes as an uninterrupted one, even if the last bits of an image depend on the others in its chunk.

    Args:
        chunk: number of items that are sampled at once; items in different frames never are.
        is_cancelled: called before each chunk; the run ends if it returns True. An exception from ``sample`` ends it as well.

    Yields:
        The events of ``sample``, and ``BatchProgress`` after each chunk.

    Raises:
        ValueError: ``chunk`` is below 1, or ``sample`` returns another number of images than it was given masks.
        BatchError, PairsError, OSError: see ``BatchJob.store``. What was stored before stays.
    """
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}; it must be 1 or more.")
    chunks = _chunks(job, chunk)
    waiting = [items for items in chunks if not all(map(job.is_done, items))]
    spent, sampled = 0.0, 0
    for items in waiting:
        if is_cancelled():
            return
        began = time.monotonic()
        frame = items[0].frame
        options = () if frame is None else (frame,)
        made = yield from sample([item.mask for item in items], [item.seed for item in items], *options)
        _store(job, items, made)
        spent, sampled = spent + time.monotonic() - began, sampled + len(items)
        left = sum(map(len, waiting)) - sampled
        yield BatchProgress(job.done, job.total, spent / sampled * left)


def _chunks(job: BatchJob, chunk: int) -> list[Sequence[BatchItem]]:
    """The job's items in their order, up to ``chunk`` of them together, all in the same frame or none."""
    groups = (list(items) for _, items in itertools.groupby(job.items, lambda item: item.frame_file))
    return [items[i : i + chunk] for items in groups for i in range(0, len(items), chunk)]


def _store(job: BatchJob, items: Sequence[BatchItem], made: Generated) -> None:
    for item, pair, agreement in zip(items, made.pairs, made.agreements, strict=True):
        if not job.is_done(item):
            job.store(item, pair, agreement)
