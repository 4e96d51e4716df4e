"""The open pages of each visitor: their owner, and a limit of their number.

Gradio keeps the state of a page under a hash that the page chooses. Here the hash belongs to the visitor who used it first. No other visitor
can reach the page's state or receive its answers, whatever hash they send.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from gradio.state_holder import SessionState, StateHolder

from siamese.studio.visitors.cookie import Visitor, current
from siamese.studio.visitors.refusal import RefusedError

SESSIONS_EACH, SESSIONS_ALL = 4, 200
IDLE_SECONDS = 3600
"""A closed page is removed after so many seconds without a request."""
BEGINNING_SECONDS = 60
MAX_HASH_LENGTH = 64

TOO_MANY = f"You have the studio open in {SESSIONS_EACH} windows, which is the maximum. Close one of them, then reload this page."
FULL = "The studio has reached its maximum number of open pages. Try again in a few minutes."
ANOTHERS = "This page belongs to another visitor. Reload it."


@dataclass
class _Session:
    visitor: str
    fresh: bool
    began: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    streams: int = 0
    """Number of connections that the open page holds."""


class Sessions:
    """The sessions of all visitors. Safe for several threads. ``forget`` is called with the hash of a session that ends."""

    def __init__(self, forget: Callable[[str], None] = lambda name: None) -> None:
        self.forget = forget
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def enter(self, visitor: Visitor, name: object) -> None:
        """Note a request of ``visitor`` in the session ``name``, which begins if it is new; it replaces the visitor's oldest closed page if needed.

        Raises:
            RefusedError: the session is another visitor's, or too many are open.
        """
        if not isinstance(name, str) or not 0 < len(name) <= MAX_HASH_LENGTH:
            raise RefusedError(400, "The request names no page. Reload the page.")
        ended = []
        with self._lock:
            now = time.monotonic()
            session = self._sessions.get(name)
            if session is None:
                own = [n for n, s in self._sessions.items() if s.visitor == visitor.id]
                ended += self._make_room(own, SESSIONS_EACH, RefusedError(429, TOO_MANY))
                ended += self._make_room([*self._sessions], SESSIONS_ALL, RefusedError(503, FULL))
                self._sessions[name] = _Session(visitor.id, visitor.fresh)
            elif session.visitor != visitor.id:
                # Two windows that were opened together each got a cookie, and the browser kept the other one.
                if not (session.fresh and visitor.fresh and now - session.began < BEGINNING_SECONDS):
                    raise RefusedError(403, ANOTHERS)
                session.visitor = visitor.id
            self._sessions[name].used = now
        for other in ended:
            self.forget(other)

    @contextmanager
    def open(self, visitor: Visitor, name: str | None) -> Iterator[None]:
        """The page counts as open inside. Raises as ``enter``."""
        self.enter(visitor, name)
        assert isinstance(name, str)  # otherwise ``enter`` has refused
        with self._lock:
            session = self._sessions[name]
            session.streams += 1
        try:
            yield
        finally:
            with self._lock:
                session.streams -= 1

    def tidy(self) -> None:
        """Remove closed pages that were not used for ``IDLE_SECONDS``."""
        with self._lock:
            oldest = time.monotonic() - IDLE_SECONDS
            ended = [n for n, s in self._sessions.items() if not s.streams and s.used < oldest]
            for name in ended:
                del self._sessions[name]
        for name in ended:
            self.forget(name)

    def _make_room(self, among: list[str], most: int, otherwise: RefusedError) -> list[str]:
        """If there are ``most`` sessions among some, end the closed one that was not used for the longest time."""
        there = [n for n in among if n in self._sessions]
        if len(there) < most:
            return []
        closed = [n for n in there if not self._sessions[n].streams]
        if not closed:
            raise otherwise
        name = min(closed, key=lambda n: self._sessions[n].used)
        del self._sessions[name]
        return [name]


class VisitorStates(StateHolder):
    """Gradio's store of sessions' states, which gives a state only to the session's own visitor."""

    def __init__(self, sessions: Sessions) -> None:
        super().__init__()
        self._visitors = sessions
        sessions.forget = self.drop

    def __getitem__(self, session_id: str) -> SessionState:
        visitor = current()
        if visitor is not None:
            self._visitors.enter(visitor, session_id)
        return super().__getitem__(session_id)

    def drop(self, name: str) -> None:
        """Remove a session's state."""
        with self.lock:
            self.session_data.pop(name, None)
            self.time_last_used.pop(name, None)
