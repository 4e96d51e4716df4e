"""What stands before Gradio's functions: no visitor has many of them going on at once.

The line before the model refuses, too, but only once Gradio has made an event of a request, which holds up the event loop for many
milliseconds, and with it the raters. Here a flood costs next to nothing.
"""
from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import gradio as gr
from starlette.requests import Request
from starlette.responses import JSONResponse

from siamese.interface.visitor import visitor_of

EACH = 8
"""Events of one visitor that wait or run, and as many short calls at the same moment; a browser opens no more connections than six."""
TOO_MANY = f"You have {EACH} requests going on already. Wait until some of them are done, or cancel one; then try again."
API = "/gradio_api/"
JOINS, CALLS = (f"{API}queue/join", f"{API}call/"), (f"{API}run/", f"{API}api/")
VISITOR = "siamese.visitor"
"""Where the request of an event keeps whose it is."""


class Door:
    """ASGI middleware: 429 with a sentence for a visitor who has too much going on.

    Args:
        page: whose events are counted.
    """

    def __init__(self, app: Callable, page: gr.Blocks) -> None:
        self.app, self.page = app, page
        self._arriving: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        """Requests by visitor: those that join, which are no events yet, and direct calls."""

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        path = scope.get("path", "")
        joins = path.startswith(JOINS)
        if scope["type"] != "http" or scope["method"] != "POST" or not (joins or path.startswith(CALLS)):
            await self.app(scope, receive, send)
            return
        visitor = scope[VISITOR] = visitor_of(gr.Request(request=Request(scope)))
        arriving = self._arriving[joins]
        if arriving[visitor] + (self._events(visitor) if joins else 0) >= EACH:
            await JSONResponse({"detail": TOO_MANY}, 429)(scope, receive, send)
            return
        arriving[visitor] += 1
        try:
            await self.app(scope, receive, send)
        finally:
            arriving[visitor] -= 1
            if not arriving[visitor]:
                del arriving[visitor]

    def _events(self, visitor: str) -> int:
        return sum(event.request.scope.get(VISITOR) == visitor for event in self.page._queue.event_ids_to_events.values())
