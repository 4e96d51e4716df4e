"""The collection tab: the pairs that a visitor kept on the server, until they expire or are deleted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from siamese.exchange.formats import FORMATS, write_zip
from siamese.exchange.item import of_pair
from siamese.records.subjects import named
from siamese.studio.components import html
from siamese.studio.components.download import on_demand
from siamese.studio.components.images import image_caption, picture
from siamese.studio.components.listeners import QUICK
from siamese.studio.storage.collection_entry import CollectionError
from siamese.studio.storage.collections import Collections
from siamese.studio.tabs.gallery import NO_FRAME, GalleryImages
from siamese.studio.visitors.cookie import NoCookieError, keeper

OWN = "studio"
FORMAT_CHOICES = [
    ("This studio (images, masks, recipes)", OWN),
    *((f.title, f.name) for f in FORMATS.values()),
]
Updates = dict[Any, Any]
"""Updates by component."""


@dataclass
class CollectionTab:
    """The tab's components."""

    summary: gr.HTML
    gallery: gr.Gallery
    format_: gr.Dropdown
    """Name of an exchange format, or ``OWN``."""
    download: gr.Button
    remove: gr.Button
    delete: gr.Button
    sure: gr.Column
    confirm: gr.Button
    back: gr.Button
    note: gr.HTML
    ids: gr.State = field(repr=False)
    """Ids of the pairs in the gallery, in its order."""
    selected: gr.State = field(repr=False)
    """Id of the selected pair; None if no pair is selected."""

    @property
    def parts(self) -> list[Any]:
        """What ``CollectionEvents.refresh`` updates."""
        return [
            self.summary,
            self.gallery,
            self.ids,
            self.selected,
            self.download,
            self.remove,
            self.delete,
            self.sure,
            self.note,
        ]


def build_collection() -> CollectionTab:
    """The tab, empty."""
    summary = gr.HTML("", elem_id="collection-summary")
    with gr.Row(elem_id="collection-download"):
        format_ = gr.Dropdown(FORMAT_CHOICES, value=OWN, label="Download as", elem_id="collection-format")
        download = gr.Button("Download all (ZIP)", variant="primary", size="md", interactive=False)
    with gr.Row(elem_classes="buttons"):
        remove = gr.Button("Remove selected", size="md", interactive=False)
        delete = gr.Button("Delete everything", size="md", interactive=False)
    with gr.Column(visible=False, elem_id="sure", variant="panel") as sure, gr.Row(elem_classes="buttons"):
        gr.HTML('<p class="hint">This deletes every kept pair from the server. It cannot be undone.</p>')
        confirm = gr.Button("Yes, delete everything", variant="stop", size="md")
        back = gr.Button("Keep them", size="md")
    note = gr.HTML("", elem_id="collection-note")
    gallery = gr.Gallery(
        label="Kept pairs",
        show_label=False,
        columns=5,
        object_fit="contain",
        format="png",
        interactive=False,
        buttons=[],
        allow_preview=False,
        elem_id="collection",
        visible=False,
    )
    return CollectionTab(
        summary=summary,
        gallery=gallery,
        format_=format_,
        download=download,
        remove=remove,
        delete=delete,
        sure=sure,
        confirm=confirm,
        back=back,
        note=note,
        ids=gr.State([]),
        selected=gr.State(None),
    )


