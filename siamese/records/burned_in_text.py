"""Burned-in text in photographs: names, dates and numbers that an endoscope or a scanner wrote into the picture. Free of torch.

Detector and recogniser are PP-OCRv6's small ones as RapidOCR ships them in its wheel (Apache-2.0); nothing is downloaded. To the
detector alone a round lesion is a letter O and a ruler a row of strokes; that a line can also be read as several letters or digits
tells them apart. What was read is used for that and forgotten.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import cv2
import numpy as np

if TYPE_CHECKING:
    from rapidocr import RapidOCR
    from rapidocr.ch_ppocr_det.utils import TextDetOutput
    from rapidocr.ch_ppocr_rec.typings import TextRecOutput

MAX_SIDE = 800
"""Pixels on the longer side of what is looked at; larger images are reduced, so that no image takes much longer than another."""
SHARE = 9 / 16
"""A tile's side, of the image's: four of them overlap in the middle. The detector misses small letters beside a large lesion."""
MIN_SIDE = 32
"""Pixels on a tile's side that the detector needs; a narrower one gets a black border."""
LIKELY, SURE = 0.3, 0.7
"""Least scores 0..1 of a line for the detector and for the recogniser, chosen on training frames of real data."""
LETTERS = 3
"""Letters and digits that a line has at least: two are often a ruler's strokes."""
ASPECT = 1.3
"""Least width over height of a line."""
MAX_LINES = 12
"""Lines that are read in an image, those with the detector's best scores: a page full of text takes not much longer."""

_one_at_a_time = threading.Lock()


class Box(NamedTuple):
    """Where a line of text is, as fractions 0..1 of the image's width and height, from the upper left corner."""

    left: float
    top: float
    right: float
    bottom: float


def find_text(image: np.ndarray) -> tuple[Box, ...]:
    """Boxes around horizontal lines of text in ``image`` uint8 [H, W, 3] RGB of any size; none if no text was found.

    Found are Latin letters and digits from about a hundredth of the longer side on, 10 pixels on 1024. A line that crosses the middle
    may be found in two overlapping parts. An image takes about half a second on one core and no more than one core; the first call
    loads the detector, two seconds more. Safe to call from several threads; one image is looked at after the other.

    Raises:
        ValueError: another shape or type, or no pixels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise ValueError(
            f"an image must be uint8 [H, W, 3] with at least one pixel, not {image.dtype} {image.shape}."
        )
    height, width = image.shape[:2]
    factor = min(1, MAX_SIDE / max(height, width))
    if factor < 1:
        width, height = max(1, round(width * factor)), max(1, round(height * factor))
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    image, lines = cv2.cvtColor(image, cv2.COLOR_RGB2BGR), []
    high, wide = -int(-height * SHARE // 1), -int(-width * SHARE // 1)
    for y in sorted({0, height - high}):
        for x in sorted({0, width - wide}):
            lines += [
                (score, left + x, top + y, right + x, bottom + y)
                for score, left, top, right, bottom in _lines(image[y : y + high, x : x + wide])
            ]
    likely = sorted(lines, reverse=True)[:MAX_LINES]
    return tuple(
        Box(left / width, top / height, right / width, bottom / height)
        for _, left, top, right, bottom in likely
        if _readable(image[top:bottom, left:right])
    )


def _lines(tile: np.ndarray) -> Iterator[tuple[float, int, int, int, int]]:
    """Score 0..1, left, top, right and bottom in pixels of what may be a line in ``tile`` uint8 [H, W, 3] BGR."""
    height, width = tile.shape[:2]
    padded = cv2.copyMakeBorder(
        tile, 0, max(0, MIN_SIDE - height), 0, max(0, MIN_SIDE - width), cv2.BORDER_CONSTANT
    )
    with _one_at_a_time:
        # Which of the reader's outputs comes back depends on what was asked for.
        found: TextDetOutput = cast(Any, _reader()(padded, use_det=True, use_cls=False, use_rec=False))
    if found.boxes is None or found.scores is None:
        return
    for corners, score in zip(found.boxes, found.scores, strict=True):
        left, top = np.floor(corners.min(0)).astype(int).clip(0).tolist()
        right, bottom = np.ceil(corners.max(0)).astype(int).clip(0, (width, height)).tolist()
        if bottom > top and right - left >= ASPECT * (bottom - top):
            yield float(score), left, top, right, bottom


def _readable(line: np.ndarray) -> bool:
    """Whether ``line`` uint8 [H, W, 3] BGR can be read as several letters or digits."""
    with _one_at_a_time:
        read: TextRecOutput = cast(Any, _reader()(line, use_det=False, use_cls=False, use_rec=True))
    return (
        bool(read.txts)
        and read.scores is not None
        and read.scores[0] >= SURE
        and sum(map(str.isalnum, read.txts[0])) >= LETTERS
    )


@lru_cache(maxsize=1)
def _reader() -> RapidOCR:
    """Detector and recogniser on one thread, loaded on first use: the studio also starts without a photograph."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "error",
            "Global.text_score": 0.0,
            "Det.limit_type": "max",
            "Det.limit_side_len": MAX_SIDE,
            "Det.box_thresh": LIKELY,
            "EngineConfig.onnxruntime.intra_op_num_threads": 1,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
        }
    )
