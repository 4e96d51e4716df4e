"""The name that a request calls this server by, and the page that it was sent from.

A foreign page can let its own name point to 127.0.0.1 and then reads this server's answers as its own (DNS rebinding). The name in
the request gives it away. It can also send requests here without reading the answers; then ``Origin`` gives it away.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse

from siamese.web.listen import on_all

HOST = re.compile(r"(\[[0-9a-fA-F:.%]+\]|[^\[\]:/?#@\s]+)(?::(\d{0,5}))?")
HARMLESS = ("GET", "HEAD", "OPTIONS")
"""Methods that change nothing."""
PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443"}
NOT_CALLED, FORBIDDEN, MALFORMED = 421, 403, 400
POLICY_VIOLATION = 1008
"""What a refused websocket is closed with."""


def split_host(text: str) -> tuple[str, str] | None:
    """Name or address (lower case, no brackets, no last dot) and port (or "") of a ``Host`` header; None if it cannot be read."""
    found = HOST.fullmatch(text.strip())
    return (found[1].strip("[]").lower().rstrip("."), found[2] or "") if found else None


def is_address(name: str) -> bool:
    """Whether it is an IP address and no name."""
    try:
        ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return True


def is_local(address: str) -> bool:
    """Whether only browsers on this machine reach ``address``, a URL."""
    name = urlsplit(address).hostname or ""
    return name == "localhost" or (
        is_address(name) and ipaddress.ip_address(name.partition("%")[0]).is_loopback
    )


@dataclass(frozen=True)
class Hosts:
    """What a server may be called."""

    names: frozenset[str]
    """Lower case, without ports."""
    any_address: bool = False
    """Whether every IP address is accepted, as on a server that listens on all: nobody can let those point to another."""

    def allow(self, name: str) -> bool:
        """Whether ``name`` is one of them."""
        return name in self.names or (self.any_address and is_address(name))


def hosts_of(listener: socket.socket, host: str, more: Iterable[str | None] = ()) -> Hosts:
    """What the server on ``listener`` may be called.

    Args:
        host: as the operator gave it.
        more: further names, with or without ports or schemes; None and "" are left out.
    """
    place = listener.getsockname()[0].partition("%")[0]
    given = host.removeprefix("[").removesuffix("]").lower()
    names = {place, given, *(urlsplit(m if "//" in m else f"//{m}").hostname or "" for m in more if m)}
    if on_all(place) or ipaddress.ip_address(place).is_loopback:
        names |= {"localhost", "127.0.0.1", "::1"}
    return Hosts(frozenset(n.rstrip(".") for n in names if n), on_all(place))


class HostCheck:
    """ASGI middleware: refuses requests that call the server by another name, and changes asked for by foreign pages."""

    def __init__(self, app: Callable, hosts: Hosts) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        refused = self._refusal(scope)
        if refused is None:
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        else:
            await refused(scope, receive, send)

    def _refusal(self, scope: dict) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        called = headers.getlist("host")
        host = split_host(called[0]) if len(called) == 1 else None
        if host is None:
            return PlainTextResponse(
                "The request does not name the server that it wants to reach (Host).", MALFORMED
            )
        if not self.hosts.allow(host[0]):
            return PlainTextResponse(
                f"This server is not called {host[0][:100]!r}. If it should be, its operator starts it with "
                f"--allow-host {host[0][:100]}; otherwise use the address that it printed when it started.",
                NOT_CALLED,
            )
        origin = headers.get("origin")
        changes = scope["type"] == "websocket" or scope["method"] not in HARMLESS
        if origin is not None and changes and not self._own(origin, host):
            return PlainTextResponse(
                f"A page of {origin[:100]!r} asked for this, and was refused: only this server's own pages may. If this is its own "
                "page behind a proxy, its operator names the page's host with --allow-host.",
                FORBIDDEN,
            )
        return None

    def _own(self, origin: str, host: tuple[str, str]) -> bool:
        """Whether ``origin`` is the request's own server, or a name that was given to this server: behind a proxy the two can differ."""
        scheme, _, rest = origin.partition("://")
        found = split_host(rest)
        if scheme not in PORTS or found is None:  # also "null", which hides the origin
            return False
        name, port = found
        same = name == host[0] and (port or PORTS[scheme]) == (host[1] or PORTS[scheme])
        return same or (name in self.hosts.names and not is_address(name) and name != "localhost")