class CollectionEvents:
    """The handlers of the tab's events; each returns updates by component."""

    def __init__(self, tab: CollectionTab, collections: Collections) -> None:
        self.tab, self.collections = tab, collections

    def refresh(self, text: str = "", kind: html.Kind = "idle") -> Updates:
        """Show what the visitor whose event runs has kept, with ``text`` as a note."""
        try:
            owner = keeper()
        except NoCookieError as error:
            return self._show([], [], "", html.note("error", str(error)))
        images, ids, damaged = [], [], 0
        for entry in self.collections.entries(owner):
            try:
                pair = self.collections.load(owner, entry.id)
            except CollectionError:
                damaged += 1
                continue
            images.append((picture(pair, True), image_caption(pair, entry.agreement)))
            ids.append(entry.id)
        if damaged and not text:
            pairs = (
                "pair cannot be read: its files are"
                if damaged == 1
                else "pairs cannot be read: their files are"
            )
            text, kind = f"{damaged} kept {pairs} damaged. The others are intact.", "error"
        return self._show(images, ids, _summary(self.collections, owner, len(ids)), html.note(kind, text))

    def keep(self, images: GalleryImages) -> str:
        """Keep the selected image; returns the note below it."""
        if images.pair is None:
            return html.note("error", "Generate an image first.")
        try:
            owner = keeper()
            self.collections.add(owner, images.pair, images.agreement)
            count = len(self.collections.entries(owner))
        except (CollectionError, NoCookieError) as error:
            return html.note("error", str(error))
        return html.note("done", f"Kept. Your collection holds {_pairs(count)}.")

    def select_pair(self, ids: list[str], event: gr.SelectData) -> Updates:
        """A pair was clicked."""
        found = event.index < len(ids)  # otherwise the click was on a pair that is gone
        return {
            self.tab.gallery: gr.update(selected_index=event.index if found else NO_FRAME),
            self.tab.selected: ids[event.index] if found else None,
            self.tab.remove: gr.update(interactive=found),
        }

    def remove(self, selected: str | None) -> Updates:
        """Remove the selected pair."""
        if selected is None:
            return self.refresh("Select a pair first.", "error")
        return self._change(lambda owner: self.collections.remove(owner, selected), "Removed.")

    def delete(self) -> Updates:
        """Delete the whole collection."""
        return self._change(self.collections.delete, "Everything is deleted.")

    def export(self, format_: str, folder: Path) -> Path:
        """The ZIP of all kept pairs in a format, in ``folder``.

        Raises:
            CollectionError: nothing is kept, or a pair cannot be read.
            ValueError: an unknown format.
        """
        if format_ == OWN:
            path = folder / "synthetic-pairs.zip"
            self.collections.export(keeper(), path)
            return path
        path, owner = folder / f"synthetic-pairs-{format_}.zip", keeper()
        entries = self.collections.entries(owner)
        if not entries:
            raise CollectionError("Nothing is kept yet; keep a pair first.")
        pairs = ((entry.id, self.collections.load(owner, entry.id)) for entry in reversed(entries))
        write_zip(
            (of_pair(pair, name, named(pair.recipe.prompt).noun) for name, pair in pairs), format_, path
        )
        return path

    def _change(self, change: Callable[[str], None], text: str) -> Updates:
        try:
            change(keeper())
        except (CollectionError, NoCookieError) as error:
            return self.refresh(str(error), "error")
        return self.refresh(text)

    def _show(self, images: list[Any], ids: list[str], summary: str, note: str) -> Updates:
        some = gr.update(interactive=bool(ids))
        return {
            self.tab.summary: summary,
            # No frame: Gradio would keep the old index, which is now another pair's.
            self.tab.gallery: gr.update(value=images, selected_index=NO_FRAME, visible=bool(images)),
            self.tab.ids: ids,
            self.tab.selected: None,
            self.tab.download: some,
            self.tab.remove: gr.update(interactive=False),
            self.tab.delete: some,
            self.tab.sure: gr.update(visible=False),
            self.tab.note: note,
        }


def wire_collection(
    events: CollectionEvents, keep: gr.Button, shown: gr.State, keep_note: gr.HTML, entering: gr.Tab
) -> None:
    """Connect the tab, and the studio's Keep button.

    Args:
        keep, shown, keep_note: the button, the images of which it keeps the selected one, and the note below them.
        entering: the tab that shows the components; the collection is read each time it is opened.
    """
    tab = events.tab
    keep.click(events.keep, shown, keep_note, **QUICK)
    entering.select(events.refresh, None, tab.parts, **QUICK)
    # The note says how many pairs are kept, which may change in this tab.
    entering.select(lambda: "", None, keep_note, **QUICK)
    tab.gallery.select(events.select_pair, tab.ids, [tab.gallery, tab.selected, tab.remove], **QUICK)
    tab.remove.click(events.remove, tab.selected, tab.parts, **QUICK)
    tab.delete.click(lambda: gr.update(visible=True), None, tab.sure, **QUICK)
    tab.back.click(lambda: gr.update(visible=False), None, tab.sure, **QUICK)
    tab.confirm.click(events.delete, None, tab.parts, **QUICK)
    on_demand(tab.download.click, events.export, [tab.format_], tab.note)


def _summary(collections: Collections, owner: str, count: int) -> str:
    days = collections.lifetime.days
    stay = f"Pairs stay on the server for {days} days after your last visit to them, for this browser only."
    if not count:
        return f'<p class="hint">Nothing is kept yet. Press Keep below an image in the studio. {stay}</p>'
    until = collections.expires(owner)
    when = f" They expire on {until:%-d %B %Y}." if until else ""
    return f'<p class="hint">{_pairs(count)} kept. {stay}{when}</p>'


def _pairs(count: int) -> str:
    return f"{count} {'pair' if count == 1 else 'pairs'}"
