"""Visitors' identities: a cookie that the server sets and signs. Requests without a cookie count by their address.

Gradio's session hash identifies nobody, because the client chooses it. The id of a visitor with a cookie is also the key to what they
keep, so it has 256 random bits and is never shown. The id of a visitor without one is an address, which others may share; it is not a secret.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any

import gradio as gr
from itsdangerous import BadSignature, URLSafeTimedSerializer

from siamese.web.hf_space import on_space
from siamese.web.keys import private_file

COOKIE = "siamese_visitor"
COOKIE_SECONDS = 180 * 86400
"""The page renews the cookie each time it is loaded."""
FRESH_SECONDS = 60
"""Windows that are opened at the same time each get a cookie, of which the browser keeps one; see ``sessions``."""
MAX_NEW, NEW_SECONDS = 100, 600
"""Maximum number of new cookies for one address in so many seconds. Further requests count by address, so that a flood does not get an endless number of visitors."""
SCOPE_KEY = "siamese.visitor"
ADDRESS = "address "
"""The beginning of the id of a visitor without a cookie."""
NO_COOKIE = (
    "Your browser sends no cookie to this page, so the studio cannot distinguish your work from others'. Allow cookies for this address, or "
    "open it in a separate window, then reload the page."
)

_current: ContextVar[Visitor | None] = ContextVar("siamese_visitor", default=None)


class NoCookieError(ValueError):
    """Keeping something needs a cookie, which the visitor does not send; the text is for the visitor."""


@dataclass(frozen=True)
class Visitor:
    """The sender of a request."""

    id: str
    """43 random characters of a cookie, or ``ADDRESS`` and the address of the sender."""
    fresh: bool = False
    """Whether the cookie was made within the last ``FRESH_SECONDS``."""
    cookie: str | None = None
    """The signed cookie; None without a cookie."""


def visitor_of(request: gr.Request) -> str:
    """Id of the sender of a request, for limits and turns: stable for a browser that sends its cookie, otherwise its address."""
    inner = request.request
    known = inner.scope.get(SCOPE_KEY) if inner is not None else None
    return known.id if known else by_address(request.client.host if request.client else None)


def by_address(host: str | None) -> str:
    """The id of requests without a cookie from ``host``."""
    return f"{ADDRESS}{host or 'unknown'}"


def current() -> Visitor | None:
    """The visitor whose request or event runs in this context; None outside of both."""
    return _current.get()


def keeper() -> str:
    """Id of the visitor whose event runs in this context, as the key to what they keep.

    Raises:
        NoCookieError: the visitor has no cookie, and others may have the same address.
    """
    visitor = _current.get()
    if visitor is None or visitor.id.startswith(ADDRESS):
        raise NoCookieError(NO_COOKIE)
    return visitor.id


@contextmanager
def serving(visitor: Visitor | None) -> Iterator[None]:
    """Inside, ``current`` is ``visitor``, also in threads that are started through anyio."""
    token = _current.set(visitor)
    try:
        yield
    finally:
        _current.reset(token)


class VisitorCookies:
    """Makes and reads the cookies, signed with a key in ``folder`` that its owner alone can read."""

    def __init__(self, folder: Path) -> None:
        key, _ = private_file(folder / "visitor-key", lambda: secrets.token_hex(32))
        self._sign = URLSafeTimedSerializer(key, salt="siamese-visitor")
        self._new: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def visitor(self, scope: Mapping[str, Any]) -> Visitor:
        """The sender of the request of an ASGI ``scope``; by address if it has no valid cookie."""
        for name, value in scope["headers"]:
            if name == b"cookie":
                for cookie in _values(value.decode("latin-1")):
                    if found := self._read(cookie):
                        return found
        client = scope.get("client")
        return Visitor(by_address(client[0] if client else None))

    def new(self, scope: Mapping[str, Any]) -> Visitor | None:
        """A new visitor for the page that ``scope`` requests; None if its address had too many."""
        now, address = time.monotonic(), (scope.get("client") or ("",))[0]
        with self._lock:
            self._new = {
                a: kept
                for a, times in self._new.items()
                if (kept := [t for t in times if now - t < NEW_SECONDS])
            }
            times = self._new.setdefault(address, [])
            if len(times) >= MAX_NEW:
                return None
            times.append(now)
        name = secrets.token_urlsafe(32)
        return Visitor(name, True, self._sign.dumps(name))

    @staticmethod
    def header(visitor: Visitor, scheme: str) -> bytes:
        """The Set-Cookie header. A Space's page is shown in a frame of another site, so there the cookie is Partitioned."""
        place = (
            "SameSite=None; Secure; Partitioned"
            if on_space()
            else "SameSite=Lax; Secure"
            if scheme == "https"
            else "SameSite=Lax"
        )
        return f"{COOKIE}={visitor.cookie}; Path=/; Max-Age={COOKIE_SECONDS}; HttpOnly; {place}".encode(
            "ascii"
        )

    def _read(self, cookie: str) -> Visitor | None:
        try:
            name, made = self._sign.loads(cookie, max_age=None, return_timestamp=True)
        except BadSignature:
            return None
        return (
            Visitor(name, abs(time.time() - made.timestamp()) < FRESH_SECONDS, cookie)
            if isinstance(name, str)
            else None
        )


def _values(header: str) -> list[str]:
    """The values of our cookie in a Cookie header. There may be several: another program on a subdomain may use the same name."""
    found = []
    for part in header.split(";"):
        try:
            found += [morsel.value for name, morsel in SimpleCookie(part.strip()).items() if name == COOKIE]
        except CookieError:
            continue  # another program's cookie
    return found
