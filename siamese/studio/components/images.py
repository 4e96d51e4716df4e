"""Images and files on their way to the browser."""

from __future__ import annotations

import uuid

import numpy as np
from PIL import Image

from siamese.masks.core import outline
from siamese.records.provenance import SyntheticPair


def servable(pixels: np.ndarray, text: dict[str, str] | None = None) -> Image.Image:
    """``pixels`` uint8 [H, W, 3 or 4] for Gradio to serve as a PNG with ``text``.

    Gradio names a served file by its content and rewrites it each time, so that a browser which still loads the same content
    would get half a file. A unique text field gives each picture its own file.
    """
    image = Image.fromarray(pixels)
    image.info.update((text or {}) | {"File": uuid.uuid4().hex})
    return image


def picture(pair: SyntheticPair, outlined: bool) -> Image.Image:
    """The pair's image with its provenance, with or without the mask's outline."""
    return servable(outline(pair.image, pair.mask) if outlined else pair.image, pair.fields())


GOOD, FAIR = 0.8, 0.6
"""Minimum Dice coefficients of an image that follows its mask closely, and roughly."""


def agreement_words(agreement: float) -> str:
    """What a Dice coefficient of 0..1 means, in words."""
    return (
        "follows the mask closely"
        if agreement >= GOOD
        else "follows the mask roughly"
        if agreement >= FAIR
        else "does not follow the mask"
    )


def image_caption(pair: SyntheticPair, agreement: float | None) -> str:
    """The line on a small image: the mask agreement first, because a long line is cut off, then the seed."""
    seed = f"seed {pair.recipe.seed}"
    if agreement is None:
        return seed.capitalize()
    word = "close" if agreement >= GOOD else "rough" if agreement >= FAIR else "off the mask"
    return f"{agreement:.2f} {word} · {seed}"
