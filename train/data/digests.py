"""Digests of pairs: a cache made of other files is never reused."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from train.data.types import Pair


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Short digest of names, prompts and the files' bytes, wherever the files lie."""

    def of(pair: Pair) -> bytes:
        parts = (pair.name.encode(), pair.prompt.encode(), pair.image.read_bytes(), pair.mask.read_bytes())
        return b"".join(hashlib.sha256(part).digest() for part in parts)

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(of, pairs))).hexdigest()[:16]
