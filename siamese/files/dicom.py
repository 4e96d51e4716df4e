"""The pixels of a DICOM photograph, for ``siamese.files.decoding``. Free of torch.

Only what is needed for the picture is read: nothing of a patient, a device or an institution ever leaves this module. The values
become a picture as viewers show it (DICOM PS3.3 C.7.6.3 and C.11): rescaled, windowed by the file's first window, MONOCHROME1
inverted. Grey values without a window and without a rescaling are given as they are stored.

Of the compressed transfer syntaxes, RLE, JPEG baseline and JPEG 2000 are decoded (by pydicom and Pillow). Before anything is unpacked,
the size of the compressed picture is compared with the size that the file states.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

MAGIC = slice(128, 132)
"""Bytes of a DICOM file that are ``DICM``."""
MAX_RLE_BYTES = 8 * 2**20
"""Of a picture in RLE: unpacking makes up to 64 times as many of them, before their number is compared with the picture's size."""
_DEFLATED = "1.2.840.10008.1.2.1.99"
UNCOMPRESSED = frozenset({"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"})
"""Transfer syntaxes."""
_RLE = "1.2.840.10008.1.2.5"
_BY_PILLOW = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91"})
_LOSSY = frozenset({"1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.91"})
_TAGS = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "NumberOfFrames",
    "PixelData",
    "FloatPixelData",
    "DoubleFloatPixelData",
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
    "VOILUTSequence",
    "RedPaletteColorLookupTableDescriptor",
    "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableData",
    "LossyImageCompression",
    "SyntheticData",
]

NO_PICTURE = "This DICOM file holds no picture that can be read. Export the picture as PNG."
SEVERAL_FRAMES = (
    "This DICOM file holds several frames. Export the frame that you mean as a file of its own, or as PNG."
)
DAMAGED = "This DICOM file is damaged or incomplete. Export it again from its source."


class DicomError(ValueError):
    """The file cannot be used. The text says what is wrong and what to do; it holds nothing of the file's content."""


@dataclass(frozen=True, eq=False)
class DicomPicture:
    """What was read of a DICOM file."""

    pixels: np.ndarray
    """uint8 [H, W, 3] RGB, uint8 [H, W] grey as shown, or uint16 [H, W]: stored grey values that no window scales."""
    is_lossy: bool
    """Whether compression may have changed the values."""
    is_synthetic: bool
    """Whether the file says that its picture was made artificially (Synthetic Data, 0008,001C)."""


def is_dicom(data: bytes) -> bool:
    """Whether ``data`` is a DICOM file, as its first bytes tell."""
    return data[MAGIC] == b"DICM"


