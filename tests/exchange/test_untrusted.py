"""Data sets of strangers: no path leaves the folder, limits hold, and every fault names its file and says what to do."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from siamese.exchange.formats import FORMATS, read, recognise, write_folder, write_zip
from siamese.exchange.item import ExchangeError
from siamese.exchange.source import FOR_VISITORS, open_source
from siamese.files.archives import ArchiveLimits
from tests.exchange.samples import ITEMS, TWO, photo


def png(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def packed(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


PAIR = {"images/a.png": png(photo(0)), "masks/a.png": png(TWO)}


def test_paths_that_leave_the_zip_are_refused(tmp_path):
    path = packed(tmp_path / "a.zip", {**PAIR, "../images/b.png": png(photo(1))})
    with pytest.raises(ExchangeError, match="leads out of the ZIP"):
        read(path, "png")


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    write_folder(ITEMS[:1], "png", secret)
    folder = tmp_path / "set"
    write_folder(ITEMS[1:2], "png", folder)
    (folder / "images" / "x.png").symlink_to(secret / "images" / "two.png")
    (folder / "masks" / "x.png").symlink_to(secret / "masks" / "two.png")
    (folder / "more").symlink_to(secret)
    with open_source(folder) as source:
        assert not any(name.startswith("more") for name in source.names)
    with pytest.raises(ExchangeError, match=r"images/x\.png: is a link"):
        read(folder)


@pytest.mark.parametrize(
    "mentioned", ["../secret.png", "/etc/passwd", "..\\..\\secret.png", "images/../../secret.png"]
)
def test_what_an_annotation_mentions_is_only_looked_up(tmp_path, mentioned):
    (tmp_path / "secret.png").write_bytes(png(photo(0)))
    document = {"shapes": [], "imagePath": mentioned}
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.json").write_text(json.dumps(document))
    with pytest.raises(ExchangeError, match="is not there"):
        read(tmp_path / "set", "labelme")


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({"images": 2}, "more than 2 images"),
        ({"pixels": 3000}, "million pixels; split"),
        ({"archive": ArchiveLimits(3, 10**6, 10**7)}, "at most 3|more than 3 files"),
        ({"archive": ArchiveLimits(100, 3000, 10**7)}, "0 MB"),
        ({"archive": ArchiveLimits(100, 10**6, 20_000)}, "split|Split"),
    ],
)
@pytest.mark.parametrize("name", ["png", "coco", "dicom"])
@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_limits_hold(tmp_path, limits, match, name, kind):
    write = write_zip if kind == "zip" else write_folder
    write(ITEMS[:3], name, tmp_path / "set")
    with pytest.raises(ExchangeError, match=match):
        read(tmp_path / "set", name, limits=replace(FOR_VISITORS, **limits))


def test_every_fault_is_listed_with_its_file(tmp_path):
    files = {
        **PAIR,
        "images/b.png": b"no image",
        "masks/b.png": png(TWO),
        "images/c.png": png(photo(0)),
        "images/d.png": png(photo(0)),
        "masks/d.png": png(photo(1)),
        "images/e.png": png(photo(0)),
        "masks/e.png": png(TWO[:9]),
        "masks/f.png": png(TWO),
    }
    with pytest.raises(ExchangeError) as refusal:
        read(packed(tmp_path / "a.zip", files))
    faults = dict(fault.split(": ", 1) for fault in refusal.value.faults)
    assert set(faults) == {"images/b.png", "images/c.png", "images/d.png", "images/e.png", "masks/f.png"}
    assert "not an image" in faults["images/b.png"]
    assert "no mask" in faults["images/c.png"]
    assert "differ in size" in faults["images/e.png"]
    assert "without an image" in faults["masks/f.png"]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\5\6" + bytes(18)])
def test_what_is_no_data_set(tmp_path, content):
    path = tmp_path / "a.zip"
    path.write_bytes(content)
    for name in FORMATS:
        with pytest.raises(ExchangeError, match=r"not a ZIP|no "):
            read(path, name)
    with pytest.raises(ExchangeError, match="neither a folder nor a file"):
        recognise(tmp_path / "missing")


def test_exif_of_a_photograph_is_not_kept(tmp_path):
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x9286] = 6, "Camera of Dr Doe", "comment"
    (tmp_path / "set" / "images").mkdir(parents=True)
    (tmp_path / "set" / "masks").mkdir()
    Image.fromarray(photo(0)).save(tmp_path / "set" / "images" / "a.jpg", exif=exif, quality=95)
    Image.fromarray(np.rot90(TWO, -1)).save(tmp_path / "set" / "masks" / "a_mask.png")
    items = read(tmp_path / "set")
    assert items[0].image.shape == (57, 40, 3), "upright, as viewers show it"
    for name in FORMATS:
        write_folder(items, name, tmp_path / name)
        for path in (tmp_path / name).rglob("*"):
            assert not path.is_file() or b"Doe" not in path.read_bytes()


def test_a_synthetic_png_stays_synthetic_without_a_manifest(tmp_path):
    write_folder(ITEMS[1:2], "png", tmp_path)
    (tmp_path / "manifest.jsonl").unlink()
    [item] = read(tmp_path)
    assert item.synthetic
    assert item.recipe == ITEMS[1].recipe
