"""Export of an annotation: COCO documents that decode to the mask again, and the ZIP file around them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image, ImageDraw
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from scipy import ndimage

from siamese.masks.coco import annotation_zip, coco_annotation, name_of_photo
from siamese.masks.editing import fill_holes


def blobs(seed: int, size: tuple[int, int], width: float, share: float = 0.2) -> np.ndarray:
    """Smooth random shapes covering ``share`` of the image; they may touch its border."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=size), width)
    return np.where(noise > np.quantile(noise, 1 - share), 255, 0).astype(np.uint8)


def disc(radius: float, side: int = 128) -> np.ndarray:
    y, x = np.mgrid[:side, :side]
    return np.where((x - side // 3) ** 2 + (y - side // 2) ** 2 <= radius**2, 255, 0).astype(np.uint8)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a > 0, b > 0
    return (a & b).sum() / (a | b).sum()


def decoded(counts: list[int], size: list[int]) -> np.ndarray:
    """Run lengths by the specification's words alone: columns one after another, background first."""
    values = [255 * (i % 2) for i, count in enumerate(counts) for _ in range(count)]
    height, width = size
    return np.array([[values[x * height + y] for x in range(width)] for y in range(height)], np.uint8)


def rasterised(document: dict) -> np.ndarray:
    image = document["images"][0]
    rles = coco_mask.frPyObjects(document["annotations"][0]["segmentation"], image["height"], image["width"])
    return coco_mask.decode(coco_mask.merge(rles))


def by_pillow(document: dict, scale: int = 8) -> np.ndarray:
    """Another rasteriser, on a finer grid, so that its own rule for borders hardly matters."""
    image = document["images"][0]
    picture = Image.new("L", (image["width"] * scale, image["height"] * scale))
    for ring in document["annotations"][0]["segmentation"]:
        ImageDraw.Draw(picture).polygon([v * scale for v in ring], fill=255)
    return np.array(picture.resize((image["width"], image["height"]), Image.Resampling.BOX)) > 127


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


@pytest.mark.parametrize("name", SHAPES)
def test_run_lengths_are_exactly_the_mask(name):
    mask = SHAPES[name]
    annotation = coco_annotation(mask, "a.png", "polyp", encoding="rle")["annotations"][0]
    rle = annotation["segmentation"]
    assert rle["size"] == list(mask.shape)
    assert sum(rle["counts"]) == mask.size
    assert all(c > 0 for c in rle["counts"][1:])
    np.testing.assert_array_equal(decoded(rle["counts"], rle["size"]), mask)
    packed = coco_mask.frPyObjects(rle, *mask.shape)
    np.testing.assert_array_equal(coco_mask.decode(packed) * 255, mask)
    assert annotation["area"] == coco_mask.area(packed)
    assert annotation["bbox"] == coco_mask.toBbox(packed).tolist()
    assert annotation["iscrowd"] == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("size", "width"), [((256, 256), 20), ((201, 330), 12), ((128, 128), 6), ((512, 400), 40)]
)
def test_polygons_of_blobs_rasterise_to_the_mask(size, width, seed):
    mask = blobs(seed, size, width)
    document = coco_annotation(mask, "a.png", "polyp")
    filled = fill_holes(mask)
    assert iou(rasterised(document), filled) >= 0.98
    assert iou(by_pillow(document), filled) >= 0.97
    annotation = document["annotations"][0]
    assert annotation["iscrowd"] == 0
    assert annotation["area"] == (filled > 0).sum()
    assert (
        len(annotation["segmentation"]) == ndimage.label(filled, np.ones((3, 3)))[1]
    )  # every part is one ring


def test_polygon_of_a_large_shape_has_few_corners():
    ring = coco_annotation(disc(100, 512), "a.png", "polyp")["annotations"][0]["segmentation"][0]
    assert len(ring) / 2 < 0.5 * 2 * np.pi * 100


@pytest.mark.parametrize(
    "mask",
    [
        *(SHAPES[n] for n in SHAPES if n != "hole"),
        *(disc(r) for r in (1, 2, 3, 4, 6, 9, 13, 18)),
        blobs(1, (64, 64), 2),
    ],
    ids=lambda m: f"{m.shape} {np.count_nonzero(m)}",
)
def test_polygons_of_small_shapes(mask):
    document = coco_annotation(mask, "a.png", "polyp")
    filled, annotation = fill_holes(mask), document["annotations"][0]
    assert iou(rasterised(document), filled) >= 0.98
    rings = annotation["segmentation"]
    assert all(len(r) >= 6 and len(r) % 2 == 0 for r in rings)  # four numbers would be read as a box
    xs, ys = (np.concatenate([r[i::2] for r in rings]) for i in (0, 1))
    assert [xs.min(), ys.min(), np.ptp(xs), np.ptp(ys)] == annotation["bbox"]  # pixel edges, inside the image


def test_polygons_fill_holes_and_run_lengths_keep_them():
    polygon, rle = (
        coco_annotation(HOLED, "a.png", "polyp", encoding=e)["annotations"][0] for e in ("polygon", "rle")
    )
    assert len(polygon["segmentation"]) == 1
    assert polygon["area"] == (disc(40) > 0).sum()
    assert rle["area"] == (HOLED > 0).sum()
    np.testing.assert_array_equal(fill_holes(HOLED), disc(40))
    np.testing.assert_array_equal(fill_holes(HOLED), np.where(ndimage.binary_fill_holes(HOLED), 255, 0))
    island = HOLED + disc(5)
    assert len(coco_annotation(island, "a.png", "polyp")["annotations"][0]["segmentation"]) == 1


def test_hole_open_at_the_border_is_not_a_hole():
    mask = np.full((9, 9), 255, np.uint8)
    mask[3:6, :6] = 0
    np.testing.assert_array_equal(fill_holes(mask), mask)


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
    (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=[7], catIds=coco.getCatIds(["polyp"])))
    assert iou(coco.annToMask(annotation), fill_holes(mask) if encoding == "polygon" else mask) >= 0.98
    y, x = np.nonzero(mask)
    assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]


@pytest.mark.parametrize("encoding", ["polygon", "rle"])
def test_empty_mask_is_an_image_without_annotations(encoding):
    document = coco_annotation(np.zeros((5, 6), np.uint8), "a.png", "polyp", encoding=encoding)
    assert document["annotations"] == []
    assert len(document["images"]) == 1


def test_thresholds_soft_masks():
    soft = np.array([[0, 127, 128, 255]], np.uint8)
    assert coco_annotation(soft, "a.png", "polyp", encoding="rle")["annotations"][0]["segmentation"][
        "counts"
    ] == [2, 2]


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
        assert "holes" in readme
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
