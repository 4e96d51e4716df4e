"""What is exchanged: an image with its mask and what is known about it. Free of torch."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from siamese import VERSION
from siamese.files.names import MAX_NAME_BYTES, is_safe_name, safe_name
from siamese.masks.core import check_mask
from siamese.records.provenance import FRAME_NOTICE, NOTICE, SyntheticPair, mask_base64

MAX_TEXT = 10_000
"""Characters of a recipe: DICOM's longest text has 10,240."""
MAX_CATEGORY = 64
"""Characters of a category's name, as DICOM's short texts have."""
LESION = "lesion"
"""The category of masks that come without one."""


class ExchangeError(ValueError):
    """What cannot be read or written; the message lists every fault with its file and says what to do."""

    def __init__(self, title: str, faults: Sequence[str] = ()) -> None:
        super().__init__("\n".join([title + (":" if faults else ""), *(f"  {fault}" for fault in faults)]))
        self.faults = tuple(faults)


@dataclass(frozen=True, eq=False)
class AnnotatedImage:
    """An image, its mask, and what is known about them."""

    image: np.ndarray
    """uint8 [H, W, 3] RGB."""
    mask: np.ndarray
    """uint8 [H, W] of 0 / 255; empty if the image shows no lesion."""
    name: str
    """File name without suffix; see ``siamese.files.names.safe_name``."""
    category: str = LESION
    """What the mask shows, such as "polyp"."""
    synthetic: bool = False
    """Whether the image was made by a model. If it is false, the image may be a photograph of a patient."""
    recipe: str | None = None
    """How a synthetic image was made, as text; spaces around it are dropped. Of this studio, the JSON of ``siamese.records.provenance.Recipe``."""

    def __post_init__(self) -> None:
        image, mask = self.image, self.mask
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ExchangeError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}.")
        if mask.shape != image.shape[:2]:
            raise ExchangeError(
                f"image {image.shape[1]} x {image.shape[0]} and mask {mask.shape[-1]} x {mask.shape[0]} differ in size; "
                "resize the mask to the image."
            )
        object.__setattr__(self, "mask", check_mask(mask))
        if not is_safe_name(self.name):
            raise ExchangeError(
                f"{self.name[:MAX_NAME_BYTES]!r} cannot name a file; use letters, digits, _ and -."
            )
        if not is_category(self.category):
            raise ExchangeError(
                f"the category {self.category[:MAX_CATEGORY]!r} must be one line of 1 to {MAX_CATEGORY} printable characters."
            )
        object.__setattr__(self, "recipe", (self.recipe or "").strip() or None)
        if self.recipe is not None and not self.synthetic:
            raise ExchangeError(f"{self.name} has a recipe but is not marked as synthetic; mark it.")
        if self.recipe is not None and not _is_plain(self.recipe):
            raise ExchangeError(
                f"the recipe of {self.name} must have at most {MAX_TEXT:,} characters, without control characters."
            )

    @property
    def notice(self) -> str:
        """The sentence that goes with a synthetic image: that it is not for diagnosis, and whether its background is a real photo."""
        try:
            recipe = json.loads(self.recipe or "null")
        except ValueError:  # another program's text
            return NOTICE
        return FRAME_NOTICE if isinstance(recipe, dict) and recipe.get("background") else NOTICE


def _is_plain(text: str) -> bool:
    """Whether every format gives ``text`` back as it is: XML, for example, changes carriage returns."""
    return len(text) <= MAX_TEXT and not any(
        (c < " " and c not in "\t\n") or c in "\x7f\ufffe\uffff" or "\ud800" <= c <= "\udfff" for c in text
    )


def of_pair(pair: SyntheticPair, name: str, category: str = LESION) -> AnnotatedImage:
    """A synthetic pair of this studio under ``name``, with the mask at the image's size."""
    return AnnotatedImage(
        image=pair.image,
        mask=pair.mask,
        name=name,
        category=category,
        synthetic=True,
        recipe=json.dumps(pair.recipe.to_dict()),
    )


def is_category(name: object) -> bool:
    """Whether ``name`` is a text that every format can hold as a category."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= MAX_CATEGORY
        and name.isprintable()
        and name == name.strip()
        and "\\" not in name  # DICOM separates values by it
    )


def unique(items: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
    """``items``, each with a name of its own.

    Raises:
        ExchangeError: two have the same name, or names that differ in case alone, which is one file on some systems.
    """
    names: set[str] = set()
    for item in items:
        if (key := item.name.casefold()) in names:
            raise ExchangeError(f"two images are named {item.name}; give each its own name.")
        names.add(key)
        yield item


def renamed(items: Iterable[AnnotatedImage]) -> Iterator[AnnotatedImage]:
    """``items`` with ``_2``, ``_3`` behind names that came before."""
    names: set[str] = set()
    for item in items:
        name, number = item.name, 1
        while name.casefold() in names:
            number += 1
            name = safe_name(f"{item.name[: MAX_NAME_BYTES // 4]}_{number}")
        names.add(name.casefold())
        yield replace(item, name=name) if name != item.name else item


def image_png(item: AnnotatedImage) -> bytes:
    """The image as a PNG, without EXIF. One of a synthetic image says so in its text fields, wherever the file goes.

    If the recipe is of this studio and the image is square, the page opens the file as a pair (``siamese.records.provenance.read_png``).
    """
    text = PngInfo()
    if item.synthetic:
        text.add_itxt("Software", f"Siamese-Diffusion Studio {VERSION}")
        text.add_itxt("Disclaimer", item.notice)
        text.add_itxt("Synthetic", "true")
        if item.recipe is not None:
            text.add_itxt("Recipe", item.recipe)
            text.add_itxt("Mask", mask_base64(item.mask))
    buffer = io.BytesIO()
    Image.fromarray(item.image).save(buffer, "PNG", pnginfo=text)
    return buffer.getvalue()


def grey_png(values: np.ndarray) -> bytes:
    """uint8 [H, W] as an 8-bit grey PNG without metadata."""
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()
