"""The components of the result panel: gallery, outline, comparison with the reference, and what can be done with an image.

``GalleryImages`` holds the images and which of them is selected. Frame, caption, comparison and buttons are always set from it together.
While previews of other images take their place, no image has a frame and the buttons are disabled.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from siamese.masks.core import mask_digest, resize_image
from siamese.records.provenance import SyntheticPair, pair_png
from siamese.studio.components import html
from siamese.studio.components.images import image_caption, picture, servable
from siamese.studio.tabs.photo import Photo

OUTLINE = True
NO_FRAME = "none"
"""Index of no image. Gradio ignores None in an update, and moves a number into the gallery's range; it takes this for no index."""
MASK_CHANGED = "The mask has changed since this image was made."
PHOTO_CHANGED = "The photo that this image was made with has been changed or removed."


@dataclass(frozen=True, eq=False)  # as Photo: no hash of pixels
class GalleryImages:
    """The images of one run, in a visitor's own session."""

    pairs: tuple[SyntheticPair, ...] = ()
    agreements: tuple[float | None, ...] = ()
    selected: int = 0
    reference: np.ndarray | None = None
    """uint8 [H, W, 3] if Image-Diffusion made the images."""
    photo: Photo | None = None
    """The visitor's photo if that was the reference."""
    example: bool = False
    """Whether they are examples that come with the model."""

    @property
    def pair(self) -> SyntheticPair | None:
        """The selected image."""
        return self.pairs[self.selected] if self.pairs else None

    @property
    def agreement(self) -> float | None:
        """The selected image's mask agreement."""
        return self.agreements[self.selected] if self.pairs else None

    def without(self, photo: Photo | None) -> GalleryImages:
        """Without the reference if it is another photo than ``photo``, the current one, because the visitor removed or replaced it."""
        return (
            self
            if self.photo is None or self.photo is photo
            else dataclasses.replace(self, reference=None, photo=None)
        )


def outdated(shown: GalleryImages, drawn: str | None) -> str:
    """Why the selected image does not belong to the drawing and the photo, after ``GalleryImages.without``; empty if it does.

    Args:
        drawn: ``mask_digest`` of the drawing.
    """
    if shown.pair is None:
        return ""
    if mask_digest(shown.pair.drawn) != drawn:
        return MASK_CHANGED
    return PHOTO_CHANGED if shown.reference is None and shown.pair.recipe.reference_weight is not None else ""


@dataclass
class ResultPanel:
    """Components that other panels and the wiring need."""

    gallery: gr.Gallery
    caption: gr.HTML
    outdated: gr.HTML
    live: gr.Checkbox
    outline: gr.Checkbox
    keep: gr.Button
    use_seed: gr.Button
    more: gr.Button
    download: gr.Button
    compare: gr.Accordion
    slider: gr.ImageSlider
    note: gr.HTML
    shown: gr.State = field(repr=False)
    previewing: gr.State = field(repr=False)
    """Whether the gallery shows previews in place of ``shown``."""

    @property
    def parts(self) -> list[Any]:
        """What the functions below update. The states are last: Gradio sets one component after the other. So if it cannot write a
        picture, the visitor still sees the images before, and the states are theirs."""
        return [
            self.gallery,
            self.slider,
            self.caption,
            self.outdated,
            self.keep,
            self.use_seed,
            self.more,
            self.download,
            self.compare,
            self.note,
            self.previewing,
            self.shown,
        ]


def example_images(examples: list[SyntheticPair]) -> GalleryImages:
    """What the panel shows at first."""
    return GalleryImages(tuple(examples[:1]), (None,) * len(examples[:1]), example=True)


def build_gallery(first: GalleryImages) -> gr.Gallery:
    """The square with the images."""
    return gr.Gallery(
        items(first, OUTLINE),
        label="Synthetic images",
        show_label=False,
        elem_id="image",
        format="png",
        columns=1,
        object_fit="contain",
        interactive=False,
        buttons=["fullscreen"],
        allow_preview=False,
        selected_index=first.selected if first.pairs else None,
    )


