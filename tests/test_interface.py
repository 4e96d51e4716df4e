"""The interface without a browser: mask reading, the handler's events and errors, files, imports."""
from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tyro
from PIL import Image

from app import EMBEDDED_MODEL, Options
from siamese.interface import VERSION, status
from siamese.interface.canvas import SIDE, EmptyMaskError, editor_value, lesion_canvas, read_mask
from siamese.interface.example import FIRST_VISIT, example_mask
from siamese.interface.generate import MAX_STEPS, Failed, Finished, Started, generate
from siamese.interface.output import NOTICE, provenance, servable, write_png
from siamese.interface.page import picture
from siamese.interface.worker import ModelUnavailableError, ModelWorker, Request, Step
from siamese.prompts import LESION, POLYP
from tests.studio_model import model_folder

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    worker = ModelWorker(str(model_folder(tmp_path_factory.mktemp("model"))))
    worker.info()
    yield worker
    worker.close()


def drawn(seed: int = 3, side: int = 64) -> dict:
    return editor_value(example_mask(seed, side))


def last(events):
    return list(events)[-1]


class TestMask:
    @pytest.mark.parametrize("alpha, lesion", [(0, 0), (127, 0), (128, 255), (255, 255)])
    def test_threshold_on_the_layers_opacity(self, alpha, lesion):
        layer = np.zeros((4, 5, 4), np.uint8)
        layer[0, 0] = 255
        layer[2, 3] = [0, 0, 0, alpha]  # black paint counts as any other
        mask = read_mask({"background": None, "layers": [layer], "composite": None})
        assert mask.shape == (4, 5) and mask.dtype == np.uint8
        assert mask[2, 3] == lesion and mask.sum() == 255 + lesion

    @pytest.mark.parametrize("shape", [(1, 1), (37, 91), (512, 512)])
    def test_round_trip_is_exact(self, shape):
        mask = (np.random.default_rng(0).random(shape) < 0.5).astype(np.uint8) * 255
        mask[0, 0] = 255
        np.testing.assert_array_equal(read_mask(editor_value(mask)), mask)

    def test_round_trip_through_the_editors_files_is_exact(self):
        editor = lesion_canvas(example_mask(1, SIDE))
        mask = (np.random.default_rng(1).random((SIDE, SIDE)) < 0.5).astype(np.uint8) * 255
        np.testing.assert_array_equal(read_mask(editor.preprocess(editor.postprocess(editor_value(mask)))), mask)

    def test_background_and_composite_do_not_count(self):
        white = np.full((8, 8, 4), 255, np.uint8)
        with pytest.raises(EmptyMaskError, match="Draw a lesion first"):
            read_mask({"background": white, "layers": [np.zeros_like(white)], "composite": white})

    @pytest.mark.parametrize("value", [None, {}, {"layers": []}, {"layers": None}])
    def test_nothing_drawn(self, value):
        with pytest.raises(EmptyMaskError):
            read_mask(value)

    def test_layer_without_opacity_is_refused(self):
        with pytest.raises(ValueError, match=r"\[H, W, 4\]"):
            read_mask({"layers": [np.zeros((8, 8, 3), np.uint8)]})

    def test_examples_are_one_region_off_the_border(self):
        for mask in (example_mask(seed, 128) for seed in range(200)):
            assert set(np.unique(mask)) == {0, 255}
            assert cv2.connectedComponents(mask)[0] == 2
            assert not mask[[0, -1]].any() and not mask[:, [0, -1]].any()


