"""Hugging Face's imagefolder: its rules hold for what was written, and ``datasets`` reads it if it is installed."""

from __future__ import annotations

import importlib.util
import json
import os

import numpy as np
import pytest
import yaml
from PIL import Image

from siamese.exchange.formats import read, write_folder
from siamese.exchange.item import ExchangeError
from tests.exchange.samples import ITEMS, files


def test_the_rules_of_imagefolder_hold(tmp_path):
    write_folder(ITEMS, "imagefolder", tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "metadata.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [
        {"file_name", "mask_file_name", "category", "synthetic", "recipe"}
    ] * len(ITEMS)
    named = [row[key] for row in rows for key in ("file_name", "mask_file_name")]
    assert sorted(["README.md", "README.txt", "metadata.jsonl", *named]) == files(tmp_path), (
        "every file is named once"
    )
    front = yaml.safe_load((tmp_path / "README.md").read_text().split("---")[1])
    [split] = front["configs"][0]["data_files"]
    assert split["split"] == "train"
    found = {p.relative_to(tmp_path).as_posix() for pattern in split["path"] for p in tmp_path.glob(pattern)}
    assert found == {"metadata.jsonl", *named}


def test_datasets_reads_it(tmp_path):
    if importlib.util.find_spec("datasets") is None:  # continuous integration installs it
        (pytest.fail if os.environ.get("CI") else pytest.skip)(
            "with pyarrow it has 370 MB; to run this test: pip install datasets"
        )
    datasets = importlib.import_module("datasets")
    write_folder(ITEMS, "imagefolder", tmp_path / "set")
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["train"]
    assert loaded["train"].column_names == ["image", "mask", "category", "synthetic", "recipe"]
    by_name = {item.name: item for item in ITEMS}
    seen = set()
    for row in loaded["train"]:
        name = row["image"].filename.rpartition("/")[2].removesuffix(".png")
        item = by_name[name]
        np.testing.assert_array_equal(np.array(row["image"]), item.image)
        np.testing.assert_array_equal(np.array(row["mask"]), item.mask)
        assert (row["category"], row["synthetic"], row["recipe"]) == (
            item.category,
            item.synthetic,
            item.recipe,
        )
        seen.add(name)
    assert seen == set(by_name)


def foreign(folder, **row):
    for part in ("train", "train/masks"):
        (folder / part).mkdir()
    Image.fromarray(ITEMS[0].image).save(folder / "train" / "1.tif")
    Image.fromarray(ITEMS[0].mask // 255).save(folder / "train" / "masks" / "1.png")
    row = {"file_name": "1.tif", "mask_file_name": "masks/1.png", "text": "unknown", **row}
    (folder / "train" / "metadata.jsonl").write_text(json.dumps(row) + "\r\n\n")
    return folder


def test_another_programs_folder_with_a_tiff(tmp_path):
    [item] = read(foreign(tmp_path))
    np.testing.assert_array_equal(item.image, ITEMS[0].image)
    np.testing.assert_array_equal(item.mask, ITEMS[0].mask)
    assert (item.category, item.synthetic) == ("lesion", False)


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"mask_file_name": "../../1.png"}, None),
        ({"mask_file_name": "masks/2.png"}, r"line 1: the image masks/2\.png is not there"),
        ({"file_name": None}, "names no image"),
        ({"file_name": 3}, "names no image"),
        ({"category": "a\nb"}, "rename it"),
        ({"synthetic": True, "recipe": 5}, "not a text"),
    ],
)
def test_rows_that_name_nothing(tmp_path, row, match):
    foreign(tmp_path, **row)
    if match is None:  # paths of another computer: the file of that name in this folder is meant
        Image.fromarray(np.full((40, 57), 255, np.uint8)).save(tmp_path.parent / "1.png")
        np.testing.assert_array_equal(read(tmp_path)[0].mask, ITEMS[0].mask)
        return
    with pytest.raises(ExchangeError, match=match):
        read(tmp_path)


def test_without_masks_or_damaged(tmp_path):
    path = foreign(tmp_path) / "train" / "metadata.jsonl"
    path.write_text('{"file_name": "1.tif"}\n')
    with pytest.raises(ExchangeError, match=r'metadata\.jsonl, line 1: has no "mask_file_name"'):
        read(tmp_path)
    path.write_text("[1]\n")
    with pytest.raises(ExchangeError, match="one JSON object a line"):
        read(tmp_path)
    path.write_text("{\n")
    with pytest.raises(ExchangeError, match="is not JSON"):
        read(tmp_path)
