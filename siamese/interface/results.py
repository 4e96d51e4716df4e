"""The result panel: gallery, outline, comparison with the reference, and what can be done with an image."""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np

from siamese.interface import status
from siamese.interface.output import image_caption, picture, servable
from siamese.masks import resize_image
from siamese.provenance import SyntheticPair, pair_png

OUTLINE = True


@dataclass(frozen=True, eq=False)  # as Photo: no hash of pixels
class Shown:
    """The images of one press, in a visitor's own session."""

    pairs: tuple[SyntheticPair, ...] = ()
    agreements: tuple[float | None, ...] = ()
    selected: int = 0
    reference: np.ndarray | None = None
    """uint8 [H, W, 3], where Image-Diffusion made them."""

    @property
    def pair(self) -> SyntheticPair | None:
        """The selected image."""
        return self.pairs[self.selected] if self.pairs else None

    @property
    def agreement(self) -> float | None:
        """The selected image's mask agreement."""
        return self.agreements[self.selected] if self.pairs else None


@dataclass
class ResultPanel:
    """Components that other panels and the wiring need."""

    gallery: gr.Gallery
    caption: gr.HTML
    outline: gr.Checkbox
    keep: gr.Button
    use_seed: gr.Button
    more: gr.Button
    download: gr.Button
    compare: gr.Accordion
    slider: gr.ImageSlider
    note: gr.HTML
    shown: gr.State = field(repr=False)


def build_results(examples: list[SyntheticPair]) -> ResultPanel:
    """The panel, showing ``examples``."""
    first = Shown(tuple(examples[:1]), (None,) * len(examples[:1]))
    gr.HTML(status.heading(3, "Synthetic images"))
    gallery = gr.Gallery(items(first, OUTLINE), label="Synthetic images", show_label=False, elem_id="image", format="png", columns=1, object_fit="contain",
                         interactive=False, buttons=["fullscreen"], allow_preview=False)
    caption = gr.HTML(status.caption(first.pair, first.agreement, 0, len(first.pairs), example=bool(examples)), elem_id="caption")
    with gr.Row(elem_classes="buttons"):
        keep = gr.Button("Keep", size="md", elem_id="keep", interactive=bool(examples))
        more = gr.Button("More of this", size="md", interactive=bool(examples))
        use_seed = gr.Button("Use this seed", size="md", interactive=bool(examples))
        download = gr.Button("Download PNG", size="md", elem_id="download", interactive=bool(examples))
    outline = gr.Checkbox(value=OUTLINE, label="Show outline", container=False, elem_id="outline")
    note = gr.HTML("", elem_id="result-note")
    with gr.Accordion("Compare with the reference", open=True, visible=False, elem_id="compare") as compare:
        slider = gr.ImageSlider(label="Reference and synthetic image", show_label=False, format="png", interactive=False, buttons=[], max_height=420)
    return ResultPanel(gallery, caption, outline, keep, use_seed, more, download, compare, slider, note, gr.State(first))


def items(shown: Shown, outlined: bool) -> list[tuple[Any, str]]:
    """Gallery entries: image and caption."""
    return [(picture(pair, outlined), image_caption(pair, agreement)) for pair, agreement in zip(shown.pairs, shown.agreements, strict=True)]


def columns(count: int) -> int:
    """Columns that make 1..8 squares fill a square."""
    return 1 if count <= 1 else 2 if count <= 4 else 3


def previews(images: np.ndarray) -> Any:
    """Gallery update with images that are still being sampled, uint8 [N, S, S, 3]."""
    return gr.update(value=[(servable(image), "Sampling…") for image in images], columns=columns(len(images)), selected_index=None)


def show(panel: ResultPanel, shown: Shown, outlined: bool) -> dict[Any, Any]:
    """Updates of everything in the panel."""
    return {panel.shown: shown, panel.gallery: gr.update(value=items(shown, outlined), columns=columns(len(shown.pairs)), selected_index=None),
            panel.note: "", **select(panel, shown, outlined)}


def select(panel: ResultPanel, shown: Shown, outlined: bool) -> dict[Any, Any]:
    """Updates of what shows the selected image."""
    pair, there = shown.pair, gr.update(interactive=bool(shown.pairs))
    compared = None
    if pair is not None and shown.reference is not None:
        compared = (servable(resize_image(shown.reference, pair.image.shape[0])), picture(pair, outlined))
    return {panel.shown: shown, panel.caption: status.caption(pair, shown.agreement, shown.selected, len(shown.pairs)),
            panel.keep: there, panel.use_seed: there, panel.more: there, panel.download: there,
            panel.compare: gr.update(visible=compared is not None), panel.slider: compared}


def write_png(shown: Shown, folder: Path) -> Path:
    """Write the selected image, without outline, and return the path; ValueError where there is none."""
    if shown.pair is None:
        raise ValueError("Generate an image first.")
    path = folder / f"synthetic-seed-{shown.pair.recipe.seed}.png"
    path.write_bytes(pair_png(shown.pair))
    return path
