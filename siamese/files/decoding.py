"""The one decoder of image files: photographs and masks, for uploads, batches, training, evaluation and studies. Free of torch.

Nothing in a file is trusted. Its content, not its name, decides its format; its size is checked before its pixels are decoded; and
whatever is wrong becomes a ``DecodingError`` whose text says what to do, without the file's name or content.

The rule for photographs (``read_image``), the same for every caller:

* The image is turned as its EXIF orientation says. A mask belongs to the image as viewers show it.
* More than eight bits a channel are scaled and not clipped: see ``full_scale``.
* CMYK is converted as browsers do: a JPEG without Adobe's marker is not inverted. LAB, YCbCr and palettes become RGB, grey becomes RGB.
* Transparent parts are black, as the surroundings of an endoscope's view are.
* DICOM is shown as viewers show it: see ``siamese.files.dicom``. Nothing but the pixels is kept.
* A file of several pictures (an animation, a stack of slices) is refused, because the choice would be a guess. Previews do not count:
  the second picture of a two-lens camera file (MPO) and pages that a TIFF marks as reduced.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps
from PIL.TiffImagePlugin import TiffImageFile

from siamese.files.dicom import DicomError, dicom_size, is_dicom, read_dicom

READING_VERSION = 2
"""Raised whenever a file is read as other pixels than before. Caches that are named by the bytes of files include it."""

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
"""Pillow's decoders that are tried. Pillow opens an MPO (two-lens camera) file as a JPEG."""
MAX_FILE_BYTES = 20 * 2**20
"""Bytes of a visitor's file."""
MAX_SIDE = 4096
"""Pixels of a side of a visitor's image."""
DECODER_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    EOFError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    MemoryError,
    struct.error,
    cv2.error,
    Image.DecompressionBombError,
)
"""What Pillow's, OpenCV's and JSON's decoders raise on damaged or hostile files; short metadata chunks, for example, give struct.error
and IndexError, and deep JSON gives RecursionError. For use around calls of decoders alone, so that no error of our own hides in it."""

_PHOTOMETRIC, _BITS_PER_SAMPLE, _SUBFILE_TYPE, _ORIENTATION = 262, 258, 254, 274
_MAX_PREVIEWS = 8
"""Reduced pages of a TIFF that are looked at; a file with more is refused, since each look costs time."""

NOT_READABLE = (
    "This file is not an image that can be read. Use a PNG, JPEG, GIF, WebP, TIFF, BMP or DICOM file; "
    "export HEIC or PDF files as PNG first."
)
DAMAGED = "This image file is damaged or incomplete. Export it again from its source."
SEVERAL_PICTURES = (
    "This file holds several pictures (frames or pages). Save the one that you mean as a file of its own."
)
MEASUREMENTS = (
    "The values in this image are measurements outside 0 to 65535. Export it as an 8-bit or 16-bit image."
)
UNKNOWN_COLOURS = (
    "The colours of this image are stored in a way that cannot be read. Save it as an RGB PNG or JPEG."
)


class DecodingError(ValueError):
    """The file cannot be used. The text says what is wrong and what to do; it holds nothing of the file's name or content."""


@dataclass(frozen=True)
class Limits:
    """How large a file may be. Callers differ in nothing else."""

    max_side: int
    """Pixels."""
    max_file_bytes: int
    """Bytes."""


VISITOR = Limits(MAX_SIDE, MAX_FILE_BYTES)
"""For files of strangers, which share a server's memory."""
LOCAL = Limits(8192, 2**30)
"""For files of whoever runs the program: training, studies. Public dermoscopy sets have images of 6,748 x 4,499 pixels."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image file, upright."""

    image: Image.Image
    """At most eight bits a channel, in the file's own mode otherwise (1, L, LA, P, PA, RGB, RGBA, CMYK, LAB, YCbCr, HSV)."""
    values: np.ndarray | None
    """[H, W] of a grey file with more than eight bits, as stored: uint16, int32 or float32; otherwise None."""
    format: str
    """One of ``FORMATS``, MPO, or DICOM."""
    info: dict[str | tuple[int, int], object]
    """Pillow's metadata of the file. Of a DICOM file, "Synthetic" is "true" if it says so; nothing else is kept."""
    is_lossy: bool
    """Whether compression may have changed the pixels' values."""


def read_bytes(path: str | Path, limits: Limits = LOCAL) -> bytes:
    """Content of a file.

    Raises:
        DecodingError: larger than ``limits``, empty, or not a file that can be read.
    """
    try:
        if not Path(path).is_file():  # a pipe or a device would never end
            raise DecodingError("The file is no longer there. Add it again.")
        with open(path, "rb") as file:
            data = file.read(limits.max_file_bytes + 1)
    except OSError as error:
        raise DecodingError("The file could not be read. Add it again.") from error
    check_bytes(data, limits)
    return data


