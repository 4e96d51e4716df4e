"""Statistics of lesion shapes, and random plausible lesions drawn from them. Free of torch: the page imports it.

A lesion is the largest component of a mask, in the unit square (masks are squares for the model). It is described as a
radial profile about its centroid: r(angle) = r_eq exp(sum_k Re(c_k exp(i k angle))), where r_eq is the radius of the disc
of the same area and the angle runs from +x (right) to +y (down). Fourier coefficients of a radial profile are a standard
shape descriptor (Zahn and Roskies 1972, IEEE Trans. Comput. C-21). For a region that is not star-shaped, r(angle) is the
radius of the sector of the same area, r^2 = 2 * integral of r dr over the lesion along the ray: a hole or a bay shortens
the ray, an arm behind a bay lengthens it.

Features of one lesion, which together are modelled as one Gaussian
  scalars       offset of the centre (x, y), log r_eq, log |c_2|, log coarse roughness, log fine roughness
  direction     cos and sin of twice the angle of the long axis, which is that of c_2
  coefficients  real and imaginary parts of k c_k / coarse roughness for k = 1, 3 ... 8, the long axis turned onto +x

The scalars are far from Gaussian, and enter by their rank as normal scores (a Gaussian copula); a table of quantiles
from 1 to 99 % leads back, so nothing is drawn outside the observed range. The coefficients are turned and divided
because their sizes rise and fall together and those of an ellipse have one common direction: in the image's frame both
are dependences without correlation, which a covariance does not see. Orders above 8 have random phases and a mean
spectrum: only their size, the fine roughness, differs from lesion to lesion.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, cast

import numpy as np
from scipy import ndimage
from scipy.special import ndtri

FORMAT = "siamese lesion shapes 1"
PACKAGED = "lesion_shapes.json"
"""Name of the file of statistics: in this package, and in a model folder that brings its own."""
LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Levels of the scalars' quantiles."""
MIN_SHAPES = 100
"""Fewer masks are refused: their quantiles and covariance would be those of single lesions."""
COARSE = np.array([1, 3, 4, 5, 6, 7, 8])
"""Orders whose coefficients are modelled one by one, besides 2."""
FINE = np.arange(9, 49)
"""Orders of which only the common size is modelled."""
SCALARS, FEATURES = 6, 8 + 2 * len(COARSE)
RAYS = 256
MIN_RADIUS = 0.1
"""Least radius of a profile in r_eq: the centroid may lie outside the lesion."""
RIDGE = 1e-4
"""Added to the covariance's diagonal, so that it stays positive definite when rounded."""
ATTEMPTS = 100
_TINY = 1e-4
_CONNECTED = np.ones((3, 3), bool)


class ShapeError(ValueError):
    """The masks are too few, or a file of statistics is missing or damaged; the message says what to do."""


