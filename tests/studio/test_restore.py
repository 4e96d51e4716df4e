"""Opening an image that was made here restores all of its settings and its model, also those without a control on the page."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import gradio as gr
import pytest

from siamese.masks.core import binarise
from siamese.records.catalogue import ModelEntry
from siamese.records.prompts import LESION
from siamese.records.provenance import Recipe, SyntheticPair, pair_png, read_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.components.canvas import canvas_value
from siamese.studio.tabs.draw import DrawPanel, build_draw
from siamese.studio.tabs.draw_events import DrawEvents, wire_draw
from siamese.studio.tabs.generate import MAX_WEIGHT, Form
from siamese.studio.tabs.settings import (
    SettingsPanel,
    build_actions,
    build_settings,
    hidden_note,
    restored_settings,
    wire_settings,
)
from siamese.studio.tabs.studio import restorer
from tests.phantoms import phantom
from tests.studio.wiring import Visitor

SETTINGS = SamplingSettings(12, 5.0, "dpm++", "mask", 0.7, (0.3, 0.8))
RECIPE = Recipe(LESION, 7, SETTINGS, "second")
MODELS = {name: ModelEntry(name, "nowhere") for name in ("first", "second")}
MASK = binarise(phantom(1, 64, 64)[1])


def test_the_text_names_everything() -> None:
    text = restored_settings(RECIPE, MODELS).text
    assert "seed 7" in text
    assert SETTINGS.describe() in text
    assert "not" not in text.split("restored")[1]


@pytest.mark.parametrize(
    ("changed", "says", "model"),
    [
        ({"model": "gone"}, "model, “gone”, is not available here", None),
        ({"model": "x" * 900}, "x…”, is not available", None),
        ({"prompt": "a leaf"}, "“a leaf”, is not one of this page's kinds", "second"),
        ({"reference_weight": 0.5}, "reference weight 0.5. Its reference photo is not stored", "second"),
    ],
)
def test_what_cannot_be_restored_is_said(changed: dict, says: str, model: str | None) -> None:
    restored = restored_settings(dataclasses.replace(RECIPE, **changed), MODELS)
    assert says in restored.text
    assert restored.model == model


def test_a_heavy_reference_is_limited_to_what_the_page_takes() -> None:
    assert MAX_WEIGHT in restored_settings(dataclasses.replace(RECIPE, reference_weight=9.0), {}).updates


def test_the_request_has_the_restored_settings_beside_those_of_the_page() -> None:
    form = Form(canvas_value(MASK), LESION, seed=1, num_inference_steps=9, restored=SETTINGS)
    overrides = form.request().overrides
    assert SamplingSettings().override(**overrides) == dataclasses.replace(
        SETTINGS, num_inference_steps=9, guidance_scale=9.0, scheduler="ddim"
    )
    plain = dataclasses.replace(form, restored=None, num_inference_steps=None).request().overrides
    assert SETTINGS.override(**plain) == SETTINGS


class Window(Visitor):
    """The drawing and the settings panel of a page with two models."""

    def __init__(self) -> None:
        worker = SimpleNamespace(models=MODELS)
        with gr.Blocks() as page:
            self.model, self.wanted = gr.State("first"), gr.State(None)
            self.draw: DrawPanel = build_draw(MASK)
            self.settings: SettingsPanel = build_settings(build_actions(False), MODELS["first"])
            wire_settings(self.settings)
            events = DrawEvents(self.draw, worker, restorer(self.settings, worker, self.wanted))
            wire_draw(events, self.model, self.settings.prompt, [self.wanted, *self.settings.restorable])
        super().__init__(page)
        self[self.draw.canvas] = canvas_value(MASK)


@pytest.fixture(scope="module")
def window() -> Window:
    return Window()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["second", "gone"])
def test_a_dropped_image_restores_settings_and_model(window: Window, tmp_path, name: str) -> None:
    panel, file = window.settings, tmp_path / "made.png"
    recipe = dataclasses.replace(RECIPE, model=name)
    image = phantom(2, 64, 64)[0]
    file.write_bytes(pair_png(SyntheticPair(image, MASK, MASK, recipe)))
    assert read_png(file.read_bytes()).recipe == recipe
    window[window.draw.file] = str(file)
    window.fire(window.draw.file, "upload")
    assert not window.errors
    shown = [window[part] for part in (panel.prompt, panel.seed, panel.random_seed, panel.defaults)]
    assert shown == [LESION, 7, False, False]
    assert [window[part] for part in panel.advanced] == [12, 5.0, "dpm++"]
    assert window[panel.restored] == SETTINGS
    assert window[panel.restored_note] == hidden_note(SETTINGS)
    assert window[window.wanted] == ("second" if name == "second" else None)
    assert ("not available" in window[window.draw.note]) == (name == "gone")
    window[panel.defaults] = True
    window.fire(panel.defaults, "input")
    assert window[panel.restored] is None
    assert window[panel.restored_note] == ""
