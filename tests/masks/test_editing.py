"""Edits of masks: what they keep, what they undo, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
from scipy import ndimage

from siamese.masks import editing
from siamese.masks.editing import EditError
from siamese.studio.components.default_mask import example_mask

EDITS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "flip": lambda m: editing.flip(m, "horizontal"),
    "shift": lambda m: editing.shift(m, 0.1, -0.2),
    "scale": lambda m: editing.scale(m, 1.3),
    "rotate": lambda m: editing.rotate(m, 33),
    "grow": lambda m: editing.grow(m, 3),
    "shrink": lambda m: editing.shrink(m, 3),
    "smooth": lambda m: editing.smooth(m, 3),
    "fill_holes": editing.fill_holes,
}


def blob(seed: int, height: int = 60, width: int = 80) -> np.ndarray:
    """A blob on a frame that is not square."""
    mask = np.zeros((height, width), np.uint8)
    side = min(height, width)
    mask[:side, 10 : 10 + side] = example_mask(seed, side)[:, : width - 10]
    return mask


def dot(row: int, column: int, height: int = 20, width: int = 30) -> np.ndarray:
    mask = np.zeros((height, width), np.uint8)
    mask[row, column] = 255
    return mask


def area(mask: np.ndarray) -> int:
    return int((mask == 255).sum())


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float(((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum())


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize("seed", range(3))
def test_result_is_a_mask_and_the_input_stays(name: str, seed: int) -> None:
    mask = blob(seed)
    before = mask.copy()
    result = EDITS[name](mask)
    assert result.shape == mask.shape
    assert result.dtype == np.uint8
    assert set(np.unique(result)) == {0, 255}
    assert not np.shares_memory(result, mask)
    np.testing.assert_array_equal(mask, before)


@pytest.mark.parametrize("name", EDITS)
def test_an_empty_mask_asks_for_a_lesion(name: str) -> None:
    with pytest.raises(EditError, match="draw one first"):
        EDITS[name](np.zeros((20, 30), np.uint8))


@pytest.mark.parametrize("name", EDITS)
@pytest.mark.parametrize(
    "wrong", [np.zeros((4, 4), bool), np.zeros((4, 4, 3), np.uint8), np.full((4, 4), 1, np.uint8), [[255]]]
)
def test_what_is_not_a_mask_is_refused(name: str, wrong: object) -> None:
    with pytest.raises(ValueError, match="a mask must") as caught:
        EDITS[name](wrong)  # type: ignore[arg-type]
    assert not isinstance(caught.value, EditError), "a programmer's mistake is not advice to a clinician"


@pytest.mark.parametrize("axis", ["horizontal", "vertical"])
def test_flipping_twice_is_identity_and_once_is_not(axis: editing.Axis) -> None:
    mask = blob(1)
    once = editing.flip(mask, axis)
    assert (once != mask).any()
    np.testing.assert_array_equal(editing.flip(once, axis), mask)


def test_axes_of_a_flip() -> None:
    assert editing.flip(dot(2, 3), "horizontal")[2, 26] == 255
    assert editing.flip(dot(2, 3), "vertical")[17, 3] == 255
    with pytest.raises(ValueError, match="horizontal"):
        editing.flip(dot(2, 3), "diagonal")  # type: ignore[arg-type]


def test_shift_is_a_fraction_of_each_side() -> None:
    np.testing.assert_array_equal(editing.shift(dot(5, 5), 0.5, 0.1), dot(7, 20))
    np.testing.assert_array_equal(editing.shift(dot(5, 5), -0.1, -0.25), dot(0, 2))
    np.testing.assert_array_equal(editing.shift(blob(0), 0, 0), blob(0))


def test_shift_there_and_back_inside_the_frame() -> None:
    mask = blob(2)
    away = editing.shift(mask, 0.05, 0.05)
    assert area(away) == area(mask)
    np.testing.assert_array_equal(editing.shift(away, -0.05, -0.05), mask)


def test_what_leaves_the_frame_is_lost() -> None:
    full = np.full((20, 30), 255, np.uint8)
    assert area(editing.shift(full, 0.5, 0)) == 20 * 15
    for far in ((1, 0), (0, -1), (7, 7), (-1e9, 0)):
        with pytest.raises(
            EditError, match="Nothing would be left of the lesion: it would lie outside the image"
        ):
            editing.shift(full, *far)


@pytest.mark.parametrize("factor", [0.5, 0.8, 1.0, 1.25])
def test_scale_multiplies_the_area_and_keeps_the_centroid(factor: float) -> None:
    mask = blob(3)
    scaled = editing.scale(mask, factor)
    assert area(scaled) == pytest.approx(factor**2 * area(mask), rel=0.05)
    np.testing.assert_allclose(ndimage.center_of_mass(scaled), ndimage.center_of_mass(mask), atol=0.5)


def test_scale_one_is_identity_and_larger_contains() -> None:
    disc = editing.grow(dot(10, 15), 5)
    np.testing.assert_array_equal(editing.scale(disc, 1), disc)
    assert (editing.scale(disc, 1.4)[disc > 0] == 255).all()


def test_scaled_to_nothing() -> None:
    ring = editing.grow(dot(10, 15), 4)
    ring[editing.grow(dot(10, 15), 2) > 0] = 0
    with pytest.raises(EditError, match="change its size less"):
        editing.scale(ring, 0.01)  # only the centroid's pixel is looked up, and it is background
    with pytest.raises(EditError, match="change its size less"):
        editing.scale(ring, 100)
    for factor in (0, -1):
        with pytest.raises(ValueError, match="greater than 0"):
            editing.scale(ring, factor)


@pytest.mark.parametrize("turns", [-360, 0, 360, 720])
def test_whole_turns_are_identity(turns: int) -> None:
    np.testing.assert_array_equal(editing.rotate(blob(4), turns), blob(4))


def test_quarter_turns_are_exact_if_the_centroid_is_a_pixel() -> None:
    mask = np.zeros((41, 41), np.uint8)
    mask[20, 10:31], mask[18:20, 20], mask[21:23, 20] = 255, 255, 255  # centroid (20, 20)
    np.testing.assert_array_equal(editing.rotate(mask, 90), np.rot90(mask, -1))
    for _ in range(4):
        mask = editing.rotate(mask, 90)
    assert (mask[20, 10:31] == 255).all()


def test_positive_angles_are_clockwise() -> None:
    mask = np.zeros((41, 41), np.uint8)
    mask[20, 5:36] = 255
    mask[19:22, 30:36] = 255  # the thick end points right
    turned = editing.rotate(mask, 90)
    rows, columns = np.nonzero(editing.shrink(turned, 1))
    assert rows.min() > 20, "it points down"
    assert abs(columns.mean() - 23) < 2, "it points down"


def test_rotating_back_nearly_undoes() -> None:
    mask = blob(5)
    there = editing.rotate(mask, 40)
    assert iou(there, mask) < 0.95 < iou(editing.rotate(there, -40), mask)
    assert area(there) == pytest.approx(area(mask), rel=0.02)


def test_rotated_out_of_the_frame() -> None:
    bar = np.zeros((3, 41), np.uint8)
    bar[1, :10], bar[1, 31:] = 255, 255  # nothing at the centroid
    with pytest.raises(EditError, match="another angle"):
        editing.rotate(bar, 90)


@pytest.mark.parametrize("pixels", [0, 1, 4])
def test_grow_contains_the_lesion_and_shrink_lies_within(pixels: int) -> None:
    mask = blob(6)
    larger, smaller = editing.grow(mask, pixels), editing.shrink(mask, pixels)
    assert (larger[mask > 0] == 255).all()
    assert (mask[smaller > 0] == 255).all()
    assert (
        area(larger) > area(mask) > area(smaller) if pixels else area(larger) == area(mask) == area(smaller)
    )
    assert (editing.shrink(larger, pixels)[mask > 0] == 255).all(), "closing"
    assert (mask[editing.grow(smaller, pixels) > 0] == 255).all(), "opening"


def test_the_structuring_element_is_a_disc() -> None:
    y, x = np.mgrid[:31, :31] - 15
    expected = np.where(x**2 + y**2 <= 49, 255, 0)
    np.testing.assert_array_equal(editing.grow(dot(15, 15, 31, 31), 7), expected)
    np.testing.assert_array_equal(editing.shrink(expected.astype(np.uint8), 7), dot(15, 15, 31, 31))


def test_shrink_to_nothing_and_at_the_frame() -> None:
    with pytest.raises(EditError, match="Nothing would be left of the lesion: shrink it by fewer pixels"):
        editing.shrink(dot(5, 5), 1)
    full = np.full((20, 30), 255, np.uint8)
    np.testing.assert_array_equal(editing.shrink(full, 5), full)
    half = full.copy()
    half[:, 15:] = 0
    assert area(editing.shrink(half, 5)) == 20 * 10, "only the inner margin moves"


@pytest.mark.parametrize("edit", [editing.grow, editing.shrink])
@pytest.mark.parametrize("pixels", [-1, 1.5, True])
def test_pixels_are_whole(edit: Callable[..., np.ndarray], pixels: object) -> None:
    with pytest.raises(ValueError, match="whole number of pixels"):
        edit(blob(0), pixels)


def test_smooth_keeps_the_area_and_shortens_the_margin() -> None:
    rng = np.random.default_rng(0)
    mask = blob(7, 100, 120)
    margin = (editing.grow(mask, 2) > 0) & (editing.shrink(mask, 2) == 0)
    mask[margin] = np.where(rng.random(margin.sum()) < 0.5, 255, 0)
    smoothed = editing.smooth(mask, 3)
    assert area(smoothed) == pytest.approx(area(mask), rel=0.01)

    def length(m: np.ndarray) -> int:
        return int((m[1:] != m[:-1]).sum() + (m[:, 1:] != m[:, :-1]).sum())

    assert length(smoothed) < 0.5 * length(mask)
    assert ndimage.label(smoothed)[1] == 1 < ndimage.label(mask)[1]


def test_smooth_by_nothing_and_of_everything() -> None:
    np.testing.assert_array_equal(editing.smooth(blob(0), 0), blob(0))
    full = np.full((20, 30), 255, np.uint8)
    np.testing.assert_array_equal(editing.smooth(full, 4), full)
    with pytest.raises(ValueError, match="0 or greater"):
        editing.smooth(full, -1)


def test_holes_are_filled_and_gaps_are_not() -> None:
    disc = editing.grow(dot(10, 15), 6)
    ring = disc.copy()
    ring[editing.grow(dot(10, 15), 3) > 0] = 0
    np.testing.assert_array_equal(editing.fill_holes(ring), disc)
    diamond = np.zeros((9, 9), np.uint8)
    for k in range(3):  # closed at corners only: no path over pixel sides leads out
        diamond[[1 + k, 4 + k, 7 - k, 4 - k], [4 + k, 7 - k, 4 - k, 1 + k]] = 255
    assert editing.fill_holes(diamond)[4, 4] == 255
    ring[10, 15:] = 0
    np.testing.assert_array_equal(editing.fill_holes(ring), ring)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_are_finite(value: float) -> None:
    for edit in (
        lambda: editing.shift(blob(0), value, 0),
        lambda: editing.scale(blob(0), value),
        lambda: editing.rotate(blob(0), value),
        lambda: editing.smooth(blob(0), value),
    ):
        with pytest.raises(ValueError, match="finite"):
            edit()


@pytest.mark.slow
def test_importing_needs_no_torch() -> None:
    code = "import sys, siamese.masks.editing, siamese.masks.shapes; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
