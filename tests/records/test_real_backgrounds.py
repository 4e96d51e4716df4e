"""A pair whose background is a real photo: it says so wherever it goes."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest

from siamese.records.provenance import (
    FRAME_NOTICE,
    NOTICE,
    NotSyntheticError,
    SyntheticPair,
    notice_of,
    pair_png,
    read_png,
)
from tests.factories import RECIPE, make_pair
from tests.phantoms import phantom

PAIR = make_pair()
PNG = pair_png(PAIR)


def frame_pair(height: int = 37, width: int = 53) -> SyntheticPair:
    """A lesion in a real photo."""
    image, mask = phantom(4, height, width)
    return SyntheticPair(image, mask, mask, dataclasses.replace(RECIPE, background="real photo"))


def test_a_real_background_is_said_in_every_place_and_read_back():
    pair = frame_pair()
    fields = pair.fields()
    assert fields["Background"] == "real photo"
    assert fields["Disclaimer"] == FRAME_NOTICE
    assert fields["Description"].startswith("Synthetic lesion in a real photo")
    assert json.loads(fields["Recipe"])["background"] == "real photo"
    again = read_png(pair_png(pair))
    assert again.recipe == pair.recipe
    for name in ("image", "mask", "drawn"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pair, name))


def test_a_synthetic_background_is_written_as_before():
    assert "background" not in RECIPE.to_dict()
    assert "Background" not in PAIR.fields()
    assert read_png(PNG).recipe.background is None
    assert notice_of([RECIPE, RECIPE]) == NOTICE
    assert notice_of([RECIPE, frame_pair().recipe]) == FRAME_NOTICE


def test_the_mask_of_a_photo_has_the_photos_size():
    pair = frame_pair()
    with pytest.raises(NotSyntheticError, match="photo's size"):
        read_png(pair_png(dataclasses.replace(pair, drawn=pair.drawn[:-1])))
    with pytest.raises(NotSyntheticError, match="not square"):
        read_png(pair_png(dataclasses.replace(pair, recipe=RECIPE)))
