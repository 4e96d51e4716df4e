"""Whom a request is from, where a proxy stands in front of the server."""
from __future__ import annotations

from collections.abc import Callable, Sequence

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware


class Forwarded:
    """ASGI middleware: takes the word of trusted proxies for whom a request is from, and of nobody else.

    Without trust all ``X-Forwarded-*`` and ``Forwarded`` headers are removed: others than us read them, too.

    Args:
        proxies: addresses and networks; see ``Access.proxies``.
    """

    def __init__(self, app: Callable, proxies: Sequence[str]) -> None:
        self.app = app
        self.believing = ProxyHeadersMiddleware(app, list(proxies))

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] in ("http", "websocket"):
            if scope.get("client") and scope["client"][0] in self.believing.trusted_hosts:
                await self.believing(scope, receive, send)
                return
            kept = [(name, value) for name, value in scope["headers"] if not name.lower().startswith((b"x-forwarded-", b"x-gradio-server"))
                    and name.lower() not in (b"forwarded", b"x-real-ip")]
            scope = scope | {"headers": kept}
        await self.app(scope, receive, send)
