"""Whose turn the model is: visitors take turns, and each knows at any time how many requests come before theirs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from siamese.studio.backend.messages import BusyError, Cancelled, Update, Waiting

WAITING_EACH, WAITING_ALL = 4, 64
"""Requests that wait for the model: of one visitor, and of all together. The one that runs does not wait."""
TOO_MANY = (
    "You have {} requests waiting already. Wait until one of them is done, or cancel one; then try again."
)
FULL = "{} requests are waiting for the model, which is as many as this studio takes. Try again in a few minutes."


@dataclass(eq=False)
class Job:
    """A request for the model; ``work`` runs in the model's thread once it is its turn."""

    work: Callable[[Job], Any]
    visitor: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    updates: queue.SimpleQueue[Update | None] = field(default_factory=queue.SimpleQueue)
    """What happens meanwhile; None once ``result`` is there."""
    result: Future[Any] = field(default_factory=Future)
    ahead: int | None = None
    """Requests that run before, as last told; 0 while it runs."""
    last: Update | None = None
    """What was last taken from ``updates``."""


class Line:
    """Round robin over visitors; first come, first served among the requests of one.

    A visitor whose request has run goes behind all others who wait by then: however many requests one has, another's first waits
    for no more than one of them. For any number of threads.

    Args:
        each, over_all: how many may wait; see ``WAITING_EACH``.
    """

    def __init__(self, each: int = WAITING_EACH, over_all: int = WAITING_ALL) -> None:
        self._each, self._all = each, over_all
        self._waiting: dict[str, list[Job]] = {}
        """By visitor, in the order of their next turns."""
        self._running: Job | None = None
        self._closed = False
        self._changed = threading.Condition()

    def join(self, job: Job, limited: bool = True) -> None:
        """Put a request at its place, which it is told at once where it has to wait.

        Args:
            limited: False for the studio's own requests, which no limit keeps out.

        Raises:
            BusyError: too many wait; the message says what to do.
            Cancelled: the line is closed.
        """
        with self._changed:
            if self._closed:
                raise Cancelled
            if limited:
                self._check(job.visitor)
            self._waiting.setdefault(job.visitor, []).append(job)
            self._tell()
            self._changed.notify_all()

    def take(self) -> Job | None:
        """Wait for the next request, which runs from now until ``done``; None once the line is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._waiting)
            if self._closed:
                return None
            visitor = next(iter(self._waiting))
            job = self._waiting[visitor][0]
            self._drop(job)
            self._running, job.ahead = job, 0
            return job

    def done(self) -> None:
        """The running request has ended."""
        with self._changed:
            job, self._running = self._running, None
            if job is not None and job.visitor in self._waiting:  # behind those who came meanwhile
                self._waiting[job.visitor] = self._waiting.pop(job.visitor)
            self._tell()

    def leave(self, job: Job) -> None:
        """A waiting request is not wanted any more; nothing where it does not wait."""
        with self._changed:
            if job in self._waiting.get(job.visitor, ()):
                self._drop(job)
                self._tell()

    def close(self) -> None:
        """Take no more, and end those that wait with ``Cancelled``; the running one is asked to stop."""
        with self._changed:
            self._closed = True
            for job in self._order():
                job.cancelled.set()
                job.result.set_exception(Cancelled())
                job.updates.put(None)
            self._waiting.clear()
            if self._running is not None:
                self._running.cancelled.set()
            self._changed.notify_all()

    def _check(self, visitor: str) -> None:
        if self._running is None and not self._waiting:
            return  # it runs at once
        first = (
            next(iter(self._waiting), None) if self._running is None else None
        )  # whose request is about to run
        own, everybody = len(self._waiting.get(visitor, ())), sum(map(len, self._waiting.values()))
        if own - (first == visitor) >= self._each:
            raise BusyError(TOO_MANY.format(self._each))
        if everybody - (first is not None) >= self._all:
            raise BusyError(FULL.format(self._all))

    def _drop(self, job: Job) -> None:
        own = self._waiting[job.visitor]
        own.remove(job)
        if not own:
            del self._waiting[job.visitor]

    def _order(self) -> list[Job]:
        """Those that wait, in the order in which they would run if nobody came or left."""
        running = self._running.visitor if self._running is not None else None
        visitors = sorted(
            self._waiting, key=lambda v: v == running
        )  # stable: the one who runs goes behind the others
        rounds = [
            (turn, place, job)
            for place, v in enumerate(visitors)
            for turn, job in enumerate(self._waiting[v])
        ]
        return [job for _, _, job in sorted(rounds, key=lambda r: r[:2])]

    def _tell(self) -> None:
        for ahead, job in enumerate(self._order(), 0 if self._running is None else 1):
            if ahead != job.ahead:
                job.ahead = ahead
                if ahead:
                    job.updates.put(Waiting(ahead))


class Share:
    """How much of something may go on at once: of one visitor's and of all together.

    Args:
        each, over_all: the limits.
        message: what who is kept out is told, with the limit of one visitor in place of ``{}``.
        full: the same where it is the limit over all.
    """

    def __init__(self, each: int, over_all: int, message: str, full: str) -> None:
        self._each, self._all, self._message, self._full = each, over_all, message, full
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def held(self, visitor: str) -> Iterator[None]:
        """One of ``visitor``'s goes on inside; BusyError where it is one too many."""
        with self._lock:
            if self._held.get(visitor, 0) >= self._each:
                raise BusyError(self._message.format(self._each))
            if sum(self._held.values()) >= self._all:
                raise BusyError(self._full.format(self._all))
            self._held[visitor] = self._held.get(visitor, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._held[visitor] -= 1
                if not self._held[visitor]:
                    del self._held[visitor]
