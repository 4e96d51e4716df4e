"""Opening the studies of a data directory: their database, and whether it is durable."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from siamese.study.storage.database import Database
from siamese.study.storage.durability import Durability, dataset_options
from siamese.study.storage.location import database_url, note_address
from siamese.study.storage.store import StudyStore


@dataclass(frozen=True)
class OpenedStudies:
    """The studies that a server serves."""

    folder: Path
    """Data directory; it holds the administrator's password hash and keys as well."""
    store: StudyStore
    durability: Durability | None = None
    """Whether answers last; None if nobody asks."""

    def note_address(self, address: str) -> None:
        """Keep the address at which they are served; see ``siamese.study.storage.location.note_address``."""
        note_address(self.folder, address)


def open_studies(folder: Path, url: str | None = None) -> OpenedStudies:
    """Studies in ``folder``, or at ``url``; see ``siamese.study.storage.location``.

    Raises:
        SetupError, StorageError: the database cannot be opened, or an environment variable cannot be used.
    """
    options, database = dataset_options(), Database(database_url(folder, url))
    durability = Durability(folder, database.sqlite, options)
    return OpenedStudies(folder, StudyStore(database, durability.warning), durability)


def open_store(folder: Path, url: str | None = None) -> StudyStore:
    """The store of ``open_studies``; see there."""
    return open_studies(folder, url).store
