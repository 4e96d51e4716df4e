"""The same random ids, links and orders in every run, for tests whose figures must not depend on chance."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


class FixedSecrets:
    """Stands in for what the module ``secrets`` offers."""

    names = ("SystemRandom", "randbits", "token_hex", "token_urlsafe")

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def SystemRandom(self) -> random.Random:
        return self._random

    def randbits(self, count: int) -> int:
        return self._random.getrandbits(count)

    def token_hex(self, count: int) -> str:
        return self._random.randbytes(count).hex()

    def token_urlsafe(self, count: int) -> str:
        return self.token_hex(count)


class FixedClock:
    """Stands in for the module ``time``: each look at it is half a second later than the one before."""

    def __init__(self, start: float) -> None:
        self._now = start

    def time(self) -> float:
        self._now += 0.5
        return self._now


@contextmanager
def fixed_chance(seed: str) -> Iterator[None]:
    """Ids, links and orders follow from ``seed``. Two studies in one database need two seeds."""
    fixed = FixedSecrets(seed)
    with patch.multiple("secrets", **{name: getattr(fixed, name) for name in FixedSecrets.names}):
        yield


@contextmanager
def fixed_time(start: float = 1_700_000_000.0) -> Iterator[None]:
    """Times of studies and answers follow from ``start``."""
    clock = FixedClock(start)
    with patch("siamese.study.storage.store.time", clock), patch("siamese.study.rating.session.time", clock):
        yield
