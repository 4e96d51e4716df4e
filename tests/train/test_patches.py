"""Sliced Wasserstein distance: pyramids against a literal two-dimensional filter, closed forms, and known differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve
from scipy.stats import wasserstein_distance

from siamese.masks.core import resize_image
from train.evaluation.patches import (
    PATCH,
    SIDES,
    blurred,
    laplacian_pyramid,
    patches_of,
    sliced_wasserstein,
    swd,
)

KERNEL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def noise(seed: int, count: int = 4, side: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def fields(seed: int, count: int, contrast: float = 30.0) -> np.ndarray:
    """Smooth random colour fields at 256 px, uint8, with fine noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(60, 190, (count, 16, 16, 3), dtype=np.uint8)
    large = np.stack([resize_image(x, 256) for x in small]) + rng.normal(0, contrast, (count, 256, 256, 3))
    return large.clip(0, 255).astype(np.uint8)


def pyramid_by_hand(channel: np.ndarray, levels: int) -> list[np.ndarray]:
    """Of one channel float64 [H, W], as the paper's code has it: a two-dimensional filter, mirrored; zeros in between, times four."""
    bands, image = [], channel
    for _ in range(levels):
        smaller = convolve(image, KERNEL, mode="mirror")[::2, ::2]
        wide = np.zeros_like(image)
        wide[::2, ::2] = smaller
        bands.append(image - convolve(wide, KERNEL * 4, mode="mirror"))
        image = smaller
    return bands


def test_pyramid_equals_the_one_by_hand():
    images = noise(0, 2)
    bands = laplacian_pyramid(images, 3)
    assert [b.shape for b in bands] == [(2, 64, 64, 3), (2, 32, 32, 3), (2, 16, 16, 3)]
    for n in range(2):
        for c in range(3):
            for band, other in zip(bands, pyramid_by_hand(images[n, ..., c].astype(float), 3), strict=True):
                np.testing.assert_allclose(band[n, ..., c], other, atol=1e-3)


def test_pyramid_of_an_even_image_is_zero_and_the_filter_keeps_the_mean():
    assert max(np.abs(b).max() for b in laplacian_pyramid(np.full((1, 64, 64, 3), 90, np.uint8), 3)) < 1e-3
    impulse = np.zeros((1, 9, 9, 3), np.float32)
    impulse[0, 4, 4] = 1
    np.testing.assert_allclose(blurred(impulse)[0, 2:7, 2:7, 1], KERNEL, atol=1e-7)


def test_patches_are_windows_of_their_image_with_each_channel_normalised():
    band = np.arange(3 * 12 * 10, dtype=np.float32).reshape(3, 12, 10, 1) * np.array([1, -2, 0], np.float32)
    found = patches_of(band, np.random.default_rng(0), 40).reshape(3, 40, PATCH, PATCH, 3)
    assert found.dtype == np.float32
    for channel, sign in ((0, 1), (1, -1)):
        values = found[..., channel]
        assert values.mean() == pytest.approx(0, abs=1e-5)
        assert values.std() == pytest.approx(1, rel=1e-5)
        # One pixel to the right is one step, one below is the width's: as in the image.
        steps = np.diff(values, axis=3), np.diff(values, axis=2)
        np.testing.assert_allclose(steps[1], 10 * steps[0].mean(), rtol=1e-3)
        assert np.sign(steps[0].mean()) == sign
        places = {tuple(np.round(x, 3)) for x in values[0, :, 0, :1]}
        assert len(places) > 10
        assert values[0].max() * sign < values[2].max() * sign
    assert (found[..., 2] == 0).all()


def test_sliced_distance_in_closed_form():
    a = np.random.default_rng(0).normal(size=(500, 147)).astype(np.float32)
    assert sliced_wasserstein(a, a[::-1], np.random.default_rng(1)) == pytest.approx(0, abs=1e-7)
    # A shift by s moves every projection by v.s: on average |s| E|v_1| = |s| sqrt(2 / (pi D)) or nearly, for unit vectors.
    shift = np.zeros(147, np.float32)
    shift[5] = 30
    expected = 30 * np.sqrt(2 / (np.pi * 147))
    assert sliced_wasserstein(a, a + shift, np.random.default_rng(1), 4000) == pytest.approx(
        expected, rel=0.03
    )
    with pytest.raises(ValueError, match="as many"):
        sliced_wasserstein(a, a[:10], np.random.default_rng(1))


def test_sliced_distance_equals_scipys_of_each_projection():
    a, b = (np.random.default_rng(s).normal(s, 1 + s, (60, 7)).astype(np.float32) for s in (0, 1))
    vectors = np.random.default_rng(3).standard_normal((7, 20))
    vectors /= np.linalg.norm(vectors, axis=0)
    by_hand = np.mean([wasserstein_distance(a @ v, b @ v) for v in vectors.T])
    assert sliced_wasserstein(a, b, np.random.default_rng(3), 20) == pytest.approx(by_hand, rel=1e-5)


@pytest.mark.slow
def test_swd_finds_the_scale_that_differs():
    a, b = fields(0, 6, 5.0), fields(1, 6, 5.0)
    equal = swd([(a, b)])
    assert list(equal) == list(SIDES)
    # A chessboard of single pixels: the binomial filter takes it away whole, so that no coarser level knows of it.
    board = 20 * (-1) ** np.add.outer(np.arange(256), np.arange(256))[..., None]
    marked = swd([(a, (b + board).astype(np.uint8))])
    assert marked[256] > 3 * equal[256]
    assert marked[128] == pytest.approx(equal[128], rel=0.02)
    assert marked[64] == pytest.approx(equal[64], rel=0.02)
    assert swd([(a, b)]) == equal != swd([(a, b)], seed=1)


@pytest.mark.slow
def test_swd_is_the_mean_over_draws_and_needs_equal_sets():
    a, b, c = fields(0, 2), fields(1, 2), np.full((2, 256, 256, 3), 9, np.uint8)
    c[:, ::16] = 200
    near, far, both = swd([(a, b)]), swd([(a, c)]), swd([(a, b), (a, c)])
    for side in SIDES:
        assert both[side] == pytest.approx((near[side] + far[side]) / 2, rel=0.15)
    with pytest.raises(ValueError, match="equally many"):
        swd([(a, b[:1])])
    with pytest.raises(ValueError, match="equally many"):
        swd([])
