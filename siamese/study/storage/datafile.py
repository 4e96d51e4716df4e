"""The SQLite file of a running server: private, and still the one at its path.

SQLite goes on writing into a file that somebody has moved away, deleted, replaced or overwritten, since its connections keep the file
open. What it takes then, a restart would not see. So every transaction looks at the file and its log before and after.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from pathlib import Path

from siamese.study.storage.faults import StorageError

MAGIC = b"SQLite format 3\0"
LOGS = ("-wal", "-shm")
"""Suffixes of the write-ahead log and its index, which exist as long as a connection does."""
LOOKS, BETWEEN = 6, 0.05
"""How often, and after how many seconds, a file that looks cut off is looked at again: SQLite may be enlarging it."""
NOTHING_STORED = "Nothing was stored."
log = logging.getLogger(__name__)

Identity = tuple[int, int]
"""Device and inode."""


class LostFileError(StorageError):
    """The file or its log is not what the server opened. ``reopenable`` if it can be opened again with nothing lost."""

    def __init__(self, message: str, reopenable: bool = False) -> None:
        super().__init__(message)
        self.reopenable = reopenable


_descriptors: dict[Identity, tuple[int, int]] = {}
"""Descriptor of each held file, and how many hold it. One process has one: closing another would end the locks that SQLite has on the file."""
_lock = threading.Lock()


def identity(path: Path | str) -> Identity | None:
    """Which file is at ``path``; None if no file is there.

    Raises:
        OSError: the file system does not say.
    """
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


class DataFile:
    """The file at ``path``, readable by its owner only. It is made if it does not exist, and held open until ``release``.

    Raises:
        StorageError: it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.identity, self._descriptor = _hold(path)
            self._tighten()
        except OSError as error:
            raise StorageError(
                f"{path} cannot be opened for writing ({error.strerror}); choose another data folder, or correct its rights."
            ) from error
        self._finalizer = weakref.finalize(self, _release, self.identity)

    def _tighten(self) -> None:
        """Take the rights that others have. SQLite gives its log those of the file; a log of an earlier version may have more."""
        for file in (self.path, *(Path(f"{self.path}{suffix}") for suffix in (*LOGS, "-journal"))):
            try:
                if file.stat().st_mode & 0o077 and os.name == "posix":
                    file.chmod(0o600)
            except FileNotFoundError:
                continue
            except PermissionError:
                log.warning(
                    "%s belongs to another user and can be read by others; give it the mode 0600.", file
                )

    def release(self) -> None:
        """Let go of the file; its connections have to be closed before."""
        self._finalizer()

    def logs(self) -> tuple[Identity | None, ...]:
        """Which log and index are at their paths now."""
        return tuple(identity(f"{self.path}{suffix}") for suffix in LOGS)

    def check(self, opening: bool = False) -> None:
        """Make sure that the file at the path is the held one, and that it still begins like a database of its length.

        Args:
            opening: whether it may be new, or shorter than it says if its log has all of the pages that it lacks. A process that is
                killed while it moves the log into the file leaves it so: the first page, with the new length, is written first.

        Raises:
            LostFileError: it is not.
        """
        for _ in range(LOOKS):
            problem = self._problem(opening)
            if problem is None:
                return
            time.sleep(BETWEEN)
        raise LostFileError(problem)

    def _problem(self, opening: bool) -> str | None:
        """What is wrong with the file. Raises at once if looking again cannot change it."""
        if not self._finalizer.alive:
            raise LostFileError(f"this server has closed its database. {NOTHING_STORED}")
        try:
            found = identity(self.path)
        except OSError as error:
            raise LostFileError(
                f"the database file cannot be reached ({error.strerror}). {NOTHING_STORED} Tell the administrator."
            ) from error
        if found is None:
            raise LostFileError(
                f"the database file is gone. {NOTHING_STORED} The administrator can move it back; then this goes on."
            )
        if found != self.identity:
            raise LostFileError(
                f"another file is in the place of the database. {NOTHING_STORED} The administrator can move the old one back, or start the "
                "server again to use the new one."
            )
        if not hasattr(os, "pread"):  # Windows, on which an open file cannot be replaced
            return None
        size, head = os.fstat(self._descriptor).st_size, os.pread(self._descriptor, 32, 0)
        if opening and not size:
            return None
        page = int.from_bytes(head[16:18], "big")
        page = 65536 if page == 1 else page  # which does not fit
        pages = int.from_bytes(head[28:32], "big")
        if head[:16] == MAGIC and page:
            missing = range(size // page + 1, pages + 1)
            if not missing or (opening and self._pages_in_log(page).issuperset(missing)):
                return None
        return f"the database file was overwritten or cut off. {NOTHING_STORED} The administrator has to restore it."

    def _pages_in_log(self, page: int) -> set[int]:
        """Numbers of the pages, of ``page`` bytes each, in the write-ahead log (https://www.sqlite.org/fileformat2.html#walformat).

        Frames of before the log's last restart have other salts than its header, and do not count.
        """
        try:
            with open(f"{self.path}{LOGS[0]}", "rb") as log_file:
                salts, found = log_file.read(32)[16:24], set()
                while len(frame := log_file.read(24)) == 24 and frame[8:16] == salts:
                    found.add(int.from_bytes(frame[:4], "big"))
                    log_file.seek(page, os.SEEK_CUR)
                return found
        except FileNotFoundError:
            return set()

    def check_logs(self, opened: tuple[Identity | None, ...]) -> None:
        """Make sure that the log and its index are those that a connection ``opened``.

        Raises:
            LostFileError: they are not.
        """
        try:
            found = self.logs()
        except OSError as error:
            raise LostFileError(
                f"the database's log cannot be reached ({error.strerror}). {NOTHING_STORED} Tell the administrator."
            ) from error
        if found != opened:
            # If another program's file is in the place, closing the old connections would delete that.
            missing = all(now is None or now == before for now, before in zip(found, opened, strict=True))
            raise LostFileError(
                f"the database's log is {'gone' if missing else 'another one'}. {NOTHING_STORED} "
                f"{'Try again.' if missing else 'The administrator has to start the server again.'}",
                reopenable=missing,
            )


def _hold(path: Path) -> tuple[Identity, int]:
    """The file's identity and a descriptor of it."""
    with _lock:
        found = identity(path)
        if found is None or found not in _descriptors:
            # For writing, although nothing is written: on layered file systems a file becomes another one when it is first opened so.
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            made = os.fstat(descriptor)
            found = made.st_dev, made.st_ino
            _descriptors[found] = descriptor, 0
        descriptor, users = _descriptors[found]
        _descriptors[found] = descriptor, users + 1
        return found, descriptor


def _release(held: Identity) -> None:
    """Close the descriptor when its last holder lets go."""
    with _lock:
        descriptor, users = _descriptors[held]
        if users > 1:
            _descriptors[held] = descriptor, users - 1
            return
        del _descriptors[held]
        os.close(descriptor)
