"""Uploads that cannot be used: too large, damaged, not an image; each is refused with a sentence."""

from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from PIL import Image

from siamese.files.decoding import (
    MAX_FILE_BYTES,
    MAX_SIDE,
    DecodingError,
    to_rgba,
)
from siamese.records.uploads import UploadError, read_photo, read_upload
from tests.records.upload_files import (
    ORIENTATION,
    PHOTO,
    REFUSALS,
    png,
    read_mask,
    write,
    write_bytes,
)


def test_too_large_files(tmp_path):
    path = tmp_path / "upload"
    with open(path, "wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(UploadError, match="larger than 20 MB"):
        read_upload(path)


@pytest.mark.parametrize(("width", "height"), [(MAX_SIDE + 1, 2), (2, MAX_SIDE + 1)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "BMP", "WEBP"])
def test_too_many_pixels(tmp_path, kind, width, height):
    path = write(tmp_path, Image.new("RGB", (width, height)), kind)
    for read in (read_upload, read_photo, read_mask):
        with pytest.raises(REFUSALS, match=f"{width} x {height} pixels.*at most 4096"):
            read(path)


def test_largest_side_is_allowed(tmp_path):
    assert read_photo(write(tmp_path, Image.new("RGB", (MAX_SIDE, 2)))).shape == (2, MAX_SIDE, 3)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [5000, 12_000, 60_000, 2**31 - 1])
def test_decompression_bombs(tmp_path, side):
    data = png(side, side, 2, 8, b"\0" * 10_000)
    with pytest.raises(UploadError, match=r"at most 4096|not an image"):
        read_upload(write_bytes(tmp_path, data))


def test_frame_larger_than_its_gif(tmp_path):
    data = bytearray(write(tmp_path, Image.new("P", (8, 8)), "GIF").read_bytes())
    start = data.index(b"\x2c\0\0\0\0")
    data[start + 5 : start + 9] = struct.pack("<HH", 60_000, 60_000)
    with pytest.raises(UploadError):
        read_upload(write_bytes(tmp_path, bytes(data)))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_truncated_files(tmp_path, kind):
    data = write(tmp_path, PHOTO, kind).read_bytes()
    for share in (0.02, 0.3, 0.6, 0.9):
        path = write_bytes(tmp_path, data[: int(len(data) * share)])
        for read in (read_upload, read_photo, read_mask):
            with pytest.raises(REFUSALS, match=r"damaged|not an image"):
                read(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP"])
def test_damaged_files_raise_nothing_else(tmp_path, kind):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    options = {} if kind in ("GIF", "BMP") else {"exif": exif}
    data = write(tmp_path, PHOTO[:24, :32], kind, **options).read_bytes()
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(150):
        damaged = bytearray(data)
        for place in rng.integers(0, min(len(data), 400), rng.integers(1, 8)):  # decoders break in headers
            damaged[place] = rng.integers(256)
        try:
            outcomes.add(read_upload(write_bytes(tmp_path, bytes(damaged))).kind)
        except UploadError as error:
            outcomes.add("error")
            assert "/" not in str(error)
            assert "0x" not in str(error)
            assert str(error).endswith(".")
    assert "error" in outcomes


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"%PDF-1.7\n",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        b"P6 1 1 255\n\0\0\0",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff",
    ],
    ids=lambda d: d[:8].hex(),
)
def test_files_that_are_no_image(tmp_path, data):
    path = write_bytes(tmp_path, data)
    for read in (read_upload, read_photo, read_mask):
        with pytest.raises(REFUSALS, match="Use a PNG, JPEG"):
            read(path)


@pytest.mark.parametrize("kind", ["PPM", "ICO", "TGA", "PCX", "PDF", "EPS", "DDS", "JPEG2000", "SGI"])
def test_other_formats_are_not_opened(tmp_path, kind):
    with pytest.raises(UploadError, match="not an image that can be read"):
        read_upload(write(tmp_path, PHOTO, kind))


def test_missing_empty_and_odd_files(tmp_path):
    with pytest.raises(UploadError, match="no longer there"):
        read_upload(tmp_path / "missing")
    with pytest.raises(UploadError, match="no longer there"):
        read_upload(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UploadError, match="no longer there"):  # and does not wait for it
        read_upload(tmp_path / "pipe")
    with pytest.raises(UploadError, match="empty"):
        read_upload(write_bytes(tmp_path, b""))


def test_lab_is_converted_and_what_pillow_cannot_convert_is_refused(tmp_path):
    photo = read_photo(write(tmp_path, Image.new("LAB", (8, 8), (90, 100, 150)), "TIFF"))
    assert photo.shape == (8, 8, 3)
    assert photo[0, 0, 1] > photo[0, 0, 0]
    with pytest.raises(DecodingError, match="RGB PNG or JPEG"):
        to_rgba(Image.new("La", (8, 8)))


def test_upload_error_is_a_value_error():
    assert issubclass(UploadError, ValueError)
