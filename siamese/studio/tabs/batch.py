"""The components of the batch tab: many masks at once, from a ZIP or at random, as a ZIP of pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from siamese.records.catalogue import ModelEntry
from siamese.studio.components import html
from siamese.studio.storage.mask_zip import MAX_MASKS
from siamese.studio.tabs.settings import choose_subject

FROM_ZIP, AT_RANDOM, FRAMES = "Masks in a ZIP", "Random lesions", "Photos with masks in a ZIP"
MAX_VARIATIONS = 20


@dataclass
class BatchTab:
    """The tab's components."""

    source: gr.Radio
    file: gr.File
    frames_hint: gr.HTML
    """What it means that the background is a real photo."""
    variations: gr.Slider
    """Number of random variants of each given mask; 0: the masks themselves."""
    count: gr.Number
    prompt: gr.Radio
    seed: gr.Number
    random_seed: gr.Checkbox
    start: gr.Button
    resume: gr.Button
    cancel: gr.Button
    download: gr.Button
    message: gr.HTML

    @property
    def parts(self) -> list[Any]:
        """What shows the state of the batch."""
        return [self.message, self.start, self.resume, self.cancel, self.download]


def build_batch(entry: ModelEntry) -> BatchTab:
    """Build the tab's components for ``entry``'s model."""
    gr.HTML(
        f'<p class="hint">Up to {MAX_MASKS} masks at a time. Each pair is stored as soon as it is made, so you can resume a batch that was '
        "cancelled, or interrupted by a closed page or a restart. A new batch replaces the previous one; batches are deleted after 7 days.</p>"
    )
    with gr.Row(elem_id="batch"):
        with gr.Column():
            source = gr.Radio(
                [AT_RANDOM, FROM_ZIP, FRAMES], value=AT_RANDOM, label="Masks", elem_id="batch-source"
            )
            file = gr.File(
                label="ZIP",
                file_types=[".zip"],
                visible=False,
                height=120,
                elem_id="batch-file",
            )
            frames_hint = gr.HTML(
                '<p class="hint">A lesion is drawn into each photo; the rest of the photo stays as it is, at its own resolution. So the pairs show '
                "real photos: they are stored on this server with the batch, and the downloaded ZIP says so. Put the photos into a folder "
                "images and their masks, of the same names, into a folder masks.</p>",
                visible=False,
            )
            variations = gr.Slider(
                0,
                MAX_VARIATIONS,
                value=0,
                step=1,
                label="Variations of each mask: flipped, scaled, shifted (0: the masks as they are)",
                visible=False,
                elem_id="batch-variations",
            )
            count = gr.Number(value=8, precision=0, label="Number of random lesions", elem_id="batch-count")
        with gr.Column():
            prompt = gr.Radio(**choose_subject(entry), label="Kind of image")
            with gr.Group():
                # Hidden while the seed is drawn at random: no pair would be made with the number in the box.
                seed = gr.Number(value=0, precision=0, label="Seed of the batch", visible=False)
                random_seed = gr.Checkbox(value=True, label="Random seed")
    with gr.Row(elem_classes="buttons"):
        start = gr.Button("Start batch", variant="primary", size="md", elem_id="batch-start")
        resume = gr.Button("Resume", size="md", interactive=False, elem_id="batch-resume")
        cancel = gr.Button("Cancel", size="md", interactive=False, elem_id="batch-cancel")
        download = gr.Button("Download pairs (ZIP)", size="md", interactive=False, elem_id="batch-download")
    message = gr.HTML(html.status("idle", "No batch yet."), elem_id="batch-message")
    return BatchTab(
        source=source,
        file=file,
        frames_hint=frames_hint,
        variations=variations,
        count=count,
        prompt=prompt,
        seed=seed,
        random_seed=random_seed,
        start=start,
        resume=resume,
        cancel=cancel,
        download=download,
        message=message,
    )
