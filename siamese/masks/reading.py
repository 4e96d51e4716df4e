"""The one reader of mask files, for uploads, batches, training, ``python -m train sample``, evaluation and studies. Free of torch.

The rule, in this order. A file is never inverted, and what could mean two things is refused with a sentence that says what to do.

1. **Opacity.** If a transparent image has one colour in all of its opaque parts, its opacity is the mask (white, red or black on
   transparent, as drawing programs save it). Black that reaches all corners and has a transparent part is refused. Otherwise
   transparent parts are black.
2. **Two values.** If one of exactly two values or colours is black, the other one is the lesion: 0 / 255, label maps of 0 / 1, palettes
   of any two colours, 12 and 16 bits, floating point. Without black, the bright one of a dark and a bright tone is the lesion. Other
   pairs, such as red on white or the labels 1 and 2, are refused.
3. **More than two flat values** are refused, and the message lists them. They are instances, classes, or an area that is not to be
   judged (the 255 border of PASCAL VOC, the 128 of trimaps). By the conventions of those sets, label and border lie on either side of
   the middle grey, so a threshold would lose lesions or keep nothing but borders; and a binary mask cannot say "not to be judged".
4. **Soft edges** of a black and white image, as resizing and JPEG make them: lesion above mid-grey (> 127 of 255). All other grey
   values have to lie at the border of black and white.
5. Everything else is a photograph in a mask's place, and refused.

A mask is turned as its EXIF orientation says, like the photograph that it belongs to. Files of several pictures are refused
(``siamese.files.decoding``).
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from siamese.files.decoding import (
    LOCAL,
    DecodingError,
    Limits,
    Picture,
    decode,
    eight_bits,
    full_scale,
    on_black,
    read_bytes,
    to_rgba,
)
from siamese.masks.core import THRESHOLD, binarise

DARK, BRIGHT = 64, 192
"""Grey values below and from which a pixel counts as black and as white; JPEG's ringing at a sharp edge stays within them."""
MAX_GREY = 0.1
"""Largest share of pixels between black and white in a mask."""
GREY_PER_WHITE, FEW = 2, 64
"""There are at most so many times more of them than white pixels, or few (pixels): the edge of one dot."""
MAX_STRAY = 0.002
"""Largest share of those that are not an edge: further than ``EDGE`` from the nearest black or the nearest white pixel."""
EDGE = 4
"""Pixels; the soft edge of a mask that was enlarged four times."""
MAX_LINES = 0.01
"""Largest share of pixels in grey lines of one or two pixels far from black or white: what resizing leaves of a thin part or gap."""
RINGING = 24
"""Pixels from an edge within which JPEG changes values: a block of 16 x 16 and half of one for what came before."""
MAX_COLOURED = 0.002
"""Largest share of coloured pixels in a grey image."""
COLOURED = 32
"""A pixel is coloured if its largest and smallest channel differ by more."""
FLAT = 8
"""Values that are this close are one tone."""
BLOCK = 17
"""Pixels: a square of one tone next to the ground's is a label from this side on, and smaller ones are what is left of ringing, blocks of
JPEG and WebP that were stored again without loss."""
MIN_SOFT_LEVELS = 4
"""In an image of at most so many values, each grey one is an edge without exception."""
FEW_VALUES, MAX_VALUES, MIN_FLAT = 8, 256, 0.8
"""An image of at most ``FEW_VALUES`` values is a label map; one of at most ``MAX_VALUES`` is, if at least this share of its pixels beside
the most frequent value have the value of their right and lower neighbours."""
LISTED = 6
"""Values that a message names."""

EMPTY_MASK = "This mask is empty: no pixel is brighter than mid-grey. Mark the lesion in white on black."
NOT_A_MASK = (
    "This image is not a mask: it has more than two tones, as a photograph has. "
    "Use a picture that is white at the lesion and black elsewhere, best as PNG."
)
FAINT_MASK = "The two tones of this mask are nearly the same, and its lossy compression has mixed them. Export it again as PNG, with 0 and 255."
CUT_OUT_MASK = (
    "This mask is black with a transparent part, and it is unclear which one is the lesion. "
    "Store the lesion as 255 and everything else as 0, without transparency."
)
SAMPLED = 16
"""Every how many rows and columns are looked at first."""
ADVICE = "Store the lesion as 255 and everything else as 0"


class MaskFileError(DecodingError):
    """The file is an image, and cannot be used as a mask. The text says why and what to do."""


class NotAMaskError(MaskFileError):
    """The image looks like a photograph."""


