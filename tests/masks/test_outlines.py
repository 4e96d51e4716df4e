"""Outlines and run lengths give every lesion back bit for bit, and refuse what describes none."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask
from scipy import ndimage

from siamese.masks.outlines import (
    MAX_CORNERS,
    OutlineError,
    from_packed_run_lengths,
    from_run_lengths,
    lesions,
    outer_ring,
    rasterise,
    run_lengths,
)

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 255]))
)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_outlines_give_the_lesion_without_its_holes(mask):
    for lesion in lesions(mask):
        whole = lesion.on(mask.shape)
        filled = np.where(ndimage.binary_fill_holes(whole), 255, 0)
        ring = outer_ring(lesion)
        np.testing.assert_array_equal(rasterise([ring], mask.shape), filled)
        by_coco = coco_mask.decode(coco_mask.frPyObjects([ring.astype(float).ravel().tolist()], *mask.shape))
        np.testing.assert_array_equal(by_coco[..., 0] * 255, filled)
        assert lesion.has_hole() == bool((filled != whole).any())


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_lesions_are_the_connected_parts(mask):
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    found = lesions(mask)
    assert len(found) == count
    for lesion in found:
        (label,) = set(labels[lesion.on(mask.shape) > 0].tolist())
        np.testing.assert_array_equal(lesion.on(mask.shape) > 0, labels == label)


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_run_lengths_give_the_mask(mask):
    for order in ("C", "F"):
        np.testing.assert_array_equal(from_run_lengths(run_lengths(mask, order), mask.shape, order), mask)
    packed = coco_mask.encode(np.asfortranarray(mask // 255))
    assert (
        coco_mask.frPyObjects({"counts": run_lengths(mask), "size": list(mask.shape)}, *mask.shape) == packed
    )
    np.testing.assert_array_equal(from_packed_run_lengths(packed["counts"].decode(), mask.shape), mask)


def test_an_outline_follows_the_edges_clockwise():
    mask = np.zeros((4, 5), np.uint8)
    mask[1, 1:4] = mask[2, 1] = 255
    [lesion] = lesions(mask)
    assert outer_ring(lesion).tolist() == [[1, 1], [4, 1], [4, 2], [2, 2], [2, 3], [1, 3]]
    assert lesion.box == (1, 1, 3, 2)
    assert lesion.area == 4


def test_any_polygon_is_drawn_by_its_pixels_centres():
    triangle = np.array([[0, 0], [6, 0], [0, 6]])
    drawn = rasterise([triangle], (6, 6)) > 0
    y, x = np.mgrid[:6, :6] + 0.5
    inside, edge = x + y < 6, x + y == 6
    np.testing.assert_array_equal(drawn[~edge], inside[~edge])
    twice = rasterise([triangle, triangle + 1], (6, 6)) > 0
    np.testing.assert_array_equal(twice, drawn | np.roll(drawn, (1, 1), (0, 1)) & (x > 1) & (y > 1))
    assert (rasterise([np.array([[-50, -50], [99, -50], [99, 99], [-50, 99]])], (3, 4)) == 255).all()
    assert not rasterise([triangle + 100], (6, 6)).any()


@pytest.mark.parametrize(
    "ring",
    [
        [[0, 0], [1, 1]],
        [[0, 0], [1, np.nan], [2, 0]],
        [[0, 0], [1, np.inf], [2, 0]],
        [[0, 0], [1, 1e9], [2, 0]],
        [0, 1, 2],
        np.zeros((MAX_CORNERS + 1, 2)),
    ],
)
def test_what_is_not_a_polygon_is_refused(ring):
    with pytest.raises(OutlineError, match="polygon"):
        rasterise([np.asarray(ring)], (4, 4))


@pytest.mark.parametrize(
    "counts", [[3], [7], [-1, 7], [2.0, 4.0], [[6]], ["6"], [0] * 9 + [6], [2**63 - 1, 2**63 - 1, 8]]
)
def test_run_lengths_that_do_not_fit_are_refused(counts):
    with pytest.raises(OutlineError):
        from_run_lengths(counts, (2, 3))


@pytest.mark.parametrize("text", ["p", "P", "\xff", "o" * 30, "`", " ", "§§"])
def test_packed_run_lengths_that_are_damaged_are_refused(text):
    with pytest.raises(OutlineError):
        from_packed_run_lengths(text, (2, 3))
