"""The open pages of each visitor: how many there may be, and whose each is.

Gradio keeps the state of a page under a hash that the page chooses. Here the hash belongs to the visitor who used it first; nobody else
reaches the page's state or hears its answers, whatever hash they name.
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
"""After so long without a request a page that is not open any more is forgotten."""
BEGINNING_SECONDS = 60
MAX_HASH_LENGTH = 64

TOO_MANY = f"You have the studio open in {SESSIONS_EACH} windows, which is as many as it takes. Close one of them, then reload this page."
FULL = "As many pages of the studio are open as the server takes. Try again in some minutes."
ANOTHERS = "This page belongs to another visitor. Reload it."


@dataclass
class _Session:
    visitor: str
    fresh: bool
    began: float = field(default_factory=time.monotonic)
    used: float = field(default_factory=time.monotonic)
    streams: int = 0
    """Connections by which the open page shows that it is there."""


class Sessions:
    """Safe to use from several threads. ``forget`` is called with the hash of a session that ends."""

    def __init__(self, forget: Callable[[str], None] = lambda name: None) -> None:
        self.forget = forget
        self._sessions: dict[str, _Session] = {}
        self._lock = threading.Lock()

    def enter(self, visitor: Visitor, name: object) -> None:
        """A request of ``visitor`` in the session ``name``, which begins where it is new; the visitor's oldest closed page makes room.

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
                # Two windows that were opened together were each given a cookie, and the browser kept the other one.
                if not (session.fresh and visitor.fresh and now - session.began < BEGINNING_SECONDS):
                    raise RefusedError(403, ANOTHERS)
                session.visitor = visitor.id
            self._sessions[name].used = now
        for other in ended:
            self.forget(other)

    @contextmanager
    def open(self, visitor: Visitor, name: str) -> Iterator[None]:
        """While this lasts, the page is open. Raises as ``enter``."""
        self.enter(visitor, name)
        with self._lock:
            session = self._sessions[name]
            session.streams += 1
        try:
            yield
        finally:
            with self._lock:
                session.streams -= 1

    def tidy(self) -> None:
        """Forget the pages that are closed and were not used for ``IDLE_SECONDS``."""
        with self._lock:
            oldest = time.monotonic() - IDLE_SECONDS
            ended = [n for n, s in self._sessions.items() if not s.streams and s.used < oldest]
            for name in ended:
                del self._sessions[name]
        for name in ended:
            self.forget(name)

    def _make_room(self, among: list[str], most: int, otherwise: RefusedError) -> list[str]:
        """End the closed session among some that was not used for longest, where there are ``most``."""
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
    """Gradio's store of sessions' states, which gives a state to the session's own visitor alone."""

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
        """Let go of a session's state."""
        with self.lock:
            self.session_data.pop(name, None)
            self.time_last_used.pop(name, None)
