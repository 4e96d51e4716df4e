"""A stand-in for the model's process that answers when it is let."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from siamese.studio.backend.messages import Cancelled, ModelInfo, Update


class HeldProcess:
    """Hangs until ``answer`` is set, whatever it is asked, and then says "answer"."""

    def __init__(self) -> None:
        self.loaded: ModelInfo | None = None
        self.asked: list[str] = []
        self.answer = threading.Event()
        self._closed = False

    def start(self) -> None:
        """Nothing is to be started."""

    def ask(
        self, call: str, *args: Any, on_update: Callable[[Update], None], is_cancelled: Callable[[], bool]
    ) -> Any:
        """See ``ModelProcess.ask``; heeds no word to stop."""
        self.asked.append(call)
        self.answer.wait()
        if self._closed:
            raise Cancelled
        return "answer"

    def close(self) -> None:
        """Whoever waits gets ``Cancelled``."""
        self._closed = True
        self.answer.set()
