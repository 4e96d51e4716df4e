"""Blinding of images, and making studies from folders."""

from __future__ import annotations

import dataclasses
import io
import struct

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from sqlalchemy import select

from siamese.study.config import ConfigError, Method
from siamese.study.creation.folders import choose_files, count_groups, create_study, prepare, say_left_out
from siamese.study.storage.database import Database
from siamese.study.storage.images import (
    UnusableImageError,
    blind,
    common_size,
    list_images,
    native_size,
    read_study_image,
    shown_size,
)
from siamese.study.storage.schema import images, items
from siamese.study.storage.store import NewItem, StudyError, StudyStore
from tests.phantoms import phantom
from tests.study.phantom_study import METHODS, config, make_study, write_folders


def chunks(png: bytes) -> list[tuple[bytes, int]]:
    """Type and length of each of a PNG's chunks."""
    at, found = 8, []
    while at < len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        found.append((kind, length))
        at += 12 + length
    return found


def test_files_differ_in_their_pixels_alone():
    rng = np.random.default_rng(0)
    flat, noise = np.zeros((90, 120, 3), np.uint8), rng.integers(0, 256, (300, 200, 3), np.uint8)
    files = [blind(x, (60, 40), 128) for x in (flat, noise, phantom(1)[0], phantom(2, 500, 700)[0])]
    assert len({len(f) for f in files}) == 1
    assert len({tuple(chunks(f)) for f in files}) == 1
    assert {kind for kind, _ in chunks(files[0])} == {b"IHDR", b"IDAT", b"IEND"}
    assert len({f[: chunks(files[0])[0][1] + 20] for f in files}) == 1
    assert Image.open(io.BytesIO(files[0])).size == shown_size((60, 40), 128) == (128, 85)
    assert not Image.open(io.BytesIO(files[1])).info


def test_detail_finer_than_the_coarsest_method_is_removed():
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    shown = np.array(Image.open(io.BytesIO(blind(stripes, (64, 64), 256))))
    assert shown.std() < 1
    assert abs(shown.mean() - 127.5) < 1
    image = phantom(0, 64, 64)[0]
    back = np.array(Image.open(io.BytesIO(blind(image, (64, 64), 64))))
    np.testing.assert_array_equal(back, image)  # RGB stays RGB, and nothing is resampled needlessly


def test_least_width_and_height():
    assert common_size([(640, 480), (256, 512), (300, 300)]) == (256, 300)


def test_rotation_transparency_and_palette(tmp_path):
    image = phantom(0)[0]
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(tmp_path / "turned.png", exif=exif)
    assert native_size(tmp_path / "turned.png") == (48, 64)
    np.testing.assert_array_equal(read_study_image(tmp_path / "turned.png"), np.rot90(image, -1))
    clear = np.dstack([image, np.zeros(image.shape[:2], np.uint8)])
    Image.fromarray(clear).save(tmp_path / "clear.png")
    assert read_study_image(tmp_path / "clear.png").max() == 0
    Image.fromarray(image).convert("P").save(tmp_path / "palette.png")
    assert read_study_image(tmp_path / "palette.png").shape == image.shape


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f.write_bytes(b"no image"), "not an image that can be read"),
        (lambda f: Image.new("RGB", (8, 200)).save(f), "8 x 200"),
        (lambda f: Image.new("RGB", (8193, 16)).save(f), "8193 x 16 pixels"),
    ],
)
def test_names_what_is_wrong_with_a_file(tmp_path, make, message):
    make(tmp_path / "x.png")
    with pytest.raises(UnusableImageError, match=message):
        native_size(tmp_path / "x.png")


