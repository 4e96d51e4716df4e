"""What is put into collections, and a clock for them."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from siamese.records.provenance import Recipe, SyntheticPair
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.storage.collections import Collections
from tests.phantoms import phantom

START = datetime(2026, 5, 1, 12, tzinfo=UTC)

DAY = timedelta(days=1)


def new_token() -> str:
    """As the cookie holds."""
    return secrets.token_urlsafe(32)


def pair(seed: int, prompt: str = "a polyp") -> SyntheticPair:
    image, mask = phantom(seed, 32, 32)
    return SyntheticPair(
        image, mask, mask, Recipe(prompt, seed, SamplingSettings(20, 2.0, "dpm++"), "phantom")
    )


class Clock:
    """A clock that goes on by a second at each look."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> datetime:
        self.time += timedelta(seconds=1)
        return self.time


def folder_of(kept: Collections) -> Path:
    (folder,) = [f for f in kept.root.iterdir() if len(f.name) == 64]
    return folder


def assert_same(a: SyntheticPair, b: SyntheticPair) -> None:
    assert a.recipe == b.recipe
    for x, y in ((a.image, b.image), (a.mask, b.mask), (a.drawn, b.drawn)):
        np.testing.assert_array_equal(x, y)
