"""Uploaded photographs: every format and mode that cameras and tools write; and the images of this studio."""

from __future__ import annotations

import struct

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese.masks.reading import MaskFileError
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.records.uploads import UploadError, read_photo, read_upload
from tests.phantoms import phantom
from tests.records.upload_files import (
    GREY,
    MASK,
    ORIENTATION,
    PHOTO,
    REFUSALS,
    assert_mask,
    assert_photo,
    png,
    read_mask,
    write,
    write_bytes,
)


@pytest.mark.parametrize(
    ("kind", "options", "within"),
    [
        ("PNG", {}, 0),
        ("BMP", {}, 0),
        ("TIFF", {}, 0),
        ("TIFF", {"compression": "tiff_lzw"}, 0),
        ("WEBP", {"lossless": True}, 0),
        ("WEBP", {}, 6),
        ("JPEG", {"quality": 95}, 4),
        ("JPEG", {"progressive": True}, 6),
        ("GIF", {}, 8),
        ("MPO", {"quality": 95, "save_all": True}, 4),
    ],
)
def test_photographs(tmp_path, kind, options, within):
    assert_photo(write(tmp_path, PHOTO, kind, **options), PHOTO, within)


def test_grey_photograph(tmp_path):
    for kind in ("PNG", "JPEG", "TIFF"):
        assert_photo(write(tmp_path, GREY, kind), np.repeat(GREY[..., None], 3, 2), 4)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("image", [PHOTO, MASK])
def test_several_pictures_are_refused(tmp_path, kind, image):
    path = write(tmp_path, image, kind, save_all=True, append_images=[Image.fromarray(255 - image)] * 2)
    for read in (read_upload, read_photo, read_mask):
        with pytest.raises(REFUSALS, match="several pictures"):
            read(path)


def test_reduced_pages_of_a_tiff_are_previews(tmp_path):
    preview = Image.fromarray(PHOTO[::2, ::2])
    preview.encoderinfo = {"tiffinfo": {254: 1}}
    assert_photo(write(tmp_path, PHOTO, "TIFF", save_all=True, append_images=[preview]), PHOTO)


def without_adobe(jpeg: bytes) -> bytes:
    """A JPEG without its APP14 segment."""
    start = jpeg.index(b"\xff\xee")
    (length,) = struct.unpack(">H", jpeg[start + 2 : start + 4])
    assert jpeg[start + 4 : start + 9] == b"Adobe"
    return jpeg[:start] + jpeg[start + 2 + length :]


def test_cmyk(tmp_path):
    cmyk = Image.fromarray(PHOTO).convert("CMYK")
    marked = write(
        tmp_path, cmyk, "JPEG", quality=95
    ).read_bytes()  # Pillow writes as Adobe does: inverted, with the marker
    assert_photo(tmp_path / "upload", PHOTO, 4)
    inverted = Image.merge("CMYK", [band.point(lambda v: 255 - v) for band in cmyk.split()])
    plain = without_adobe(
        write(tmp_path, inverted, "JPEG", quality=95).read_bytes()
    )  # inverted twice: as the values are
    assert_photo(write_bytes(tmp_path, plain), PHOTO, 4)
    unmarked = read_photo(
        write_bytes(tmp_path, without_adobe(marked))
    )  # not taken for inverted: as browsers do
    assert unmarked.mean() < 20
    assert_photo(write(tmp_path, cmyk, "TIFF"), PHOTO, 1)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize("full", [4095, 65535])
def test_grey_of_more_than_eight_bits_is_scaled(tmp_path, kind, full):
    values = np.rint(GREY.astype(float) / GREY.max() * full).astype(np.uint16)
    expected = np.rint(GREY.astype(float) / GREY.max() * 255)
    assert_photo(write(tmp_path, values, kind), np.repeat(expected[..., None], 3, 2), 0.5)


def test_eight_bit_values_in_sixteen_bits(tmp_path):
    assert_photo(write(tmp_path, GREY.astype(np.uint16)), np.repeat(GREY[..., None], 3, 2))
    assert_mask(write(tmp_path, MASK.astype(np.uint16)), MASK)


