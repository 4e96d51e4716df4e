"""The square of a photo around a lesion: where it lies, and what comes back."""

from __future__ import annotations

import numpy as np
import pytest

from siamese.masks.crop import FEATHER, MARGIN, Crop, blend, distance_from, opacity
from tests.phantoms import phantom

SIZE = 32


def mask_with(shape: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> np.ndarray:
    mask = np.zeros(shape, np.uint8)
    mask[slice(*rows), slice(*columns)] = 255
    return mask


def photo_of(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 3), np.uint8)


def test_the_square_has_a_margin_around_the_lesion():
    crop = Crop.around(mask_with((300, 400), (100, 150), (200, 220)), SIZE)
    assert crop.side == round(50 * (1 + 2 * MARGIN))
    assert crop.top + crop.side / 2 == pytest.approx(125, abs=1)
    assert crop.left + crop.side / 2 == pytest.approx(210, abs=1)


def test_a_tiny_lesion_gets_surroundings_of_half_the_models_size():
    assert Crop.around(mask_with((300, 400), (100, 102), (200, 203)), SIZE).side == SIZE // 2


@pytest.mark.parametrize(
    ("rows", "columns"), [((0, 50), (0, 50)), ((250, 300), (350, 400)), ((0, 30), (340, 390))]
)
def test_at_the_photos_edge_the_square_is_moved_inside(rows, columns):
    crop = Crop.around(mask_with((300, 400), rows, columns), SIZE)
    assert 0 <= crop.top <= 300 - crop.side
    assert 0 <= crop.left <= 400 - crop.side
    assert crop.top <= rows[0]
    assert crop.top + crop.side >= rows[1]
    assert crop.left <= columns[0]
    assert crop.left + crop.side >= columns[1]


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((40, 200), (5, 35), (50, 140)),
        ((200, 40), (10, 190), (0, 40)),
        ((9, 7), (3, 6), (2, 4)),
        ((1, 1), (0, 1), (0, 1)),
        ((60, 60), (0, 60), (0, 60)),
    ],
    ids=["wide", "high", "tiny", "one pixel", "all lesion"],
)
def test_a_photo_smaller_than_the_square_is_continued(shape, rows, columns):
    photo, mask = photo_of(shape), mask_with(shape, rows, columns)
    crop = Crop.around(mask, SIZE)
    square, part = crop.cut_photo(photo), crop.cut_mask(mask)
    assert square.shape == (crop.side, crop.side, 3)
    assert part.shape == (crop.side, crop.side)
    assert part.sum() == mask.sum(), "the whole lesion is in it"
    assert np.array_equal(crop.paste(photo, square), photo)
    other = crop.paste(photo, 255 - square)
    changed = (other != photo).all(2) | (photo == 255 - photo).any(2)
    assert changed[slice(*rows), slice(*columns)].all()


def test_a_lesion_nearly_as_large_as_the_photo_keeps_its_feather():
    mask = mask_with((100, 100), (2, 98), (2, 98))
    crop = Crop.around(mask, SIZE)
    distance = distance_from(crop.cut_mask(mask))
    edge = np.concatenate([distance[0], distance[-1], distance[:, 0], distance[:, -1]])
    assert edge.min() >= FEATHER[1] - 1 / crop.side


def test_an_empty_mask_has_no_square():
    with pytest.raises(ValueError, match="no lesion"):
        Crop.around(np.zeros((8, 8), np.uint8), SIZE)


def test_opacity_is_whole_at_the_lesion_and_exactly_none_beyond_the_feather():
    distance = np.array([0, FEATHER[0], sum(FEATHER) / 2, FEATHER[1], 1], np.float32)
    assert opacity(distance) == pytest.approx([1, 1, 0.5, 0, 0], abs=1e-6)
    assert opacity(distance)[-1] == 0


def test_blending_leaves_the_photo_bit_for_bit_and_puts_the_sample_into_the_lesion():
    side = 96
    photo, lesion = photo_of((side, side)), phantom(1, side, side)[1]
    synthetic, rebuilt = photo_of((SIZE, SIZE), 1), photo_of((SIZE, SIZE), 2)
    blended = blend(photo, lesion=lesion, synthetic=synthetic, rebuilt=rebuilt)
    outside = opacity(distance_from(lesion)) == 0
    assert 0.1 < outside.mean() < 0.95
    assert np.array_equal(blended[outside], photo[outside])
    enlarged = blend(
        np.zeros_like(photo), lesion=np.full_like(lesion, 255), synthetic=synthetic, rebuilt=rebuilt
    )
    assert np.array_equal(blended[lesion > 0], enlarged[lesion > 0])


def test_a_sample_that_is_the_photo_again_changes_nothing_away_from_the_lesion():
    """What the autoencoder loses comes back: with synthetic = rebuilt the surroundings are the photo's."""
    side = 128
    photo, lesion = photo_of((side, side)), phantom(1, side, side)[1]
    same = photo_of((SIZE, SIZE), 1)
    blended = blend(photo, lesion=lesion, synthetic=same, rebuilt=same)
    far = distance_from(lesion) >= FEATHER[1] * 0.9
    near = (lesion == 0) & ~far
    assert np.abs(blended[far].astype(int) - photo[far]).max() <= 2
    assert np.abs(blended[near].astype(int) - photo[near]).mean() < 60
    assert np.abs(blended[lesion > 0].astype(int) - photo[lesion > 0]).mean() > 60
