"""The order of requests for the model: visitors take turns, and each always knows how many requests come first."""

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
"""How many requests may wait for the model: of one visitor, and of all together. The running request does not count."""
TOO_MANY = (
    "You have {} requests waiting already. Wait until one of them is done, or cancel one; then try again."
)
FULL = "{} requests are waiting for the model, which is the most that this studio accepts. Try again in a few minutes."


@dataclass(eq=False)
class Job:
    """A request for the model; ``work`` runs in the model's thread when its turn comes."""

    work: Callable[[Job], Any]
    visitor: str = ""
    cancelled: threading.Event = field(default_factory=threading.Event)
    updates: queue.SimpleQueue[Update | None] = field(default_factory=queue.SimpleQueue)
    """The events of the run; None after ``result`` is set."""
    result: Future[Any] = field(default_factory=Future)
    ahead: int | None = None
    """How many requests come first, as in the last event; 0 while it runs."""
    last: Update | None = None
    """The last event taken from ``updates``."""


class Line:
    """Round robin over visitors; first come, first served among the requests of one.

    After a request, its visitor goes behind all others who wait at that time. So however many requests one visitor has, another
    visitor's first request waits for one of them at most. Safe for any number of threads.

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
        """Add a request. It gets a ``Waiting`` event at once if others come first.

        Args:
            limited: False for the studio's own requests, which have no limit.

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
            self._send_places()
            self._changed.notify_all()

    def take(self) -> Job | None:
        """Wait for the next request, which counts as running until ``done``; None if the line is closed."""
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
            if job is not None and job.visitor in self._waiting:  # behind those who came while it ran
                self._waiting[job.visitor] = self._waiting.pop(job.visitor)
            self._send_places()

    def leave(self, job: Job) -> None:
        """Remove a waiting request; nothing happens if it does not wait."""
        with self._changed:
            if job in self._waiting.get(job.visitor, ()):
                self._drop(job)
                self._send_places()

    def close(self) -> None:
        """Accept no more requests, end the waiting ones with ``Cancelled`` and stop the running one."""
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
        """The waiting requests, in the order in which they would run if nobody came or left."""
        running = self._running.visitor if self._running is not None else None
        visitors = sorted(
            self._waiting, key=lambda v: v == running
        )  # stable: the visitor of the running request goes behind the others
        rounds = [
            (turn, place, job)
            for place, v in enumerate(visitors)
            for turn, job in enumerate(self._waiting[v])
        ]
        return [job for _, _, job in sorted(rounds, key=lambda r: r[:2])]

    def _send_places(self) -> None:
        for ahead, job in enumerate(self._order(), 0 if self._running is None else 1):
            if ahead != job.ahead:
                job.ahead = ahead
                if ahead:
                    job.updates.put(Waiting(ahead))


class Share:
    """A limit of what may run at the same time: of one visitor, and of all together.

    Args:
        each, over_all: the limits.
        message: the text of the error at one visitor's limit, which takes the place of ``{}``.
        full: the text of the error at the limit of all.
    """

    def __init__(self, each: int, over_all: int, message: str, full: str) -> None:
        self._each, self._all, self._message, self._full = each, over_all, message, full
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    @contextmanager
    def held(self, visitor: str) -> Iterator[None]:
        """Count one of ``visitor``'s inside; raises BusyError at the limit."""
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
