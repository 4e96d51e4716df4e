"""Image files that visitors upload: what kind they are, and their pixels as the project's arrays. Free of torch.

A file is a synthetic pair of this studio, a mask or a photograph. Nothing in it is trusted: its format is one of ``FORMATS``, its
size is checked before its pixels are decoded, and whatever is wrong becomes an ``UploadError`` with a sentence for the visitor.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from PIL import Image, ImageOps

from siamese.masks.core import THRESHOLD, binarise
from siamese.records.provenance import DECODER_ERRORS, NotSyntheticError, SyntheticPair, read_png

FORMATS = ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP")
"""Pillow's decoders that are tried, by the file's content and not its name. Pillow opens an MPO (two-lens camera) file as a JPEG."""
MAX_FILE_BYTES = 20 * 2**20
"""Bytes."""
MAX_SIDE = 4096
"""Pixels."""

DARK, BRIGHT = 64, 192
"""Grey values below and from which a pixel counts as black and as white; JPEG's ringing at a sharp edge stays within them."""
MAX_GREY = 0.1
"""Largest share of pixels between black and white in a mask."""
GREY_PER_WHITE, FEW = 2, 64
"""There are at most so many times more of them than white pixels, or few (pixels): the edge of one dot."""
MAX_STRAY = 0.002
"""Largest share of those that are no edge: further than ``EDGE`` from the nearest black or the nearest white pixel."""
EDGE = 4
"""Pixels; the soft edge of a mask that was enlarged four times."""
MAX_COLOURED = 0.002
"""Largest share of coloured pixels in a grey image."""
COLOURED = 32
"""A pixel is coloured where its largest and smallest channel differ by more."""
FLAT = 8
"""An image without any white (black) pixel is an empty (full) mask only where it is this close to black (white) everywhere."""

NOT_READABLE = (
    "This file is not an image that the studio can read. Upload a PNG, JPEG, GIF, WebP, TIFF or BMP file; "
    "export DICOM, HEIC or PDF files as PNG first."
)
DAMAGED = "This image file is damaged or incomplete. Export it again from its source and upload the new file."
EMPTY_MASK = "This mask is empty: no pixel is brighter than mid-grey. Mark the lesion in white on black and upload the mask again."
NO_MASK = "This image is not a mask: it has more than two tones. Upload a picture that is white where the lesion is and black elsewhere, best as PNG."


class UploadError(ValueError):
    """The file cannot be used. The text is for the visitor: what is wrong and what to do. It holds nothing of the file's content."""


@dataclass(frozen=True, eq=False)
class Upload:
    """What was uploaded; exactly the field that ``kind`` names is set."""

    kind: Literal["pair", "mask", "photo"]
    pair: SyntheticPair | None = None
    """A synthetic pair that this studio made."""
    mask: np.ndarray | None = None
    """uint8 [H, W] of 0 / 255, not empty."""
    photo: np.ndarray | None = None
    """uint8 [H, W, 3] RGB."""


def read_upload(path: str | Path) -> Upload:
    """Whatever the file at ``path`` holds: a pair of this studio, else a mask (see ``find_mask`` for the rule), else a photograph.

    Raises:
        UploadError: too large, damaged, no image of a known format, an empty mask, or an image that says that it is of this studio
            but has lost its recipe. That one is not taken for a photograph: it is synthetic.
    """
    data = read_bytes(path)
    image = decode(data)
    if image.format == "PNG":
        try:
            return Upload("pair", pair=read_png(data))
        except NotSyntheticError as error:
            if image.info.get("Synthetic") == "true":
                raise UploadError(
                    "This is a synthetic image of this studio, but its recipe is damaged or another program has changed it. "
                    "Upload the file as it was downloaded."
                ) from error
    mask = find_mask(image)
    if mask is None:
        return Upload("photo", photo=to_photo(image))
    return Upload("mask", mask=not_empty(mask))


def read_photo(path: str | Path) -> np.ndarray:
    """The image at ``path`` as uint8 [H, W, 3] RGB at its own size, even where it looks like a mask or is synthetic.

    Raises:
        UploadError: too large, damaged or no image of a known format.
    """
    return to_photo(decode(read_bytes(path)))


