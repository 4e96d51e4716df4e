"""Methods: the sources of a study's images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from siamese.study.statistics.table import REAL

SYNTHETIC = "synthetic"
KINDS = (REAL, SYNTHETIC)


@dataclass(frozen=True)
class Method:
    """Where a study's images come from."""

    name: str
    """Shown to administrators only."""
    kind: str
    """``real`` or ``synthetic``."""
    source: str = ""
    """How the images were made, for the record: a checkpoint with its settings, or empty for a given folder."""


def of_kind(methods: Sequence[Method], kind: str) -> tuple[Method, ...]:
    """Those of ``methods`` that are of ``kind``, in their order."""
    return tuple(m for m in methods if m.kind == kind)