class TestGenerate:
    def test_events_and_image(self, worker):
        started, *steps, finished = generate(worker, drawn(), LESION, 11, False, 3, 1.5)
        assert started == Started(11)
        assert steps == [Step(i, 3) for i in range(4)]
        result = finished.generated
        size = result.image.shape[0]
        assert result.image.shape == (size, size, 3) and result.image.dtype == np.uint8
        assert result.mask.shape == (size, size) and set(np.unique(result.mask)) == {0, 255}
        assert (result.prompt, result.seed, result.steps, result.guidance) == (LESION, 11, 3, 1.5)

    def test_seed_decides_the_image(self, worker):
        first, again, other = (last(generate(worker, drawn(), POLYP, s, False, 2, None)).generated.image for s in (5, 5, 6))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()

    def test_random_seeds_differ_and_are_reported(self, worker):
        seeds = set()
        for _ in range(2):
            started, *_, finished = generate(worker, drawn(), POLYP, None, True, 1, None)
            assert started.seed == finished.generated.seed
            seeds.add(started.seed)
        assert len(seeds) == 2

    def test_empty_fields_mean_the_models_defaults(self, worker):
        info = worker.info()
        result = last(generate(worker, drawn(), POLYP, 0, False, None, None)).generated
        assert (result.steps, result.guidance) == (info.steps, info.guidance)

    @pytest.mark.parametrize("changed, message", [
        (dict(canvas=None), "Draw a lesion first"),
        (dict(seed=None), "seed must be a whole number"),
        (dict(seed=-1), "seed must be a whole number"),
        (dict(seed=2**32), "seed must be a whole number"),
        (dict(seed=float("nan")), "seed must be a whole number"),
        (dict(steps=float("inf")), "Steps must be"),
        (dict(steps=0), "Steps must be"),
        (dict(steps=MAX_STEPS + 1), "Steps must be"),
        (dict(guidance=0.5), "Guidance must be"),
        (dict(guidance=float("nan")), "Guidance must be"),
        (dict(prompt="a photo of a cat"), "Unknown prompt"),
    ])
    def test_bad_input_is_one_clear_message_and_the_next_request_works(self, worker, changed, message):
        inputs = dict(canvas=drawn(), prompt=POLYP, seed=0, random_seed=False, steps=1, guidance=1)
        failed = last(generate(worker, **(inputs | changed)))
        assert isinstance(failed, Failed) and message in failed.message
        assert isinstance(last(generate(worker, **inputs)), Finished)

    def test_lesion_that_vanishes_at_the_models_size(self, worker):
        mask = np.zeros((4096, 4096), np.uint8)
        mask[0, 0] = 255
        assert "draw a larger lesion" in last(generate(worker, editor_value(mask), POLYP, 0, False, 1, 1)).message

    def test_unexpected_errors_are_logged_not_shown(self, caplog):
        class Broken:
            def sample(self, request):
                raise KeyError("secret detail")
        failed = last(generate(Broken(), drawn(), POLYP, 0, False, 1, 1))
        assert isinstance(failed, Failed) and "secret" not in failed.message
        assert "secret detail" in caplog.text

    def test_closing_the_iterator_stops_sampling(self, worker):
        forwards = []
        hook = worker._model.checkpoint.unet.conv_out.register_forward_hook(lambda *_: forwards.append(1))
        try:
            events = worker.sample(Request(example_mask(0, 64), POLYP, 0, steps=100, guidance=1))
            assert next(events) == Step(0, 100) and next(events) == Step(1, 100)
            events.close()
            list(worker.sample(Request(example_mask(0, 64), POLYP, 0, steps=1, guidance=1)))  # after the stopped one, in the same thread
        finally:
            hook.remove()
        assert len(forwards) < 20


class TestModelFolder:
    def test_missing_model_says_what_to_do_and_a_repaired_one_works(self, worker, tmp_path):
        folder = tmp_path / "model"
        late = ModelWorker(str(folder))
        try:
            with pytest.raises(ModelUnavailableError, match="--model"):
                late.info()
            failed = last(generate(late, drawn(), POLYP, 0, False, 1, 1))
            assert "no such folder" in failed.message and "--model" in failed.message
            folder.symlink_to(worker.source)
            assert isinstance(last(generate(late, drawn(), POLYP, 0, False, 1, 1)), Finished)
        finally:
            late.close()

    def test_damaged_weights(self, worker, tmp_path):
        folder = shutil.copytree(worker.source, tmp_path / "model")
        weights = next((folder / "unet").glob("*.safetensors"))
        weights.write_bytes(weights.read_bytes()[:1000])
        damaged = ModelWorker(str(folder))
        try:
            assert "could not be loaded" in last(generate(damaged, drawn(), POLYP, 0, False, 1, 1)).message
        finally:
            damaged.close()


class TestOutput:
    @pytest.fixture(scope="class")
    def generated(self, worker):
        return last(generate(worker, drawn(), POLYP, 42, False, 1, 1)).generated

    def test_png_says_that_it_is_synthetic_and_how_it_was_made(self, generated, tmp_path):
        path = write_png(generated, tmp_path)
        with Image.open(path) as image:
            text = image.text
            np.testing.assert_array_equal(np.asarray(image), generated.image)
        assert text["Synthetic"] == "true" and text["Disclaimer"] == NOTICE
        assert (text["Prompt"], text["Seed"], text["Model"], text["Version"]) == (POLYP, "42", generated.model, VERSION)
        assert "42" in path.name and "synthetic" in path.name

    def test_shown_image_carries_the_same(self, generated):
        assert picture(generated, True).info.items() >= provenance(generated).items()

    def test_the_same_pixels_are_never_served_from_one_file(self):
        editor, value = lesion_canvas(example_mask(1, SIDE)), np.zeros((4, 4, 4), np.uint8)
        paths = [editor.postprocess({"background": None, "layers": [servable(value)], "composite": None}).layers[0].path for _ in range(2)]
        assert paths[0] != paths[1]

    def test_outline_is_only_on_the_contour(self, generated):
        changed = (np.asarray(picture(generated, True)) != generated.image).any(axis=2)
        assert changed.any() and not changed[0, 0]
        np.testing.assert_array_equal(np.asarray(picture(generated, False)), generated.image)
        assert picture(None, True) is None

    def test_status_escapes(self):
        assert "<b>" not in status.status("error", "<b>") and "<b>" not in status.model_line(None, "<b>")


def test_serving_the_page_imports_neither_torch_nor_diffusers():
    code = "import sys, app; from siamese.interface.page import build_page; from siamese.interface.worker import ModelWorker;" \
           "build_page(ModelWorker('nowhere')); print({'torch', 'diffusers', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_options():
    assert tyro.cli(Options, args=[]) == Options(model=str(EMBEDDED_MODEL), host="127.0.0.1", port=7860, share=False)
    assert tyro.cli(Options, args=["--model", "x", "--port", "1"]).model == "x"


def test_first_visit_shows_an_example():
    assert lesion_canvas(example_mask(FIRST_VISIT, SIDE)).value is not None
