"""nnU-Net's raw layout: its file rules hold for what was written, and data sets of other programs are read.

The rules are those of nnU-Net's documentation/dataset_format.md and of ``verify_dataset_integrity``; the package itself needs torch
and much else.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from siamese.exchange.formats import read, write_folder, write_zip
from siamese.exchange.item import AnnotatedImage, ExchangeError
from tests.exchange.samples import HOLED, ITEMS, TWO, files, photo


def pixels(path) -> np.ndarray:
    with Image.open(path) as file:
        return np.array(file)


def test_the_rules_of_nnunet_hold(tmp_path):
    write_folder(ITEMS, "nnunet", tmp_path)
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    assert {"channel_names", "labels", "numTraining", "file_ending"} <= dataset.keys()
    assert dataset["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    assert dataset["labels"]["background"] == 0
    assert sorted(dataset["labels"].values()) == list(range(len(dataset["labels"]))), "consecutive"
    ending = dataset["file_ending"]
    labels = sorted(path.name for path in (tmp_path / "labelsTr").iterdir())
    assert dataset["numTraining"] == len(labels) == len(ITEMS)
    cases = [name.removesuffix(ending) for name in labels]
    images = sorted(path.name for path in (tmp_path / "imagesTr").iterdir())
    assert images == sorted(f"{case}_0000{ending}" for case in cases), "one file of three channels a case"
    for item in ITEMS:
        image = pixels(tmp_path / "imagesTr" / f"{item.name}_0000.png")
        label = pixels(tmp_path / "labelsTr" / f"{item.name}.png")
        assert image.shape == (*label.shape, 3)
        assert label.dtype == np.uint8
        assert set(np.unique(label)) <= {0, dataset["labels"][item.category]}
        np.testing.assert_array_equal(label > 0, item.mask > 0)
        np.testing.assert_array_equal(image, item.image)


def test_of_one_category_the_labels_are_0_and_1(tmp_path):
    write_folder(ITEMS[:2], "nnunet", tmp_path)
    assert json.loads((tmp_path / "dataset.json").read_text())["labels"] == {"background": 0, "polyp": 1}
    assert set(np.unique(pixels(tmp_path / "labelsTr" / "two.png"))) == {0, 1}


def foreign(folder, label, **changes):
    place = folder / "Dataset007_Gut"
    for part in ("imagesTr", "labelsTr", "imagesTs"):
        (place / part).mkdir(parents=True)
    Image.fromarray(photo(0)).save(place / "imagesTr" / "case_1_0000.png")
    Image.fromarray(photo(1)).save(place / "imagesTs" / "case_2_0000.png")
    Image.fromarray(label).save(place / "labelsTr" / "case_1.png")
    dataset = {
        "channel_names": {"0": "R", "1": "G", "2": "B"},
        "labels": {"background": 0, "polyp": 1, "tool": 2},
        "numTraining": 1,
        "file_ending": ".png",
        **changes,
    }
    (place / "dataset.json").write_text(json.dumps(dataset))
    return folder


def test_other_programs_data_sets_are_read(tmp_path):
    label = np.where(HOLED > 0, 1, 0).astype(np.uint8)
    [item] = read(foreign(tmp_path, label))
    assert (item.name, item.category, item.synthetic) == ("case_1", "polyp", False)
    np.testing.assert_array_equal(item.mask, HOLED)


def test_of_several_labels_one_must_be_chosen(tmp_path):
    label = np.where(HOLED > 0, 1, 0).astype(np.uint8)
    label[TWO > 0] = 2
    foreign(tmp_path, label)
    with pytest.raises(
        ExchangeError, match=r"case_1\.png: has annotations of several categories \(polyp, tool\)"
    ):
        read(tmp_path)
    [item] = read(tmp_path, category="tool")
    np.testing.assert_array_equal(item.mask, TWO)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"labels": {"background": 0, "polyp": [1, 2]}}, "one value each"),
        ({"labels": {"0": "background", "1": "polyp"}}, "one value each"),
        ({"labels": {"background": 0}}, "value 1, which dataset.json does not list"),
        ({"file_ending": ".nii.gz"}, "two-dimensional images"),
        ({"file_ending": None}, "two-dimensional images"),
    ],
)
def test_what_is_not_two_dimensional_or_plain_is_refused(tmp_path, changes, match):
    with pytest.raises(ExchangeError, match=match):
        read(foreign(tmp_path, np.ones((40, 57), np.uint8), **changes))


def test_missing_and_additional_files_are_named(tmp_path):
    place = foreign(tmp_path, np.ones((40, 57), np.uint8)) / "Dataset007_Gut"
    Image.fromarray(photo(0)).save(place / "imagesTr" / "case_1_0001.png")
    with pytest.raises(ExchangeError, match=r"case_1\.png: has several image files"):
        read(tmp_path)
    for path in (place / "imagesTr").iterdir():
        path.unlink()
    with pytest.raises(ExchangeError, match=r"has no image imagesTr/case_1_0000\.png"):
        read(tmp_path)
    (place / "dataset.json").write_text("{")
    with pytest.raises(ExchangeError, match=r"dataset\.json: is not JSON"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["background", "ignore"])
def test_labels_that_nnunet_keeps_for_itself(name, tmp_path):
    with pytest.raises(ExchangeError, match="rename the category"):
        write_zip([AnnotatedImage(photo(0), TWO, "a", name)], "nnunet", tmp_path / "a.zip")
    assert files(tmp_path) == []
