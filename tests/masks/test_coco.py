"""Export of an annotation: COCO documents that decode to the mask again, and the ZIP file around them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from scipy import ndimage

from siamese.masks.coco import annotation_zip, coco_annotation, name_of_photo


def blobs(seed: int, size: tuple[int, int], width: float, share: float = 0.2) -> np.ndarray:
    """Smooth random shapes covering ``share`` of the image; they may touch its border."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), width)
    return np.where(noise > np.quantile(noise, 1 - share), 255, 0).astype(np.uint8)


def disc(radius: float, side: int = 128) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.where((x - side // 3) ** 2 + (y - side // 2) ** 2 <= radius**2, 255, 0).astype(np.uint8)


def pieces(document: dict) -> list[np.ndarray]:
    """Each annotation as COCO's own library draws it, uint8 [H, W] of 0 / 255."""
    coco, image = COCO(), document["images"][0]
    coco.dataset = document
    coco.createIndex()
    return [coco.annToMask(annotation) * 255 for annotation in coco.loadAnns(coco.getAnnIds([image["id"]]))]


HOLED = disc(40) - disc(15)
SHAPES = {
    "one pixel": disc(0.5),
    "two pixels wide": np.pad(np.full((2, 9), 255, np.uint8), 5),
    "full": np.full((20, 31), 255, np.uint8),
    "corner": np.pad(np.full((1, 1), 255, np.uint8), ((0, 8), (0, 5))),
    "diagonal": np.eye(20, 25, dtype=np.uint8) * 255,
    "hole": HOLED,
    "only pixel": np.full((1, 1), 255, np.uint8),
    "one row": np.array([[0, 255, 255, 0, 255]], np.uint8),
    "parts": blobs(5, (60, 81), 3),
}


@pytest.mark.parametrize("encoding", ["polygon", "rle"])
@pytest.mark.parametrize("name", SHAPES)
def test_annotations_are_exactly_the_lesions(name, encoding):
    mask = SHAPES[name]
    document = coco_annotation(mask, "a.png", "polyp", encoding=encoding)
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found, annotations = pieces(document), document["annotations"]
    assert len(found) == count
    np.testing.assert_array_equal(np.max(found, axis=0), mask)
    for piece, annotation in zip(found, annotations, strict=True):
        assert len(np.unique(labels[piece > 0])) == 1
        y, x = np.nonzero(piece)
        assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
        assert annotation["area"] == len(x)
        assert annotation["iscrowd"] == 0


def test_two_lesions_have_two_boxes_and_ids():
    document = coco_annotation(disc(20) | np.roll(disc(7), (40, 60), (0, 1)), "a.png", "polyp")
    first, second = document["annotations"]
    assert first["bbox"] == [22, 44, 41, 41]
    assert second["bbox"] == [95, 97, 15, 15]
    assert first["id"] != second["id"]
    assert [first["area"], second["area"]] == [(disc(20) > 0).sum(), (disc(7) > 0).sum()]


def test_a_lesion_with_a_hole_is_run_lengths_and_another_a_polygon():
    mask = HOLED.copy()
    mask[2:5, 100:110] = 255
    solid, holed = coco_annotation(mask, "a.png", "polyp")["annotations"]
    assert solid["segmentation"] == [[100.0, 2.0, 110.0, 2.0, 110.0, 5.0, 100.0, 5.0]]
    assert holed["segmentation"]["size"] == [128, 128]
    assert holed["area"] == (HOLED > 0).sum()


def test_documents_of_several_photographs_can_be_joined():
    documents = [coco_annotation(blobs(5, (60, 81), 3), f"case {n}.png", "polyp") for n in range(40)]
    images = [image["id"] for document in documents for image in document["images"]]
    annotations = [a["id"] for document in documents for a in document["annotations"]]
    assert len(set(images)) == len(images)
    assert len(set(annotations)) == len(annotations) > 100
    assert documents[3] == coco_annotation(blobs(5, (60, 81), 3), "case 3.png", "polyp")
    assert max(annotations) < 2**53  # what a number in JSON holds exactly


@pytest.mark.parametrize("encoding", ["polygon", "rle"])
def test_document_is_coco(tmp_path, encoding):
    mask = blobs(2, (60, 90), 5)
    document = coco_annotation(mask, "case 1.png", "polyp", image_id=7, encoding=encoding)
    assert set(document) == {"info", "licenses", "images", "annotations", "categories"}
    assert document["images"] == [{"id": 7, "file_name": "case 1.png", "height": 60, "width": 90}]
    assert document["categories"][0]["name"] == "polyp"
    assert "not synthetic" in document["info"]["description"]
    file = tmp_path / "annotation.json"
    file.write_text(json.dumps(document))
    coco = COCO(str(file))
    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[7], catIds=coco.getCatIds(["polyp"]), iscrowd=False))
    np.testing.assert_array_equal(np.max([coco.annToMask(a) for a in annotations], axis=0) * 255, mask)