def check_bytes(data: bytes, limits: Limits) -> None:
    """DecodingError if ``data`` is empty or longer than ``limits`` allow."""
    if len(data) > limits.max_file_bytes:
        raise DecodingError(
            f"The file is larger than {limits.max_file_bytes // 2**20} MB. Reduce the image, or save it as JPEG."
        )
    if not data:
        raise DecodingError("The file is empty. Export the image again.")


def decode(data: bytes, limits: Limits = LOCAL) -> Picture:
    """The picture in an image file, upright as its EXIF orientation says.

    Raises:
        DecodingError: not an image of a known format, damaged, too large, several pictures, or values that are not an image's.
    """
    check_bytes(data, limits)
    if is_dicom(data):
        return _decode_dicom(data, limits)
    with _opened(data, limits) as file:
        kind = file.format or ""
        info = dict(file.info)
        try:
            if _has_several_pictures(file):
                raise DecodingError(SEVERAL_PICTURES)
            file.load()
            info |= file.info  # text behind the pixels of a PNG is read only now
            white_is_zero = isinstance(file, TiffImageFile) and file.tag_v2.get(_PHOTOMETRIC) == 0
            deep = _has_deep_colour(file, data)
            image = _deep_colour(file, data) if deep else _upright(file)
        except DecodingError:
            raise
        except DECODER_ERRORS as error:
            raise DecodingError(DAMAGED) from error
    check_sides(image.size, limits)
    values = None
    if image.mode == "CMYK" and kind in ("JPEG", "MPO") and "adobe" not in info:
        # Pillow takes every CMYK JPEG for inverted.
        image = Image.merge("CMYK", [ImageOps.invert(band) for band in image.split()])
    elif image.mode.startswith("I") or image.mode == "F":
        values = np.array(image)
        if white_is_zero:
            values = (full_scale(values) - values).astype(values.dtype)
        image = Image.fromarray(
            eight_bits(values) if _is_in_range(values) else np.zeros(values.shape, np.uint8)
        )
    return Picture(image=image, values=values, format=kind, info=info, is_lossy=_is_lossy(kind, data))


def image_size(path: str | Path, limits: Limits = LOCAL) -> tuple[int, int]:
    """Width and height of the image at ``path`` as ``read_image`` gives it, from the file's header alone.

    Raises:
        DecodingError: not an image of a known format, or too large. Damaged pixels are not noticed.
    """
    data = read_bytes(path, limits)
    if is_dicom(data):
        return _dicom_size(data, limits)
    with _opened(data, limits) as file:
        try:
            is_turned = file.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        except DECODER_ERRORS as error:
            raise DecodingError(DAMAGED) from error
        width, height = file.size
        return (height, width) if is_turned else (width, height)


def read_image(path: str | Path, limits: Limits = LOCAL) -> np.ndarray:
    """The photograph at ``path`` as uint8 [H, W, 3] RGB at its own size; the module's text has the rule.

    Raises:
        DecodingError: see ``decode``.
    """
    return to_rgb(decode(read_bytes(path, limits), limits))


def to_rgb(picture: Picture) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a decoded image; transparent parts are black.

    Raises:
        DecodingError: Pillow cannot convert its colour space, or its values are measurements.
    """
    if picture.values is not None and not _is_in_range(picture.values):
        raise DecodingError(MEASUREMENTS)
    return np.array(on_black(to_rgba(picture.image)))


def to_rgba(image: Image.Image) -> Image.Image:
    """``image`` as RGBA if it has transparency, otherwise as RGB.

    Raises:
        DecodingError: Pillow cannot convert its colour space.
    """
    try:
        wanted = "RGBA" if image.has_transparency_data else "RGB"
        return image if image.mode == wanted else image.convert(wanted)
    except DECODER_ERRORS as error:
        raise DecodingError(UNKNOWN_COLOURS) from error


def on_black(image: Image.Image) -> Image.Image:
    """RGB from what ``to_rgba`` gives, over black."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, "black"), image).convert("RGB")


def full_scale(values: np.ndarray) -> int:
    """The value of white among [H, W] or [H, W, C] of more than eight bits.

    Files do not say how many of their 16 bits are used: up to 255 the values are eight bits already, up to 4095 they are twelve
    (endoscopes, scanners), otherwise sixteen. Floating-point values are 0..1, 0..255 or 0..65535.
    """
    high = float(values.max())
    if values.dtype.kind == "f":
        return 1 if high <= 1 else 255 if high <= 255 else 65535
    return 255 if high <= 255 else 4095 if high <= 4095 else 65535


def eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 of the same shape, scaled by ``full_scale``.

    Raises:
        DecodingError: negative, not finite or larger than 65535: measurements and not an image.
    """
    if not _is_in_range(values):
        raise DecodingError(MEASUREMENTS)
    return np.rint(values.astype(np.float64) * (255 / full_scale(values))).astype(np.uint8)


def check_sides(size: tuple[int, int], limits: Limits) -> None:
    """DecodingError if a side is zero or longer than ``limits`` allow."""
    if max(size) > limits.max_side:
        raise DecodingError(too_many_pixels(limits, size))
    if min(size) < 1:
        raise DecodingError(DAMAGED)


def too_many_pixels(limits: Limits, size: tuple[int, int] | None = None) -> str:
    """The sentence for an image that is too large."""
    has = "has too many pixels" if size is None else f"is {size[0]} x {size[1]} pixels"
    return f"The image {has}; at most {limits.max_side} pixels on a side are taken. Reduce or crop it."


def _opened(data: bytes, limits: Limits) -> Image.Image:
    """The file with its header read and its size checked, nothing decoded."""
    try:
        file = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise DecodingError(too_many_pixels(limits)) from error
    except DECODER_ERRORS as error:
        raise DecodingError(NOT_READABLE) from error
    check_sides(file.size, limits)
    return file


def _decode_dicom(data: bytes, limits: Limits) -> Picture:
    _dicom_size(data, limits)
    try:
        found = read_dicom(data)
    except DicomError as error:
        raise DecodingError(str(error)) from error
    except DECODER_ERRORS as error:
        raise DecodingError(DAMAGED) from error
    deep = found.pixels.dtype != np.uint8
    return Picture(
        image=Image.fromarray(eight_bits(found.pixels) if deep else found.pixels),
        values=found.pixels if deep else None,
        format="DICOM",
        info={"Synthetic": "true"} if found.is_synthetic else {},
        is_lossy=found.is_lossy,
    )


def _dicom_size(data: bytes, limits: Limits) -> tuple[int, int]:
    """Width and height that a DICOM file states."""
    try:
        size = dicom_size(data)
    except DicomError as error:
        raise DecodingError(str(error)) from error
    except DECODER_ERRORS as error:
        raise DecodingError(DAMAGED) from error
    check_sides(size, limits)
    return size


def _is_in_range(values: np.ndarray) -> bool:
    return bool(values.min() >= 0 and values.max() <= 65535)  # false for NaN, too


def _has_several_pictures(file: Image.Image) -> bool:
    """Whether there is a choice of pictures; leaves the file at its first one."""
    if file.format == "MPO" or not getattr(file, "is_animated", False):
        return False
    if not isinstance(file, TiffImageFile):
        return True
    try:
        for page in range(1, _MAX_PREVIEWS + 1):
            try:
                file.seek(page)
            except EOFError:
                return False
            if not file.tag_v2.get(_SUBFILE_TYPE, 0) & 1:
                return True
        return True
    finally:
        file.seek(0)


def _has_deep_colour(file: Image.Image, data: bytes) -> bool:
    """Whether a file has more than eight bits a channel of which Pillow keeps the upper eight: dark images would be black."""
    if file.format == "PNG":
        return data[24] == 16 and data[25] in (2, 4, 6)
    if isinstance(file, TiffImageFile) and file.mode in ("RGB", "RGBA"):
        return max(file.tag_v2.get(_BITS_PER_SAMPLE, (8,))) == 16
    return False


def _upright(file: Image.Image) -> Image.Image:
    """The loaded image as its EXIF orientation says; itself, without a copy, if that is how it is stored."""
    return file if file.getexif().get(_ORIENTATION, 1) == 1 else ImageOps.exif_transpose(file)


def _deep_colour(file: Image.Image, data: bytes) -> Image.Image:
    """RGB or RGBA of a file of 16 bits a channel, its colours scaled by their common ``full_scale``, upright."""
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None or stored.dtype != np.uint16 or stored.ndim != 3 or stored.shape[2] not in (3, 4):
        return ImageOps.exif_transpose(file)  # a layout that OpenCV does not know: the upper eight bits
    colours = cv2.cvtColor(stored[..., :3], cv2.COLOR_BGR2RGB)
    if stored.shape[2] == 4:
        colours = np.where(stored[..., 3:] > 0, colours, 0)  # colours that nobody sees do not set the scale
        alpha = np.rint(stored[..., 3] / 257).astype(np.uint8)
        image = Image.fromarray(np.dstack([eight_bits(colours), alpha]))
    else:
        image = Image.fromarray(eight_bits(colours))
    if image.size != file.size or file.format == "TIFF":
        return image  # OpenCV has turned it: it does so for TIFF alone
    image.info["exif"] = file.getexif().tobytes()
    return ImageOps.exif_transpose(image)


def _is_lossy(kind: str, data: bytes) -> bool:
    return kind in ("JPEG", "MPO") or (kind == "WEBP" and b"VP8L" not in data[:4096])
