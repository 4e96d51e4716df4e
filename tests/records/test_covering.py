"""Covered text is gone, and nothing else of the photograph has changed."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from siamese.records.burned_in_text import Box, find_text
from siamese.records.covering import cover


def test_boxes_and_their_margin_are_black_and_the_rest_is_untouched():
    photo = np.random.default_rng(0).integers(1, 256, (100, 200, 3), np.uint8)
    before = photo.copy()
    covered = cover(photo, [Box(0.1, 0.2, 0.3, 0.6)])
    expected = photo.copy()
    expected[20 - 6 : 60 + 6, 20 - 6 : 60 + 6] = 0  # 0.15 of 40 pixels
    np.testing.assert_array_equal(covered, expected)
    np.testing.assert_array_equal(photo, before)


def test_the_least_margin_grows_with_the_image():
    covered = cover(np.full((1600, 3200, 3), 9, np.uint8), [Box(0.5, 0.5, 0.5, 0.5)])
    y, x = np.nonzero(covered[..., 0] == 0)
    assert (y.min(), y.max() + 1, x.min(), x.max() + 1) == (792, 808, 1592, 1608)


@pytest.mark.parametrize("box", [(0.9, 0.9, 2.0, 5.0), (2.0, 5.0, 0.9, 0.9)])
def test_sides_in_any_order_and_beyond_the_image(box):
    covered = cover(np.full((10, 10, 3), 9, np.uint8), [Box(*box)])
    assert not covered[9:, 9:].any()
    assert (covered[:5] == 9).all()
    assert (cover(covered, []) == covered).all()
    assert (cover(covered, [Box(-5, -5, -4, -4)]) == covered).all()


def test_what_cannot_be_covered_is_refused():
    with pytest.raises(ValueError, match=r"\[H, W, 3\]"):
        cover(np.zeros((5, 5), np.uint8), [])
    with pytest.raises(ValueError, match="finite"):
        cover(np.zeros((5, 5, 3), np.uint8), [Box(0, 0, float("nan"), 1)])


@pytest.mark.slow
def test_no_text_is_found_any_more():
    picture = Image.new("RGB", (480, 360), (150, 90, 80))
    ImageDraw.Draw(picture).text(
        (20, 20), "DOE JANE 12-03-1961", font=ImageFont.load_default(24), fill="white"
    )
    photo = np.array(picture)
    boxes = find_text(photo)
    assert boxes
    assert find_text(cover(photo, boxes)) == ()
