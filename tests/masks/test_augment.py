"""Random variants of a drawn mask."""

from __future__ import annotations

import numpy as np
import pytest

from siamese.masks.augment import SCALE, SHIFT, augment
from siamese.masks.core import MaskError
from siamese.masks.editing import EditError
from tests.phantoms import phantom

SEEDS = range(60)


def l_shape() -> np.ndarray:
    """A lesion without symmetry, inside the frame."""
    mask = np.zeros((90, 120), np.uint8)
    mask[30:60, 50:58] = mask[50:60, 50:75] = 255
    return mask


def sides(mask: np.ndarray) -> tuple[bool, ...]:
    """Whether the lesion touches top, bottom, left, right."""
    return tuple(bool(edge.any()) for edge in (mask[0], mask[-1], mask[:, 0], mask[:, -1]))


def centre(mask: np.ndarray) -> np.ndarray:
    return np.argwhere(mask).mean(0)


def test_a_seed_gives_one_variant_and_another_seed_another():
    mask = l_shape()
    variants = [augment(mask, seed) for seed in SEEDS]
    again = [augment(mask, seed) for seed in SEEDS]
    assert all(np.array_equal(a, b) for a, b in zip(variants, again, strict=True))
    assert len({v.tobytes() for v in variants}) == len(SEEDS)
    assert np.array_equal(mask, l_shape()), "the input is not changed"


def test_area_and_place_stay_within_the_ranges_and_reach_their_ends():
    mask = l_shape()
    height, width = mask.shape
    factors, moves = [], []
    for seed in SEEDS:
        variant = augment(mask, seed)
        assert variant.dtype == np.uint8
        assert set(np.unique(variant)) == {0, 255}
        assert sides(variant) == (False,) * 4
        factors.append(np.sqrt((variant > 0).sum() / (mask > 0).sum()))
        mirrored = [mask[::a, ::b] for a in (1, -1) for b in (1, -1)]
        moves.append(min(np.abs((centre(variant) - centre(m)) / (height, width)).max() for m in mirrored))
    assert 1 - SCALE - 0.05 < min(factors) < 1 - SCALE / 2
    assert 1 + SCALE / 2 < max(factors) < 1 + SCALE + 0.05
    assert SHIFT / 2 < max(moves) < SHIFT + 0.02


def test_all_four_mirror_images_come_up():
    mask = l_shape()
    found = set()
    for seed in SEEDS:
        rows, columns = np.argwhere(augment(mask, seed)).T
        # The corner of the L is nearer to two sides of its box; its mass says which.
        found.add(
            (
                rows.mean() > (rows.min() + rows.max()) / 2,
                columns.mean() > (columns.min() + columns.max()) / 2,
            )
        )
    assert len(found) == 4


def test_a_lesion_that_the_frame_cuts_off_stays_cut_off():
    mask = np.zeros((80, 80), np.uint8)
    mask[:25, 20:50] = 255
    variants = [augment(mask, seed) for seed in SEEDS]
    assert {sides(v) for v in variants} == {(True, False, False, False), (False, True, False, False)}
    assert len({v.tobytes() for v in variants}) > len(SEEDS) / 2


@pytest.mark.parametrize(
    "mask",
    [
        np.full((40, 50), 255, np.uint8),
        np.full((1, 1), 200, np.uint8),
        np.pad(np.full((1, 1), 255, np.uint8), ((0, 63), (0, 63))),
        np.pad(np.full((1, 1), 255, np.uint8), ((31, 32), (63, 0))),
        np.eye(64, dtype=np.uint8) * 255,
        np.pad(np.zeros((30, 30), np.uint8), 1, constant_values=255),
        phantom(3, 64, 64)[1],
    ],
    ids=["whole frame", "one pixel", "corner", "side", "diagonal", "frame of one pixel", "ellipse"],
)
def test_it_is_never_empty(mask):
    for seed in range(25):
        variant = augment(mask, seed)
        assert variant.shape == mask.shape
        assert variant.any()


def test_what_cannot_be_used_is_refused():
    with pytest.raises(EditError, match="draw one first"):
        augment(np.zeros((8, 8), np.uint8), 0)
    with pytest.raises(MaskError):
        augment(np.zeros((8, 8, 3), np.uint8), 0)
    with pytest.raises(ValueError, match="non-negative"):
        augment(l_shape(), -1)
