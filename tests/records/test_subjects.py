"""Names of a model's subjects, and what its folder has for each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from siamese.masks.shapes import PACKAGED, ShapeError, load_statistics, random_lesion, save_statistics
from siamese.records.catalogue import describe
from siamese.records.prompts import LESION, POLYP
from siamese.records.subjects import (
    FILE,
    FORMAT,
    Subject,
    SubjectsError,
    named,
    read_subjects,
    slug,
    write_subjects,
)

STAIN = "a stain on a white wall"
ASSETS = Path(__file__).parents[2] / "assets" / "siamese-tiny"


def make(folder: Path, prompts: list[str] | None, segmenters: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True)
    (folder / "model_index.json").write_text("{}")
    if prompts is not None:
        (folder / "context").mkdir()
        (folder / "context" / "prompts.json").write_text(json.dumps(prompts))
    for name in segmenters:
        (folder / name).mkdir(parents=True)
    return folder


def test_embedded_model():
    entry = describe(str(ASSETS))
    assert entry.subjects == (
        Subject(POLYP, "Colonoscopy polyp", "polyp", "segmenter", True),
        Subject(LESION, "Dermoscopy skin lesion", "lesion", "segmenter", True),
    )
    assert not any(s.missing for s in entry.subjects)
    assert entry.title == entry.name == "siamese-tiny"
    with pytest.raises(ValueError, match="choose one of “Colonoscopy polyp”, “Dermoscopy skin lesion”"):
        entry.subject("a cat")


def test_own_subject_with_what_is_missing(tmp_path):
    folder = make(tmp_path / "walls", [POLYP, LESION, "", STAIN], ("segmenter",))
    write_subjects(folder, [Subject(STAIN, "Stain on a wall", "stain")], "Stains")
    entry = describe(str(folder))
    assert entry.title == "Stains"
    assert [s.name for s in entry.subjects] == [
        "Stain on a wall",
        "Colonoscopy polyp",
        "Dermoscopy skin lesion",
    ]
    stain, polyp, _ = entry.subjects
    assert (stain.has_segmenter, stain.has_shapes) == (False, False)
    segmenter, shapes = stain.missing
    assert "No segmentation network for “Stain on a wall”" in segmenter
    assert "Draw the stain by hand" in segmenter
    assert "a random stain cannot be drawn" in shapes
    assert "100" in shapes
    assert polyp.missing == ()
    assert entry.statistics(STAIN) is None
    assert entry.statistics(POLYP) is load_statistics()[POLYP]


def test_a_folders_own_shapes_and_segmenter(tmp_path):
    folder = make(tmp_path / "walls", ["", STAIN], ("segmenters/stain",))
    save_statistics({STAIN: load_statistics()[LESION]}, folder / PACKAGED)
    write_subjects(folder, [Subject(STAIN, "Stain", "stain", "segmenters/stain")])
    entry = describe(str(folder))
    [stain] = entry.subjects
    assert stain.missing == ()
    assert stain.segmenter == "segmenters/stain"
    statistics = entry.statistics(STAIN)
    assert statistics is not None
    assert random_lesion(statistics, 1, 32).any()
    (folder / PACKAGED).write_text("{")
    with pytest.raises(ShapeError, match=f"walls.{PACKAGED}: .*not JSON"):
        describe(str(folder))


def test_without_a_file_names_come_from_the_prompts(tmp_path):
    [leaf] = describe(str(make(tmp_path / "leaf", ["", "a photo of  a leaf"], ("segmenter",)))).subjects
    assert leaf == Subject("a photo of  a leaf", "A photo of a leaf", "object", "segmenter", False)
    assert len(named("x" * 500).name) == 80


def test_free_text(tmp_path):
    folder = make(tmp_path / "sd", None)
    entry = describe(str(folder))
    assert [s.prompt for s in entry.subjects] == [POLYP, LESION]
    assert not any(s.has_segmenter for s in entry.subjects)
    assert entry.subject("a cat") == Subject("a cat", "A cat", "object")
    assert entry.subject(POLYP).has_shapes
    write_subjects(folder, [Subject(STAIN, "Stain", "stain")])
    assert [s.prompt for s in describe(str(folder)).subjects] == [STAIN]
    (folder / "segmenter").mkdir()
    assert entry.subject("a cat").segmenter is None
    assert describe(str(folder)).subject("a cat").segmenter is None, "it may not know cats"
    (folder / FILE).unlink()
    assert describe(str(folder)).subject("a cat").segmenter == "segmenter"
    assert describe("owner/name").subjects == read_subjects(None).listed


ROW: dict[str, Any] = {"prompt": STAIN, "name": "Stain", "noun": "stain", "segmenter": None}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "format"),
        ({"format": "other", "subjects": []}, "format"),
        ({"format": FORMAT}, "subjects"),
        ({"format": FORMAT, "subjects": [], "title": "x" * 81}, "title"),
        ({"format": FORMAT, "subjects": [ROW | {"prompt": " "}]}, "no prompt"),
        ({"format": FORMAT, "subjects": [ROW | {"name": 3}]}, "name and noun"),
        ({"format": FORMAT, "subjects": [ROW | {"noun": "x" * 81}]}, "name and noun"),
        ({"format": FORMAT, "subjects": [ROW | {"segmenter": "../other"}]}, "not a folder in"),
        ({"format": FORMAT, "subjects": [ROW | {"segmenter": "/etc"}]}, "not a folder in"),
        ({"format": FORMAT, "subjects": [ROW | {"segmenter": "gone"}]}, "not there"),
        ({"format": FORMAT, "subjects": [ROW, ROW]}, "same prompt or name"),
        ({"format": FORMAT, "subjects": [ROW | {"prompt": "a cat"}]}, "does not know"),
        ({"format": FORMAT, "subjects": ["stain"]}, "correct it or remove"),
        ("{", "correct it or remove"),
    ],
)
def test_damaged_files_are_named(tmp_path, values, message):
    folder = make(tmp_path / "model", ["", STAIN])
    (folder / FILE).write_text(values if isinstance(values, str) else json.dumps(values))
    with pytest.raises(SubjectsError, match=message) as error:
        describe(str(folder))
    assert FILE in str(error.value)


def test_slug():
    assert slug("Stain on a wall!") == "stain-on-a-wall"
    assert slug("…") == "subject"
    assert len(slug("x" * 200)) == 60
