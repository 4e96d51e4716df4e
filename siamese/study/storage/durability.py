"""Whether answers outlive the server, and if not, how many minutes of them could be lost."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from siamese.study.storage.mounts import MEMORY, file_system, is_remote
from siamese.web.hf_space import VOLUME, lasts
from siamese.web.settings import (
    DATA_VARIABLE,
    DATABASE_VARIABLE,
    DATASET_VARIABLE,
    DEFAULT_MINUTES,
    StudyEnvironment,
)


@dataclass(frozen=True)
class DatasetOptions:
    """The dataset repository that studies are copied to, and how often."""

    repository: str
    minutes: float = DEFAULT_MINUTES
    """Above 0, up to 1440."""


def dataset_options() -> DatasetOptions | None:
    """What the environment says; None if it names no repository.

    Raises:
        SetupError: a variable cannot be used.
    """
    said = StudyEnvironment.read()
    return DatasetOptions(said.dataset, said.push_minutes) if said.dataset else None


class Copy(Protocol):
    """A running copy to a dataset repository."""

    options: DatasetOptions
    copied_at: float
    """When what is copied was the newest."""
    problem: str | None
    """Why the last attempt failed; None if it succeeded."""


class Durability:
    """Whether answers last.

    Args:
        folder: data directory.
        sqlite: whether the database is a file there; a database server keeps its data by itself.
        options: the dataset repository, if there is one. ``copy`` is set if this process makes the copies.
    """

    def __init__(self, folder: Path, sqlite: bool, options: DatasetOptions | None = None) -> None:
        kind = file_system(folder) if sqlite else None
        self.remote = kind if kind is not None and is_remote(kind) else None
        """The file system's type if SQLite lies on a network or on FUSE."""
        self.memory = kind if kind in MEMORY else None
        """The file system's type if it is the machine's memory."""
        self.lasting = not sqlite or (lasts(folder) and not self.remote and not self.memory)
        self.folder = folder
        self.options = options
        self.copy: Copy | None = None
        self._started = time.time()

    def minutes_at_risk(self) -> float:
        """Minutes of answers that could be lost now: 0 if storage lasts, the time since the start if nothing is copied."""
        if self.lasting:
            return 0.0
        if self.options is None:
            return (time.time() - self._started) / 60
        behind = (time.time() - self.copy.copied_at) / 60 if self.copy and self.copy.problem else 0.0
        return max(self.options.minutes, behind)

    def warning(self) -> str | None:
        """What could be lost, for the administrator; None if storage lasts."""
        if self.lasting:
            return None
        minutes = max(1, math.ceil(self.minutes_at_risk()))
        if self.options is not None:
            return (
                f"{self._danger()}. Answers are copied to {self.options.repository} every {minutes_in_words(self.options.minutes)}: "
                f"up to {minutes_in_words(minutes)} of answers could be lost."
            )
        if self.remote or self.memory:
            return (
                f"{self._danger()}: all answers of all studies could be lost. Use a folder on a local disk (--data or {DATA_VARIABLE}), or set "
                f"{DATABASE_VARIABLE} or {DATASET_VARIABLE}."
            )
        return (
            f"{self._danger()}: all answers since its last start, now {minutes_in_words(minutes)} of them, could be lost. "
            f"Attach a persistent volume at {VOLUME}, or set {DATABASE_VARIABLE} or {DATASET_VARIABLE}."
        )

    def _danger(self) -> str:
        """Why answers could be lost."""
        if self.remote:
            return (
                f"The data folder {self.folder} is on a network drive or FUSE ({self.remote}), on which SQLite's locks do not always hold and "
                "stored data is not always on a disk, so that the database can be damaged"
            )
        if self.memory:
            return f"The data folder {self.folder} is in memory ({self.memory}), which is empty after the machine restarts"
        return "This Space keeps no files when it restarts"

    def report(self) -> str | None:
        """The state of the copy to the dataset repository; None if there is no copy."""
        if self.copy is None:
            return None
        repository, ago = (
            self.copy.options.repository,
            minutes_in_words(int((time.time() - self.copy.copied_at) / 60)),
        )
        if self.copy.problem:
            return f"The copy to {repository} fails, the last one is {ago} old: {self.copy.problem}"
        return f"Copied to {repository} {ago} ago."


def minutes_in_words(minutes: float) -> str:
    """Minutes in words."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"