def read_mask(path: str | Path, limits: Limits = LOCAL) -> np.ndarray:
    """The mask at ``path`` as uint8 [H, W] of 0 / 255 at its own size, with a lesion. The module's text has the rule.

    Raises:
        DecodingError: not an image that can be read, or larger than ``limits``.
        MaskFileError: an empty mask, or not a mask.
    """
    return decode_mask(read_bytes(path, limits), limits)


def decode_mask(data: bytes, limits: Limits = LOCAL) -> np.ndarray:
    """``read_mask`` of a file's content."""
    return not_empty(find_mask(decode(data, limits)))


def not_empty(mask: np.ndarray) -> np.ndarray:
    """``mask``, or MaskFileError if it has no lesion."""
    if not mask.any():
        raise MaskFileError(EMPTY_MASK)
    return mask


def find_mask(picture: Picture) -> np.ndarray:
    """Mask uint8 [H, W] of 0 / 255 in a decoded image. It may be empty.

    Raises:
        NotAMaskError: the image looks like a photograph.
        MaskFileError: it is meant as a mask and could be read in more than one way.
    """
    if picture.values is not None:
        return _from_values(picture.values, picture.is_lossy)
    image = picture.image
    if image.mode in ("1", "L") and not image.has_transparency_data:
        return _from_values(np.asarray(image.convert("L")), picture.is_lossy)
    if image.mode == "P" and not image.has_transparency_data and _has_plain_palette(image):
        return _from_values(np.asarray(image), picture.is_lossy)
    image = to_rgba(image)
    if image.mode == "RGBA":
        pixels = np.array(image)
        mask = _from_opacity(pixels)
        if mask is not None:
            return mask
        image = on_black(image)
    return _from_colours(np.asarray(image), picture.is_lossy)


def _has_plain_palette(image: Image.Image) -> bool:
    """Whether several indices in use have one colour: then the indices are the labels, and the palette says nothing."""
    levels = _levels(np.asarray(image))
    listed = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    used = [tuple(listed[index]) if index < len(listed) else (0, 0, 0) for index in levels]
    return len(set(used)) < len(used)


def _from_opacity(pixels: np.ndarray) -> np.ndarray | None:
    """Step 1 for uint8 [H, W, 4] RGBA; None if the transparency is not a mask."""
    alpha = np.ascontiguousarray(pixels[..., 3])
    levels = _levels(alpha)
    if levels[0] > THRESHOLD and len(levels) != 2:
        return None
    two_valued = len(levels) == 2 and levels[0] == 0
    visible = pixels[..., :3][alpha > (0 if two_valued else THRESHOLD)]
    if len(visible) and np.ptp(visible, axis=0).max() > FLAT:
        return None
    corners = alpha[[0, 0, -1, -1], [0, -1, 0, -1]]
    if levels[0] <= THRESHOLD and len(visible) and visible.max() < DARK and corners.min() > THRESHOLD:
        raise MaskFileError(CUT_OUT_MASK)
    if two_valued:
        return np.where(alpha > 0, 255, 0).astype(np.uint8)  # half transparent overlays, too
    try:
        mask = _from_values(alpha, False)
    except MaskFileError:
        return None
    return mask if levels[0] <= THRESHOLD else None


