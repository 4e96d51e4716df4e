"""COCO: pycocotools reads what was written, and what other programs write is read."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from siamese.exchange.formats import read, write_folder
from siamese.exchange.item import ExchangeError
from tests.exchange.samples import HOLED, ITEMS, TWO, photo


@pytest.fixture(scope="module")
def coco(tmp_path_factory):
    folder = tmp_path_factory.mktemp("coco")
    write_folder(ITEMS, "coco", folder)
    return COCO(str(folder / "annotations" / "instances_default.json")), folder


def test_pycocotools_draws_every_mask_bit_for_bit(coco):
    document, folder = coco
    assert len(document.imgs) == len(ITEMS)
    by_name = {item.name: item for item in ITEMS}
    for image in document.loadImgs(document.getImgIds()):
        item = by_name[image["file_name"].removesuffix(".png")]
        with Image.open(folder / "images" / image["file_name"]) as file:
            assert file.size == (image["width"], image["height"]) == item.mask.shape[::-1]
            np.testing.assert_array_equal(np.array(file), item.image)
        drawn = np.zeros_like(item.mask)
        for annotation in document.loadAnns(document.getAnnIds(imgIds=[image["id"]], iscrowd=False)):
            part = document.annToMask(annotation)
            rle = coco_mask.encode(np.asfortranarray(part))
            assert annotation["bbox"] == coco_mask.toBbox(rle).tolist()
            assert annotation["area"] == coco_mask.area(rle)
            assert document.loadCats(annotation["category_id"])[0]["name"] == item.category
            assert not (drawn & part).any()
            drawn |= part
        np.testing.assert_array_equal(drawn * 255, item.mask)


def test_ids_are_unique_and_each_lesion_has_its_own(coco):
    document, _ = coco
    assert len(document.anns) == len(document.dataset["annotations"]) > len(ITEMS)
    two = next(i["id"] for i in document.dataset["images"] if i["file_name"] == "two.png")
    boxes = [a["bbox"] for a in document.imgToAnns[two]]
    assert boxes == [[4, 3, 16, 9], [30, 20, 27, 17]]
    holed = next(i["id"] for i in document.dataset["images"] if i["file_name"] == "holed.png")
    kinds = [type(a["segmentation"]) for a in document.imgToAnns[holed]]
    assert kinds == [list, dict]  # a single pixel, and the lesion with a hole


def foreign(folder, segmentations, **changes):
    """A data set of one photograph as another program writes it, with an annotation for each category and segmentation."""
    (folder / "train").mkdir()
    Image.fromarray(photo(0)).save(folder / "train" / "a.png")
    names = sorted({name for name, _ in segmentations})
    document = {
        "images": [{"id": 9, "file_name": "train/a.png", "width": 57, "height": 40}],
        "categories": [{"id": 5 + i, "name": name} for i, name in enumerate(names)],
        "annotations": [
            {
                "id": i,
                "image_id": 9,
                "category_id": 5 + names.index(name),
                "segmentation": value,
                "bbox": [0, 0, 1, 1],
            }
            for i, (name, value) in enumerate(segmentations)
        ],
        **changes,
    }
    (folder / "instances_train.json").write_text(json.dumps(document))
    return folder


def test_other_programs_annotations_are_read(tmp_path):
    packed = coco_mask.encode(np.asfortranarray(HOLED // 255))
    rle = {"size": packed["size"], "counts": packed["counts"].decode()}
    ring = [30.5, 32.0, 50.25, 32.0, 50.25, 39.5, 30.5, 39.5]
    [item] = read(foreign(tmp_path, [("polyp", rle), ("polyp", [ring, [0, 30, 3, 30, 3, 33, 0, 33]])]))
    expected = HOLED.copy()
    expected[32:39, 30:50] = expected[30:33, :3] = 255  # a centre on the upper or left edge belongs to it
    np.testing.assert_array_equal(item.mask, expected)
    assert (item.name, item.category, item.synthetic, item.recipe) == ("a", "polyp", False, None)


@pytest.mark.parametrize("category", ["polyp", "tool"])
def test_of_several_categories_one_must_be_chosen(tmp_path, category):
    boxes = {"polyp": [[1, 1, 9, 1, 9, 9, 1, 9]], "tool": [[20, 20, 30, 20, 30, 30, 20, 30]]}
    folder = foreign(tmp_path, list(boxes.items()))
    with pytest.raises(ExchangeError, match=r"train/a.png: .*several categories \(polyp, tool\); choose one"):
        read(folder)
    [item] = read(folder, category=category)
    assert item.category == category
    y, x = np.nonzero(item.mask)
    assert (x.min(), y.min()) == ((1, 1) if category == "polyp" else (20, 20))
    [item] = read(folder, category="ulcer")
    assert not item.mask.any()


SQUARE = [[1, 1, 9, 1, 9, 9, 1, 9]]


@pytest.mark.parametrize(
    ("segmentation", "match"),
    [
        ([], "without an outline"),
        (None, "without an outline"),
        ("x", "without an outline"),
        ([[1, 2, 3, 4]], "3 to"),
        ([[1, 2, 3]], "list of numbers"),
        ([["1", "2", "3", "4", "5", "6"]], "list of numbers"),
        ([[1, 2, float("nan"), 4, 5, 6]], "list of numbers"),
        ([[1, 2, 1e300, 4, 5, 6]], "list of numbers"),
        ({"size": [57, 40], "counts": [2280]}, "another size"),
        ({"size": [40, 57], "counts": [2281]}, "do not add up"),
        ({"size": [40, 57], "counts": [2281, -1]}, "none of them negative"),
        ({"size": [40, 57], "counts": [2280.0]}, "without an outline"),
        ({"size": [40, 57], "counts": "§§"}, "damaged"),
        ({"size": 4, "counts": [1]}, "another size"),
    ],
)
def test_damaged_outlines_are_refused_by_name(tmp_path, segmentation, match):
    with pytest.raises(ExchangeError, match=rf"train/a\.png: .*{match}"):
        read(foreign(tmp_path, [("polyp", segmentation)]))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (
            {"images": [{"id": 9, "file_name": "train/a.png", "width": 40, "height": 57}]},
            "is 57 x 40 pixels, but",
        ),
        ({"images": [{"id": 9, "file_name": "b.png", "width": 57, "height": 40}]}, "b.png is not there"),
        ({"images": [{"id": "9"}]}, 'no valid "id"'),
        ({"images": 3}, 'no list "images"'),
        ({"categories": []}, "which is not listed"),
        ({"annotations": ["x"]}, 'no valid "image_id"'),
        ({"images": []}, "no annotated images"),
    ],
)
def test_damaged_documents_are_refused(tmp_path, changes, match):
    with pytest.raises(ExchangeError, match=match):
        read(foreign(tmp_path, [("polyp", SQUARE)], **changes))


def test_which_document_is_meant_must_be_clear(tmp_path):
    foreign(tmp_path, [("polyp", SQUARE)])
    (tmp_path / "instances_val.json").write_bytes((tmp_path / "instances_train.json").read_bytes())
    with pytest.raises(ExchangeError, match="several COCO files"):
        read(tmp_path)
    for path in tmp_path.glob("*.json"):
        path.write_text("{}")
    with pytest.raises(ExchangeError, match="no COCO file"):
        read(tmp_path)
    (tmp_path / "instances_val.json").write_text("[" * 100_000)
    with pytest.raises(ExchangeError, match=r"instances_val\.json: is not JSON"):
        read(tmp_path)


def test_an_image_without_lesions_keeps_the_only_category(tmp_path):
    [item] = read(foreign(tmp_path, [], categories=[{"id": 1, "name": "polyp"}]))
    assert item.category == "polyp"
    assert not item.mask.any()
    assert item.mask.shape == TWO.shape
