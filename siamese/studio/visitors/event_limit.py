"""A limit of each visitor's simultaneous events, checked before Gradio's functions.

The line before the model has a limit, too, but it applies only after Gradio has made an event of the request. That blocks the event loop
for many milliseconds, and the raters with it. Refusing a request here costs next to nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import gradio as gr

from siamese.studio.visitors.cookie import SCOPE_KEY
from siamese.studio.visitors.refusal import RefusedError

EACH = 8
"""Maximum number of one visitor's waiting and running events, and of their direct calls at the same time. A browser opens at most six connections."""
TOO_MANY = f"You already have {EACH} requests in progress. Wait until some of them are done, or cancel one; then try again."


class EventLimit:
    """Counts each visitor's events in progress. Only the server's event loop may use it.

    Args:
        page: its events are counted.
    """

    def __init__(self, page: gr.Blocks) -> None:
        self.page = page
        self._arriving: dict[bool, Counter[str]] = {True: Counter(), False: Counter()}
        """Number of requests by visitor: True, those that are about to join the queue; False, direct calls."""

    @contextmanager
    def through(self, visitor: str, joins: bool) -> Iterator[None]:
        """Count a request of the visitor with the id ``visitor`` inside.

        Args:
            joins: whether it joins the queue, in which its event continues after the request; False for a direct call.

        Raises:
            RefusedError: 429, the visitor has too many requests in progress.
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