def _from_colours(pixels: np.ndarray, is_lossy: bool) -> np.ndarray:
    """Steps 2 to 5 for uint8 [H, W, 3] RGB."""
    red, green, blue = (np.ascontiguousarray(pixels[..., c]) for c in range(3))
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return _from_values(red, is_lossy)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    is_coloured = np.count_nonzero(spread > COLOURED) > MAX_COLOURED * spread.size
    del spread
    # A photograph has too many colours in a few of its pixels already; the codes of all would take four bytes each.
    if is_coloured and _few_unique(_codes(pixels[::SAMPLED, ::SAMPLED])) is None:
        raise NotAMaskError(NOT_A_MASK)
    codes = _codes(pixels)
    colours = _few_unique(codes)
    if colours is not None and len(colours) == 2:
        lesion = _lesion_code([int(c) for c in colours], is_lossy)
        return np.where(codes == lesion, 255, 0).astype(np.uint8)
    if is_coloured:
        if colours is not None and _is_flat(codes, colours):
            raise MaskFileError(_listing([_hex(int(c)) for c in colours], "colours"))
        raise NotAMaskError(NOT_A_MASK)
    return _from_values(np.asarray(Image.fromarray(pixels).convert("L")), is_lossy, codes)


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Colours 0xRRGGBB, int32 [H, W], of uint8 [H, W, 3] RGB."""
    codes = pixels[..., 0].astype(np.int32)
    for channel in (1, 2):
        codes <<= 8
        codes |= pixels[..., channel]
    return codes


def _lesion_code(codes: list[int], is_lossy: bool) -> int:
    """Which of two colours 0xRRGGBB is the lesion, by step 2.

    Raises:
        MaskFileError: neither is clearly the ground.
    """
    ground, lesion = sorted(codes, key=lambda code: _luma(_channels(code)))
    darker, brighter = _channels(ground), _channels(lesion)
    if is_lossy and max(abs(a - b) for a, b in zip(darker, brighter, strict=True)) < DARK:
        raise MaskFileError(FAINT_MASK)
    if ground == 0:
        return lesion
    if max(darker) - min(darker) <= COLOURED and max(brighter) - min(brighter) <= COLOURED:
        if _luma(darker) <= THRESHOLD < _luma(brighter):
            return lesion
    elif _luma(darker) < DARK and _luma(brighter) >= BRIGHT and min(brighter) < 255 - FLAT:
        return lesion  # a colour map's two ends; on white, the ground may be either
    raise MaskFileError(
        f"This mask has two colours, {_hex(ground)} and {_hex(lesion)}, and it is unclear which one is the lesion. {ADVICE}."
    )


def _channels(code: int) -> tuple[int, int, int]:
    return code >> 16, code >> 8 & 255, code & 255


def _hex(code: int) -> str:
    return f"#{code:06x}"


def _luma(colour: tuple[int, int, int]) -> float:
    """ITU-R 601 luma 0..255 of an RGB colour."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _from_values(values: np.ndarray, is_lossy: bool, labels: np.ndarray | None = None) -> np.ndarray:
    """Steps 2 to 5 for grey values [H, W] of any depth.

    Args:
        labels: the colours of an image that is only nearly grey, in whose place ``values`` stand: what step 3 looks at.

    Raises:
        MaskFileError: see ``find_mask``.
    """
    levels = _few_unique(values)
    if levels is not None and len(levels) == 2:
        low, high = levels
        if low == 0:
            if is_lossy and high < DARK:
                raise MaskFileError(FAINT_MASK)
            return np.where(values == high, 255, 0).astype(np.uint8)
    grey = values if values.dtype == np.uint8 else eight_bits(values)
    if levels is not None and len(levels) == 2:
        low, high = (
            float(level) * 255 / (255 if values.dtype == np.uint8 else full_scale(values)) for level in levels
        )
        if low <= THRESHOLD < high:
            return binarise(grey)
        raise MaskFileError(
            f"This mask has the values {_number(levels[0])} and {_number(levels[1])} and no 0, so it is unclear which one is the "
            f"lesion. {ADVICE}."
        )
    if levels is not None and len(levels) == 1:
        if levels[0] == 0 or int(grey.flat[0]) <= FLAT or int(grey.flat[0]) >= 255 - FLAT:
            return binarise(grey)
        raise NotAMaskError(NOT_A_MASK)
    if grey.max() <= FLAT and is_lossy:
        raise MaskFileError(FAINT_MASK)
    if labels is None:
        labels = values
    if _is_soft_mask(grey, labels, is_lossy):
        return binarise(grey)
    found = _few_unique(labels)
    if found is not None and _is_flat(labels, found):
        names = [_number(v) for v in found] if labels is values else [_hex(int(c)) for c in found]
        raise MaskFileError(_listing(names, "values" if labels is values else "colours"))
    raise NotAMaskError(NOT_A_MASK)


