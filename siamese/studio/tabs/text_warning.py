"""The warning about text that is burned into a visitor's photo, shown beside the photo's export and beside its use as a reference."""

from __future__ import annotations

from collections.abc import Sequence

import gradio as gr
from gradio.blocks import BlockContext
from gradio.events import Dependency

from siamese.records.burned_in_text import Box, find_text
from siamese.studio.components import html
from siamese.studio.components.listeners import HIDDEN, QUICK
from siamese.studio.tabs.photo import Photo

ELEMENT = "text-warning"
LOOKING = "Looking for burned-in text in this photo…"
MIDDLE = (1 / 3, 2 / 3)
"""Shares of a side: a box whose centre lies between them is neither left nor right, neither upper nor lower."""


def place(box: Box) -> str:
    """The position of ``box`` in words: "upper left", "middle", "right"."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    words = [
        "upper" if y < MIDDLE[0] else "lower" if y > MIDDLE[1] else "",
        "left" if x < MIDDLE[0] else "right" if x > MIDDLE[1] else "",
    ]
    return " ".join(filter(None, words)) or "middle"


def warning(boxes: Sequence[Box]) -> str:
    """The warning about text in ``boxes``; empty without boxes."""
    if not boxes:
        return ""
    places = ", ".join(
        dict.fromkeys(place(box) for box in sorted(boxes, key=lambda box: (box.top, box.left)))
    )
    return (
        f"This photo seems to contain burned-in text ({places}), which may name a patient. Crop the photo or cover the text, and open it again. "
        "Otherwise the exported annotation shows the text, and so does the comparison if the photo is the reference."
    )


def warn_of_text(photo: gr.State, panels: Sequence[BlockContext], events: Sequence[Dependency]) -> None:
    """Show a warning at the end of each of ``panels`` while ``photo`` has burned-in text.

    A separate event searches the photo, so that the visitor sees it at once. It searches one photo at a time, so that many photos do not
    take the threads of other events.

    Args:
        events: the events that may change the photo. Gradio's own event for a changed state would miss those outside its queue.
    """
    notes = []
    for number, panel in enumerate(panels):
        with panel:
            notes.append(gr.HTML("", elem_id=f"{ELEMENT}-{number}"))

    def look(shown: Photo | None) -> list[str]:
        return [html.note("error", warning(find_text(shown.pixels))) if shown else ""] * len(notes)

    def looking(shown: Photo | None) -> list[str]:
        return [html.note("busy", LOOKING) if shown else ""] * len(notes)

    for event in events:
        event.then(looking, photo, notes, **QUICK).then(
            look, photo, notes, concurrency_limit=1, concurrency_id=ELEMENT, **HIDDEN
        )
