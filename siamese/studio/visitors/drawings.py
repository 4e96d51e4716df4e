"""Drawings that browsers have sent and no event has read yet: a bounded store for each visitor.

The editor sends a drawing after each stroke, and no event reads one that is followed by another. So a visitor's newest drawing replaces
their own oldest, but never another visitor's. If all stores together are full, a new drawing is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from gradio.components.image_editor import AcceptBlobs, EditorDataBlobs

from siamese.studio.visitors.cookie import Visitor, current
from siamese.studio.visitors.limits import check_picture
from siamese.studio.visitors.refusal import RefusedError

UNREAD_EACH = 32
"""Maximum number of drawings of one visitor."""
BYTES_EACH, BYTES_ALL = 24 * 2**20, 256 * 2**20
"""Maximum bytes of drawings as they were sent: of one visitor, and of all."""
UNREAD_SECONDS = 3600
MAX_LAYERS = 8
MAX_NAME_LENGTH = 64

FULL = "The server cannot hold more drawings now. Try again in a minute; your drawing is still on this page."
STRANGE = "This is not what the canvas sends. Reload the page and draw again."


class Drawings:
    """All visitors' unread drawings, in memory. Safe to use from several threads."""

    def __init__(self) -> None:
        self._stores: dict[str, _Store] = {}
        self._lock = threading.RLock()

    def of(self, visitor: Visitor | None) -> _Store:
        """The visitor's store, which the editor uses as its own."""
        name = visitor.id if visitor else ""
        with self._lock:
            return self._stores.setdefault(name, _Store())

    def make_room(self, visitor: Visitor | None, name: str, more: int) -> None:
        """Remove the visitor's older drawings, so that ``more`` bytes of the drawing ``name`` fit.

        Raises:
            RefusedError: they do not fit, even so.
        """
        own = self.of(visitor)
        with self._lock:
            while (own.bytes + more > BYTES_EACH or len(own) >= UNREAD_EACH) and (
                oldest := next((n for n in own if n != name), None)
            ) is not None:
                own.pop(oldest)
            if (
                own.bytes + more > BYTES_EACH
                or sum(store.bytes for store in self._stores.values()) + more > BYTES_ALL
            ):
                raise RefusedError(503, FULL)

    def forget(self, visitor: Visitor) -> None:
        """Remove the visitor's drawings."""
        with self._lock:
            self._stores.pop(visitor.id, None)

    def tidy(self) -> None:
        """Remove drawings that were not read within ``UNREAD_SECONDS``, and empty stores."""
        oldest = time.monotonic() - UNREAD_SECONDS
        with self._lock:
            for visitor, store in list(self._stores.items()):
                for name in [n for n, at in store.at.items() if at < oldest]:
                    store.pop(name, None)
                if not store:
                    del self._stores[visitor]


class _Store(dict[str, EditorDataBlobs]):
    """One visitor's drawings by the names that the page gives them, the oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[str, float] = {}

    def __setitem__(self, name: str, drawing: EditorDataBlobs) -> None:
        super().__setitem__(name, drawing)
        self.at[name] = time.monotonic()

    def pop(self, name: str, *default: Any) -> Any:
        self.at.pop(name, None)
        return super().pop(name, *default)

    @property
    def bytes(self) -> int:
        """Bytes of all pictures."""
        return sum(
            len(p)
            for d in list(self.values())
            for p in (d.background, d.composite, *d.layers)
            if p is not None
        )


def checked(
    accept: Callable[[Any, AcceptBlobs], None], drawings: Drawings
) -> Callable[[Any, AcceptBlobs], None]:
    """Gradio's function that receives one picture of a drawing, with a check before it: Gradio makes a list as long as the index that the client sends."""

    def accept_blobs(self: Any, data: AcceptBlobs) -> None:
        fields, files = data.data, data.files
        index, name = str(fields.get("index") or "null"), fields.get("id")
        named = isinstance(name, str) and len(name) <= MAX_NAME_LENGTH
        placed = index == "null" or index in map(str, range(MAX_LAYERS))
        if (
            len(files) != 1
            or fields.get("type") not in ("layer", "background", "composite")
            or not named
            or not placed
        ):
            raise RefusedError(400, STRANGE)
        check_picture(files[0][1])
        drawings.make_room(current(), name, len(files[0][1]))
        accept(self, data)

    return accept_blobs
