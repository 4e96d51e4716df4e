"""LabelMe: its own rule draws what was written, and every shape with an area is read by that rule."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

from siamese.exchange.formats import read, write_folder
from siamese.exchange.item import ExchangeError
from tests.exchange.samples import ITEMS, NOISE, photo


def by_labelme(document: dict) -> np.ndarray:
    """uint8 [H, W] of 0 / 255 by the rules of ``labelme.utils.shape_to_mask`` and of LabelMe's shapes of the type "mask"."""
    size = document["imageWidth"], document["imageHeight"]
    found = np.zeros(size[::-1], bool)
    for shape in document["shapes"]:
        if shape["shape_type"] == "mask":
            (x0, y0), (x1, y1) = np.array(shape["points"]).astype(int)
            with Image.open(io.BytesIO(base64.b64decode(shape["mask"]))) as file:
                found[y0 : y1 + 1, x0 : x1 + 1] |= np.array(file) > 0
        else:
            assert shape["shape_type"] == "polygon"
            assert len(shape["points"]) > 2, "labelme asserts this"
            canvas = Image.fromarray(np.zeros(size[::-1], np.uint8))
            ImageDraw.Draw(canvas).polygon(xy=[tuple(p) for p in shape["points"]], outline=1, fill=1)
            found |= np.array(canvas, bool)
    return np.where(found, 255, 0)


def test_labelme_draws_every_mask_bit_for_bit(tmp_path):
    write_folder(ITEMS, "labelme", tmp_path)
    kinds = set()
    for item in ITEMS:
        document = json.loads((tmp_path / f"{item.name}.json").read_text())
        assert {
            "version",
            "flags",
            "shapes",
            "imagePath",
            "imageData",
            "imageHeight",
            "imageWidth",
        } <= document.keys()
        assert (tmp_path / document["imagePath"]).is_file()
        np.testing.assert_array_equal(by_labelme(document), item.mask)
        assert document["flags"] == {"synthetic": item.synthetic}
        for shape in document["shapes"]:
            assert shape["label"] == item.category
            kinds.add((item.name, shape["shape_type"]))
    assert ("two", "polygon") in kinds
    assert ("disc", "polygon") in kinds
    assert ("holed", "mask") in kinds


def foreign(folder, *shapes, **changes):
    Image.fromarray(photo(0)).save(folder / "a.png")
    document = {
        "shapes": list(shapes),
        "imagePath": "..\\pictures\\a.png",
        "imageHeight": 40,
        "imageWidth": 57,
    }
    (folder / "a.json").write_text(json.dumps({**document, **changes}))
    return folder


def shape(kind, points, label="polyp", **more):
    return {"label": label, "shape_type": kind, "points": points, **more}


def test_shapes_of_other_programs(tmp_path):
    circle = shape("circle", [[30, 20], [30, 25]])
    box = shape("rectangle", [[10, 8], [2, 3]])
    old = {"label": "polyp", "points": [[40, 30], [50, 30], [50, 35], [40, 35]]}
    [item] = read(foreign(tmp_path, circle, box, old))
    expected = Image.new("L", (57, 40))
    pen = ImageDraw.Draw(expected)
    pen.ellipse((25, 15, 35, 25), fill=255)
    pen.rectangle((2, 3, 10, 8), fill=255)
    pen.rectangle((40, 30, 50, 35), fill=255)
    np.testing.assert_array_equal(item.mask, np.array(expected))
    assert not item.synthetic


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def test_a_mask_as_labelme_writes_it(tmp_path):
    [item] = read(foreign(tmp_path, shape("mask", [[5, 6], [35, 28]], mask=png(NOISE > 0))))
    expected = np.zeros((40, 57), np.uint8)
    expected[6:29, 5:36] = NOISE
    np.testing.assert_array_equal(item.mask, expected)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        (shape("point", [[3, 3]]), "no area"),
        (shape("linestrip", [[3, 3], [5, 5], [9, 9]]), "no area"),
        (shape("polygon", [[3, 3], [5, 5]]), "no area"),
        (shape("polygon", [[3, 3], [5, 5], [1e9, 2]]), "pairs of numbers"),
        (shape("polygon", [[3, 3], [5, 5], [1]]), "pairs of numbers"),
        (shape("polygon", "x"), "pairs of numbers"),
        (shape("mask", [[5, 6], [35, 28]]), "cannot|empty|not an image"),
        (shape("mask", [[5, 6], [35, 28]], mask="§"), "base64"),
        (shape("mask", [[50, 6], [80, 28]], mask=png(NOISE)), "leaves the image"),
        (shape("mask", [[-1, 6], [30, 28]], mask=png(NOISE)), "leaves the image"),
        ({"points": []}, "without a label"),
    ],
)
def test_shapes_without_an_area_or_damaged_are_refused_by_name(tmp_path, wrong, match):
    with pytest.raises(ExchangeError, match=rf"a\.json: .*({match})"):
        read(foreign(tmp_path, wrong))


def test_another_size_or_no_image_is_refused(tmp_path):
    with pytest.raises(ExchangeError, match="another size"):
        read(foreign(tmp_path, imageWidth=40))
    with pytest.raises(ExchangeError, match=r"b\.png is not there"):
        read(foreign(tmp_path, imagePath="/home/me/b.png"))
    with pytest.raises(ExchangeError, match="names no image"):
        read(foreign(tmp_path, imagePath=None))
    (tmp_path / "a.json").write_text('{"not": "labelme"}')
    with pytest.raises(ExchangeError, match="no LabelMe file"):
        read(tmp_path, "labelme")