def test_sixteen_bit_colour(tmp_path):
    deep = PHOTO.astype(np.uint16) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in deep)
    assert_photo(write_bytes(tmp_path, png(128, 96, 2, 16, rows)), PHOTO, 1)
    _, data = cv2.imencode(".tiff", deep[..., ::-1])
    assert_photo(write_bytes(tmp_path, data.tobytes()), PHOTO, 1)
    transparent = np.dstack([deep, np.full(deep.shape[:2], 65535, np.uint16)])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in transparent)
    assert_photo(write_bytes(tmp_path, png(128, 96, 6, 16, rows)), PHOTO, 1)


def test_wide_and_floating_point_tiff(tmp_path):
    expected = np.repeat(GREY[..., None], 3, 2)
    assert_photo(write(tmp_path, GREY.astype(np.int32) * 257, "TIFF"), expected, 0.5)
    assert_photo(write(tmp_path, (GREY / 255).astype(np.float32), "TIFF"), expected, 0.5)
    assert_photo(write(tmp_path, GREY.astype(np.float32), "TIFF"), expected, 0.5)
    for wrong in (
        GREY.astype(np.int32) - 300,
        GREY.astype(np.int32) * 1000,
        np.full((4, 4), np.nan, np.float32),
    ):
        with pytest.raises(UploadError, match=r"measurements"):
            read_upload(write(tmp_path, wrong, "TIFF"))


def test_tiff_with_white_as_zero(tmp_path):
    expected = np.repeat(255 - GREY[..., None], 3, 2)
    values = GREY.astype(np.uint16) * 257
    assert_photo(write(tmp_path, values, "TIFF", tiffinfo={262: 0}), expected, 0.5)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (6, lambda a: np.rot90(a, -1)),
        (8, np.rot90),
        (5, lambda a: a.transpose(1, 0, 2)),
    ],
)
def test_exif_rotation(tmp_path, kind, orientation, upright):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    assert_photo(write(tmp_path, PHOTO, kind, exif=exif, quality=95), upright(PHOTO), 5)


def test_exif_rotation_of_a_mask_and_of_sixteen_bits(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    assert_mask(write(tmp_path, MASK, exif=exif), np.rot90(MASK, -1))
    assert_mask(write(tmp_path, MASK.astype(np.uint16) * 257, exif=exif), np.rot90(MASK, -1))


def test_transparent_photographs_lie_on_black(tmp_path):
    rgba = np.dstack([PHOTO, np.full(GREY.shape, 255, np.uint8)])
    rgba[:20, :, 3], rgba[20:30, :, 3] = 0, 128
    expected = PHOTO.astype(float)
    expected[:20] = 0
    expected[20:30] = PHOTO[20:30] * (128 / 255)
    for kind in ("PNG", "TIFF"):
        assert_photo(write(tmp_path, rgba, kind), expected, 1)
    palette = Image.fromarray(PHOTO).quantize(64)
    palette.info["transparency"] = index = palette.getpixel((5, 5))
    expected = np.array(palette.convert("RGB"))
    expected[np.array(palette) == index] = 0
    assert_photo(write(tmp_path, palette, transparency=index), expected)
    grey_alpha = np.dstack([GREY, rgba[..., 3]])
    photo = read_photo(write(tmp_path, Image.fromarray(grey_alpha, "LA")))
    assert (photo[:20] == 0).all()
    assert np.array_equal(photo[30:, :, 0], GREY[30:])


def make_pair() -> SyntheticPair:
    image, mask = phantom(5, 64, 64)
    return SyntheticPair(
        image, mask, mask, Recipe("an image of polyp", 1, SamplingSettings(20, 7.5, "ddim"), "kvasir")
    )


def test_pair_of_this_studio(tmp_path):
    pair = make_pair()
    path = write_bytes(tmp_path, pair_png(pair))
    upload = read_upload(path)
    assert upload.kind == "pair"
    assert upload.pair.recipe == pair.recipe
    assert upload.mask is None
    assert upload.photo is None
    np.testing.assert_array_equal(upload.pair.image, pair.image)
    with pytest.raises(MaskFileError):  # like every other image in a mask's place
        read_mask(path)
    np.testing.assert_array_equal(read_photo(path), pair.image)


def test_synthetic_image_without_its_recipe_is_not_a_photograph(tmp_path):
    text = PngInfo()
    text.add_itxt("Synthetic", "true")
    path = write(tmp_path, PHOTO, pnginfo=text)
    with pytest.raises(UploadError, match="synthetic image of this studio"):
        read_upload(path)
