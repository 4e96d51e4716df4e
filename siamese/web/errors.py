"""The last resort: whatever breaks is logged, and the reply is a sentence."""

from __future__ import annotations

import logging
from collections.abc import Callable

from starlette.responses import JSONResponse, PlainTextResponse, Response

log = logging.getLogger(__name__)
BROKEN = "Something went wrong in the server, and nothing was done. Try again; if it happens again, tell whoever runs the server: its log says more."
BARE = b"Internal Server Error"
"""The body of an application's own response to an exception."""
SCRIPTED = ("/rate/", "/gradio_api/")
"""Paths whose replies scripts read."""


class LastResort:
    """ASGI middleware: an exception, or an application's bare 500, becomes status 500 with a sentence and an entry in the log."""

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        held, begun = None, False

        async def watched(message: dict) -> None:
            nonlocal held, begun
            if message["type"] == "http.response.start" and message["status"] == 500:
                held = message  # until the body says whether it is bare
                return
            if held is not None:
                start, held = held, None
                if message.get("body", b"").strip() == BARE and not message.get("more_body"):
                    begun = True
                    await broken(scope["path"])(scope, receive, send)
                    return
                await send(start)
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:  # the outermost layer: nobody else could report it
            # The address of a rater's page is a secret; the log gets the kind of page alone.
            log.exception(
                "%s %s failed",
                scope["method"],
                "/rate/..." if scope["path"].startswith("/rate/") else scope["path"][:200],
            )
            if not begun:
                await broken(scope["path"])(scope, receive, send)


def broken(path: str) -> Response:
    """The reply to a request that broke something."""
    return (
        JSONResponse({"error": BROKEN, "detail": BROKEN}, 500)
        if path.startswith(SCRIPTED)
        else PlainTextResponse(BROKEN, 500)
    )
