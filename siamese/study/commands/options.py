"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from siamese.study.storage.location import data_directory
from siamese.study.storage.opening import open_store
from siamese.study.storage.store import StudyStore


@dataclass(frozen=True)
class StorageOptions:
    """The storage of studies."""

    data: Path | None = None
    """Data directory; by default SIAMESE_STUDY_DATA or the platform's folder for data. Not in the working directory."""
    database: str | None = None
    """PostgreSQL URL; by default SIAMESE_STUDY_DATABASE, or SQLite in the data directory."""

    def folder(self) -> Path:
        """The data directory; see ``data_directory`` for errors."""
        return data_directory(self.data)

    def store(self) -> StudyStore:
        """The studies there; see ``open_store`` for errors."""
        return open_store(self.folder(), self.database)
