"""CVAT for images 1.1: its own rules draw what was written, and what CVAT exports is read."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from siamese.exchange.formats import read, write_folder
from siamese.exchange.item import ExchangeError
from tests.exchange.samples import ITEMS, RECIPE, photo


def by_cvat(image: ET.Element) -> np.ndarray:
    """uint8 [H, W] of 0 / 255: polygons by pycocotools, as CVAT converts them, and masks by CVAT's run lengths."""
    height, width = int(image.get("height")), int(image.get("width"))
    found = np.zeros((height, width), np.uint8)
    for shape in image:
        if shape.tag == "polygon":
            ring = [float(v) for point in shape.get("points").split(";") for v in point.split(",")]
            found |= coco_mask.decode(coco_mask.frPyObjects([ring], height, width))[..., 0]
        elif shape.tag == "mask":
            left, top, w, h = (int(shape.get(key)) for key in ("left", "top", "width", "height"))
            values, value = [], 0
            for count in shape.get("rle").split(", "):
                values += [value] * int(count)
                value = 1 - value
            found[top : top + h, left : left + w] |= np.array(values, np.uint8).reshape(h, w)
    return found * 255


def test_cvat_draws_every_mask_bit_for_bit(tmp_path):
    write_folder(ITEMS, "cvat", tmp_path)
    root = ET.parse(tmp_path / "annotations.xml").getroot()
    assert root.findtext("version") == "1.1"
    labels = [label.findtext("name") for label in root.iterfind("meta/task/labels/label")]
    assert labels == ["polyp", "skin lesion", "synthetic"]
    images = root.findall("image")
    assert [image.get("id") for image in images] == [str(n) for n in range(len(ITEMS))]
    for image, item in zip(images, ITEMS, strict=True):
        assert image.get("name") == f"{item.name}.png"
        assert (tmp_path / "images" / image.get("name")).is_file()
        np.testing.assert_array_equal(by_cvat(image), item.mask)
        assert {e.get("label") for e in image if e.tag != "tag"} <= {item.category}
        assert [e.get("label") for e in image.iterfind("tag")] == ["synthetic"] * item.synthetic
    assert images[1].findtext("tag/attribute") == RECIPE
    assert [shape.tag for shape in images[1]] == ["polygon", "mask", "tag"]


def foreign(folder, *shapes, head="", **changes):
    (folder / "images" / "default").mkdir(parents=True)
    Image.fromarray(photo(0)).save(folder / "images" / "default" / "a.png")
    about = {"id": "0", "name": "a.png", "width": "57", "height": "40", **changes}
    image = ET.tostring(ET.Element("image", about), encoding="unicode").removesuffix("/>").removesuffix(" ")
    text = f'<?xml version="1.0" encoding="utf-8"?>{head}<annotations>{image}>{"".join(shapes)}</image></annotations>'
    (folder / "annotations.xml").write_text(text)
    return folder


def test_shapes_of_cvat(tmp_path):
    box = '<box label="polyp" xtl="2.0" ytl="3.0" xbr="10.0" ybr="8.0"/>'
    turned = '<box label="polyp" xtl="20.0" ytl="10.0" xbr="30.0" ybr="14.0" rotation="90.0"/>'
    ellipse = '<ellipse label="polyp" cx="45.0" cy="20.0" rx="8.0" ry="4.0"/>'
    [item] = read(foreign(tmp_path, box, turned, ellipse))
    y, x = np.mgrid[:40, :57] + 0.5
    expected = (x > 2) & (x < 10) & (y > 3) & (y < 8)
    expected |= (x > 23) & (x < 27) & (y > 7) & (y < 17)
    expected |= ((x - 45) / 8) ** 2 + ((y - 20) / 4) ** 2 < 1
    np.testing.assert_array_equal(item.mask > 0, expected)


def test_a_tilted_box_turns_clockwise_on_the_screen(tmp_path):
    [item] = read(foreign(tmp_path, '<box label="p" xtl="10" ytl="18" xbr="50" ybr="20" rotation="20"/>'))
    y, x = np.nonzero(item.mask)
    assert y[x > 40].min() > y[x < 20].max()


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ('<polyline label="p" points="1,1;5,5"/>', "no area"),
        ('<points label="p" points="1,1"/>', "no area"),
        ('<polygon label="p" points="1,1;5,5"/>', "3 to"),
        ('<polygon label="p" points="1,1;5,5;7"/>', "damaged numbers"),
        ('<polygon label="p" points="1,1;5,5;inf,3"/>', "far outside"),
        ('<polygon label="p"/>', "damaged numbers"),
        ('<box label="p" xtl="1" ytl="nan" xbr="3" ybr="4"/>', "far outside"),
        ('<box label="p" xtl="1"/>', "damaged numbers"),
        ('<mask label="p" rle="1, 3" left="0" top="0" width="2" height="3"/>', "do not add up"),
        ('<mask label="p" rle="0, 6" left="56" top="0" width="2" height="3"/>', "leaves the image"),
        ('<mask label="p" rle="0, 6" left="-1" top="0" width="2" height="3"/>', "leaves the image"),
        ('<mask label="p" rle="x" left="0" top="0" width="2" height="3"/>', "damaged numbers"),
        (
            '<box label="p" xtl="1" ytl="1" xbr="3" ybr="4"/><box label="q" xtl="1" ytl="1" xbr="3" ybr="4"/>',
            "choose",
        ),
    ],
)
def test_damaged_shapes_are_refused_by_name(tmp_path, wrong, match):
    with pytest.raises(ExchangeError, match=rf"a\.png: .*{match}"):
        read(foreign(tmp_path, wrong))


def test_a_document_type_is_refused_before_its_entities_grow(tmp_path):
    entities = '<!DOCTYPE a [<!ENTITY b "' + "x" * 1000 + '"><!ENTITY c "' + "&b;" * 1000 + '">]>'
    with pytest.raises(ExchangeError, match=r"annotations\.xml: has a document type declaration"):
        read(foreign(tmp_path, "&c;", head=entities))


def test_damaged_documents_are_refused(tmp_path):
    foreign(tmp_path)
    path = tmp_path / "annotations.xml"
    for content, match in (
        ("<annotations>", "not XML"),
        ("", "not XML"),
        ("<images/>", "CVAT for images 1.1"),
        ("<annotations/>", "no annotated images"),
    ):
        path.write_text(content)
        with pytest.raises(ExchangeError, match=match):
            read(tmp_path)
    path.write_bytes(b'<?xml version="1.0" encoding="x-unknown"?><annotations/>')
    with pytest.raises(ExchangeError, match="not XML"):
        read(tmp_path)


def test_another_size_is_refused(tmp_path):
    with pytest.raises(ExchangeError, match=r"a\.png: has another size"):
        read(foreign(tmp_path, width="40"))
