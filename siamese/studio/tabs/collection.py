"""The collection tab: the pairs that a visitor kept, on the server until they expire or are deleted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from siamese.studio.components import html
from siamese.studio.components.download import on_demand
from siamese.studio.components.images import image_caption, picture
from siamese.studio.components.listeners import QUICK
from siamese.studio.storage.collections import CollectionError, Collections
from siamese.studio.tabs.gallery import NO_FRAME, Shown
from siamese.studio.visitors.cookie import NoCookieError, keeper


@dataclass
class CollectionTab:
    """The tab's components."""

    summary: gr.HTML
    gallery: gr.Gallery
    download: gr.Button
    remove: gr.Button
    delete: gr.Button
    sure: gr.Column
    confirm: gr.Button
    back: gr.Button
    note: gr.HTML
    ids: gr.State = field(repr=False)
    """Of the pairs in the gallery, in its order."""
    selected: gr.State = field(repr=False)
    """Id of the pair that is framed, None where none is."""

    @property
    def parts(self) -> list[Any]:
        """What ``refresh`` updates, in its order."""
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
    with gr.Row(elem_classes="buttons"):
        download = gr.Button("Download all (ZIP)", variant="primary", size="md", interactive=False)
        remove = gr.Button("Remove selected", size="md", interactive=False)
        delete = gr.Button("Delete everything", size="md", interactive=False)
    with gr.Column(visible=False, elem_id="sure", variant="panel") as sure, gr.Row(elem_classes="buttons"):
        gr.HTML('<p class="hint">This deletes every kept pair from the server, for good.</p>')
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
        summary, gallery, download, remove, delete, sure, confirm, back, note, gr.State([]), gr.State(None)
    )


def wire_collection(
    tab: CollectionTab,
    collections: Collections,
    keep: gr.Button,
    shown: gr.State,
    keep_note: gr.HTML,
    entering: gr.Tab,
) -> None:
    """Connect the tab, and the studio's Keep button."""

    def refresh(text: str = "", kind: html.Kind = "idle") -> list[Any]:
        images, ids, damaged = [], [], 0
        try:
            name = keeper()
        except NoCookieError as error:
            return (
                ["", gr.update(value=[], visible=False), [], None]
                + [gr.update(interactive=False)] * 3
                + [gr.update(visible=False), html.note("error", str(error))]
            )
        for entry in collections.entries(name):
            try:
                pair = collections.load(name, entry.id)
            except CollectionError:
                damaged += 1
                continue
            images.append((picture(pair, True), image_caption(pair, entry.agreement)))
            ids.append(entry.id)
        if damaged and not text:
            text, kind = (
                f"{damaged} kept pairs cannot be read: their files are damaged. The others are whole.",
                "error",
            )
        there = gr.update(interactive=bool(ids))
        # Without a frame: Gradio would keep the index of the one before, around another pair.
        return [
            _summary(collections, name, len(ids)),
            gr.update(value=images, selected_index=NO_FRAME, visible=bool(images)),
            ids,
            None,
            there,
            gr.update(interactive=False),
            there,
            gr.update(visible=False),
            html.note(kind, text),
        ]

    def keep_one(images: Shown) -> str:
        if images.pair is None:
            return html.note("error", "Generate an image first.")
        try:
            collections.add(keeper(), images.pair, images.agreement)
        except (CollectionError, NoCookieError) as error:
            return html.note("error", str(error))
        count = len(collections.entries(keeper()))
        return html.note("done", f"Kept. Your collection holds {count} {'pair' if count == 1 else 'pairs'}.")

    def remove(selected: str | None) -> list[Any]:
        if selected is None:
            return refresh("Select a pair first.", "error")
        try:
            collections.remove(keeper(), selected)
        except (CollectionError, NoCookieError) as error:
            return refresh(str(error), "error")
        return refresh("Removed.")

    def delete() -> list[Any]:
        try:
            collections.delete(keeper())
        except (CollectionError, NoCookieError) as error:
            return refresh(str(error), "error")
        return refresh("Everything is deleted.")

    def export(folder: Path) -> Path:
        path = folder / "synthetic-pairs.zip"
        collections.export(keeper(), path)
        return path

    def pick(ids: list[str], event: gr.SelectData) -> list[Any]:
        chosen = (
            ids[event.index] if event.index < len(ids) else None
        )  # None of a click on images that are gone
        frame = NO_FRAME if chosen is None else event.index
        return [gr.update(selected_index=frame), chosen, gr.update(interactive=chosen is not None)]

    keep.click(keep_one, shown, keep_note, **QUICK)
    entering.select(refresh, None, tab.parts, **QUICK)
    entering.select(
        lambda: "", None, keep_note, **QUICK
    )  # the number that it states may not be right any more when the visitor comes back
    tab.gallery.select(pick, tab.ids, [tab.gallery, tab.selected, tab.remove], **QUICK)
    tab.remove.click(remove, tab.selected, tab.parts, **QUICK)
    tab.delete.click(lambda: gr.update(visible=True), None, tab.sure, **QUICK)
    tab.back.click(lambda: gr.update(visible=False), None, tab.sure, **QUICK)
    tab.confirm.click(delete, None, tab.parts, **QUICK)
    on_demand(tab.download.click, export, [], tab.note)


def _summary(collections: Collections, token: str | None, count: int) -> str:
    days = collections.lifetime.days
    stay = f"Pairs stay on the server for {days} days after your last visit to them, for this browser only."
    if not count:
        return f'<p class="hint">Nothing is kept yet. Press Keep below an image in the studio. {stay}</p>'
    until = collections.expires(token)
    when = f" They expire on {until:%-d %B %Y}." if until else ""
    return f'<p class="hint">{count} {"pair" if count == 1 else "pairs"} kept. {stay}{when}</p>'
