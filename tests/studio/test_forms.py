"""What is entered in the tabs, as the requests that follow from it."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from siamese.records.catalogue import ModelEntry
from siamese.records.prompts import POLYP
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend.messages import Loading, Waiting
from siamese.studio.storage.mask_zip import MAX_MASKS
from siamese.studio.tabs.batch import AT_RANDOM, FRAMES, FROM_ZIP
from siamese.studio.tabs.batch_events import BatchForm
from siamese.studio.tabs.generate import Failed, InputError, Started
from siamese.studio.tabs.generate_events import form_of, status_html
from siamese.studio.tabs.photo import Photo
from tests.phantoms import phantom

MODELS = {"tiny": ModelEntry("tiny", "nowhere")}
PIXELS = np.zeros((4, 4, 3), np.uint8)


def entered(**changed: Any) -> dict[str, Any]:
    return {
        "canvas": None,
        "prompt": POLYP,
        "variants": 2,
        "seed": 7,
        "random_seed": False,
        "defaults": False,
        "steps": 5,
        "guidance": 3.0,
        "scheduler": "ddim",
        "restored": SamplingSettings(9, 2.0, "dpm++"),
        "model": "tiny",
        "use_photo": False,
        "weight": 0.5,
        "photo": Photo(PIXELS, "photo", Path("nowhere")),
    } | changed


def test_settings_are_those_entered_or_the_models():
    form = form_of(entered())
    assert (form.num_inference_steps, form.guidance_scale, form.scheduler) == (5, 3.0, "ddim")
    assert form.restored == SamplingSettings(9, 2.0, "dpm++")
    form = form_of(entered(defaults=True))
    assert form.num_inference_steps is form.guidance_scale is form.scheduler is form.restored is None


def test_an_empty_seed_is_not_a_random_one():
    assert form_of(entered()).seed == 7
    assert form_of(entered(random_seed=True)).seed is None
    assert form_of(entered(seed=None)).seed == -1


def test_a_photo_is_the_reference_only_if_it_is_used():
    assert form_of(entered()).reference is None
    assert form_of(entered(use_photo=True)).reference is PIXELS
    assert form_of(entered(use_photo=True, photo=None)).reference is None


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        (Started(3), "busy", "Waiting for its turn"),
        (Waiting(2), "busy", "2 before you"),
        (Loading(), "busy", "Loading the model"),
        (Failed("A fault."), "error", "A fault."),
        (Failed("Cancelled.", cancelled=True), "idle", "Cancelled."),
    ],
)
def test_each_event_has_a_status_line(event, kind, words):
    assert f'class="status {kind}"' in status_html(event)
    assert words in status_html(event)


def batch(**changed: Any) -> BatchForm:
    values = {
        "source": AT_RANDOM,
        "file": None,
        "count": 3,
        "variations": 0,
        "prompt": POLYP,
        "seed": 2**32 - 2,
        "is_random": False,
        "model": "tiny",
    }
    return BatchForm(**values | changed)


def test_random_lesions_follow_from_the_seed():
    order, again = batch().order(MODELS), batch().order(MODELS)
    assert [mask.name for mask in order.masks] == ["random-001", "random-002", "random-003"]
    assert (order.seed, order.prompt, order.model) == (2**32 - 2, POLYP, "tiny")
    for one, other in zip(order.masks, again.masks, strict=True):
        np.testing.assert_array_equal(one.mask, other.mask)
    assert 0 <= batch(is_random=True).order(MODELS).seed < 2**31


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"source": FROM_ZIP}, "Choose a ZIP"),
        ({"source": FRAMES}, "Choose a ZIP"),
        ({"source": FROM_ZIP, "file": "masks.zip", "variations": 21}, "number of variations"),
        ({"count": MAX_MASKS + 1}, f"from 1 to {MAX_MASKS}"),
        ({"count": None}, "number of lesions"),
        ({"seed": -1}, "seed"),
    ],
)
def test_a_batch_with_wrong_values_is_refused(changed, message):
    with pytest.raises(InputError, match=message):
        batch(**changed).order(MODELS)


def test_photos_with_masks_and_variations(tmp_path):
    photo, mask = phantom(1, 40, 50)
    with zipfile.ZipFile(tmp_path / "frames.zip", "w") as archive:
        for folder, pixels in (("images", photo), ("masks", mask)):
            data = io.BytesIO()
            Image.fromarray(pixels).save(data, "PNG")
            archive.writestr(f"{folder}/a.png", data.getvalue())
    order = batch(source=FRAMES, file=str(tmp_path / "frames.zip"), variations=3).order(MODELS)
    assert [named.name for named in order.masks] == ["a-001", "a-002", "a-003"]
    assert all(named.frame is not None and named.mask.any() for named in order.masks)
    (plain,) = batch(source=FRAMES, file=str(tmp_path / "frames.zip")).order(MODELS).masks
    np.testing.assert_array_equal(plain.mask, mask)
