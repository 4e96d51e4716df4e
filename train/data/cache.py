"""Arrays that are costly to compute, kept on disk under a name made of everything that they depend on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np

from siamese.files.atomic import remove_left_overs, replacing
from train.engine.disk import writing


def cached_arrays(file: Path, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays in ``file`` (.npz), or what ``make`` returns, which is then stored there whole or not at all.

    Raises:
        DiskFull: there was no space for it.
    """
    if not file.is_file():
        made = make()
        with writing(f"the cache ({file})"):
            file.parent.mkdir(parents=True, exist_ok=True)
            remove_left_overs(file.parent)
            with replacing(file) as part:  # several processes may fill one cache
                np.savez(part, **cast(dict[str, Any], made))  # the stub takes a name for allow_pickle
    with np.load(file) as stored:
        return dict(stored)


def cached_array(file: Path, make: Callable[[], np.ndarray]) -> np.ndarray:
    """``cached_arrays`` of a single array."""
    return cached_arrays(file, lambda: {"array": make()})["array"]


def digest_of(*parts: object) -> str:
    """Short name of a cache entry, from everything that its content depends on."""
    return hashlib.sha256("|".join(map(str, parts)).encode()).hexdigest()[:16]