def read_mask(path: str | Path) -> np.ndarray:
    """The mask at ``path`` as uint8 [H, W] of 0 / 255; of a synthetic image of this studio, the mask that was drawn for it.

    Raises:
        UploadError: too large, damaged, no image of a known format, no mask (see ``find_mask``) or an empty one.
    """
    data = read_bytes(path)
    image = decode(data)
    if image.info.get("Synthetic") == "true":
        try:
            return not_empty(read_png(data).drawn)
        except NotSyntheticError as error:
            raise UploadError(
                "This is a synthetic image, but the mask stored in it is damaged. Upload the mask itself."
            ) from error
    mask = find_mask(image)
    if mask is None:
        raise UploadError(NO_MASK)
    return not_empty(mask)


def read_bytes(path: str | Path) -> bytes:
    """Content of a file of at most ``MAX_FILE_BYTES`` bytes.

    Raises:
        UploadError: larger, empty, or no file that can be read.
    """
    try:
        if not Path(path).is_file():  # a pipe or a device would never end
            raise UploadError("The uploaded file is no longer there. Upload it again.")
        with open(path, "rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UploadError("The uploaded file could not be read. Upload it again.") from error
    if len(data) > MAX_FILE_BYTES:
        raise UploadError(
            f"The file is larger than {MAX_FILE_BYTES // 2**20} MB. Reduce the image, or save it as JPEG, and upload it again."
        )
    if not data:
        raise UploadError("The file is empty. Export the image again and upload the new file.")
    return data


def decode(data: bytes) -> Image.Image:
    """First frame of an image file, upright as its EXIF orientation says, with ``format`` and ``info`` of the file.

    Modes that Pillow gives wrongly are set right: CMYK without Adobe's marker, and more than eight bits of grey.

    Raises:
        UploadError: see ``read_upload``.
    """
    try:
        file = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise UploadError(too_many_pixels()) from error
    except DECODER_ERRORS as error:
        raise UploadError(NOT_READABLE) from error
    with file:
        check_sides(file.size)
        kind, info = file.format, dict(file.info)
        try:
            file.load()
            # Text behind the pixels of a PNG is there only now.
            info |= file.info
            white_is_zero = kind == "TIFF" and file.tag_v2.get(262) == 0
            image = ImageOps.exif_transpose(file)
        except DECODER_ERRORS as error:
            raise UploadError(DAMAGED) from error
    check_sides(image.size)
    if image.mode == "CMYK" and kind in ("JPEG", "MPO") and "adobe" not in info:
        image = Image.merge(
            "CMYK", [ImageOps.invert(band) for band in image.split()]
        )  # Pillow takes all files for inverted
    elif image.mode.startswith("I") or image.mode == "F":
        grey = eight_bits(np.array(image))
        image = Image.fromarray(255 - grey if white_is_zero else grey)
    image.format, image.info = kind, info
    return image


def too_many_pixels(size: tuple[int, int] | None = None) -> str:
    """The visitor's sentence for an image that is too large."""
    has = "has too many pixels" if size is None else f"is {size[0]} x {size[1]} pixels"
    return f"The image {has}; the studio takes at most {MAX_SIDE} on a side. Reduce or crop it and upload it again."


def check_sides(size: tuple[int, int]) -> None:
    """UploadError where a side is longer than ``MAX_SIDE``, or nought."""
    if max(size) > MAX_SIDE:
        raise UploadError(too_many_pixels(size))
    if min(size) < 1:
        raise UploadError(DAMAGED)


def eight_bits(values: np.ndarray) -> np.ndarray:
    """uint8 [H, W] from grey values [H, W] of more than eight bits, scaled and not clipped.

    Files do not say how many of their 16 bits are used: up to 255 the values are eight bits already, up to 4095 they are twelve
    (endoscopes, scanners), else sixteen. Floating-point values are 0..1 or 0..255.

    Raises:
        UploadError: negative, not finite or larger: measurements and not an image.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # false for NaN, too
        raise UploadError(
            "The values in this image are measurements outside 0 to 65535. Export it as an 8-bit or 16-bit image and upload that."
        )
    if values.dtype.kind == "f":
        full = 1 if high <= 1 else 255 if high <= 255 else 65535
    else:
        full = 255 if high <= 255 else 4095 if high <= 4095 else 65535
    return np.rint(values.astype(np.float64) * (255 / full)).astype(np.uint8)


def to_rgba(image: Image.Image) -> Image.Image:
    """``image`` with transparency as RGBA, without as RGB.

    Raises:
        UploadError: Pillow cannot convert its colour space.
    """
    try:
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    except DECODER_ERRORS as error:
        raise UploadError(
            "The colours of this image are stored in a way that the studio cannot read. Save it as an RGB PNG or JPEG."
        ) from error


def flatten(image: Image.Image, ground: str) -> Image.Image:
    """RGB from what ``to_rgba`` gives: transparent parts show the colour ``ground``."""
    if image.mode == "RGB":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, ground), image).convert("RGB")


def to_photo(image: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3] RGB of a decoded image, transparent parts white."""
    return np.array(flatten(to_rgba(image), "white"))


def find_mask(image: Image.Image) -> np.ndarray | None:
    """Mask uint8 [H, W] of 0 / 255 where a decoded image is practically two-valued, else None. It may be empty.

    The rule, in this order:

    1. Transparent image with one colour where it is opaque: the transparency is the mask, if it is two-valued as in 3.
    2. Exactly two colours: the brighter one (ITU-R 601 luma) is the lesion, if it is brighter than 127 and the other one is not,
       or the other one is black. So label maps of 0 and 1 and colour palettes are masks.
    3. Grey image (at most ``MAX_COLOURED`` coloured) with at most ``MAX_GREY`` of its pixels between black and white, these
       no more than ``GREY_PER_WHITE`` times the white ones and at the border of black and white: lesion where > 127. So soft edges
       and JPEG files are masks, and dark grey scans are not.

    Transparent parts that are left in 2 and 3 are black.
    """
    converted = to_rgba(image)
    if converted.mode == "RGBA":
        pixels = np.array(converted)
        alpha = pixels[..., 3]
        visible = pixels[..., :3][alpha > THRESHOLD]
        if not len(visible) or np.ptp(visible, axis=0).max() <= FLAT:  # soft brushes round the colour
            mask = from_grey(alpha)
            if mask is not None and alpha.min() <= THRESHOLD:
                return mask
        converted = flatten(converted, "black")
    colours = converted.getcolors(2)
    if colours and len(colours) == 2:
        (darker, dark), (brighter, bright) = sorted((luma(colour), colour) for _, colour in colours)
        if brighter > THRESHOLD >= darker or not any(dark):
            return cv2.inRange(np.array(converted), bright, bright)
    red, green, blue = cv2.split(np.array(converted))
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    if np.count_nonzero(spread > COLOURED) > MAX_COLOURED * spread.size:
        return None
    return from_grey(np.array(converted.convert("L")))


def luma(colour: tuple[int, int, int]) -> float:
    """ITU-R 601 luma 0..255 of an RGB colour."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def from_grey(grey: np.ndarray) -> np.ndarray | None:
    """Step 3 of ``find_mask`` for grey values uint8 [H, W]."""
    dark, bright = grey < DARK, grey >= BRIGHT
    if not bright.any():
        return binarise(grey) if grey.max() <= FLAT else None
    if not dark.any():
        return binarise(grey) if grey.min() >= 255 - FLAT else None
    between = ~(dark | bright)
    if between.mean() > MAX_GREY or between.sum() > max(FEW, GREY_PER_WHITE * bright.sum()):
        return None
    square = np.ones((2 * EDGE + 1, 2 * EDGE + 1), np.uint8)
    edge = (cv2.dilate(dark.astype(np.uint8), square) & cv2.dilate(bright.astype(np.uint8), square)).astype(
        bool
    )
    return None if (between & ~edge).mean() > MAX_STRAY else binarise(grey)


def not_empty(mask: np.ndarray) -> np.ndarray:
    """``mask``, or UploadError where it has no lesion."""
    if not mask.any():
        raise UploadError(EMPTY_MASK)
    return mask