@pytest.mark.parametrize("encoding", ["polygon", "rle"])
def test_empty_mask_is_an_image_without_annotations(encoding):
    document = coco_annotation(np.zeros((5, 6), np.uint8), "a.png", "polyp", encoding=encoding)
    assert document["annotations"] == []
    assert len(document["images"]) == 1


def test_thresholds_soft_masks():
    soft = np.array([[0, 127, 128, 255]], np.uint8)
    [annotation] = coco_annotation(soft, "a.png", "polyp", encoding="rle")["annotations"]
    assert annotation["segmentation"]["counts"] == [2, 2]


def test_refuses_what_is_not_an_annotation():
    mask = disc(3)
    for wrong in (mask > 0, mask[None], mask[:0], mask.astype(np.float32)):
        with pytest.raises(ValueError, match=r"uint8 \[H, W\]"):
            coco_annotation(wrong, "a.png", "polyp")
    with pytest.raises(ValueError, match="encoding"):
        coco_annotation(mask, "a.png", "polyp", encoding="png")
    for name, category in (("", "polyp"), ("a.png", "")):
        with pytest.raises(ValueError, match="must not be empty"):
            coco_annotation(mask, name, category)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("polyp 12.JPG", "polyp_12"),
        ("../../etc/passwd", "passwd"),
        ("C:\\patients\\Case-1.tiff", "Case-1"),
        ("..", "photo"),
        ("", "photo"),
        (".hidden", "hidden"),
        ("a/", "a"),
        ("CON", "photo_CON"),
        ("nul.tar.png", "photo_nul.tar"),
        ("v1.2", "v1.2"),
        ("Läsion ß", "Läsion_ß"),
        ("\uff0f\uff0fx\uff0fy", "__x_y"),
        ("a\0b\nc\u202egnp", "ab_c_gnp"),
        ("<script>", "_script_"),
        ("x" * 300, "x" * 120),
        ("//", "photo"),
        ("...png", "photo"),
    ],
)
def test_name_of_photo(given, expected):
    assert name_of_photo(given) == expected


@pytest.mark.parametrize("name", ["case 7.jpg", "../../../tmp/evil", "..\\..\\evil", "/etc/passwd"])
def test_zip_holds_photograph_mask_and_documents(tmp_path, name):
    mask = blobs(3, (70, 50), 5)
    photo = np.random.default_rng(0).integers(0, 256, (70, 50, 3), np.uint8)
    path = annotation_zip(photo, mask, tmp_path / "out.zip", name, "polyp")
    assert path == tmp_path / "out.zip"
    stem = name_of_photo(name)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == sorted(
            [
                f"images/{stem}.png",
                f"masks/{stem}.png",
                "annotation_polygon.json",
                "annotation_rle.json",
                "README.txt",
            ]
        )
        image = Image.open(io.BytesIO(archive.read(f"images/{stem}.png")))
        assert image.mode == "RGB"
        assert not image.info
        np.testing.assert_array_equal(np.array(image), photo)
        stored = Image.open(io.BytesIO(archive.read(f"masks/{stem}.png")))
        assert stored.mode == "L"
        np.testing.assert_array_equal(np.array(stored), mask)
        readme = archive.read("README.txt").decode()
        assert "visitor's own" in readme
        assert "NOT synthetic" in readme
        assert f"images/{stem}.png" in readme
        assert "hole" in readme
        for encoding in ("polygon", "rle"):
            document = json.loads(archive.read(f"annotation_{encoding}.json"))
            assert document == coco_annotation(mask, f"{stem}.png", "polyp", encoding=encoding)


def test_zip_replaces_and_takes_an_empty_mask(tmp_path):
    photo, mask = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    for name in ("first", "second"):
        path = annotation_zip(photo, mask, tmp_path / "a.zip", name)
    with zipfile.ZipFile(path) as archive:
        assert "images/second.png" in archive.namelist()
        assert "images/first.png" not in archive.namelist()
        assert json.loads(archive.read("annotation_rle.json"))["annotations"] == []


def test_zip_refuses_what_does_not_belong_together(tmp_path):
    photo, mask = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint8)
    with pytest.raises(ValueError, match="differ in size"):
        annotation_zip(photo, mask.T, tmp_path / "a.zip", "a")
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        annotation_zip(mask, mask, tmp_path / "a.zip", "a")
    with pytest.raises(ValueError, match=r"uint8 \[H, W\]"):
        annotation_zip(photo, mask > 0, tmp_path / "a.zip", "a")
    with pytest.raises(FileNotFoundError):
        annotation_zip(photo, mask, tmp_path / "missing" / "a.zip", "a")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_light_import():
    code = "import sys, siamese.masks.coco, siamese.records.uploads; print([m for m in ('torch', 'matplotlib', 'gradio', 'diffusers') if m in sys.modules])"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )
