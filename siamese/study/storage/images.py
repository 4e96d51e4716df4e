"""Blinding: every image of a study goes through the same steps and leaves as a file that differs from the others in its pixels alone.

A file's length would tell how well its pixels compress, which differs between cameras and networks; padding a compressed file leaves
the compressed part's own length in it. So the pixels are stored uncompressed: PNG filter 0 and stored deflate blocks. Length, chunks
and everything else before the pixels then follow from the image's size, which is one for the whole study.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from siamese.files import decoding
from siamese.files.decoding import DecodingError
from siamese.files.listing import IMAGE_SUFFIXES, PassedOver, list_files

MIN_SIDE = 16
"""Pixels; a smaller image shows nothing that could be judged."""
MAX_ID_LENGTH = 200
"""Characters of a mask's id, which the database holds."""
ENCODING = (cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


class UnusableImageError(ValueError):
    """The file cannot be shown in a study; the message says why and what to do, without the file's name."""


def native_size(file: Path) -> tuple[int, int]:
    """Width and height as shown (after EXIF rotation), from the header alone.

    Raises:
        UnusableImageError: not an image of a known format, too large or too small.
    """
    try:
        size = decoding.image_size(file)
    except DecodingError as error:
        raise UnusableImageError(str(error)) from error
    check_side(size)
    return size


def read_study_image(file: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB by the rule of ``siamese.files.decoding``: as shown, transparency on black, 16 bits scaled.

    Raises:
        UnusableImageError: see ``native_size``; or its pixels cannot be decoded.
    """
    try:
        image = decoding.read_image(file)
    except DecodingError as error:
        raise UnusableImageError(str(error)) from error
    check_side(image.shape[1::-1])
    return image


def check_side(size: tuple[int, int]) -> None:
    """UnusableImageError if a side of (width, height) is shorter than ``MIN_SIDE``."""
    if min(size) < MIN_SIDE:
        raise UnusableImageError(
            f"Its size is {size[0]} x {size[1]}; sides of {MIN_SIDE} pixels or more can be used. Choose a larger image."
        )


def common_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Least width and least height among native (width, height): what every image is reduced to.

    If shapes differ, aspect ratios are not preserved, here as everywhere: a shape that only one method has would give it away.

    Raises:
        ValueError: no sizes.
    """
    widths, heights = zip(*sizes, strict=True)
    return min(widths), min(heights)


def shown_size(common: tuple[int, int], side: int) -> tuple[int, int]:
    """(width, height) with the longer side ``side`` and the shape of ``common``."""
    width, height = common
    scale = side / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def blind(image: np.ndarray, common: tuple[int, int], side: int) -> bytes:
    """The PNG file of uint8 [H, W, 3] ``image``: reduced to ``common`` by area, enlarged to ``side`` by Lanczos, stored uncompressed.

    Files of one study all have the same length.
    """
    if image.shape[1::-1] != common:
        image = cv2.resize(image, common, interpolation=cv2.INTER_AREA)
    image = np.array(Image.fromarray(image).resize(shown_size(common, side), Image.Resampling.LANCZOS))
    done, data = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), ENCODING)
    if not done:
        raise RuntimeError("OpenCV did not encode an image as PNG.")
    return data.tobytes()


def list_images(folder: Path) -> tuple[dict[str, Path], list[str], list[PassedOver]]:
    """Images in ``folder`` by mask id (the name in NFC without its suffix), what is wrong with the folder, one sentence each, and
    what in it is not an image; see ``siamese.files.listing`` for the rules."""
    if not folder.is_dir():
        return {}, [f"{folder.name}: there is no such folder."], []
    listing = list_files(folder)
    found: dict[str, Path] = {}
    problems = []
    for key, files in listing.files.items():
        if len(files) > 1:
            names = " and ".join(file.name for file in files)
            problems.append(f"{folder.name}: {names} are of one mask; keep one.")
        elif len(key) > MAX_ID_LENGTH:
            problems.append(
                f"{folder.name}: {key[:60]}... has a name of more than {MAX_ID_LENGTH} characters."
            )
        else:
            found[key] = files[0]
    if not found and not problems:
        problems.append(f"{folder.name}: the folder holds no images ({', '.join(IMAGE_SUFFIXES)}).")
    return found, problems, listing.passed_over