def _is_soft_mask(grey: np.ndarray, labels: np.ndarray, is_lossy: bool) -> bool:
    """Step 4 for grey values uint8 [H, W]; ``labels`` are the values that they were made of."""
    dark, bright = grey < DARK, grey >= BRIGHT
    if not bright.any() or not dark.any():
        tone = (grey.max() <= FLAT) or (grey.min() >= 255 - FLAT)
        return bool(tone) and not _has_block(labels, labels != _mode(labels), 3)
    between = ~(dark | bright)
    count = int(np.count_nonzero(between))
    if count > max(FEW, GREY_PER_WHITE * int(np.count_nonzero(bright))) or count > MAX_GREY * grey.size:
        return False
    few = _few_unique(labels, MIN_SOFT_LEVELS)
    off = _off_ground(grey, dark, bright)
    near = _near(dark, RINGING) & _near(bright, RINGING)
    lines = (between | off) & ~near
    if (few is not None and lines.any()) or _has_thick(lines) or lines.sum() > MAX_LINES * grey.size:
        return False
    stray = int(np.count_nonzero(between & near & ~(_near(dark, EDGE) & _near(bright, EDGE))))
    if stray > (0 if few is not None else MAX_STRAY * grey.size):
        return False
    # Neither resizing nor JPEG makes a block of exactly one grey: a block of JPEG is 8 x 8, and within it an edge rings.
    if _has_block(labels, between | off, 3, max(2, count // 50)):
        return False
    if is_lossy:
        return True  # tones next to the ground's are the compression's
    tone = dark & (labels != _mode(labels, dark))
    return not _has_block(labels, tone, 3 if few is not None and len(few) == 3 else BLOCK)


def _off_ground(grey: np.ndarray, dark: np.ndarray, bright: np.ndarray) -> np.ndarray:
    """bool [H, W]: dark pixels that are not of the ground's tone, and bright ones that are not of the lesion's."""
    ground, lesion = int(_mode(grey, dark)), int(_mode(grey, bright))
    far = dark & (cv2.absdiff(grey, np.full_like(grey, ground)) > FLAT)
    return far | (bright & (cv2.absdiff(grey, np.full_like(grey, lesion)) > FLAT))


def _near(region: np.ndarray, pixels: int) -> np.ndarray:
    """bool [H, W]: at most ``pixels`` from a pixel of ``region`` in both directions."""
    return cv2.dilate(region.astype(np.uint8), np.ones((2 * pixels + 1, 2 * pixels + 1), np.uint8)) > 0


def _has_thick(region: np.ndarray) -> bool:
    """Whether a square of 3 x 3 pixels lies within ``region``."""
    inner = cv2.erode(
        region.astype(np.uint8), np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0
    )
    return bool(inner.any())


def _has_block(values: np.ndarray, region: np.ndarray, side: int, allowed: int = 0) -> bool:
    """Whether more than ``allowed`` squares of ``side`` pixels lie within ``region`` and have a single value."""
    if not region.any():
        return False
    square = np.ones((side, side), np.uint8)
    inner = cv2.erode(region.astype(np.uint8), square, borderType=cv2.BORDER_CONSTANT, borderValue=0) > 0
    if not inner.any():
        return False
    comparable = values if values.dtype == np.uint8 else values.astype(np.float32)
    return (
        int(np.count_nonzero(inner & (cv2.erode(comparable, square) == cv2.dilate(comparable, square))))
        > allowed
    )


def _mode(values: np.ndarray, region: np.ndarray | None = None) -> float:
    """The most frequent value of [H, W], among the pixels of ``region``."""
    chosen = values if region is None else values[region]
    if values.dtype == np.uint8:
        return int(np.argmax(np.bincount(chosen.ravel(), minlength=256)))
    found, counts = np.unique(chosen, return_counts=True)
    return found[np.argmax(counts)]


def _levels(values: np.ndarray) -> np.ndarray:
    """The different values of uint8 [H, W], ascending."""
    return np.flatnonzero(cv2.calcHist([values], [0], None, [256], [0, 256]))


def _few_unique(values: np.ndarray, most: int = MAX_VALUES) -> np.ndarray | None:
    """The different values of [H, W], ascending; None if there are more than ``most``."""
    if values.dtype == np.uint8:
        found = _levels(np.ascontiguousarray(values))
    else:
        # Most images have more in their first rows; sorting all of them would take longer than reading the file.
        if len(np.unique(values[: max(1, 2**16 // values.shape[1])])) > most:
            return None
        found = np.unique(values)
    return found if len(found) <= most else None


def _is_flat(labels: np.ndarray, found: np.ndarray) -> bool:
    """Whether [H, W] of the values ``found`` is a label map and not a photograph of few tones."""
    if len(found) < 2:
        return False
    if len(found) <= FEW_VALUES:
        return True
    rest = labels[:-1, :-1] != _mode(labels)
    same = (labels[:-1, :-1] == labels[:-1, 1:]) & (labels[:-1, :-1] == labels[1:, :-1])
    return bool(np.count_nonzero(rest & same) >= MIN_FLAT * np.count_nonzero(rest) > 0)


def _number(value: float) -> str:
    return f"{float(value):g}"


def _listing(names: list[str], what: str) -> str:
    """The sentence of step 3."""
    shown = (
        ", ".join(names)
        if len(names) <= LISTED
        else f"{', '.join(names[:LISTED])} and {len(names) - LISTED} more"
    )
    return (
        f"This mask has {len(names)} {what} ({shown}), so it is unclear what is lesion. {ADVICE}: several lesions all as 255; "
        "of an area that is not to be judged, decide which it is."
    )
