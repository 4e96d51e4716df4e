"""Small objects that many tests need."""

from __future__ import annotations

import numpy as np
from PIL import Image

from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from tests.phantoms import phantom

RECIPE = Recipe("an image of polyp", 2**32 - 1, SamplingSettings(20, 7.5, "ddim"), "kvasir", 0.25)


def make_pair(recipe: Recipe = RECIPE, side: int = 64, height: int = 48, width: int = 80) -> SyntheticPair:
    """A pair of a phantom: the mask as drawn (``height`` x ``width``) and as the model saw it (``side``)."""
    drawn = phantom(1, height, width)[1]
    mask = np.array(Image.fromarray(drawn).resize((side, side), Image.Resampling.NEAREST))
    return SyntheticPair(phantom(2, side, side)[0], mask, drawn, recipe)


def mask_of(seed: int = 0) -> np.ndarray:
    """Mask uint8 [H, W] of a phantom."""
    return phantom(seed)[1]
