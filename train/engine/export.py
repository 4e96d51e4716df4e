"""Exporting a model so that the one before stays whole until the new one is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def written(folder: Path) -> Iterator[Path]:
    """Yields a folder to write a model to, whose files then take the places of those in ``folder``, one after the other.

    Where writing fails, nothing in ``folder`` has changed. What else lies there (a segmenter, a card) stays.
    """
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)  # of one that was killed
    try:
        yield part
        for file in sorted(p for p in part.rglob("*") if p.is_file()):
            final = folder / file.relative_to(part)
            final.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
