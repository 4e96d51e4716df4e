"""Every format gives back what was written, from a folder and from a ZIP, and is recognised by its files' names."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from siamese.exchange.formats import FORMATS, read, reading, recognise, write_folder, write_zip
from siamese.exchange.item import AnnotatedImage, ExchangeError, of_pair
from siamese.exchange.source import FOR_LOCAL
from siamese.records.provenance import Recipe, SyntheticPair, read_png
from siamese.records.sampling_settings import SamplingSettings
from tests.exchange.samples import ITEMS, TWO, equal, files, photo


@pytest.fixture(scope="module", params=FORMATS)
def written(request, tmp_path_factory):
    """Name of a format, and the samples as a folder and as a ZIP of it."""
    place = tmp_path_factory.mktemp(request.param)
    assert write_folder(iter(ITEMS), request.param, place / "folder") == len(ITEMS)
    assert write_zip(iter(ITEMS), request.param, place / "set.zip") == len(ITEMS)
    return request.param, place / "folder", place / "set.zip"


def expected(name: str) -> list[AnnotatedImage]:
    """The samples as a format gives them: CVAT's has no place for the category of an image without a lesion."""
    return [replace(i, category="lesion") if name == "cvat" and not i.mask.any() else i for i in ITEMS]


@pytest.mark.parametrize("kind", [1, 2], ids=["folder", "zip"])
def test_what_was_written_is_read_bit_for_bit(written, kind):
    equal(read(written[kind], written[0]), expected(written[0]))


def test_the_format_is_recognised(written):
    name, folder, path = written
    assert recognise(folder) == recognise(path) == name
    with reading(path, limits=FOR_LOCAL) as items:
        assert len(list(items)) == len(ITEMS)


def test_folder_and_zip_hold_the_same_files(written, tmp_path):
    name, folder, path = written
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == files(folder)
    if name != "dicom":  # times and ids
        assert write_zip(ITEMS, name, tmp_path / "again.zip")
        assert (tmp_path / "again.zip").read_bytes() == path.read_bytes()


def test_a_note_says_how_many_images_are_synthetic(written):
    text = (written[1] / "README.txt").read_text()
    assert "3 synthetic images" in text
    assert "4 other images" in text


def test_a_pair_of_the_studio_stays_one_in_every_png(tmp_path):
    recipe = Recipe("an image of a polyp", 5, SamplingSettings(), "siamese-tiny")
    mask = np.where(np.arange(64 * 64).reshape(64, 64) % 70 < 20, 255, 0).astype(np.uint8)
    pair = SyntheticPair(photo(1, (64, 64)), mask, mask, recipe)
    write_folder([of_pair(pair, "a", "polyp")], "coco", tmp_path)
    again = read_png((tmp_path / "images" / "a.png").read_bytes())
    assert again.recipe == recipe
    np.testing.assert_array_equal(again.mask, mask)
    [item] = read(tmp_path)
    assert item.synthetic
    assert json.loads(item.recipe) == recipe.to_dict()


def test_a_folder_around_the_files_does_not_matter(written, tmp_path):
    name, _, path = written
    with zipfile.ZipFile(path) as packed, zipfile.ZipFile(tmp_path / "a.zip", "w") as other:
        for entry in packed.namelist():
            other.writestr(f"my set/{entry}", packed.read(entry))
        other.writestr("my set/.DS_Store", b"x")
        other.writestr("__MACOSX/my set/._a.png", b"x")
    equal(read(tmp_path / "a.zip", name), expected(name))


def test_no_file_has_exif_and_synthetic_images_say_so(written):
    _, folder, _ = written
    for path in folder.rglob("*.png"):
        with Image.open(path) as file:
            file.load()
            assert not file.getexif()
            item = next((i for i in ITEMS if path.stem.removesuffix("_0000") == i.name), None)
            is_image = file.mode == "RGB"
            assert (file.info.get("Synthetic") == "true") == bool(is_image and item and item.synthetic)


def test_one_category_can_be_chosen(written):
    name, folder, _ = written
    found = {item.name: item for item in read(folder, name, category="skin lesion")}
    if name in ("png", "imagefolder"):
        return  # one mask an image, of whatever category
    assert {name for name, item in found.items() if item.mask.any()} == {"test_1.b"}
    assert {item.category for item in found.values()} == {"skin lesion"}


@pytest.mark.parametrize("name", FORMATS)
def test_names_must_differ_on_every_system(name, tmp_path):
    twice = [ITEMS[0], replace(ITEMS[0], name="TWO")]
    with pytest.raises(ExchangeError, match="two images are named TWO"):
        write_zip(twice, name, tmp_path / "a.zip")
    with pytest.raises(ExchangeError, match="two images"):
        write_folder(twice, name, tmp_path / "folder")
    with pytest.raises(ExchangeError, match="no images to write"):
        write_zip([], name, tmp_path / "a.zip")
    assert files(tmp_path) == []


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(ExchangeError, match="choose one of png, coco"):
        write_zip(ITEMS, "yolo", tmp_path / "a.zip")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ExchangeError, match="not known; choose it"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"image": photo(0)[..., 0]}, r"\[H, W, 3\]"),
        ({"image": photo(0).astype(float)}, "uint8"),
        ({"mask": TWO.T}, "differ in size"),
        ({"mask": TWO // 255}, "values above"),
        ({"name": "../a"}, "cannot name a file"),
        ({"name": ""}, "cannot name a file"),
        ({"category": ""}, "category"),
        ({"category": "a\nb"}, "category"),
        ({"category": "x" * 65}, "category"),
        ({"synthetic": True, "recipe": "x" * 10_001}, "recipe"),
        ({"synthetic": True, "recipe": "a\0b"}, "recipe"),
        ({"synthetic": True, "recipe": "\ud800"}, "recipe"),
        ({"recipe": "made by a model"}, "not marked as synthetic"),
    ],
)
def test_what_is_no_annotated_image(values, match):
    with pytest.raises(ValueError, match=match):
        AnnotatedImage(**{"image": photo(0), "mask": TWO, "name": "a", **values})


def test_images_of_one_name_in_two_folders_are_told_apart(tmp_path):
    for place in ("a", "b"):
        write_folder(ITEMS[:1], "png", tmp_path / place)
    assert [item.name for item in read(tmp_path)] == ["two", "two_2"]
    np.testing.assert_array_equal(read(tmp_path)[1].mask, TWO)


@pytest.mark.slow
def test_training_reads_png_pairs(tmp_path):
    from train.data import check_pairs, read_pairs

    write_folder([item for item in ITEMS[:4] if item.mask.any()], "png", tmp_path)
    found = read_pairs([tmp_path], "train", "a colonoscopy image of a polyp", required=False)
    check_pairs(found)
    assert len(found) == 4
