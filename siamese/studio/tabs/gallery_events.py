"""The events of the result panel: which image is selected, and what a changed mask or photo means for it."""

from __future__ import annotations

import dataclasses
from typing import Any

import gradio as gr

from siamese.studio.backend.runs import RunRegistry
from siamese.studio.tabs import gallery
from siamese.studio.tabs.gallery import GalleryImages, ResultPanel
from siamese.studio.tabs.photo import Photo
from siamese.studio.tabs.settings import SettingsPanel

Updates = dict[Any, Any]
"""Updates by component."""


class GalleryEvents:
    """The handlers of the panel's events; each returns updates by component.

    Args:
        runs: tells whether the previews in the gallery are of a run that still goes on.
    """

    def __init__(self, panel: ResultPanel, settings: SettingsPanel, runs: RunRegistry) -> None:
        self.panel, self.settings, self.runs = panel, settings, runs

    @property
    def state(self) -> list[Any]:
        """What most handlers read: images, whether previews take their place, whether outlines are shown."""
        return [self.panel.shown, self.panel.previewing, self.panel.outline]

    def settle(
        self,
        shown: GalleryImages,
        previewing: bool,
        outlined: bool,
        digest: str | None,
        photo: Photo | None,
    ) -> Updates:
        """After a run: previews of a run without images make room for the images before them, and a removed photo is not compared."""
        kept = shown.without(photo)
        again: Updates = {}
        if previewing:
            again = gallery.show(self.panel, kept, outlined)
        elif kept is not shown:
            again = gallery.select(self.panel, kept, outlined)
        return {**again, **gallery.belongs(self.panel, kept, digest)}

    def restore(
        self,
        shown: GalleryImages,
        previewing: bool,
        outlined: bool,
        digest: str | None,
        photo: Photo | None,
    ) -> Updates:
        """After a failure, when it is unknown what the browser shows: show all again."""
        return self.settle(shown, previewing=True, outlined=outlined, digest=digest, photo=photo)

    def select_image(
        self,
        run_id: str | None,
        shown: GalleryImages,
        previewing: bool,
        outlined: bool,
        digest: str | None,
        event: gr.SelectData,
    ) -> Updates:
        """An image was clicked."""
        if previewing and self.runs.is_active(run_id):
            return {self.panel.gallery: gr.update(selected_index=gallery.NO_FRAME)}
        if previewing:
            return gallery.show(self.panel, shown, outlined)
        if event.index < len(shown.pairs):  # otherwise the click was on an image that is gone
            shown = dataclasses.replace(shown, selected=event.index)
        return {
            self.panel.note: "",
            **gallery.select(self.panel, shown, outlined),
            **gallery.belongs(self.panel, shown, digest),
        }

    def redraw(self, run_id: str | None, shown: GalleryImages, previewing: bool, outlined: bool) -> Updates:
        """Outlines were switched on or off."""
        if previewing and self.runs.is_active(run_id):
            return gr.skip()
        return gallery.show(self.panel, shown, outlined)

    def change_photo(
        self,
        photo: Photo | None,
        shown: GalleryImages,
        previewing: bool,
        outlined: bool,
        digest: str | None,
    ) -> Updates:
        """The photo may be another one, or removed; then it leaves the comparison, too."""
        update = {
            self.settings.reference_group: gr.update(visible=photo is not None),
            self.settings.use_photo: False,
        }
        kept = shown.without(photo)
        if previewing:
            return update | {self.panel.shown: kept}
        again = {} if kept is shown else gallery.select(self.panel, kept, outlined)
        return update | again | gallery.belongs(self.panel, kept, digest)

    def change_mask(self, shown: GalleryImages, previewing: bool, digest: str | None) -> Updates:
        """The mask may be another one."""
        return gr.skip() if previewing else gallery.belongs(self.panel, shown, digest)

    def use_seed(self, shown: GalleryImages) -> Updates:
        """Enter the selected image's seed."""
        if shown.pair is None:
            return gr.skip()
        return {self.settings.seed: shown.pair.recipe.seed, self.settings.random_seed: False}
