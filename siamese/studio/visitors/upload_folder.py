"""The temporary folder of this process: uploads, and the files that the page shows, in one folder for each visitor.

It lies in ``GRADIO_TEMP_DIR`` if that is set, otherwise in a folder of the user in the system's temporary folder. Only its owner can enter
it. It is removed when the server stops. The next start removes one that a killed process left: a process holds a lock on its own folder.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import secrets
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from siamese.web.settings import StudioEnvironment

LIFETIME = 3600
"""Seconds after its last use when a file is removed."""
_PREFIX, _LOCK = "studio-", ".lock"
_START_SECONDS = 60
"""Maximum seconds that a start waits for another one that removes old folders."""


class TemporaryFolder:
    """Made with the object, removed by ``close``.

    Raises:
        OSError: it cannot be made, or other users can write to its parent; the message says what to do.
    """

    def __init__(self) -> None:
        parent = _place()
        self.path = parent / f"{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        self._starting = FileLock(parent / _LOCK, timeout=_START_SECONDS)
        with self._starting:
            self.path.mkdir(mode=0o700)
            self._lock = FileLock(self.path / _LOCK)
            self._lock.acquire()
            for other in parent.glob(f"{_PREFIX}*"):
                if other != self.path:
                    _remove_if_left(other)
        self.page = self.path / "page"
        """What the page shows to all visitors: its example."""
        self.page.mkdir(mode=0o700)

    def close(self) -> None:
        """Remove the folder with all files."""
        with self._starting:
            shutil.rmtree(
                self.path, ignore_errors=True
            )  # an event that still runs may write; the next start removes the rest
            self._lock.release()

    def of(self, visitor: str) -> Path:
        """A visitor's own folder; it is made if necessary. Its name does not reveal the visitor's cookie."""
        folder = self._named(visitor)
        folder.mkdir(mode=0o700, exist_ok=True)
        os.utime(folder)
        return folder

    def new_upload(self, visitor: str) -> Path:
        """A new folder for one upload, so that two uploads of the same file are two files."""
        folder = self.of(visitor) / "uploads" / secrets.token_hex(16)
        folder.parent.mkdir(mode=0o700, exist_ok=True)
        folder.mkdir(mode=0o700)
        return folder

    def owns(self, visitor: str, path: str) -> bool:
        """Whether ``path`` is a regular file of the visitor, or one that the page shows to all; also if the file does not exist any more.

        Opens no file. False for a path with a link in it, or in another form than the server writes.
        """
        try:
            if not os.path.isabs(path) or os.path.realpath(path) != path:
                return False
            if not any(Path(path).is_relative_to(folder) for folder in (self._named(visitor), self.page)):
                return False
            return stat.S_ISREG(os.lstat(path).st_mode)
        except FileNotFoundError:
            return True
        except (OSError, ValueError):  # the name is too long, or holds a null character
            return False

    def uploaded(self, visitor: str) -> int:
        """Bytes of the visitor's uploads, including those that are still arriving."""
        return sum(s.st_size for _, s in _files(self._named(visitor) / "uploads"))

    def total(self) -> int:
        """Bytes of all files in the folder."""
        return sum(s.st_size for _, s in _files(self.path))

    def tidy(self, lifetime: float = LIFETIME) -> None:
        """Remove files that were not used for ``lifetime`` seconds, except those that the page shows to all visitors."""
        oldest = time.time() - lifetime
        for visitor in self.path.glob("visitor-*"):
            for file, status in _files(visitor):
                if max(status.st_mtime, status.st_ctime) <= oldest:
                    Path(file).unlink(missing_ok=True)
            for folder, _, _ in os.walk(visitor, topdown=False):
                try:
                    if os.stat(folder).st_mtime <= oldest:
                        os.rmdir(folder)
                except OSError:
                    continue  # it is not empty, or gone

    def _named(self, visitor: str) -> Path:
        return self.path / f"visitor-{hashlib.sha256(visitor.encode()).hexdigest()[:32]}"


def use(path: str) -> None:
    """Note a use of the file at ``path``."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return  # it was removed just now; its reader reports that


def _place() -> Path:
    chosen = StudioEnvironment.read().temporary
    parent = Path(chosen) if chosen else Path(tempfile.gettempdir()) / f"siamese-studio-{getpass.getuser()}"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    parent = parent.resolve()
    if hasattr(os, "getuid") and (parent.stat().st_uid != os.getuid() or parent.stat().st_mode & 0o022):
        raise OSError(
            f"other users can write to {parent}, the folder for visitors' files; set GRADIO_TEMP_DIR to a folder of your own."
        )
    return parent


def _remove_if_left(folder: Path) -> None:
    """Remove another process's folder unless it still holds the lock."""
    if not (folder / _LOCK).exists():
        shutil.rmtree(folder, ignore_errors=True)  # it was removed in part
        return
    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return
    shutil.rmtree(folder, ignore_errors=True)
    lock.release()


def _files(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """All files in ``folder`` with their state, except those that are removed meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            try:
                yield path, os.lstat(path)
            except FileNotFoundError:
                continue
