"""The interface without a browser: mask reading, the handler's events and errors, files, imports."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import cv2
import httpx2
import numpy as np
import pytest
import tyro
from gradio import processing_utils
from PIL import Image

from siamese.masks.core import MaskError
from siamese.masks.packed import MAX_SIDE
from siamese.records.catalogue import find_models
from siamese.records.prompts import POLYP
from siamese.records.provenance import NOTICE, read_png
from siamese.studio import server
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.cli import EMBEDDED_MODEL, Options
from siamese.studio.components import html
from siamese.studio.components.canvas import (
    EmptyMaskError,
    canvas_value,
    drawn_mask,
    drawn_or_none,
    fit_photo,
)
from siamese.studio.components.default_mask import example_mask
from siamese.studio.components.images import agreement_words, image_caption, picture, servable
from siamese.studio.server import Studio, clean, data_folder
from siamese.studio.tabs.draw_events import write_annotation
from siamese.studio.tabs.gallery import GalleryImages, write_png
from siamese.studio.tabs.photo import Photo
from siamese.studio.visitors import upload_folder as folder
from tests.factories import make_pair as example_pair

ROOT = Path(__file__).resolve().parents[2]


class TestMask:
    @pytest.mark.parametrize("shape", [(1, 1), (37, 91), (512, 512)])
    def test_round_trip_is_exact(self, shape):
        mask = (np.random.default_rng(0).random(shape) < 0.5).astype(np.uint8) * 255
        mask[0, 0] = 255
        np.testing.assert_array_equal(drawn_mask(canvas_value(mask)), mask)

    def test_nothing_drawn(self):
        for value in (None, canvas_value(np.zeros((8, 8), np.uint8))):
            assert drawn_or_none(value) is None
            with pytest.raises(EmptyMaskError, match="Draw a lesion first"):
                drawn_mask(value)

    @pytest.mark.parametrize(
        "change",
        [
            {"width": 9},
            {"height": 0},
            {"width": 8.0},
            {"width": True},
            {"height": MAX_SIDE + 1},
            {"width": 10**9, "height": 10**9},
            {"bits": None},
            {"bits": "AAAA" * 10**5},
            {"bits": "////////////////"},
            {"bits": "no base64"},
            {"bits": "ÄÖÜ"},
        ],
    )
    def test_what_the_page_does_not_send_is_refused(self, change):
        with pytest.raises(MaskError):
            drawn_mask(canvas_value(np.full((8, 8), 255, np.uint8)) | change)

    @pytest.mark.parametrize("name", ["width", "height", "bits"])
    def test_a_part_that_lacks_is_refused(self, name):
        value = canvas_value(np.full((8, 8), 255, np.uint8))
        del value[name]
        with pytest.raises(MaskError):
            drawn_mask(value)

    @pytest.mark.slow
    def test_examples_are_one_region_off_the_border(self):
        for mask in (example_mask(seed, 128) for seed in range(200)):
            assert set(np.unique(mask)) == {0, 255}
            assert cv2.connectedComponents(mask)[0] == 2
            assert not mask[[0, -1]].any()
            assert not mask[:, [0, -1]].any()

    def test_a_photo_lies_below_the_mask(self):
        photo = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
        mask = np.zeros((30, 40), np.uint8)
        mask[4:9, 5:20] = 255
        served = []
        value = canvas_value(mask, photo, lambda pixels: served.append(pixels) or "/tmp/photo.png")
        np.testing.assert_array_equal(drawn_mask(value), mask)
        assert value["photo"]["path"] == "/tmp/photo.png"
        assert value["photo"]["meta"], "what Gradio knows a file by, to give it an address"
        np.testing.assert_array_equal(served[0], photo)
        assert canvas_value(mask)["photo"] is None
        assert "photo" not in canvas_value(mask, keep_background=True)
        with pytest.raises(ValueError, match="differ in size"):
            canvas_value(mask, photo[1:], str)
        with pytest.raises(ValueError, match="served"):
            canvas_value(mask, photo)

    @pytest.mark.parametrize(
        ("shape", "fitted"),
        [((100, 60), (100, 60)), ((2048, 1024), (MAX_SIDE, MAX_SIDE // 2)), ((3, 4096), (1, MAX_SIDE))],
    )
    def test_photos_are_traced_at_a_size_that_a_browser_can_hold(self, shape, fitted):
        assert fit_photo(np.zeros((*shape, 3), np.uint8)).shape == (*fitted, 3)


class TestOutput:
    def test_download_carries_its_recipe(self, tmp_path):
        pair = example_pair()
        path = write_png(GalleryImages((pair,), (0.5,)), tmp_path)
        assert str(pair.recipe.seed) in path.name
        assert "synthetic" in path.name
        again = read_png(path.read_bytes())
        np.testing.assert_array_equal(again.image, pair.image)
        np.testing.assert_array_equal(again.drawn, pair.drawn)
        assert again.recipe == pair.recipe
        with Image.open(path) as image:
            assert image.text["Disclaimer"] == NOTICE

    def test_nothing_to_download(self, tmp_path):
        with pytest.raises(ValueError, match="Generate an image first"):
            write_png(GalleryImages(), tmp_path)

    def test_shown_image_carries_the_same(self):
        pair = example_pair()
        assert picture(pair, True).info.items() >= pair.fields().items()

    def test_the_same_pixels_are_never_served_from_one_file(self, tmp_path):
        value = np.zeros((4, 4, 4), np.uint8)
        paths = [
            processing_utils.save_pil_to_cache(servable(value), str(tmp_path), format="png") for _ in range(2)
        ]
        assert paths[0] != paths[1]

    def test_outline_is_only_on_the_contour(self):
        pair = example_pair()
        changed = (np.asarray(picture(pair, True)) != pair.image).any(axis=2)
        assert changed.any()
        assert not changed.all()
        np.testing.assert_array_equal(np.asarray(picture(pair, False)), pair.image)

    def test_agreement_in_words_and_number(self):
        pair = example_pair()
        assert [agreement_words(d) for d in (0.9, 0.7, 0.2)] == [
            "follows the mask closely",
            "follows the mask roughly",
            "does not follow the mask",
        ]
        assert image_caption(pair, 0.7) == f"0.70 rough · seed {pair.recipe.seed}"
        assert image_caption(pair, None) == f"Seed {pair.recipe.seed}"
        assert "Dice 0.70" in html.caption(pair, 0.7)
        assert str(pair.recipe.seed) in html.caption(pair, 0.7)

    def test_status_escapes(self):
        texts = html.status("error", "<b>"), html.model_line(None, "<b>"), html.note("error", "<b>")
        assert not any("<b>" in text for text in texts)

    @pytest.mark.parametrize(
        ("seconds", "words"),
        [(None, ""), (0.2, ", about 1 s left"), (45, ", about 45 s left"), (300, ", about 5 min left")],
    )
    def test_time_left(self, seconds, words):
        assert html.time_left(seconds) == words


class TestAnnotation:
    @pytest.mark.slow
    def test_photo_at_its_own_size_with_the_drawn_mask(self, tmp_path):
        photo = np.random.default_rng(0).integers(0, 256, (1500, 2000, 3), np.uint8)
        small = fit_photo(photo)
        mask = np.zeros(small.shape[:2], np.uint8)
        mask[100:200, 300:500] = 255
        Image.fromarray(photo).save(tmp_path / "photo.png")
        path = write_annotation(
            canvas_value(mask, keep_background=True),
            Photo(small, "visit/../7", tmp_path / "photo.png"),
            POLYP,
            tmp_path,
        )
        with zipfile.ZipFile(path) as archive:
            name = next(n for n in archive.namelist() if n.startswith("masks/"))
            with archive.open(name) as file, Image.open(file) as saved:
                assert saved.size == (2000, 1500)

    def test_without_photo(self, tmp_path):
        with pytest.raises(EmptyMaskError, match="Open a photo"):
            write_annotation(canvas_value(example_mask(0, 64)), None, "polyp", tmp_path)


class TestServer:
    def test_data_folder_is_never_inside_the_working_directory(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ValueError, match="choose a --data folder elsewhere"):
            data_folder(tmp_path / "kept")
        monkeypatch.chdir(ROOT)
        assert data_folder(tmp_path / "kept").is_dir()

    def test_batches_nobody_uses_are_deleted(self, tmp_path):
        for name, age in (("old", 8 * 86400), ("new", 3600)):
            folder = tmp_path / "batches" / name
            folder.mkdir(parents=True)
            (folder / "job.json").write_text("{}")
            for path in (folder / "job.json", folder):
                os.utime(path, (path.stat().st_atime, path.stat().st_mtime - age))
        clean(tmp_path, once=True)
        assert [p.name for p in (tmp_path / "batches").iterdir()] == ["new"]


@pytest.mark.slow
def test_serving_the_page_imports_neither_torch_nor_diffusers(tmp_path):
    code = (
        "import sys, pathlib, app; from siamese.studio.page import build_page; from siamese.studio.backend.queue import ModelWorker;"
        "from siamese.records.catalogue import find_models; build_page(ModelWorker(find_models('nowhere', None)), pathlib.Path(sys.argv[1]));"
        "print({'torch', 'diffusers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_options():
    assert tyro.cli(Options, args=[]) == Options(str(EMBEDDED_MODEL), None, None, "127.0.0.1", 7860)
    assert tyro.cli(Options, args=["--model", "x", "--port", "1", "--data", "y"]).data == Path("y")


@pytest.mark.slow
def test_an_uploaded_photo_is_temporary_and_deleted_after_its_time(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "TIDY_SECONDS", 0.2)
    monkeypatch.setattr(folder.TemporaryFolder.tidy, "__defaults__", (0.5,))
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "temporary"))
    studio = Studio(ModelWorker(find_models("nowhere", None)), tmp_path / "data", "127.0.0.1")
    try:
        reply = httpx2.post(
            f"{studio.address}/gradio_api/upload", files={"files": ("photo.png", b"a photo", "image/png")}
        )
        photo = Path(reply.json()[0])
        assert photo.is_relative_to(tmp_path / "temporary")
        assert photo.read_bytes() == b"a photo"
        assert not [f for f in (tmp_path / "data").rglob("*") if f.is_file() and b"a photo" in f.read_bytes()]
        deadline = time.monotonic() + 15
        while photo.exists():
            assert time.monotonic() < deadline, "the photo is still there"
            time.sleep(0.1)
    finally:
        studio.close()
    assert [f.name for f in (tmp_path / "temporary").iterdir()] == [".lock"]
