"""What anybody may know of the studies that take answers: no id, no method, no rater, no link."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from siamese.study.rating.duration import Duration, expected_duration
from siamese.study.storage.database import StorageError
from siamese.study.storage.store import StudyStore

KEPT_SECONDS = 5.0
"""How long a list is shown again before the database is asked again."""


@dataclass(frozen=True)
class OpenStudy:
    """An open study as a visitor of the studio sees it."""

    title: str
    kind: str
    """What is judged, in words: the protocol's title."""
    practice: int
    """Screens with feedback; among those of ``duration``."""
    duration: Duration


class OpenStudies:
    """The open studies of ``store``, the newest first. Safe to call from several threads.

    However many visitors ask, one connection is used at a time and the list is kept for ``KEPT_SECONDS``: raters' answers come first.
    """

    def __init__(self, store: StudyStore) -> None:
        self._store, self._lock, self._until = store, threading.Lock(), 0.0
        self._found: tuple[OpenStudy, ...] | StorageError = ()

    def __call__(self) -> tuple[OpenStudy, ...]:
        """The list.

        Raises:
            StorageError: the database is away; raised again without asking it until the list would be old.
        """
        with self._lock:
            if time.monotonic() >= self._until:
                try:
                    self._found = self._read()
                except StorageError as error:
                    self._found = error
                self._until = time.monotonic() + KEPT_SECONDS
            if isinstance(self._found, StorageError):
                raise self._found
            return self._found

    def _read(self) -> tuple[OpenStudy, ...]:
        open_ones = [study.config for study in self._store.studies() if study.state == "open"]
        with self._store.database.read() as connection:
            return tuple(
                OpenStudy(c.title, c.rules.title, c.training, expected_duration(connection, c))
                for c in open_ones
            )
