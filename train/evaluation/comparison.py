"""One organ's real images, and how far other images are from them: Frechet distances, two-sample tests, patches.

Three names after each figure's: none, images against real ones; ``_floor``, real images of the split against real training images;
``_autoencoder``, the split's images encoded and decoded. The networks that decide are VGG16 and EfficientNet-Lite0; AlexNet, which models are
trained with, is not among them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from train.data.cache import cached_array, digest_of
from train.data.organs import ORGANS
from train.data.pairs import DataError, Pair, load_images
from train.data.sequences import groups_of
from train.evaluation.distances import fd_at_n
from train.evaluation.features import PooledFeatures
from train.evaluation.patches import swd
from train.evaluation.two_sample import c2st

C2ST_SEEDS = 5
SWD_DRAWS = 4


def by_organ(train: list[Pair], split: list[Pair]) -> dict[str, tuple[list[Pair], list[Pair]]]:
    """Training pairs and the split's, by organ; other prompts than the known ones name themselves.

    Raises:
        DataError: an organ has fewer than two pairs in either.
    """
    names = sorted(
        {ORGANS.get(p.prompt, p.prompt) for p in train + split}, reverse=True
    )  # polyp, then lesion

    def chosen(pairs: list[Pair], name: str) -> list[Pair]:
        return [p for p in pairs if ORGANS.get(p.prompt, p.prompt) == name]

    organs = {name: (chosen(train, name), chosen(split, name)) for name in names}
    for name, pairs in organs.items():
        if min(map(len, pairs)) < 2:
            raise DataError(
                f"{name}: {len(pairs[0])} training pairs and {len(pairs[1])} in the split; two of each are needed."
            )
    return organs


def equal_count(organs: dict[str, tuple[list[Pair], list[Pair]]], images: int) -> int:
    """N: ``images``, or what the smallest of all sets has."""
    return min(images, *(len(pairs) for both in organs.values() for pairs in both))


def chosen(pairs: list[Pair], count: int, seed: int) -> list[Pair]:
    """``count`` of ``pairs``, drawn with ``seed``, in their order."""
    return [pairs[i] for i in sorted(np.random.default_rng(seed).permutation(len(pairs))[:count])]


class Comparison:
    """Distances of sets of N images of one organ to its real images.

    Args:
        organ: its name, for what is printed.
        train: all training pairs.
        pairs: N pairs of the split. Image i of every set that is compared shows the mask of pair i, if it shows a mask.
        families: networks whose features are compared.
        draws: random choices of N training images over which a Frechet distance is averaged.
        seed: of all random choices.
        cache: folder in which results that cost much are kept; none: nothing is kept but features of real images.
    """

    def __init__(
        self,
        organ: str,
        train: list[Pair],
        pairs: list[Pair],
        families: Sequence[PooledFeatures],
        draws: int = 20,
        seed: int = 0,
        cache: Path | None = None,
    ) -> None:
        self.organ, self.train, self.pairs, self.families = organ, train, pairs, families
        self.draws, self.seed, self.cache = draws, seed, cache
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def pooled(self, family: PooledFeatures, images: np.ndarray) -> np.ndarray:
        """``family``'s features [N, D] of images uint8 [N, H, W, 3]; the same images are not computed twice."""
        key = family.name, digest_of(_digest(images), family.digest, family.size)
        if key not in self._known:
            self._known[key] = self._kept("-".join(key), lambda: family.pooled(images))
        return self._known[key]

    def of_train(self, family: PooledFeatures) -> np.ndarray:
        """``family``'s features of all training images."""
        return self._of_pairs(family, self.train, "training")

    def of_split(self, family: PooledFeatures) -> np.ndarray:
        """``family``'s features of the N real images of the split."""
        return self._of_pairs(family, self.pairs, "held-out")

    def _of_pairs(self, family: PooledFeatures, pairs: list[Pair], name: str) -> np.ndarray:
        key = family.name, name
        if key not in self._known:
            self._known[key] = family.pooled_of_pairs(
                pairs, f"{self.organ}: {family.name} features of {name} images"
            )
        return self._known[key]

    @cached_property
    def images(self) -> np.ndarray:
        """The split's N real images, uint8 [N, S, S, 3]."""
        return load_images(self.pairs, self.families[0].size)

    def frechet(self, images: np.ndarray | None, suffix: str) -> dict[str, float]:
        """``fd_{network}{suffix}``: N of ``images`` (none: the split's real ones) against N real training images, see ``fd_at_n``."""
        found = {}
        for family in self.families:
            features = self.of_split(family) if images is None else self.pooled(family, images)
            found[f"fd_{family.name}{suffix}"] = fd_at_n(
                self.of_train(family), fake=features, n=len(self.pairs), draws=self.draws, seed=self.seed
            )
        return found

    def two_sample(self, images: np.ndarray | None, suffix: str) -> dict[str, float]:
        """``c2st{suffix}`` of VGG16 and ``c2st_{network}{suffix}`` of others: the split's N real images against ``images``.

        ``images`` belong to the groups of the pairs whose masks they are of. None: against real training images, N for each seed. Left
        out, with a printed line, if all images of a set are of one group: frames of one video sequence.
        """
        others, found = self.train if images is None else self.pairs, {}
        groups, other_groups = groups_of(self.pairs), groups_of(others)
        if min(len(set(groups)), len(set(other_groups))) < 2:
            print(
                f"{self.organ}: no c2st{suffix}: all images of a set are frames of one video sequence.",
                flush=True,
            )
            return {}
        for family in self.families:
            real, other = (
                self.of_split(family),
                self.of_train(family) if images is None else self.pooled(family, images),
            )
            name = "c2st" if family.name == "vgg16" else f"c2st_{family.name}"
            key = digest_of(_digest(real), _digest(other), groups, other_groups, C2ST_SEEDS, self.seed)
            found[name + suffix] = float(
                self._kept(
                    f"c2st-{key}",
                    lambda real=real, other=other: np.array(
                        c2st(
                            real,
                            fake=other,
                            real_groups=groups,
                            fake_groups=other_groups,
                            seeds=C2ST_SEEDS,
                            seed=self.seed,
                        )
                    ),
                )
            )
        return found

    def patches(self, images: np.ndarray | None, suffix: str) -> dict[str, float]:
        """``swd_{side}{suffix}`` at 256, 128 and 64 pixels, x 1000: the split's N real images against ``images``; their mean as ``swd{suffix}``.

        None: against real training images, N for each of four draws. See ``train.evaluation.patches``.
        """
        if images is None:
            others = [chosen(self.train, len(self.pairs), self.seed + i) for i in range(SWD_DRAWS)]
            draws = [(self.images, load_images(pairs, self.families[0].size)) for pairs in others]
        else:
            draws = [(self.images, images)] * SWD_DRAWS
        key = digest_of(*(_digest(x) for draw in draws for x in draw), self.seed)
        values = self._kept(f"swd-{key}", lambda: np.array(list(swd(draws, self.seed).items())))
        found = {f"swd_{int(side)}{suffix}": float(value) for side, value in values}
        return {f"swd{suffix}": float(values[:, 1].mean())} | found

    def all(self, images: np.ndarray | None, suffix: str) -> dict[str, float]:
        """Frechet distances, two-sample tests and patches of ``images`` uint8 [N, H, W, 3] (none: the floors)."""
        return self.frechet(images, suffix) | self.two_sample(images, suffix) | self.patches(images, suffix)

    def _kept(self, name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
        return make() if self.cache is None else cached_array(self.cache / f"{name}.npz", make)


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(
        f"{array.shape}{array.dtype}".encode() + np.ascontiguousarray(array).tobytes()
    ).hexdigest()
