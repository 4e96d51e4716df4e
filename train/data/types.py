"""What reading data gives: pairs, or one error that lists every fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class DataError(ValueError):
    """The data cannot be trained on; the message names every fault and says what to do."""

    @classmethod
    def of(cls, title: str, faults: Sequence[str]) -> DataError:
        """An error with a line for each fault."""
        return cls(title + ":\n" + "\n".join(f"  {fault}" for fault in faults))


@dataclass(frozen=True)
class Pair:
    """One training example on disk. ``name`` is ``set/ID`` and unique within a data set."""

    name: str
    image: Path
    mask: Path
    prompt: str
