"""A visitor's window on the page that was built, and its panels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from siamese.masks.packed import pack, unpack
from siamese.records.provenance import Recipe, read_png
from siamese.studio.storage.collections import Collections
from siamese.studio.tabs import gallery as results
from siamese.studio.tabs.batch import BatchTab
from siamese.studio.tabs.collection import CollectionTab
from siamese.studio.tabs.draw import DrawPanel
from siamese.studio.tabs.gallery import GalleryImages, ResultPanel
from siamese.studio.tabs.history import HistoryStrip
from siamese.studio.tabs.settings import SettingsPanel
from siamese.studio.visitors import cookie
from tests.studio.stand_in_model import StandIn
from tests.studio.wiring import Visitor


class Window(Visitor):
    """A visitor of the page, and the panels."""

    def __init__(self, page: gr.Blocks, worker: StandIn, folder: Path, found: dict[type, Any]) -> None:
        self.folder, self.at_first = folder / "served", set[Path]()
        self.worker, worker.fault = worker, None
        self.collections = Collections(folder / "collections")
        super().__init__(page)
        self.draw: DrawPanel = found[DrawPanel]
        self.settings: SettingsPanel = found[SettingsPanel]
        self.result: ResultPanel = found[ResultPanel]
        self.history: HistoryStrip = found[HistoryStrip]
        self.kept: CollectionTab = found[CollectionTab]
        self.batch: BatchTab = found[BatchTab]
        self[self.result.gallery] = results.items(self.shown, True)
        self.paint(self.worker.example.drawn)
        self.at_first = self.served()

    def served(self) -> set[Path]:
        """Files that the page wrote for this visitor's photo; others Gradio writes, which is not here."""
        return {path for path in self.folder.rglob("*") if path.is_file()} - self.at_first

    def paint(self, mask: np.ndarray) -> None:
        """A stroke's end."""
        self[self.draw.canvas] = pack(mask)
        self.fire(self.draw.canvas, "input")
        if self[self.result.live]:
            self.fire(self.draw.canvas, "submit")

    def settle(self) -> None:
        """The canvas shows what the server gave it, and says so."""
        self.paint(unpack(self[self.draw.canvas]))

    @property
    def shown(self) -> GalleryImages:
        return self[self.result.shown]

    def framed(self) -> Recipe | None:
        """With what the image was made that the frame is around, None without a frame."""
        index = self.prop(self.result.gallery, "selected_index")
        if index in (None, results.NO_FRAME):
            return None
        return Recipe.from_dict(json.loads(self[self.result.gallery][index][0].info["Recipe"]))

    def token(self) -> str:
        """The key of what this visitor keeps."""
        return cookie.keeper()

    def enter_collection(self) -> None:
        """Switch to the tab."""
        self.fire(
            next(
                block for block in self.page.blocks.values() if getattr(block, "id", None) == "collection-tab"
            ),
            "select",
        )

    def keeps(self) -> Recipe:
        """What Keep stores."""
        self.press(self.result.keep)
        entry = self.collections.entries(self.token())[0]
        assert "Kept." in self[self.result.note]
        self.collections.remove(self.token(), entry.id)
        return entry.recipe

    def downloads(self) -> Recipe:
        """What Download hands out."""
        return read_png(self._made(self.result.download).read_bytes()).recipe

    def collection_zip(self) -> Path:
        """What the collection's Download hands out."""
        return self._made(self.kept.download)

    def _made(self, button: gr.Button) -> Path:
        (link,) = [
            out
            for fn in self.page.fns.values()
            if (button._id, "click") in fn.targets
            for out in fn.outputs
            if isinstance(out, gr.DownloadButton)
        ]
        for _ in self.begin(button, "click"):
            return Path(self[link])
        raise AssertionError("nothing was made")

    def check(self) -> None:
        """Frame, caption and what would be kept are one; without a frame nothing can be done."""
        framed, buttons = (
            self.framed(),
            (self.result.keep, self.result.download, self.result.use_seed, self.result.more),
        )
        usable = [self.prop(button, "interactive") is not False for button in buttons]
        if framed is None:
            assert not any(usable)
            return
        assert all(usable[:3])
        assert framed == self.shown.pair.recipe
        count, place = len(self.shown.pairs), self.shown.selected + 1
        assert len(self[self.result.gallery]) == count
        assert f"Seed {framed.seed} " in self[self.result.caption]
        assert count == 1 or f"Image {place} of {count} " in self[self.result.caption]
