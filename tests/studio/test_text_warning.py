"""What is said of burned-in text, and its place in the image."""

from __future__ import annotations

from pathlib import Path

import gradio as gr
import numpy as np
import pytest

from siamese.records.burned_in_text import Box
from siamese.studio.tabs import text_warning
from siamese.studio.tabs.photo import Photo
from siamese.studio.tabs.text_warning import place, warn_of_text, warning


@pytest.mark.parametrize(
    ("box", "words"),
    [
        (Box(0, 0, 0.2, 0.1), "upper left"),
        (Box(0.8, 0.9, 1, 1), "lower right"),
        (Box(0, 0.4, 0.2, 0.6), "left"),
        (Box(0.4, 0, 0.6, 0.1), "upper"),
        (Box(0.1, 0.4, 0.9, 0.6), "middle"),
    ],
)
def test_places_have_names(box, words):
    assert place(box) == words


def test_warning_names_each_place_once_and_what_to_do():
    text = warning([Box(0, 0.9, 0.2, 1), Box(0, 0, 0.2, 0.1), Box(0, 0.1, 0.2, 0.2)])
    assert "(upper left, lower left)" in text
    for part in (
        "may name a patient",
        "Crop the photo or cover the text",
        "exported annotation shows",
        "comparison",
    ):
        assert part in text
    assert warning(()) == ""


@pytest.mark.slow
def test_every_panel_is_informed_and_a_photo_that_is_gone_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(
        text_warning, "find_text", lambda image: (Box(0, 0, 0.2, 0.1),) if image.any() else ()
    )
    with gr.Blocks() as page:
        photo, panels, button = gr.State(None), [gr.Column(), gr.Column()], gr.Button()
        warn_of_text(photo, panels, [button.click(lambda: None, None, photo)])
    assert [len(panel.children) for panel in panels] == [1, 1]
    _, looking, look = (page.fns[number] for number in sorted(page.fns))
    assert look.concurrency_limit == 1
    assert look.api_visibility != "public"
    dated, clean = (
        Photo(np.full((4, 4, 3), value, np.uint8), name, Path("nowhere"))
        for value, name in ((9, "dated"), (0, "clean"))
    )
    assert all("upper left" in text and 'role="alert"' in text for text in look.fn(dated))
    assert len(look.fn(dated)) == 2
    assert look.fn(clean) == look.fn(None) == looking.fn(None) == ["", ""]
