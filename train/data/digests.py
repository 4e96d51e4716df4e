"""Digests of pairs: a cache made of other files is never reused, and a run never continues on other data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from train.data.types import Pair


def fingerprint(pairs: Sequence[Pair]) -> str:
    """Short digest of names, prompts and the files' bytes, wherever the files lie."""

    def of(pair: Pair) -> bytes:
        parts = (pair.name.encode(), pair.prompt.encode(), pair.image.read_bytes(), pair.mask.read_bytes())
        return b"".join(hashlib.sha256(part).digest() for part in parts)

    with ThreadPoolExecutor() as pool:
        return hashlib.sha256(b"".join(pool.map(of, pairs))).hexdigest()[:16]


def facts_of_pairs(train: Sequence[Pair], val: Sequence[Pair]) -> dict[str, Any]:
    """Facts of a run about its data: for each split the number of pairs, and digests of their names, prompts and files' bytes.

    Every file is read: two files of one size and date may differ, and reading costs less than decoding, which follows.
    """
    return {"training pairs": _digests(train), "validation pairs": _digests(val)}


def _digests(pairs: Sequence[Pair]) -> dict[str, Any]:
    with ThreadPoolExecutor() as pool:
        files = list(
            pool.map(
                lambda p: tuple(hashlib.sha256(f.read_bytes()).digest() for f in (p.image, p.mask)), pairs
            )
        )
    parts = {
        "names": [p.name.encode() for p in pairs],
        "prompts": [p.prompt.encode() for p in pairs],
        "images": [image for image, _ in files],
        "masks": [mask for _, mask in files],
    }
    # Each element is hashed by itself, so that no two lists run together to the same bytes.
    return {"count": len(pairs)} | {
        name: hashlib.sha256(b"".join(hashlib.sha256(v).digest() for v in values)).hexdigest()[:16]
        for name, values in parts.items()
    }