def test_cut_file_is_found_when_decoded(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(phantom(0)[0]).save(buffer, "PNG")
    (tmp_path / "x.png").write_bytes(buffer.getvalue()[:-500])
    with pytest.raises(UnusableImageError, match="damaged or incomplete"):
        read_study_image(tmp_path / "x.png")


@pytest.mark.slow
def test_study_is_made_whole(tmp_path):
    store, study = make_study(tmp_path, groups=5, training=2)
    with store.database.read() as connection:
        rows = connection.execute(select(items, images.c.data).join(images)).all()
    assert len(rows) == 6 * 3
    assert len({len(r.data) for r in rows}) == 1
    assert sum(r.training for r in rows) == 3
    assert all(len(r.id) == 32 and int(r.id, 16) >= 0 for r in rows)
    assert len({r.id for r in rows}) == 18
    assert len(study.content_hash) == 64
    with pytest.raises(StudyError, match="already"):
        create_study(store, study.config, write_folders(tmp_path / "again", 6))


def test_same_folders_and_seed_make_the_same_content(tmp_path):
    folders = write_folders(tmp_path, 6)
    first, again = prepare(config(), folders), prepare(config(), folders)
    assert first == again
    assert {i.group for i in first} != {i.group for i in prepare(config(seed=1), folders)}
    assert count_groups(config(training=4), folders).groups == 4


def test_metadata_of_the_sources_is_gone(tmp_path):
    folders = write_folders(tmp_path, 4)
    text = PngInfo()
    text.add_text("Software", "Siamese-Diffusion Studio")
    for file in folders["Ours"].iterdir():
        Image.open(file).save(file, pnginfo=text, dpi=(300, 300))
    assert all(b"Siamese" not in i.png and b"pHYs" not in i.png for i in prepare(config(), folders))


def test_every_problem_is_named(tmp_path):
    folders = write_folders(tmp_path, 4)
    (folders["Ours"] / "mask 001.png").write_bytes(b"x")
    Image.new("L", (8, 64)).save(folders["real"] / "mask 002.png")
    with pytest.raises(ConfigError) as caught:
        prepare(config(), folders)
    assert len(caught.value.problems) == 2
    assert "Ours/mask 001.png: This file is not an image" in str(caught.value)
    assert "real/mask 002.png" in str(caught.value)


def test_missing_masks_and_folders_are_named(tmp_path):
    folders = write_folders(tmp_path, 4)
    (folders["Ours"] / "mask 003.png").unlink()
    with pytest.raises(
        ConfigError, match=r"3 masks have.*4 are needed(.|\n)*'Ours' has no image of mask 'mask 003'"
    ):
        prepare(config(), folders)
    with pytest.raises(ConfigError, match=r"method 'Ours' has no folder(.|\n)*folder for 'other'"):
        prepare(config(), {"real": folders["real"], "ControlNet": folders["ControlNet"], "other": tmp_path})
    with pytest.raises(ConfigError, match="no such folder"):
        prepare(config(), folders | {"Ours": tmp_path / "nowhere"})
    Image.new("RGB", (64, 64)).save(folders["real"] / "mask 000.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ConfigError, match=r"mask 000.jpg and mask 000.png are of one mask(.|\n)*holds no images"
    ):
        prepare(config(), folders | {"Ours": tmp_path / "empty"})
    with pytest.raises(ConfigError, match="no mask has"):
        count_groups(config(), {"real": folders["real"], "x": tmp_path / "empty"})


def test_hidden_and_other_files_are_left_alone(tmp_path):
    for name in (".hidden.png", "notes.txt"):
        (tmp_path / name).write_text("")
    Image.new("RGB", (64, 64)).save(tmp_path / "A.PNG")
    found, problems, passed_over = list_images(tmp_path)
    assert found == {"A": tmp_path / "A.PNG"}
    assert not problems
    assert {one.name for one in passed_over} == {".hidden.png", "notes.txt"}


def test_names_are_matched_in_one_normal_form_and_what_is_left_out_is_said(tmp_path, caplog):
    """macOS hands out decomposed letters. Upper and lower case differ, as on most servers; a mask's ending does not count."""
    names = {"real": ["e\u03010", "1", "2", "id5"], "Ours": ["\u00e90", "1_segmentation", "2", "ID5"]}
    for method, stems in names.items():
        (tmp_path / method).mkdir()
        for number, stem in enumerate(stems):
            Image.new("RGB", (64, 64), (number, 0, 0)).save(tmp_path / method / f"{stem}.png")
    (tmp_path / "real" / "Thumbs.db").write_bytes(b"x")
    folders = {method: tmp_path / method for method in names}
    methods = (Method("real", "real"), Method("Ours", "synthetic"))
    small = count_groups(config(methods=methods, groups=1), folders)
    assert small.groups == 3
    choice = choose_files(dataclasses.replace(small, groups=2), folders)
    assert set(choice.rated) < {"1", "2", "\u00e90"}
    assert choice.left_out == [
        "method 'real': not read: Thumbs.db: left behind by an operating system",
        "mask 'ID5': no image of 'real' (there is 'id5': upper and lower case differ).",
        "mask 'id5': no image of 'Ours' (there is 'ID5': upper and lower case differ).",
        "1 more masks have an image of every method; 2 were drawn (seed 0).",
    ]
    say_left_out(choice)
    assert [record.getMessage() for record in caplog.records] == choice.left_out


def test_store_refuses_incomplete_contents(tmp_path):
    store = StudyStore(Database(f"sqlite:///{tmp_path / 'x.sqlite3'}"))
    whole = [NewItem(f"g{g}", m.name, False, b"png") for g in range(4) for m in METHODS]
    for contents, message in (
        (whole[1:], "one image of each method: g0"),
        (whole[3:], "4 rated groups, 3 are here"),
        ([NewItem("g0", "real", False, b"longer"), *whole[1:]], "differ in length"),
        (whole + [NewItem("g0", m.name, True, b"png") for m in METHODS], "0 training"),
    ):
        with pytest.raises(StudyError, match=message):
            store.add(config(), contents)
    assert store.studies() == []
    with pytest.raises(StudyError, match="rated as well"):
        store.add(config(training=1), whole + [NewItem("g0", m.name, True, b"png") for m in METHODS])
    store.add(
        config(methods=(Method("real", "real"), Method("x", "synthetic")), groups=1),
        [NewItem("g", "real", False, b"1"), NewItem("g", "x", False, b"2")],
    )
