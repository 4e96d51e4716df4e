"""Uploaded files: every format and mode that cameras and tools write, and everything that is wrong with files."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese.files.decoding import (
    MAX_FILE_BYTES,
    MAX_SIDE,
    VISITOR,
    DecodingError,
    Picture,
    to_rgba,
)
from siamese.masks import reading
from siamese.masks.reading import MaskFileError, NotAMaskError, find_mask
from siamese.records.provenance import Recipe, SyntheticPair, pair_png
from siamese.records.sampling_settings import SamplingSettings
from siamese.records.uploads import UploadError, read_photo, read_upload
from tests.phantoms import phantom

PHOTO, MASK = phantom(1, 96, 128)
GREY = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)
ORIENTATION = 0x0112


REFUSALS = (UploadError, DecodingError)


def read_mask(path: Path) -> np.ndarray:
    """As the page reads a mask."""
    return reading.read_mask(path, VISITOR)


def write(folder: Path, image: Image.Image | np.ndarray, kind: str = "PNG", **options: object) -> Path:
    path = folder / "upload"  # no ending: the content decides
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(path, kind, **options)
    return path


def write_bytes(folder: Path, data: bytes) -> Path:
    path = folder / "upload"
    path.write_bytes(data)
    return path


def png(width: int, height: int, colour: int, bits: int, rows: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    """A PNG of unfiltered rows, for what Pillow does not write."""
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        *extra,
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts
    )


def assert_photo(path: Path, expected: np.ndarray, within: float = 0) -> None:
    """Read as a photograph by both ways, ``within`` of ``expected`` on average."""
    upload = read_upload(path)
    assert upload.kind == "photo"
    assert upload.pair is None
    assert upload.mask is None
    for photo in (upload.photo, read_photo(path)):
        assert photo.dtype == np.uint8
        assert photo.shape == expected.shape
        assert np.abs(photo.astype(int) - expected).mean() <= within
    with pytest.raises(NotAMaskError, match="not a mask"):
        read_mask(path)


def assert_mask(path: Path, expected: np.ndarray, share: float = 0) -> None:
    """Read as a mask by both ways; at most ``share`` of the pixels differ."""
    upload = read_upload(path)
    assert upload.kind == "mask"
    assert upload.pair is None
    assert upload.photo is None
    for mask in (upload.mask, read_mask(path)):
        assert mask.dtype == np.uint8
        assert mask.shape == expected.shape
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask != expected).mean() <= share


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


def picture(image: Image.Image) -> Picture:
    return Picture(image, values=None, format="PNG", info={}, is_lossy=False)


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
        b"\0" * 128 + b"DICM" + b"\0" * 64,
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
