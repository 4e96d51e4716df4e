"""Sessions that were ended by logging out. A cookie is valid by its signature alone; these are the exceptions.

A file each, in the data directory beside the key of the signature: so they hold after a restart, and for all server processes on it.
"""

from __future__ import annotations

import time
from pathlib import Path

from siamese.study.storage.database import StorageFullError

FOLDER = "ended-sessions"


class EndedSessions:
    """Sessions that have ended before their time.

    Args:
        folder: data directory.
        lifetime: seconds after which a session ends by itself, and its file here can go.
    """

    def __init__(self, folder: Path, lifetime: float) -> None:
        self._folder, self._lifetime = folder / FOLDER, lifetime

    def __contains__(self, session: str) -> bool:
        return (self._folder / session).exists()

    def add(self, session: str) -> None:
        """End ``session``, letters and digits.

        Raises:
            StorageFullError: that could not be stored, and the session continues.
        """
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            (self._folder / session).touch(mode=0o600)
        except OSError as error:
            raise StorageFullError(
                f"the server could not write ({error.strerror}), so you are still logged in. Close the browser, and tell "
                "whoever runs the server."
            ) from error
        self._purge()

    def _purge(self) -> None:
        for file in self._folder.iterdir():
            try:
                if time.time() - file.stat().st_mtime > self._lifetime:
                    file.unlink()
            except FileNotFoundError:
                continue  # another process was faster
