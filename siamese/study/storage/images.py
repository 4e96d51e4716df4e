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
from PIL import Image, ImageOps, UnidentifiedImageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""Modes of eight bits a channel or less; others have no agreed way to eight."""
MAX_SIDE, MIN_SIDE = 8192, 16
ENCODING = (cv2.IMWRITE_PNG_COMPRESSION, 0, cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_NONE)


class UnusableImageError(ValueError):
    """The file cannot be shown in a study; the message says why, without the file's name."""


def native_size(file: Path) -> tuple[int, int]:
    """Width and height as shown (after EXIF rotation), from the header alone.

    Raises:
        UnusableImageError: no image of a known format, too large or too small, or more than eight bits a channel.
    """
    with opened(file) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return image.size[::-1] if turned else image.size


def opened(file: Path) -> Image.Image:
    """The file, checked but not decoded; see ``native_size`` for errors."""
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise UnusableImageError("it is no PNG, JPEG, BMP, TIFF or WebP image.") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UnusableImageError(f"it cannot be read ({error}).") from error
    if not MIN_SIDE <= min(image.size) <= max(image.size) <= MAX_SIDE:
        width, height = image.size
        image.close()
        raise UnusableImageError(
            f"its size is {width} x {height}; sides of {MIN_SIDE} to {MAX_SIDE} pixels can be used."
        )
    if image.mode not in MODES:
        mode = image.mode
        image.close()
        raise UnusableImageError(f"it has pixels of the kind {mode}; convert it to eight bits a channel.")
    return image


def read_image(file: Path) -> np.ndarray:
    """uint8 [H, W, 3] RGB as shown; transparency on black. See ``native_size`` for errors."""
    with opened(file) as image:
        try:
            image = ImageOps.exif_transpose(image)
            if image.has_transparency_data:
                image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image.convert("RGBA"))
            return np.array(image.convert("RGB"))
        except (OSError, ValueError, SyntaxError) as error:
            raise UnusableImageError(f"its pixels cannot be decoded ({error}).") from error


def common_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int]:
    """Least width and least height among native (width, height): what every image is reduced to.

    Where shapes differ, the shape of the result is none's and aspects are not kept, as nowhere in this project: a shape that only
    one method has would give it away.

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


def list_images(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Images in ``folder`` by mask id (the name without its suffix), and what is wrong with the folder, one sentence each."""
    if not folder.is_dir():
        return {}, [f"{folder.name}: there is no such folder."]
    found: dict[str, Path] = {}
    problems = []
    for file in sorted(folder.iterdir()):
        if file.suffix.lower() not in SUFFIXES or file.name.startswith(".") or not file.is_file():
            continue
        if file.stem in found:
            problems.append(
                f"{folder.name}: {found[file.stem].name} and {file.name} are of one mask; keep one."
            )
        elif len(file.stem) > 200:
            problems.append(f"{folder.name}: {file.name[:60]}... has a name of more than 200 characters.")
        else:
            found[file.stem] = file
    if not found:
        problems.append(f"{folder.name}: the folder holds no images ({', '.join(SUFFIXES)}).")
    return found, problems
