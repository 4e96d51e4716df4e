"""Secrets in files that their owner alone can read: keys of cookies and hashes of passwords."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def private_file(file: Path, make: Callable[[], str]) -> tuple[str, bool]:
    """The text of ``file``, readable by its owner only. It is made if it does not exist.

    Returns:
        The text, and whether it was made now.
    """
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text(encoding="ascii"), False
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        text = make()
        stream.write(text)
    return text, True
