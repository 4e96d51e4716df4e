"""The strip of everything that was generated in the visit: a click brings mask, settings, image and agreement back."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.events import Dependency
from PIL import Image

from siamese.masks.core import resize_mask
from siamese.records.provenance import Recipe
from siamese.studio.components import html
from siamese.studio.components.canvas import canvas_value
from siamese.studio.components.images import image_caption
from siamese.studio.components.listeners import QUICK
from siamese.studio.tabs import gallery
from siamese.studio.tabs.draw import DrawPanel
from siamese.studio.tabs.gallery import GalleryImages, ResultPanel
from siamese.studio.tabs.photo import Photo

LIMIT = 20
"""Results that are kept; the oldest leaves first."""
THUMBNAIL_SIDE = 104
"""Pixels: twice what is shown, for sharp screens."""
TEMPLATE = """<div class="history" role="group" aria-label="What you generated in this visit, the latest first">
{{#each value}}<button type="button" class="history-item" data-testid="history-item" data-index="{{@index}}" aria-label="{{this.label}}" title="{{this.label}}"><img src="{{this.source}}" alt=""></button>{{/each}}</div>"""
ON_LOAD = """element.addEventListener('click', (event) => {
  const item = event.target.closest('.history-item');
  if (item) trigger('click', { index: Number(item.dataset.index) });
});"""

Updates = dict[Any, Any]
"""Updates by component."""


@dataclass
class HistoryStrip:
    """The strip, and what it shows."""

    strip: gr.HTML
    past: gr.State
    """list[GalleryImages], the latest first."""


def build_history() -> HistoryStrip:
    """An empty strip."""
    strip = gr.HTML(
        [],  # pyright: ignore[reportArgumentType] - a value of any kind, which the annotation lacks
        html_template=TEMPLATE,
        js_on_load=ON_LOAD,
        apply_default_css=False,
        elem_id="history",
    )
    return HistoryStrip(strip, gr.State([]))


class HistoryEvents:
    """The handlers of the strip.

    Args:
        restored: for the recipe of an image: what is restored, in words, and the updates that do it.
    """

    def __init__(
        self,
        history: HistoryStrip,
        draw: DrawPanel,
        result: ResultPanel,
        restored: Callable[[Recipe], tuple[str, Updates]],
    ) -> None:
        self.history, self.draw, self.result, self.restored = history, draw, result, restored

    def add(self, shown: GalleryImages, past: list[GalleryImages]) -> Updates:
        """A run has ended: note its images unless they are noted already."""
        made = {(pair.recipe, pair.image.tobytes()[:64]) for images in past for pair in images.pairs}
        if (
            shown.pair is None
            or shown.example
            or (shown.pair.recipe, shown.pair.image.tobytes()[:64]) in made
        ):
            return gr.skip()
        # Without the photo: a removed one must not live on here.
        kept = [GalleryImages(shown.pairs, shown.agreements, shown.selected), *past][:LIMIT]
        return {self.history.past: kept, self.history.strip: [thumbnail(images) for images in kept]}

    def reopen(
        self, past: list[GalleryImages], photo: Photo | None, outlined: bool, event: gr.EventData
    ) -> Updates:
        """An item was clicked."""
        index = event._data.get("index") if isinstance(event._data, dict) else None
        if type(index) is not int or not 0 <= index < len(past) or (pair := past[index].pair) is None:
            return gr.skip()
        text, settings = self.restored(pair.recipe)
        drawn = pair.drawn if photo is None else resize_mask(pair.drawn, photo.pixels.shape[:2])
        return {
            **settings,
            **gallery.show(self.result, past[index], outlined),
            self.result.outdated: "",
            self.result.note: html.note("idle", text),
            self.result.live: False,  # otherwise the mask that comes back would be sampled again at once
            self.draw.canvas: canvas_value(drawn, keep_background=True),
        }


def thumbnail(images: GalleryImages) -> dict[str, str]:
    """``label`` and ``source`` (a data URL) of the selected image's item."""
    pair = images.pair
    assert pair is not None  # ``HistoryEvents.add`` notes no others
    small = Image.fromarray(pair.image).resize((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.BILINEAR)
    data = io.BytesIO()
    small.save(data, "JPEG", quality=80)
    label = image_caption(pair, images.agreement)
    return {"label": label, "source": f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"}


def wire_history(events: HistoryEvents, ends: Sequence[Dependency], settings: list[Any]) -> Dependency:
    """Note what ends with the events ``ends``, and reopen what is clicked.

    Args:
        settings: the components that ``events.restored`` updates.

    Returns:
        The event of a click.
    """
    history, result = events.history, events.result
    for end in ends:
        end.then(events.add, [result.shown, history.past], [history.past, history.strip], **QUICK)
    return history.strip.click(
        events.reopen,
        [history.past, events.draw.photo, result.outline],
        [*settings, *result.parts, result.live, events.draw.canvas],
        **QUICK,
    )
