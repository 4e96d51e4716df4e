"""Files as visitors upload them, and what the readers must make of them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from siamese.files.decoding import (
    VISITOR,
    DecodingError,
    Picture,
)
from siamese.masks import reading
from siamese.masks.reading import NotAMaskError
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
    for photo in (_uploaded(path, "photo"), read_photo(path)):
        assert photo.dtype == np.uint8
        assert photo.shape == expected.shape
        assert np.abs(photo.astype(int) - expected).mean() <= within
    with pytest.raises(NotAMaskError, match="not a mask"):
        read_mask(path)


def assert_mask(path: Path, expected: np.ndarray, share: float = 0) -> None:
    """Read as a mask by both ways; at most ``share`` of the pixels differ."""
    for mask in (_uploaded(path, "mask"), read_mask(path)):
        assert mask.dtype == np.uint8
        assert mask.shape == expected.shape
        assert set(np.unique(mask)) <= {0, 255}
        assert (mask != expected).mean() <= share


def _uploaded(path: Path, kind: str) -> np.ndarray:
    """The array of an upload that is of ``kind`` and of nothing else."""
    upload = read_upload(path)
    assert upload.kind == kind
    assert [name for name in ("pair", "mask", "photo") if getattr(upload, name) is not None] == [kind]
    return getattr(upload, kind)


def picture(image: Image.Image) -> Picture:
    return Picture(image, values=None, format="PNG", info={}, is_lossy=False)
