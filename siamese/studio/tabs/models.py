"""The models tab: choice of the model, with its card, licence and figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import gradio as gr

from siamese.records.catalogue import ModelEntry, figures
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.components.html import model_line
from siamese.studio.components.listeners import LINED, QUICK
from siamese.studio.tabs.settings import SettingsPanel, choose_subject, missing_note, wire_model


@dataclass
class ModelsTab:
    """The tab's components."""

    choice: gr.Radio
    card: gr.Markdown
    licence: gr.Textbox
    table: gr.Dataframe


def build_models(worker: ModelWorker) -> ModelsTab:
    """The tab, showing the default model."""
    first = worker.models[worker.default]
    choice = gr.Radio(list(worker.models), value=worker.default, label="Model", elem_id="model-choice")
    with gr.Accordion("Measured figures", open=True):
        table = gr.Dataframe(
            _rows(first),
            headers=["Part", "Figure", "Value"],
            interactive=False,
            label="Figures of the chosen model",
            show_label=False,
            elem_id="figures",
        )
    with gr.Accordion("Model card", open=True):
        card = gr.Markdown(_card(first), elem_id="card")
    with gr.Accordion("Licence", open=False):
        licence = gr.Textbox(_licence(first), lines=12, interactive=False, label="Licence of the weights")
    return ModelsTab(choice=choice, card=card, licence=licence, table=table)


def wire_models(
    tab: ModelsTab, worker: ModelWorker, chosen: gr.State, settings: SettingsPanel, batch_prompt: gr.Radio
) -> None:
    """A model that is chosen, here or by an image that is opened again, is described at once and loaded."""

    def choose(name: str | None) -> str:
        if name not in worker.models:
            raise gr.Error("Choose one of the models.", print_exception=False)
        return name

    def describe(name: str, prompt: str) -> dict[Any, Any]:
        entry = worker.models[name]
        return {
            tab.choice: name,
            tab.card: _card(entry),
            tab.licence: _licence(entry),
            tab.table: _rows(entry),
            settings.model: model_line(None),
            settings.prompt: gr.update(**choose_subject(entry, prompt)),
            settings.missing: missing_note(entry, prompt),
            batch_prompt: gr.update(**choose_subject(entry, prompt)),
        }

    # Queued: Gradio reports changes of a state only after queued events.
    tab.choice.input(choose, tab.choice, chosen, **LINED)
    described = chosen.change(
        describe,
        [chosen, settings.prompt],
        [
            tab.choice,
            tab.card,
            tab.licence,
            tab.table,
            settings.model,
            settings.prompt,
            settings.missing,
            batch_prompt,
        ],
        **QUICK,
    )
    wire_model(settings, worker, described.then, chosen)


def _card(entry: ModelEntry) -> str:
    return entry.card or f"{entry.name} has no model card. It is loaded from {entry.source}."


def _licence(entry: ModelEntry) -> str:
    return entry.licence or "This model has no licence file; ask the person who gave it to you."


def _rows(entry: ModelEntry) -> list[list[str]]:
    return [list(row) for row in figures(entry.metrics)] or [["", "not measured yet", ""]]
