"""What stands before Gradio's functions: no visitor has many of them going on at once.

The line before the model refuses, too, but only once Gradio has made an event of a request, which holds up the event loop for many
milliseconds, and with it the raters. Here a flood costs next to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from siamese.studio.visitors.cookie import SCOPE_KEY
from siamese.studio.visitors.refusal import RefusedError

EACH = 8
"""Events of one visitor that wait or run, and as many short calls at the same moment; a browser opens no more connections than six."""
TOO_MANY = f"You have {EACH} requests going on already. Wait until some of them are done, or cancel one; then try again."


class Door:
    """Counts what each visitor has going on. Used from the server's event loop alone.

    Args:
        page: whose events are counted.
    """

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page
        self._arriving: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        """Requests by visitor: those that join, which are no events yet, and direct calls."""

    @contextmanager
    def through(self, visitor: str, joins: bool) -> Iterator[None]:
        """While a request of the visitor with the id ``visitor`` is on its way.

        Args:
            joins: whether it joins the queue, where its event goes on after the request; else it is a direct call.

        Raises:
            RefusedError: 429, the visitor has too much going on.
        """
        arriving = self._arriving[joins]
        if arriving[visitor] + (self._events(visitor) if joins else 0) >= EACH:
            raise RefusedError(429, TOO_MANY)
        arriving[visitor] += 1
        try:
            yield
        finally:
            arriving[visitor] -= 1
            if not arriving[visitor]:
                del arriving[visitor]

    def _events(self, visitor: str) -> int:
        events = self.page._queue.event_ids_to_events.values()
        return sum(
            (known := event.request.scope.get(SCOPE_KEY)) is not None and known.id == visitor
            for event in events
        )
