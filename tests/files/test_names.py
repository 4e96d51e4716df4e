"""Names: safe ones for what is written; which mask belongs to which image; which files are data."""

from __future__ import annotations

from pathlib import Path

import pytest

from siamese.files.listing import (
    LITTER,
    NESTED,
    NOTE,
    SPECIAL,
    UNKNOWN_KIND,
    beside_masks,
    describe_passed_over,
    find_key,
    is_litter,
    list_files,
    match_masks,
)
from siamese.files.names import MAX_NAME_BYTES, is_safe_name, safe_name, shown_name
from train.data.splits import mentions, split_of_name


@pytest.mark.parametrize(
    "name", ["con", "COM1", "lpt\u00b9", "nul.png", "..", "", "\0", "é" * 300, "a/b\\c", "-x.", "\u202e"]
)
def test_every_name_becomes_a_safe_one(name: str) -> None:
    assert is_safe_name(safe_name(name))
    assert len(safe_name(name).encode()) <= MAX_NAME_BYTES
    assert safe_name(safe_name(name)) == safe_name(name)


def test_shown_names_are_one_printable_line() -> None:
    assert shown_name("a\nb\u202e\x1b[31m") == "a?b??[31m"
    assert len(shown_name("x" * 1000)) == 100


def test_what_lies_in_a_folder_is_data_or_named_with_its_reason(tmp_path: Path) -> None:
    for name in (
        "b.PNG",
        "a.jpg",
        "a.JPEG",
        ".DS_Store",
        "._a.jpg",
        "Thumbs.db",
        "x.txt",
        "y.dcm",
        "no suffix",
    ):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "deep").mkdir()
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere")
    listing = list_files(tmp_path)
    assert {key: [f.name for f in files] for key, files in listing.files.items()} == {
        "a": ["a.JPEG", "a.jpg"],
        "b": ["b.PNG"],
    }
    assert {one.name: one.reason for one in listing.passed_over} == {
        ".DS_Store": LITTER,
        "._a.jpg": LITTER,
        "Thumbs.db": LITTER,
        "deep/": NESTED,
        "gone.png": SPECIAL,
        "no suffix": UNKNOWN_KIND,
        "x.txt": NOTE,
        "y.dcm": UNKNOWN_KIND,
    }
    assert listing.duplicates() == ["a.JPEG, a.jpg: several files of one name; keep one"]
    assert describe_passed_over(listing.passed_over, "")[0] == f".DS_Store, ._a.jpg, Thumbs.db: {LITTER}"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("ISIC_1", "ISIC_1"),
        ("ISIC_1.jpg", "ISIC_1"),
        ("images/ISIC_1.JPG", "ISIC_1"),
        ("C:\\set\\masks\\ISIC_1_segmentation.png", "ISIC_1"),
        ("ISIC_1_Segmentation", "ISIC_1"),
        ("ISIC_1-mask.tif", "ISIC_1"),
        ("ISIC_1.jpg.png", "ISIC_1"),
        (" e\u0301 ", "\u00e9"),
        ("a_mask", "a_mask"),
        ("v1.2", "v1.2"),
        ("v1.2.png", "v1.2"),
        ("isic_1", None),
        ("ISIC_1,ISIC_2", None),
        ("", None),
        ("_mask", None),
    ],
)
def test_names_in_lists_and_of_masks_find_their_image(text: str, key: str | None) -> None:
    assert find_key(text, {"ISIC_1", "\u00e9", "a_mask", "v1.2"}) == key


def test_masks_find_their_images(tmp_path: Path) -> None:
    names = {
        "images": ["1.jpg", "2.JPG", "3_mask.png", "e\u0301.png", "5.png", "6.png"],
        "masks": ["1.png", "2_segmentation.PNG", "3_mask.png", "\u00e9.png", "5.png", "5_mask.png", "7.png"],
    }
    for part, files in names.items():
        (tmp_path / part).mkdir()
        for name in files:
            (tmp_path / part / name).write_bytes(b"x")
    matched = match_masks(list_files(tmp_path / "images"), list_files(tmp_path / "masks"))
    assert {key: mask.name for key, (_, mask) in matched.pairs.items() if key != "5"} == {
        "1": "1.png",
        "2": "2_segmentation.PNG",
        "3_mask": "3_mask.png",
        "\u00e9": "\u00e9.png",
    }
    assert matched.faults == ["masks: 5.png, 5_mask.png: several masks of one image; keep one"]
    assert [f.name for f in matched.images_alone] == ["6.png"]
    assert [f.name for f in matched.masks_alone] == ["7.png"]


def test_litter_and_data_sets_within_archives() -> None:
    assert is_litter(["a", "__MACOSX", "b.png"])
    assert is_litter([".git", "x.png"])
    assert not is_litter(["a", ".", "b.png"])
    paths = [
        ("s", "images", "a.png"),
        ("s", "masks", "a.png"),
        ("s", "drawn_masks", "a.png"),
        ("images", "b.png"),
    ]
    assert set(beside_masks(paths)) == {paths[0], paths[2]}


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("test", "test"),
        ("Test", "test"),
        ("TestDataset", "test"),
        ("testset", "test"),
        ("test_ids", "test"),
        ("ISIC2018_Task1-2_Test_Input", "test"),
        ("kvasir_val", "val"),
        ("validation", "val"),
        ("training", "train"),
        ("test_kvasir", None),
        ("kvasir-seg", None),
        ("latest", None),
        ("contest", None),
        ("", None),
    ],
)
def test_names_of_splits(name: str, split: str | None) -> None:
    assert split_of_name(name) == split
    assert mentions(name) == (split is not None or name == "test_kvasir")