@dataclass(frozen=True, eq=False)
class ShapeStatistics:
    """Shapes of one organ's lesions: means, covariances, quantiles and a count, from which no single mask can be recovered."""

    count: int
    """Lesions that it was fitted to."""
    quantiles: np.ndarray
    """float64 [6, 15]: the scalars' values at ``LEVELS``."""
    mean: np.ndarray
    """float64 [22]: mean of the features, the scalars as normal scores."""
    covariance: np.ndarray
    """float64 [22, 22], positive definite."""
    spectrum: np.ndarray
    """float64 [40]: mean share of each of the ``FINE`` orders in the fine roughness' square; the sum is 1."""

    @classmethod
    def fit(cls, masks: Iterable[np.ndarray]) -> ShapeStatistics:
        """Statistics of masks uint8 [H, W] of 0 / 255; they may differ in size and count as squares.

        Raises:
            ShapeError: fewer than ``MIN_SHAPES`` masks, or one that is empty.
        """
        described = [_describe(mask) for mask in masks]
        if len(described) < MIN_SHAPES:
            raise ShapeError(
                f"shape statistics need at least {MIN_SHAPES} masks, not {len(described)}: fewer would describe single lesions."
            )
        features, spectra = (np.stack(x) for x in zip(*described, strict=True))
        quantiles = np.quantile(features[:, :SCALARS], LEVELS, axis=0).T
        ranks = features[:, :SCALARS].argsort(0, kind="stable").argsort(0, kind="stable")
        features[:, :SCALARS] = ndtri((ranks + 0.5) / len(features))
        covariance = np.cov(features, rowvar=False) + RIDGE * np.eye(FEATURES)
        return cls(
            count=len(features),
            quantiles=quantiles,
            mean=features.mean(0),
            covariance=covariance,
            spectrum=spectra.sum(0) / spectra.sum(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, rounded to four decimals (the spectrum to six)."""
        return {
            "count": self.count,
            "quantiles": self.quantiles.round(4).tolist(),
            "mean": self.mean.round(4).tolist(),
            "covariance": self.covariance.round(4).tolist(),
            "spectrum": self.spectrum.round(6).tolist(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ShapeStatistics:
        """Statistics from untrusted JSON.

        Raises:
            ShapeError: a value is missing, of another shape, not finite or impossible.
        """
        try:
            count = values["count"]
            arrays = {
                name: np.asarray(values[name], np.float64)
                for name in ("quantiles", "mean", "covariance", "spectrum")
            }
        except (KeyError, TypeError, ValueError) as error:
            raise ShapeError(f"the shape statistics are incomplete ({error!r}).") from error
        shapes = {
            "quantiles": (SCALARS, len(LEVELS)),
            "mean": (FEATURES,),
            "covariance": (FEATURES, FEATURES),
            "spectrum": (len(FINE),),
        }
        for name, array in arrays.items():
            if array.shape != shapes[name] or not np.isfinite(array).all():
                raise ShapeError(
                    f"the shape statistics' {name} must be {shapes[name]} finite numbers, not {array.shape}."
                )
        if type(count) is not int or count < MIN_SHAPES:
            raise ShapeError(
                f"the shape statistics' count must be a whole number, at least {MIN_SHAPES}, not {count!r}."
            )
        quantiles, covariance, spectrum = arrays["quantiles"], arrays["covariance"], arrays["spectrum"]
        if (np.diff(quantiles) < 0).any() or (np.abs(quantiles) > 20).any() or quantiles[2].max() > 0:
            raise ShapeError("the shape statistics' quantiles do not rise, or no lesion has such values.")
        if (spectrum < 0).any() or abs(spectrum.sum() - 1) > 1e-3:
            raise ShapeError("the shape statistics' spectrum must be shares that add up to 1.")
        try:
            np.linalg.cholesky(covariance)
        except np.linalg.LinAlgError as error:
            raise ShapeError("the shape statistics' covariance is not positive definite.") from error
        if not np.allclose(covariance, covariance.T):
            raise ShapeError("the shape statistics' covariance is not symmetric.")
        return cls(
            count=count,
            quantiles=quantiles,
            mean=arrays["mean"],
            covariance=covariance,
            spectrum=spectrum,
        )


def save_statistics(statistics: Mapping[str, ShapeStatistics], file: Path) -> None:
    """Write the statistics of each prompt as JSON."""
    rows = {
        "format": FORMAT,
        "levels": list(LEVELS),
        "organs": {prompt: s.to_dict() for prompt, s in statistics.items()},
    }
    file.write_text(json.dumps(rows) + "\n", encoding="utf-8")


def read_statistics(text: str) -> dict[str, ShapeStatistics]:
    """What ``save_statistics`` wrote, by prompt.

    Raises:
        ShapeError: the text is not such a file's.
    """
    try:
        rows = json.loads(text)
    except json.JSONDecodeError as error:
        raise ShapeError(
            f"the shape statistics are not JSON ({error}); run: python -m train shapes --data DATA."
        ) from error
    if (
        not isinstance(rows, dict)
        or rows.get("format") != FORMAT
        or rows.get("levels") != list(LEVELS)
        or not isinstance(rows.get("organs"), dict)
    ):
        raise ShapeError(
            f"the shape statistics are not of the format {FORMAT!r}; run: python -m train shapes --data DATA."
        )
    return {prompt: ShapeStatistics.from_dict(values) for prompt, values in rows["organs"].items()}


@cache
def _packaged() -> dict[str, ShapeStatistics]:
    return read_statistics(resources.files("siamese.masks").joinpath(PACKAGED).read_text(encoding="utf-8"))


def load_statistics() -> dict[str, ShapeStatistics]:
    """The packaged statistics by prompt: ``siamese.records.prompts.POLYP`` and ``LESION``.

    Raises:
        ShapeError: the packaged file is damaged.
    """
    return dict(_packaged())


def folder_statistics(folder: Path) -> dict[str, ShapeStatistics]:
    """The statistics by prompt that a model ``folder`` brings in its lesion_shapes.json; empty without this file.

    Raises:
        ShapeError: the file is damaged; the message names it.
    """
    file = folder / PACKAGED
    if not file.is_file():
        return {}
    try:
        return read_statistics(file.read_text(encoding="utf-8"))
    except ValueError as error:  # of the statistics, or of bytes that are no UTF-8
        raise ShapeError(f"{file}: {error}") from error


def _components(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Labels int [H, W] from 1 of the 8-connected components of a mask [H, W], and their number."""
    labels, count = cast(Any, ndimage.label(mask, _CONNECTED))  # the stub: or a number alone
    return labels, count


def largest_component(mask: np.ndarray) -> np.ndarray:
    """bool [H, W]: the largest 8-connected component of a mask [H, W]; the first of equals.

    Raises:
        ShapeError: the mask is empty.
    """
    labels, count = _components(mask > 0)
    if not count:
        raise ShapeError("a mask is empty: it has no shape. Remove it.")
    return labels == 1 + np.bincount(labels.ravel())[1:].argmax()


def random_lesion(statistics: ShapeStatistics, seed: int, side: int) -> np.ndarray:
    """A random lesion as mask uint8 [side, side] of 0 / 255: one component, never empty, the same for the same arguments.

    The frame may cut it off, as it does with real ones. Its area is the drawn one even then. The same seed gives the same
    shape at every side, up to pixels (unless it is drawn again because it falls apart on a coarse grid).

    Args:
        seed: 0 or greater.
        side: pixels, 8 or more.
    """
    if isinstance(side, bool) or not isinstance(side, (int, np.integer)) or side < 8:
        raise ValueError(f"the side must be a whole number of pixels, at least 8, not {side!r}.")
    if isinstance(seed, bool) or not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"the seed must be a whole number, 0 or greater, not {seed!r}.")
    rng = np.random.default_rng(seed)
    factor = np.linalg.cholesky(statistics.covariance)
    for _ in range(ATTEMPTS):
        lesion = _draw(statistics, factor, rng, side)
        if _components(lesion)[1] == 1:
            return np.where(lesion, 255, 0).astype(np.uint8)
    raise ShapeError(
        f"no lesion in one piece among {ATTEMPTS}: these shapes are too ragged for {side} pixels; take more."
    )


def _describe(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features [22] of a mask, the scalars as they are, and its fine orders' shares [40] in the fine roughness' square."""
    lesion = largest_component(mask)
    height, width = lesion.shape
    rows, columns = np.nonzero(lesion)
    y, x = (rows.mean() + 0.5) / height, (columns.mean() + 0.5) / width
    radius = math.sqrt(lesion.mean() / math.pi)
    step = 0.5 / max(height, width)
    along = np.arange(step / 2, math.sqrt(2), step)
    angles = 2 * np.pi * np.arange(RAYS) / RAYS
    row = np.floor((y + along * np.sin(angles)[:, None]) * height).astype(int)
    column = np.floor((x + along * np.cos(angles)[:, None]) * width).astype(int)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    inside[inside] = lesion[row[inside], column[inside]]
    profile = np.log(np.maximum(np.sqrt(2 * step * (inside * along).sum(1)) / radius, MIN_RADIUS))
    coefficients = 2 * np.fft.rfft(profile)[: FINE[-1] + 1] / RAYS
    axis = np.angle(coefficients[2]) / 2
    coarse = COARSE * (coefficients[COARSE] * np.exp(-1j * axis * COARSE))
    fine = np.abs(coefficients[FINE]) ** 2
    coarse_size, fine_size = max(np.sqrt((np.abs(coarse) ** 2).sum()), _TINY), max(np.sqrt(fine.sum()), _TINY)
    room = (
        1 - radius
    )  # large lesions are nearer to the middle: what is left beside them is about the same share
    scalars = [
        (x - 0.5) / room,
        (y - 0.5) / room,
        np.log(radius),
        np.log(max(abs(coefficients[2]), _TINY)),
        np.log(coarse_size),
        np.log(fine_size),
    ]
    coarse = coarse / coarse_size
    features = np.array([*scalars, np.cos(2 * axis), np.sin(2 * axis), *coarse.real, *coarse.imag])
    return features, fine / fine_size**2


def _draw(statistics: ShapeStatistics, factor: np.ndarray, rng: np.random.Generator, side: int) -> np.ndarray:
    """A lesion bool [side, side]; ``factor`` is the covariance's Cholesky factor."""
    features = statistics.mean + factor @ rng.standard_normal(FEATURES)
    fine = np.sqrt(statistics.spectrum / 2) * (
        rng.standard_normal(len(FINE)) + 1j * rng.standard_normal(len(FINE))
    )
    # np.interp holds the ends: nothing lies outside the observed 1 and 99 %.
    scores = ndtri(LEVELS)
    x, y, log_radius, elongation, coarse_size, fine_size = (
        np.interp(f, scores, q) for f, q in zip(features[:SCALARS], statistics.quantiles, strict=True)
    )
    axis = np.arctan2(features[SCALARS + 1], features[SCALARS]) / 2
    real, imaginary = features[SCALARS + 2 :].reshape(2, -1)
    coarse = real + 1j * imaginary
    coefficients = np.zeros(FINE[-1] + 1, complex)
    coefficients[2] = np.exp(elongation)
    coefficients[COARSE] = np.exp(coarse_size) * coarse / np.linalg.norm(coarse) / COARSE
    coefficients[FINE] = np.exp(fine_size) * fine
    coefficients *= np.exp(1j * axis * np.arange(len(coefficients)))
    count = 8 * RAYS
    profile = np.exp(np.fft.irfft(coefficients, count) * count / 2)
    radius = np.exp(log_radius)
    x, y = 0.5 + x * (1 - radius), 0.5 + y * (1 - radius)
    across = (np.arange(side) + 0.5) / side
    dy, dx = across[:, None] - y, across[None] - x
    angle = np.arctan2(dy, dx) % (2 * np.pi)
    # In units of the profile. The lesion is as many of the nearest pixels as its area asks for, whatever the frame cuts off.
    distance = np.hypot(dy, dx) / np.interp(
        angle, 2 * np.pi * np.arange(count + 1) / count, np.append(profile, profile[0])
    )
    pixels = min(side**2, max(1, round(math.pi * radius**2 * side**2)))
    return distance <= np.partition(distance.ravel(), pixels - 1)[pixels - 1]