@contextmanager
def refusing_damage() -> Iterator[None]:
    """What pydicom alone raises on damaged files, within, becomes a ``DicomError``. It reads values only when they are asked for."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    try:
        yield
    except (BytesLengthException, InvalidDicomError) as error:
        raise DicomError(DAMAGED) from error


@refusing_damage()
def dicom_size(data: bytes) -> tuple[int, int]:
    """Width and height that the file states.

    Raises:
        DicomError: no picture in the file. Other errors are Python's own, on damaged files.
    """
    file = read_elements(data)
    width, height = file.get("Columns"), file.get("Rows")
    if not isinstance(width, int) or not isinstance(height, int) or min(width, height) < 1:
        raise DicomError(NO_PICTURE)
    return width, height


@refusing_damage()
def read_dicom(data: bytes) -> DicomPicture:
    """The picture in the DICOM file ``data``, of which ``dicom_size`` has been found acceptable.

    Raises:
        DicomError: no picture or several, or a compression or colours that are not known. Other errors are Python's own and
            Pillow's, on damaged files.
    """
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    size, file = dicom_size(data), read_elements(data)
    if int(file.get("NumberOfFrames") or 1) > 1:
        raise DicomError(SEVERAL_FRAMES)
    if "PixelData" not in file:
        raise DicomError(NO_PICTURE)
    samples, kind = file.get("SamplesPerPixel"), str(file.get("PhotometricInterpretation"))
    if (samples, file.get("BitsAllocated")) not in ((1, 8), (1, 16), (3, 8)):
        raise DicomError(
            "The pixels of this DICOM file are neither 8-bit colours nor 8-bit or 16-bit grey. Export the picture as PNG."
        )
    _check_compression(file, size)
    stored = pixel_array(file)  # as RGB if it is YBR, and by pixel if it is by plane
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(stored, file)
        pixels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    elif samples == 3 and kind in ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"):
        pixels = stored
    elif samples == 1 and kind in ("MONOCHROME1", "MONOCHROME2"):
        pixels = _grey(file, stored, inverted=kind == "MONOCHROME1")
    else:
        raise DicomError(
            "The colours of this DICOM file are stored in a way that cannot be read. Export the picture as PNG."
        )
    if pixels.shape[:2] != size[::-1]:
        raise DicomError(DAMAGED)
    lossy = str(file.file_meta.TransferSyntaxUID) in _LOSSY or file.get("LossyImageCompression") == "01"
    return DicomPicture(pixels, is_lossy=lossy, is_synthetic=file.get("SyntheticData") == "YES")


@refusing_damage()
def read_elements(data: bytes, tags: Sequence[str] = _TAGS) -> Dataset:
    """The elements of these keywords in a DICOM file, as far as it has them; all others are passed over unread.

    Raises:
        DicomError: deflated, or no DICOM file. Other errors are Python's own, on damaged files.
    """
    from pydicom import dcmread
    from pydicom.filereader import read_dataset

    if not is_dicom(data):
        raise DicomError("This is not a DICOM file. Export it again.")
    start = io.BytesIO(data)
    start.seek(MAGIC.stop)
    meta = read_dataset(
        start,
        is_implicit_VR=False,
        is_little_endian=True,
        stop_when=lambda tag, *_: tag.group != 2,
    )
    if meta.get("TransferSyntaxUID") == _DEFLATED:  # pydicom would unpack all of it, however much it is
        raise DicomError(
            "This DICOM file is compressed as a whole (deflated). Save it uncompressed, or export the picture as PNG."
        )
    if "TransferSyntaxUID" not in meta:
        raise DicomError(DAMAGED)
    return dcmread(io.BytesIO(data), specific_tags=list(tags))


def _check_compression(file: Dataset, size: tuple[int, int]) -> None:
    """DicomError if the pixels cannot be decoded, or if the compressed picture has another size than the file states."""
    from pydicom.encaps import generate_frames

    syntax = file.file_meta.TransferSyntaxUID
    if syntax in UNCOMPRESSED:
        return
    if syntax != _RLE and syntax not in _BY_PILLOW:
        raise DicomError(
            f"The pixels of this DICOM file are compressed in a way that cannot be read here ({syntax.name if syntax.is_transfer_syntax else 'unknown'}). "
            "Save it uncompressed (Explicit VR Little Endian), or export the picture as PNG."
        )
    frame = next(generate_frames(file.PixelData, number_of_frames=1))
    if syntax == _RLE:
        if len(frame) > MAX_RLE_BYTES:
            raise DicomError(
                "The RLE-compressed picture in this DICOM file is too large. Save it uncompressed, or export it as PNG."
            )
        return
    with Image.open(io.BytesIO(frame), formats=["JPEG", "JPEG2000"]) as picture:
        if picture.size != size:
            raise DicomError(DAMAGED)


def _grey(file: Dataset, stored: np.ndarray, inverted: bool) -> np.ndarray:
    """uint8 [H, W] as shown, or uint16 [H, W] if the file says nothing about how its values are shown."""
    from pydicom.pixels.processing import apply_modality_lut, apply_voi

    has_scale = float(file.get("RescaleSlope", 1)) != 1 or float(file.get("RescaleIntercept", 0)) != 0
    is_rescaled = has_scale or bool(file.get("ModalityLUTSequence"))
    values = np.asarray(apply_modality_lut(stored, file)) if is_rescaled else stored
    if not np.isfinite(values).all():
        raise DicomError(DAMAGED)
    centre, width = _first(file.get("WindowCenter")), _first(file.get("WindowWidth"))
    if centre is not None and width is not None:
        shown = windowed(values, centre, width, str(file.get("VOILUTFunction") or "LINEAR"))
    elif file.get("VOILUTSequence"):
        white = 2 ** int(file.VOILUTSequence[0].LUTDescriptor[2]) - 1
        shown = apply_voi(values, file, index=0) / white
    elif values.dtype.kind == "u" and not is_rescaled:
        if values.dtype == np.uint16 and not inverted:
            return values
        shown = values / (2 ** int(file.BitsStored) - 1)
    else:
        # Values such as Hounsfield units have no white of their own; viewers show them from the smallest to the largest.
        low, high = float(values.min()), float(values.max())
        shown = (values.astype(np.float64) - low) / (high - low or 1)
    shown = np.clip(shown, 0, 1)
    return np.rint(255 * (1 - shown if inverted else shown)).astype(np.uint8)


def windowed(values: np.ndarray, centre: float, width: float, function: str = "LINEAR") -> np.ndarray:
    """float64 [H, W] of 0..1: how bright values [H, W] are shown (DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Raises:
        DicomError: a width that is not allowed, or another function than LINEAR, LINEAR_EXACT and SIGMOID.
    """
    values = values.astype(np.float64)
    least = 1 if function == "LINEAR" else 1e-9
    if function not in ("LINEAR", "LINEAR_EXACT", "SIGMOID") or not (
        np.isfinite([centre, width]).all() and width >= least
    ):
        raise DicomError(
            "The brightness window of this DICOM file cannot be applied. Export the picture as PNG."
        )
    if function == "SIGMOID":
        return 1 / (1 + np.exp(np.clip(-4 * (values - centre) / width, -700, 700)))
    if function == "LINEAR_EXACT":
        return np.clip((values - centre) / width + 0.5, 0, 1)
    if width == 1:
        return (values > centre - 0.5).astype(np.float64)
    return np.clip((values - (centre - 0.5)) / (width - 1) + 0.5, 0, 1)


def _first(value: object) -> float | None:
    """The number, or the first one of several; None if there is none."""
    if value is None or value == "":
        return None
    values = value if isinstance(value, list | tuple) or hasattr(value, "__iter__") else [value]
    return next((float(v) for v in values), None)  # pyright: ignore[reportGeneralTypeIssues, reportArgumentType]