def build_results(
    first: GalleryImages, gallery: gr.Gallery, keep: gr.Button, live: gr.Checkbox
) -> ResultPanel:
    """The panel of ``gallery`` and of the controls that stand elsewhere: what is said about the images of ``first``, and what can be done
    with them."""
    some = bool(first.pairs)
    caption = gr.HTML(
        html.caption(
            first.pair, agreement=first.agreement, index=0, count=len(first.pairs), example=first.example
        ),
        elem_id="caption",
    )
    old = gr.HTML("", elem_id="outdated")
    with gr.Row(elem_classes="buttons"):
        more = gr.Button("More of this", size="md", interactive=some)
        use_seed = gr.Button("Use this seed", size="md", interactive=some)
        download = gr.Button("Download PNG", size="md", elem_id="download", interactive=some)
    outline = gr.Checkbox(value=OUTLINE, label="Show outline", container=False, elem_id="outline")
    note = gr.HTML("", elem_id="result-note")
    with gr.Accordion("Compare with the reference", open=True, visible=False, elem_id="compare") as compare:
        slider = gr.ImageSlider(
            label="Reference and synthetic image",
            show_label=False,
            format="png",
            interactive=False,
            buttons=[],
            max_height=420,
        )
    return ResultPanel(
        gallery=gallery,
        caption=caption,
        outdated=old,
        live=live,
        outline=outline,
        keep=keep,
        use_seed=use_seed,
        more=more,
        download=download,
        compare=compare,
        slider=slider,
        note=note,
        shown=gr.State(first),
        previewing=gr.State(False),
    )


def items(shown: GalleryImages, outlined: bool) -> list[tuple[Any, str]]:
    """Gallery entries: image and caption."""
    return [
        (picture(pair, outlined), image_caption(pair, agreement))
        for pair, agreement in zip(shown.pairs, shown.agreements, strict=True)
    ]


def columns(count: int) -> int:
    """Columns that make 1..8 squares fill a square."""
    return 1 if count <= 1 else 2 if count <= 4 else 3


def preview(panel: ResultPanel, images: np.ndarray) -> dict[Any, Any]:
    """Updates that show previews of a run, uint8 [N, S, S, 3], in place of the images."""
    off = gr.update(interactive=False)
    pictures = [(servable(image), "Sampling…") for image in images]
    return {
        panel.previewing: True,
        panel.caption: html.preview_caption(len(images)),
        panel.outdated: "",
        panel.note: "",
        panel.gallery: gr.update(value=pictures, columns=columns(len(images)), selected_index=NO_FRAME),
        panel.keep: off,
        panel.use_seed: off,
        panel.more: off,
        panel.download: off,
        panel.compare: gr.update(visible=False),
        panel.slider: None,
    }


def show(panel: ResultPanel, shown: GalleryImages, outlined: bool) -> dict[Any, Any]:
    """Updates of everything in the panel."""
    gallery = gr.update(
        value=items(shown, outlined), columns=columns(len(shown.pairs)), selected_index=_frame(shown)
    )
    return {panel.note: "", **select(panel, shown, outlined), panel.gallery: gallery}


def select(panel: ResultPanel, shown: GalleryImages, outlined: bool) -> dict[Any, Any]:
    """Updates of all that shows the selected image, with the frame: the click that selected it may have been on an image that is gone."""
    pair, there = shown.pair, gr.update(interactive=bool(shown.pairs))
    compared = None
    if pair is not None and shown.reference is not None:
        reference = resize_image(shown.reference, pair.image.shape[0])
        compared = (
            servable(reference) if shown.photo is None else shown.photo.served(reference),
            picture(pair, outlined),
        )
    return {
        panel.shown: shown,
        panel.previewing: False,
        panel.gallery: gr.update(selected_index=_frame(shown)),
        panel.caption: html.caption(
            pair,
            agreement=shown.agreement,
            index=shown.selected,
            count=len(shown.pairs),
            example=shown.example,
        ),
        panel.keep: there,
        panel.use_seed: there,
        panel.more: there,
        panel.download: there,
        panel.compare: gr.update(visible=compared is not None),
        panel.slider: compared,
    }


def belongs(panel: ResultPanel, shown: GalleryImages, drawn: str | None) -> dict[Any, Any]:
    """Update of the line that says that the image no longer belongs to the drawing; see ``outdated``."""
    return {panel.outdated: html.note("idle", outdated(shown, drawn))}


def _frame(shown: GalleryImages) -> int | str:
    return shown.selected if shown.pairs else NO_FRAME


def write_png(shown: GalleryImages, folder: Path) -> Path:
    """Write the selected image, without outline, and return the path; raises ValueError if no image is selected."""
    if shown.pair is None:
        raise ValueError("Generate an image first.")
    path = folder / f"synthetic-seed-{shown.pair.recipe.seed}.png"
    path.write_bytes(pair_png(shown.pair))
    return path
