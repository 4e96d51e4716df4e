"""The page and its tabs."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from siamese.studio.backend.batch_runner import BatchRunner
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components import html
from siamese.studio.components.errors import Page, build_rescue
from siamese.studio.storage.collections import Collections
from siamese.studio.tabs.batch import build_batch
from siamese.studio.tabs.batch_events import wire_batch
from siamese.studio.tabs.collection import CollectionEvents, build_collection, wire_collection
from siamese.studio.tabs.models import build_models, wire_models
from siamese.studio.tabs.studies import ListStudies, build_studies, wire_studies
from siamese.studio.tabs.studio import build_studio, wire_studio


def build_page(worker: ModelWorker, data: Path, studies: ListStudies | None = None) -> gr.Blocks:
    """The studio's page on ``worker``'s models. A visitor's work is in their own session; what they keep is in ``data``.

    Args:
        studies: gives the rating studies that are open; None for a page without the tab that lists them.
    """
    collections = Collections(data / "collections")
    with Page(title="Siamese-Diffusion Studio", analytics_enabled=False) as page:
        gr.HTML(html.HEADER)
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap"):
            with gr.Tab("Studio", id="studio-tab"):
                studio = build_studio(worker)
            with gr.Tab("Batch", id="batch-tab") as batch_tab:
                batch = build_batch(worker.models[worker.default])
            with gr.Tab("Collection", id="collection-tab") as collection_tab:
                collection = build_collection()
            if studies is not None:
                with gr.Tab("Studies", id="studies-tab") as studies_tab:
                    wire_studies(build_studies(), studies, entering=studies_tab)
            with gr.Tab("Models", id="models-tab"):
                models = build_models(worker)
        rescue = build_rescue()
        wire_studio(page, studio, worker, rescue)
        wire_collection(
            CollectionEvents(collection, collections),
            keep=studio.results.keep,
            shown=studio.results.shown,
            keep_note=studio.results.note,
            entering=collection_tab,
        )
        wire_batch(
            batch,
            runner=BatchRunner(worker, data / "batches"),
            models=worker.models,
            model=studio.model,
            entering=batch_tab,
            rescue=rescue,
        )
        wire_models(models, worker, studio.model, studio.settings, batch.prompt)
    return page
