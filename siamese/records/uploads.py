"""What kind of file a visitor has uploaded: a synthetic pair of this studio, a mask or a photograph. Free of torch.

``siamese.files.decoding`` and ``siamese.masks.reading`` say what a photograph and what a mask is; here their errors become an
``UploadError`` with the same sentence.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from siamese.files import decoding
from siamese.files.decoding import VISITOR, DecodingError, decode, read_bytes, to_rgb
from siamese.masks.reading import NotAMaskError, find_mask, not_empty
from siamese.records.provenance import NotSyntheticError, SyntheticPair, read_png

DAMAGED_RECIPE = (
    "This is a synthetic image of this studio, but its recipe is damaged or another program has changed it. "
    "Upload the file as it was downloaded."
)

SYNTHETIC_DICOM = (
    "This DICOM file says that its image is synthetic, so it is not opened as a photo. "
    "To go on with an image of this studio, upload the PNG as it was downloaded."
)


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
    """Whatever the file at ``path`` holds: a pair of this studio, otherwise a mask, otherwise a photograph.

    Raises:
        UploadError: too large, damaged, not an image of a known format, a mask that is empty or that could be read in more than one
            way, or an image that says that it is of this studio but has lost its recipe. That one is not taken for a photograph: it
            is synthetic.
    """
    try:
        data = read_bytes(path, VISITOR)
        picture = decode(data, VISITOR)
        if picture.format == "PNG":
            try:
                return Upload("pair", pair=read_png(data))
            except NotSyntheticError as error:
                if picture.info.get("Synthetic") == "true":
                    raise UploadError(DAMAGED_RECIPE) from error
        if picture.format == "DICOM" and "Synthetic" in picture.info:
            raise UploadError(SYNTHETIC_DICOM)
        try:
            return Upload("mask", mask=not_empty(find_mask(picture)))
        except NotAMaskError:
            return Upload("photo", photo=to_rgb(picture))
    except DecodingError as error:
        raise UploadError(str(error)) from error


def read_photo(path: str | Path) -> np.ndarray:
    """The image at ``path`` as uint8 [H, W, 3] RGB at its own size, even if it looks like a mask or is synthetic.

    Raises:
        UploadError: too large, damaged or not an image of a known format.
    """
    try:
        return decoding.read_image(path, VISITOR)
    except DecodingError as error:
        raise UploadError(str(error)) from error
