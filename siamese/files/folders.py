"""Removing folders of visitors at the end of their time, while other processes make, use and remove them."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import time
from datetime import timedelta
from pathlib import Path

REMOVED = ".removed-"
"""Prefix of the name of a folder that is being removed: it is out of reach at once, so that nobody sees half of it."""
log = logging.getLogger(__name__)


def remove_tree(folder: Path) -> None:
    """Remove ``folder``, even if another thread or process removes it at the same time.

    Raises:
        OSError: the file system refuses; what could be removed before is gone.
    """

    def failed(_: object, __: str, error: tuple[type[BaseException], BaseException, object]) -> None:
        if not isinstance(error[1], FileNotFoundError):
            raise error[1]

    shutil.rmtree(folder, onerror=failed)


def set_aside(folder: Path) -> Path:
    """Rename ``folder`` within its own folder so that nobody finds it, and return the new path.

    Raises:
        OSError: it is gone, or the file system refuses.
    """
    removed = folder.with_name(f"{REMOVED}{secrets.token_hex(8)}")
    os.replace(folder, removed)
    return removed


def remove_rests(root: Path) -> None:
    """Remove what was set aside in ``root``, also by a process that was killed meanwhile. What the system refuses is logged."""
    for rest in root.glob(f"{REMOVED}*"):
        try:
            remove_tree(rest)
        except OSError as error:
            log.warning("%s could not be removed (%s); this is tried again.", rest, error)


def last_use(folder: Path) -> float | None:
    """The latest change of ``folder`` or of what lies directly in it, in seconds since 1970; None if it is not a folder, or gone."""
    times = []
    try:
        for entry in (folder, *folder.iterdir()):
            try:
                times.append(entry.stat().st_mtime)
            except FileNotFoundError:  # files come and go
                continue
    except (FileNotFoundError, NotADirectoryError):
        return None
    return max(times, default=None)


def purge_folders(root: Path, lifetime: timedelta) -> int:
    """Remove the folders in ``root`` in which nothing has changed for ``lifetime``; returns how many. What the system refuses is logged and stays."""
    removed = 0
    try:
        folders = [f for f in root.iterdir() if not f.name.startswith(REMOVED)]
    except FileNotFoundError:  # nothing was ever stored
        return 0
    for folder in folders:
        try:
            removed += _purge(folder, lifetime.total_seconds())
        except FileNotFoundError:  # its visitor was faster
            continue
        except OSError as error:
            log.warning("%s could not be removed (%s); this is tried again.", folder, error)
    remove_rests(root)
    return removed


def _purge(folder: Path, lifetime: float) -> bool:
    """Set ``folder`` aside if its time is over; returns whether it was."""
    used = last_use(folder)
    if used is None or time.time() - used <= lifetime:
        return False
    aside = set_aside(folder)
    used = last_use(aside)
    if (
        used is not None and time.time() - used <= lifetime and not folder.exists()
    ):  # its visitor has begun to use it again
        os.replace(aside, folder)
        return False
    return True
