"""Whom a request is from, if a proxy stands in front of the server."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, cast

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

log = logging.getLogger(__name__)


class Forwarded:
    """ASGI middleware: takes the word of trusted proxies for whom a request is from, and of nobody else.

    Without trust all ``X-Forwarded-*`` and ``Forwarded`` headers are removed: others than us read them, too.

    Args:
        proxies: addresses and networks; see ``Access.proxies``.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[str]) -> None:
        self.app = app
        self.warned = False
        # uvicorn annotates ASGI by asgiref's types, Starlette by its own.
        self.believing: Any = ProxyHeadersMiddleware(cast(Any, app), list(proxies))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] in ("http", "websocket"):
            if scope.get("client") and scope["client"][0] in self.believing.trusted_hosts:
                await self.believing(scope, receive, send)
                return
            if not self.warned and any(name.lower() == b"x-forwarded-for" for name, _ in scope["headers"]):
                self.warned = True  # once: anybody can send it
                log.warning(
                    "A request from %s says by X-Forwarded-For that it is another's, and is not believed. If that is your proxy, start "
                    "with --trusted-proxies %s; without, all behind it count as one visitor.",
                    *[(scope.get("client") or ("nobody",))[0]] * 2,
                )
            kept = [
                (name, value)
                for name, value in scope["headers"]
                if not name.lower().startswith((b"x-forwarded-", b"x-gradio-server"))
                and name.lower() not in (b"forwarded", b"x-real-ip")
            ]
            scope = {**scope, "headers": kept}
        await self.app(scope, receive, send)
