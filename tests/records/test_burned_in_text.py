"""Burned-in text: found on phantoms, not in clean photographs, at any size and from several threads."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from siamese.records.burned_in_text import MAX_LINES, MAX_SIDE, Box, find_text
from tests.overlays import overlay
from tests.phantoms import phantom

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
OVERLAYS = int(os.environ.get("SIAMESE_OVERLAYS", 20))
"""How many phantoms with text are looked at; 200 for the figure in the closing note."""
FRAMES = int(os.environ.get("SIAMESE_FRAMES", 20))
"""How many real frames of each data set."""
CLEAN = {"isic2018": 0.05, "cvc-clinicdb": 0.05}
"""Largest share of frames with text in data sets whose frames have none. Most of Kvasir-SEG's have a date and a name's field."""


def meets(box: Box, text: tuple[float, float, float, float]) -> bool:
    """Whether the middle of ``box`` lies in the rectangle of ``text``, a little widened."""
    x, y = (box.left + box.right) / 2, (box.top + box.bottom) / 2
    return text[0] - 0.02 <= x <= text[2] + 0.02 and text[1] - 0.02 <= y <= text[3] + 0.02


@pytest.mark.slow
def test_text_on_phantoms_is_found():
    missed, astray = [], []
    for seed in range(OVERLAYS):
        image, text = overlay(seed)
        boxes = find_text(image)
        if not any(meets(box, text) for box in boxes):
            missed.append(seed)
        astray += [seed for box in boxes if not meets(box, text)]
    assert len(missed) <= 0.05 * OVERLAYS, missed
    assert len(astray) <= 0.05 * OVERLAYS, astray


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(48, 64), (256, 256), (300, 512)])
def test_a_lesion_is_not_a_letter(height, width):
    flagged = [seed for seed in range(2000, 2006) if find_text(phantom(seed, height, width)[0])]
    assert not flagged


@pytest.mark.slow
@pytest.mark.parametrize("data", CLEAN)
def test_clean_real_frames_are_seldom_flagged(data):
    """On training frames only, like the choice of the thresholds."""
    folder = DATA / data
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}")
    names = random.Random(1).sample((folder / "train.txt").read_text().split(), FRAMES)
    flagged = [
        name
        for name in names
        if find_text(np.array(Image.open(folder / "images" / f"{name}.jpg").convert("RGB")))
    ]
    assert len(flagged) <= CLEAN[data] * FRAMES, flagged


@pytest.mark.slow
def test_real_overlays_are_found():
    """Frames whose burned-in text a person has seen."""
    folder = DATA / "kvasir-seg" / "images"
    if not folder.is_dir():
        pytest.skip(f"no real images at {folder}")
    for name in ("cju330ofbc2l30801th5g3hw6", "cju773hsyyosz0817pk1e7sjq", "cju3uwz6ogsp10801h2r3bj5l"):
        assert find_text(np.array(Image.open(folder / f"{name}.jpg").convert("RGB"))), name


@pytest.mark.slow
def test_large_image_is_reduced_and_keeps_its_places():
    small, text = overlay(3)
    factor = 4096 // max(small.shape)
    large = np.array(
        Image.fromarray(small).resize(
            (small.shape[1] * factor, small.shape[0] * factor), Image.Resampling.BICUBIC
        )
    )
    boxes = find_text(large)
    assert max(large.shape) > 2 * MAX_SIDE
    assert boxes
    assert all(meets(box, text) for box in boxes)


@pytest.mark.slow
def test_a_page_of_text_is_not_read_whole():
    rows = [overlay(seed)[0][:60, :180] for seed in (1007, 1013)]
    assert (
        len(find_text(np.tile(np.vstack([np.resize(row, (60, 180, 3)) for row in rows]), (6, 4, 1))))
        <= MAX_LINES
    )


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 5, 3), (1, 500, 3), (500, 1, 3), (20, 300, 3)])
def test_any_size_can_be_looked_at(shape):
    assert find_text(np.zeros(shape, np.uint8)) == ()


@pytest.mark.parametrize(
    ("shape", "kind"),
    [((8, 8), np.uint8), ((8, 8, 4), np.uint8), ((8, 8, 3), np.float32), ((0, 8, 3), np.uint8)],
)
def test_other_arrays_are_refused(shape, kind):
    with pytest.raises(ValueError, match=r"uint8 \[H, W, 3\]"):
        find_text(np.zeros(shape, kind))


@pytest.mark.slow
def test_threads_get_their_own_answers():
    images = [overlay(1)[0], phantom(2001, 256, 256)[0]] * 3
    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(find_text, images))
    assert [bool(boxes) for boxes in found] == [True, False] * 3
    assert found[0] == found[2] == found[4]


@pytest.mark.slow
def test_detector_is_loaded_on_first_use_from_its_package_alone():
    code = (
        "import socket, sys\n"
        "import siamese.records.burned_in_text as overlay, numpy as np\n"
        "assert not {'rapidocr', 'onnxruntime', 'torch'} & set(sys.modules)\n"
        "def refuse(*_): raise AssertionError('the network was asked')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "overlay.find_text(np.zeros((64, 64, 3), np.uint8))\n"
        "assert 'rapidocr' in sys.modules and 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
