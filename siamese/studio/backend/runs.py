"""Runs that a page has begun, by an unguessable id, so that Cancel reaches the right one."""

from __future__ import annotations

import secrets
import threading


class RunRegistry:
    """The runs of one kind on all open pages. A run is pending until it sends its request to the model, and active until it ends.

    A page keeps the id, not the event, because Gradio copies the values of a page's state. Safe for any number of threads.
    """

    def __init__(self) -> None:
        self._events: dict[str, threading.Event] = {}
        self._pending: set[str] = set()
        self._lock = threading.Lock()

    def begin(self) -> str:
        """Register a run and return its id."""
        run_id = secrets.token_urlsafe(16)
        with self._lock:
            self._events[run_id] = threading.Event()
            self._pending.add(run_id)
        return run_id

    def event(self, run_id: str | None) -> threading.Event:
        """The run's event, which ``cancel`` sets; a new one if the run is unknown."""
        with self._lock:
            return self._events.get(run_id or "") or threading.Event()

    def start(self, run_id: str | None) -> threading.Event:
        """Note that the run sends its request now, and return its event."""
        with self._lock:
            self._pending.discard(run_id or "")
        return self.event(run_id)

    def is_pending(self, run_id: str | None) -> bool:
        """Whether the run has not sent its request yet."""
        with self._lock:
            return run_id in self._pending

    def is_active(self, run_id: str | None) -> bool:
        """Whether the run has not ended."""
        with self._lock:
            return run_id in self._events

    def cancel(self, run_id: str | None) -> None:
        """Stop a run within one step; nothing happens if it has ended."""
        self.event(run_id).set()

    def end(self, run_id: str | None) -> None:
        """Remove a run."""
        with self._lock:
            self._events.pop(run_id or "", None)
            self._pending.discard(run_id or "")
