"""The list of models: cards, licences, figures, names."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from siamese.records.catalogue import describe, figures, find_models
from siamese.records.provenance import pair_png
from tests.factories import make_pair as example_pair


def make(folder: Path, card: str = "# A card\n") -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    (folder / "README.md").write_text(card)
    (folder / "LICENSE").write_text("Research only.")
    return folder


def test_card_without_its_metadata_licence_and_figures(tmp_path):
    folder = make(tmp_path / "model", "---\nlicense: other\n---\n# A card\n")
    (folder / "metrics.json").write_text(
        json.dumps({"polyp": {"mask_agreement": 0.5, "note": "text"}, "version": 1})
    )
    entry = describe(str(folder))
    assert (entry.name, entry.card, entry.licence) == ("model", "# A card\n", "Research only.")
    assert figures(entry.metrics) == [("polyp", "mask agreement", "0.500")]


def test_hub_ids_and_missing_folders_have_a_name(tmp_path):
    assert describe("owner/name").name == "name"
    assert describe("owner/name").folder is None
    assert describe(str(tmp_path / "gone")).examples() == []


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[1]", "JSON object")])
def test_damaged_figures(tmp_path, text, message):
    (make(tmp_path / "model") / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=message):
        describe(str(tmp_path / "model"))


def test_examples_are_the_studios_own_images_only(tmp_path):
    folder = make(tmp_path / "model")
    (folder / "examples").mkdir()
    (folder / "examples" / "a.png").write_bytes(pair_png(example_pair()))
    (folder / "examples" / "b.png").write_bytes(b"no image")
    pairs = describe(str(folder)).examples()
    assert len(pairs) == 1
    np.testing.assert_array_equal(pairs[0].drawn, example_pair().drawn)


def test_default_comes_first_and_once(tmp_path):
    make(tmp_path / "b"), make(tmp_path / "a")
    assert [e.name for e in find_models(str(tmp_path / "b"), tmp_path)] == ["b", "a"]
    assert [e.name for e in find_models(str(tmp_path / "b"), None)] == ["b"]


def test_two_models_of_one_name(tmp_path):
    make(tmp_path / "one" / "a"), make(tmp_path / "two" / "a")
    with pytest.raises(ValueError, match="rename"):
        find_models(str(tmp_path / "one" / "a"), tmp_path / "two")


@pytest.mark.parametrize("name", ["empty", "absent"])
def test_folder_without_models(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no model folder"):
        find_models("owner/name", tmp_path / name)
