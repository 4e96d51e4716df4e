"""Every probe of a photograph through every caller: one answer, the same pixels or the same refusal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamese.files.decoding import LOCAL, VISITOR, DecodingError, full_scale, image_size, read_image
from siamese.records.uploads import UploadError, read_photo, read_upload
from siamese.study.storage import images as study_images
from siamese.study.storage.images import UnusableImageError, native_size
from tests.phantoms import phantom
from train.data.pairs import DataError, Pair, array_key, check_pairs, fingerprint, load_images

PHOTO, MASK = phantom(1, 96, 96)
GREY = cv2.cvtColor(PHOTO, cv2.COLOR_RGB2GRAY)
FROM_GREY = np.repeat(GREY[..., None], 3, 2)
CORNER = PHOTO.copy()
CORNER[:20, :20] = 0
OPACITY = np.full(GREY.shape, 255, np.uint8)
OPACITY[:20, :20] = 0


def saved(image: np.ndarray | Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(buffer, kind, **options)
    return buffer.getvalue()


def exif(orientation: int) -> Image.Exif:
    made = Image.Exif()
    made[0x0112] = orientation
    return made


def by_opencv(suffix: str, stored: np.ndarray) -> bytes:
    """For 16 bits of colour, which Pillow does not write."""
    return cv2.imencode(suffix, stored[..., [2, 1, 0, 3][: stored.shape[2]]])[1].tobytes()


def frames() -> dict[str, object]:
    """Options of a second picture; Pillow writes its own notes into the picture, so each file needs a new one."""
    return {"save_all": True, "append_images": [Image.fromarray(255 - PHOTO)]}


DEEP = PHOTO.astype(np.uint16)
HALF = np.ascontiguousarray(PHOTO[::-1, ::-1])

READ: dict[str, tuple[bytes, np.ndarray, float]] = {
    "PNG": (saved(PHOTO), PHOTO, 0),
    "BMP": (saved(PHOTO, "BMP"), PHOTO, 0),
    "TIFF": (saved(PHOTO, "TIFF", compression="tiff_lzw"), PHOTO, 0),
    "WebP": (saved(PHOTO, "WEBP", lossless=True), PHOTO, 0),
    "JPEG": (saved(PHOTO, "JPEG", quality=95), PHOTO, 4),
    "progressive JPEG": (saved(PHOTO, "JPEG", progressive=True), PHOTO, 6),
    "two-lens camera": (saved(PHOTO, "MPO", quality=95, **frames()), PHOTO, 4),
    "GIF": (saved(PHOTO, "GIF"), PHOTO, 8),
    "palette": (saved(Image.fromarray(PHOTO).quantize(256)), PHOTO, 8),
    "grey": (saved(GREY), FROM_GREY, 0),
    "grey JPEG": (saved(GREY, "JPEG", quality=95), FROM_GREY, 4),
    "CMYK JPEG": (saved(Image.fromarray(PHOTO).convert("CMYK"), "JPEG", quality=95), PHOTO, 4),
    "CMYK TIFF": (saved(Image.fromarray(PHOTO).convert("CMYK"), "TIFF"), PHOTO, 1),
    "16 bits of grey": (saved(GREY.astype(np.uint16) * 257), FROM_GREY, 0.5),
    "16 bits of grey in TIFF": (saved(GREY.astype(np.uint16) * 257, "TIFF"), FROM_GREY, 0.5),
    "12 bits of grey": (saved((GREY / 255 * 4095).round().astype(np.uint16)), FROM_GREY, 0.5),
    "8 bits of grey in 16": (saved(GREY.astype(np.uint16)), FROM_GREY, 0),
    "16 bits with white as zero": (
        saved(255 * 257 - GREY.astype(np.uint16) * 257, "TIFF", tiffinfo={262: 0}),
        FROM_GREY,
        0.5,
    ),
    "16 bits of colour": (by_opencv(".png", DEEP * 257), PHOTO, 0.5),
    "16 bits of colour in TIFF": (by_opencv(".tiff", DEEP * 257), PHOTO, 0.5),
    "8 bits of colour in 16": (by_opencv(".png", DEEP), PHOTO, 0),
    "12 bits of colour": (by_opencv(".tiff", (PHOTO / 255 * 4095).round().astype(np.uint16)), PHOTO, 0.5),
    "16 bits with opacity": (
        by_opencv(".png", np.dstack([DEEP * 257, OPACITY.astype(np.uint16) * 257])),
        CORNER,
        0.5,
    ),
    "32 bits": (saved(GREY.astype(np.int32) * 257, "TIFF"), FROM_GREY, 0.5),
    "floating point 0 to 1": (saved((GREY / 255).astype(np.float32), "TIFF"), FROM_GREY, 0.5),
    "floating point 0 to 255": (saved(GREY.astype(np.float32), "TIFF"), FROM_GREY, 0.5),
    "opacity": (saved(np.dstack([PHOTO, OPACITY])), CORNER, 0),
    "opacity in grey": (
        saved(Image.fromarray(np.dstack([GREY, OPACITY]), "LA")),
        np.repeat(np.where(OPACITY, GREY, 0)[..., None], 3, 2),
        0,
    ),
    "a mask": (saved(MASK), np.repeat(MASK[..., None], 3, 2), 0),
    "EXIF half turn": (saved(HALF, "JPEG", quality=95, exif=exif(3)), PHOTO, 4),
    "EXIF mirrored": (saved(np.ascontiguousarray(PHOTO[:, ::-1]), exif=exif(2)), PHOTO, 0),
    "EXIF quarter turn": (saved(np.rot90(PHOTO).copy(), "TIFF", exif=exif(6)), PHOTO, 0),
    "EXIF of 16 bits": (saved(GREY[::-1, ::-1].astype(np.uint16) * 257, exif=exif(3)), FROM_GREY, 0.5),
}
REFUSED: dict[str, tuple[bytes, str]] = {
    "animation": (saved(PHOTO, "GIF", **frames()), "several pictures"),
    "animated WebP": (saved(PHOTO, "WEBP", **frames()), "several pictures"),
    "animated PNG": (saved(PHOTO, "PNG", **frames()), "several pictures"),
    "stack": (saved(PHOTO, "TIFF", **frames()), "several pictures"),
    "cut PNG": (saved(PHOTO)[:-200], "damaged or incomplete"),
    "cut JPEG": (saved(PHOTO, "JPEG")[:-200], "damaged or incomplete"),
    "text": (b"hello", "not an image that can be read"),
    "of no bytes": (b"", "The file is empty"),
    "JPEG 2000": (saved(PHOTO, "JPEG2000"), "not an image that can be read"),
    "negative": (saved(GREY.astype(np.int32) - 300, "TIFF"), "measurements"),
    "above 65535": (saved(GREY.astype(np.int32) * 1000, "TIFF"), "measurements"),
    "not a number": (saved(np.full((96, 96), np.nan, np.float32), "TIFF"), "measurements"),
    "bomb": (saved(np.zeros((2, LOCAL.max_side + 1), np.uint8)), "Reduce or crop"),
}


def pair_of(file: Path) -> Pair:
    return Pair("set/photo", file, file.with_name("mask.png"), "a polyp")


CALLERS: dict[str, Callable[[Path], np.ndarray]] = {
    "photo upload": read_photo,
    "training": lambda file: load_images([pair_of(file)], 96)[0],
    "study": study_images.read_study_image,
}
MORE: dict[str, Callable[[Path], object]] = {
    "upload": read_upload,
    "training's check": lambda file: check_pairs([pair_of(file)]),
}
REFUSALS = (UploadError, DataError, UnusableImageError)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes], Path]:
    def written(data: bytes) -> Path:
        (tmp_path / "photo.png").write_bytes(data)
        Image.fromarray(MASK).save(tmp_path / "mask.png")
        return tmp_path / "photo.png"

    return written


@pytest.mark.parametrize("name", READ)
def test_every_caller_reads_the_same_photograph(name: str, write: Callable[[bytes], Path]) -> None:
    data, wanted, within = READ[name]
    file = write(data)
    expected = read_image(file)
    assert expected.shape == wanted.shape
    assert expected.dtype == np.uint8
    assert np.abs(expected.astype(int) - wanted).mean() <= within
    for who, read in CALLERS.items():
        np.testing.assert_array_equal(read(file), expected, err_msg=who)
    if name != "a mask":
        np.testing.assert_array_equal(read_upload(file).photo, expected)
    check_pairs([pair_of(file)])
    assert native_size(file) == image_size(file) == expected.shape[1::-1]


@pytest.mark.parametrize("name", REFUSED)
def test_every_caller_refuses_with_the_same_sentence(name: str, write: Callable[[bytes], Path]) -> None:
    data, message = REFUSED[name]
    file = write(data)
    with pytest.raises(DecodingError, match=message) as caught:
        read_image(file)
    sentence = message if name == "bomb" else str(caught.value)  # the limits are a caller's own
    for who, read in (CALLERS | MORE).items():
        with pytest.raises(REFUSALS) as refused:
            read(file)
        assert sentence in str(refused.value), who


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_of_colour_are_turned_as_eight_are(orientation: int, kind: str, tmp_path: Path) -> None:
    photo = PHOTO[:64]
    (tmp_path / "eight").write_bytes(saved(photo, kind, exif=exif(orientation)))
    if kind == "PNG":
        deep = by_opencv(".png", photo.astype(np.uint16) * 257)
        chunk = saved(photo, exif=exif(orientation))
        start = chunk.index(b"eXIf") - 4
        length = int.from_bytes(chunk[start : start + 4], "big") + 12
        deep = deep[:33] + chunk[start : start + length] + deep[33:]
    else:
        tifffile = pytest.importorskip("tifffile")
        buffer = io.BytesIO()
        tag = [(274, "H", 1, orientation, True)]
        tifffile.imwrite(buffer, photo.astype(np.uint16) * 257, photometric="rgb", extratags=tag)
        deep = buffer.getvalue()
    (tmp_path / "sixteen").write_bytes(deep)
    np.testing.assert_array_equal(read_image(tmp_path / "sixteen"), read_image(tmp_path / "eight"))


def test_operators_may_read_larger_files_than_visitors(tmp_path: Path) -> None:
    side = VISITOR.max_side + 1
    (tmp_path / "wide").write_bytes(saved(np.zeros((2, side), np.uint8)))
    assert read_image(tmp_path / "wide").shape == (2, side, 3)
    with pytest.raises(DecodingError, match=f"{side} x 2 pixels; at most {VISITOR.max_side}"):
        read_image(tmp_path / "wide", VISITOR)


@pytest.mark.parametrize(
    ("highest", "kind", "white"),
    [(1, "u2", 255), (255, "u2", 255), (256, "u2", 4095), (4096, "u2", 65535), (1, "f4", 1), (2, "f4", 255)],
)
def test_white_of_deep_files(highest: int, kind: str, white: int) -> None:
    assert full_scale(np.array([[0, highest]], kind)) == white


def test_a_cache_of_another_way_of_reading_is_not_used(write: Callable[[bytes], Path], monkeypatch) -> None:
    pairs = [pair_of(write(saved(PHOTO)))]
    before = array_key(pairs)
    assert before.startswith(fingerprint(pairs))
    monkeypatch.setattr("train.data.pairs.READING_VERSION", 0)
    assert array_key(pairs) != before
