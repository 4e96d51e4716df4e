"""Names and digests that the frozen data and their test share."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from siamese.records.provenance import SyntheticPair

HERE = Path(__file__).parent
PROMPT = "a photo of a leaf with rust"
TOKEN = "f" * 43
"""A visitor's token of the right form, of nobody."""


def digest(array: np.ndarray) -> str:
    """SHA-256 of shape and bytes."""
    return hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest()


def described(pair: SyntheticPair) -> dict[str, object]:
    """What must be read from a pair."""
    return {
        "image": digest(pair.image),
        "mask": digest(pair.mask),
        "drawn": digest(pair.drawn),
        "recipe": pair.recipe.to_dict(),
    }


def arguments(folder: Path) -> list[str]:
    """The command line of the run, in the folder of the archive."""
    return [
        *("siamese", "--init", str(folder / "model"), "--data", str(folder / "pairs"), "--prompt", PROMPT),
        *("--variants", "1", "--cache", str(folder / "cache"), "--loop.out", str(folder / "run")),
        *("--loop.max-steps", "4", "--loop.batch-size", "2", "--loop.learning-rate", "1e-3"),
        *("--loop.warmup-steps", "1", "--loop.ema-decay", "0.9", "--loop.mixed-precision", "no"),
        *("--loop.checkpoint-every", "2", "--loop.evaluate-every", "1000"),
    ]
