"""Sliced Wasserstein distance between the patches of two sets of images, scale by scale, without any network.

Karras, Aila, Laine and Lehtinen 2018, "Progressive Growing of GANs", arXiv:1710.10196, section 5: patches of 7 x 7 pixels of each
level of a Laplacian pyramid (Burt and Adelson 1983), 128 of an image, each channel brought to mean 0 and variance 1 over the set; then the
mean over random directions of the Wasserstein distance between the two sets' projections.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from train.evaluation.features import resized

SIDES = (256, 128, 64)
"""Sides in pixels of the pyramid's levels that are compared. Images are resized to the first."""
PATCH = 7
PATCHES = 128
"""Patches of an image at each level."""
DIRECTIONS = 128
"""Random directions of each draw; the paper's four repetitions of 128 are the draws here."""
_BINOMIAL = np.array([1, 4, 6, 4, 1], np.float32) / 16


def blurred(images: np.ndarray) -> np.ndarray:
    """Images float32 [N, H, W, 3] filtered with the binomial kernel (1, 4, 6, 4, 1) / 16 along both sides, mirrored at the border."""
    return np.stack(
        [cv2.sepFilter2D(x, -1, _BINOMIAL, _BINOMIAL, borderType=cv2.BORDER_REFLECT_101) for x in images]
    )


def halved(images: np.ndarray) -> np.ndarray:
    """Every second pixel of the blurred images: [N, H / 2, W / 2, 3]."""
    return blurred(images)[:, ::2, ::2]


def doubled(images: np.ndarray) -> np.ndarray:
    """[N, 2 H, 2 W, 3]: zeros between the pixels of [N, H, W, 3], blurred, times four."""
    wide = np.zeros((len(images), 2 * images.shape[1], 2 * images.shape[2], images.shape[3]), np.float32)
    wide[:, ::2, ::2] = 4 * images
    return blurred(wide)


def laplacian_pyramid(images: np.ndarray, levels: int = len(SIDES)) -> list[np.ndarray]:
    """``levels`` bands float32 [N, H / 2^i, W / 2^i, 3] of images uint8 [N, H, W, 3], the finest first.

    Each band is the image less its own half doubled again. The paper's pyramids of 256 px end at 16 px, so that its levels of 256, 128
    and 64 px are differences like these; what is left below the last is not compared.
    """
    bands, image = [], images.astype(np.float32)
    for _ in range(levels):
        smaller = halved(image)
        bands.append(image - doubled(smaller))
        image = smaller
    return bands


def patches_of(band: np.ndarray, rng: np.random.Generator, count: int = PATCHES) -> np.ndarray:
    """``count`` patches of each image of ``band`` [N, H, W, 3] at random places: float32 [N count, 7 * 7 * 3].

    Each colour channel has mean 0 and variance 1 over all patches; one that is constant is 0.
    """
    number, height, width, _ = band.shape
    tops, lefts = (rng.integers(0, side - PATCH + 1, (number, count)) for side in (height, width))
    offsets = np.arange(PATCH)
    rows, columns = tops[..., None, None] + offsets[:, None], lefts[..., None, None] + offsets
    found = band[np.arange(number)[:, None, None, None], rows, columns].reshape(
        number * count, PATCH * PATCH, 3
    )
    deviation = found.std((0, 1), dtype=np.float64)
    return (
        ((found - found.mean((0, 1), dtype=np.float64)) / np.where(deviation > 0, deviation, 1))
        .astype(np.float32)
        .reshape(len(found), -1)
    )


def sliced_wasserstein(
    a: np.ndarray, b: np.ndarray, rng: np.random.Generator, directions: int = DIRECTIONS
) -> float:
    """Mean over random unit vectors v [D] of the Wasserstein-1 distance between a v and b v, of as many rows [M, D] each.

    Raises:
        ValueError: the two have other shapes than each other.
    """
    if a.shape != b.shape:
        raise ValueError(f"patches {a.shape} and {b.shape}; as many of each are needed.")
    vectors = rng.standard_normal((a.shape[1], directions))
    vectors = (vectors / np.linalg.norm(vectors, axis=0)).astype(np.float32)
    # Sorted along the last axis, which is contiguous: twice as fast as along the first.
    return float(np.abs(np.sort(vectors.T @ a.T, axis=1) - np.sort(vectors.T @ b.T, axis=1)).mean())


def swd(draws: Sequence[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> dict[int, float]:
    """Sliced Wasserstein distance x 1000 at each side of ``SIDES``: the mean over ``draws`` of two sets of equally many images.

    Args:
        draws: images uint8 [N, H, W, 3] of the one and of the other set, for each draw of images, patches and directions.

    Raises:
        ValueError: no draws, or sets of unlike size.
    """
    if not draws or any(len(a) != len(b) for a, b in draws):
        raise ValueError("sets of equally many images are needed, in one draw or more.")
    rng, totals = np.random.default_rng(seed), dict.fromkeys(SIDES, 0.0)
    known: dict[int, list[np.ndarray]] = {}
    for draw in draws:  # a set that several draws share is taken apart once
        known = {
            id(x): known[id(x)] if id(x) in known else laplacian_pyramid(resized(x, SIDES[0])) for x in draw
        }
        for side, a, b in zip(SIDES, *(known[id(x)] for x in draw), strict=True):
            totals[side] += sliced_wasserstein(patches_of(a, rng), patches_of(b, rng), rng)
    return {side: 1000 * total / len(draws) for side, total in totals.items()}
