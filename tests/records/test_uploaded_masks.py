"""Uploaded masks: values, palettes, transparency, soft edges, and what is not a mask."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from siamese.masks.reading import NotAMaskError, find_mask
from siamese.records.uploads import UploadError, read_photo, read_upload
from tests.phantoms import phantom
from tests.records.upload_files import (
    GREY,
    MASK,
    PHOTO,
    REFUSALS,
    assert_mask,
    assert_photo,
    picture,
    read_mask,
    write,
)


@pytest.mark.parametrize(
    ("kind", "mode", "share"),
    [
        ("PNG", "1", 0),
        ("PNG", "L", 0),
        ("PNG", "RGB", 0),
        ("PNG", "P", 0),
        ("GIF", "L", 0),
        ("BMP", "1", 0),
        ("TIFF", "1", 0),
        ("WEBP", "RGB", 0.01),
        ("JPEG", "L", 0.005),
        ("JPEG", "RGB", 0.005),
    ],
)
def test_masks(tmp_path, kind, mode, share):
    assert_mask(write(tmp_path, Image.fromarray(MASK).convert(mode), kind), MASK, share)


@pytest.mark.parametrize("quality", [30, 60, 90])
def test_mask_as_jpeg_with_soft_edges(tmp_path, quality):
    large = phantom(4, 400, 500)[1]
    soft = cv2.GaussianBlur(large, (0, 0), 1.5)
    assert_mask(write(tmp_path, soft, "JPEG", quality=quality), large, 0.005)


def test_mask_enlarged_with_soft_edges(tmp_path):
    enlarged = Image.fromarray(MASK).resize((512, 384), Image.Resampling.BILINEAR)
    assert_mask(write(tmp_path, enlarged), np.where(np.array(enlarged) > 127, 255, 0))


def test_mask_threshold(tmp_path):
    grey = np.zeros((40, 40), np.uint8)
    grey[10:30, 10:30] = 255
    grey[10, 10:30], grey[29, 10:30] = 127, 128
    expected = np.where(grey > 127, 255, 0)
    assert_mask(write(tmp_path, grey), expected)


@pytest.mark.parametrize(
    ("background", "lesion"),
    [
        ((0, 0, 0), (128, 0, 0)),
        ((0, 0, 0), (0, 0, 90)),
        ((68, 1, 84), (253, 231, 37)),
        ((0, 0, 0), (1, 1, 1)),
        ((0, 0, 0), (100, 100, 100)),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "P"])
def test_masks_of_two_colours(tmp_path, background, lesion, mode):
    image = Image.fromarray(np.where(MASK[..., None] > 0, np.uint8(lesion), np.uint8(background)))
    if mode == "P":
        image = image.quantize(4, dither=Image.Dither.NONE)
    assert_mask(write(tmp_path, image), MASK)


def test_label_map_of_zero_and_one(tmp_path):
    assert_mask(write(tmp_path, MASK // 255), MASK)
    assert_mask(write(tmp_path, (MASK // 255).astype(np.uint16)), MASK)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (220, 30, 40)])
def test_transparency_is_the_mask(tmp_path, colour):
    rgba = np.dstack([np.full((*MASK.shape, 3), colour, np.uint8), MASK])
    assert_mask(write(tmp_path, rgba), MASK)
    rgba[..., 3] = soft = cv2.GaussianBlur(MASK, (0, 0), 1)  # a soft brush
    assert_mask(write(tmp_path, rgba), np.where(soft > 127, 255, 0))
    rgba[MASK == 0] = (9, 200, 9, 0)  # nobody sees that colour
    assert_mask(write(tmp_path, rgba), MASK)


def test_transparent_palette_mask(tmp_path):
    image = Image.fromarray(MASK // 255, "P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    assert_mask(write(tmp_path, image, transparency=0), MASK)


def test_transparency_round_black_and_white(tmp_path):
    rgba = np.dstack([MASK, MASK, MASK, np.full(MASK.shape, 255, np.uint8)])
    assert_mask(write(tmp_path, rgba), MASK)
    rgba[:10] = 0
    expected = MASK.copy()
    expected[:10] = 0
    assert_mask(write(tmp_path, rgba), expected)


def test_smallest_and_full_masks(tmp_path):
    dot = np.zeros((100, 120), np.uint8)
    dot[50, 60] = 255
    assert_mask(write(tmp_path, dot), dot)
    assert_mask(write(tmp_path, np.full((1, 1), 255, np.uint8)), np.full((1, 1), 255))
    full = np.full((30, 40), 255, np.uint8)
    assert_mask(write(tmp_path, full), full)
    assert_mask(write(tmp_path, Image.fromarray(full).convert("1")), full)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 30), np.uint8),
        np.zeros((20, 30, 3), np.uint8),
        np.zeros((20, 30), bool),
        np.zeros((20, 30), np.uint16),
        np.zeros((20, 30, 4), np.uint8),
        np.full((20, 30), 3, np.uint8),
    ],
    ids=str,
)
def test_empty_masks(tmp_path, image):
    path = write(tmp_path, image)
    for read in (read_upload, read_mask):
        with pytest.raises(REFUSALS, match="mask is empty"):
            read(path)
    assert read_photo(path).shape == (20, 30, 3)


def ultrasound() -> np.ndarray:
    """Mostly black, a little white, a fan of greys between."""
    image = np.zeros((200, 200), np.uint8)
    image[90:110, 20:180] = np.random.default_rng(0).integers(40, 200, (20, 160))
    image[100, 90:110] = 255
    return image


@pytest.mark.parametrize(
    "image",
    [
        ultrasound(),
        np.tile(np.arange(256, dtype=np.uint8), (64, 1)),
        np.full((30, 30), 128, np.uint8),
        np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8),
        GREY // 5,
        GREY // 8 + 224,
        np.full((20, 20, 3), (255, 0, 0), np.uint8),
        np.where(MASK[..., None] > 0, PHOTO, 0),
    ],
    ids=["ultrasound", "ramp", "constant", "noise", "dark", "light", "red", "cut out"],
)
def test_what_is_not_a_mask(tmp_path, image):
    expected = image if image.ndim == 3 else np.repeat(image[..., None], 3, 2)
    assert_photo(write(tmp_path, image), expected)


def test_label_maps_are_refused_and_not_taken_for_photographs(tmp_path):
    tones = np.where(MASK == 255, 255, np.where(np.arange(128) > 64, 128, 0)).astype(np.uint8)
    with pytest.raises(UploadError, match=r"3 values \(0, 128, 255\)"):
        read_upload(write(tmp_path, tones))
    assert read_photo(tmp_path / "upload").shape == (96, 128, 3)


def test_phantoms_are_photographs():
    for seed in range(20):
        image, mask = phantom(seed)
        for shown in (Image.fromarray(image), Image.fromarray(image).convert("L")):
            with pytest.raises(NotAMaskError):
                find_mask(picture(shown))
        np.testing.assert_array_equal(find_mask(picture(Image.fromarray(mask))), mask)
