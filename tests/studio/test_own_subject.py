"""A model of another subject on every tab: its names, and what it lacks."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from siamese.masks.packed import unpack
from siamese.records.subjects import Subject, Subjects
from siamese.studio.tabs.batch_events import BatchForm
from siamese.studio.tabs.generate import InputError
from siamese.studio.tabs.settings import choose_subject, missing_note
from tests.studio.stand_in_model import StandIn
from tests.studio.window import Window

STAIN = Subject("a stain on a white wall", "Stain on a wall", "stain")


@pytest.fixture
def walls(window: Window):
    """The page's model draws stains for which it has no shapes and no network, besides polyps."""
    entry = window.worker.models["stand-in"]
    own = dataclasses.replace(entry, kinds=Subjects((STAIN, entry.subjects[0]), False, "Walls"))
    window.worker.models["stand-in"] = own
    yield window
    window.worker.models["stand-in"] = entry


def test_the_names_are_the_models() -> None:
    entry = dataclasses.replace(StandIn().models["stand-in"], kinds=Subjects((STAIN,), False, "Walls"))
    assert choose_subject(entry) == {"choices": [(STAIN.name, STAIN.prompt)], "value": STAIN.prompt}
    assert choose_subject(entry, "a polyp")["value"] == STAIN.prompt
    note = missing_note(entry, STAIN.prompt)
    assert "No statistics of shapes for “Stain on a wall”" in note
    assert "No segmentation network" in note
    assert missing_note(StandIn().models["stand-in"], "unknown") == ""


def test_a_random_lesion_without_statistics_says_what_is_missing(walls: Window) -> None:
    walls[walls.settings.prompt] = STAIN.prompt
    before = walls[walls.draw.canvas]
    walls.press(walls.draw.example)
    assert "a random stain cannot be drawn" in walls[walls.draw.note]
    assert walls[walls.draw.canvas] == before
    walls[walls.settings.prompt] = walls.worker.models["stand-in"].subjects[1].prompt
    walls.press(walls.draw.example)
    assert not np.array_equal(unpack(walls[walls.draw.canvas]), unpack(before))
    walls[walls.settings.prompt] = "not one of them"
    walls.press(walls.draw.example)
    assert "choose one of" in walls[walls.draw.note]
    assert not walls.errors


def test_a_batch_without_statistics_says_so_too(walls: Window) -> None:
    batch = walls.batch
    walls[batch.prompt] = STAIN.prompt
    walls.press(batch.start)
    assert "a random stain cannot be drawn" in walls[batch.message]
    form = BatchForm("Random lesions", None, 2, 0, "not one of them", 0, False, "stand-in")
    with pytest.raises(InputError, match="choose one of"):
        form.order(walls.worker.models)
    with pytest.raises(InputError, match="Choose a model"):
        dataclasses.replace(form, model="gone").order(walls.worker.models)
