"""The warning that text is burned into a visitor's photo: beside its export, and before it becomes a reference that is compared."""

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
"""Shares of a side between which a box's centre is neither left nor right, neither upper nor lower."""


def place(box: Box) -> str:
    """Where ``box`` is, in words: "upper left", "middle", "right"."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    words = [
        "upper" if y < MIDDLE[0] else "lower" if y > MIDDLE[1] else "",
        "left" if x < MIDDLE[0] else "right" if x > MIDDLE[1] else "",
    ]
    return " ".join(filter(None, words)) or "middle"


def warning(boxes: Sequence[Box]) -> str:
    """The visitor's sentences about text in ``boxes``; empty where there is none."""
    if not boxes:
        return ""
    places = ", ".join(
        dict.fromkeys(place(box) for box in sorted(boxes, key=lambda box: (box.top, box.left)))
    )
    return (
        f"This photo seems to have text burned in ({places}). It may name a patient. Crop the photo or cover the text, and open it again. "
        "If you go on, the exported annotation holds the text, and so does the comparison where the photo is the reference."
    )


def warn_of_text(photo: gr.State, panels: Sequence[BlockContext], events: Sequence[Dependency]) -> None:
    """Put a warning at the end of each of ``panels`` while ``photo`` has burned-in text.

    The photo is there at once: it is looked at in an event of its own, one photo after the other, so that they keep no other event from
    its thread.

    Args:
        events: after which the photo may be another one. Gradio tells a state's change only after events of its queue.
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
