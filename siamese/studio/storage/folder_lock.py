"""Locks of folders on the disk, held among all threads and processes of one machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from siamese.studio.storage.collection_entry import CollectionError

WAIT_SECONDS = 30.0
"""How long to wait for another thread or process with the same lock; each holds it for milliseconds."""


@contextmanager
def locked(folder: Path, make: bool = False) -> Iterator[bool]:
    """Hold the lock of ``folder`` inside; yields whether the folder exists.

    The locks are files beside the folder. Folders whose names begin with the same two characters share one, which limits their number.

    Args:
        make: make the folder if it does not exist.

    Raises:
        CollectionError: another process holds the lock for ``WAIT_SECONDS``.
        OSError: the disk is full or fails.
    """
    if not make and not folder.is_dir():
        yield False
        return
    locks = folder.parent / ".locks"
    locks.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(locks / folder.name[:2], timeout=WAIT_SECONDS)
    try:
        lock.acquire()
    except Timeout as error:
        raise CollectionError(
            "The server is still busy with this collection; try again in a moment."
        ) from error
    try:
        if make:
            folder.mkdir(exist_ok=True, mode=0o700)
        yield folder.is_dir()  # somebody may have removed it while this waited for the lock
    finally:
        lock.release()
