"""Whether answers outlive the server, and how many minutes of them could be lost where they may not."""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from siamese.study.storage.location import DATA_VARIABLE, DATABASE_VARIABLE, PlaceError
from siamese.study.storage.mounts import MEMORY, file_system, is_remote
from siamese.web.space import VOLUME, lasts

DATASET_VARIABLE = "SIAMESE_STUDY_DATASET"
"""Environment variable with the private dataset repository (owner/name) that studies are copied to."""
MINUTES_VARIABLE = "SIAMESE_STUDY_PUSH_MINUTES"
DEFAULT_MINUTES, MAX_MINUTES = 5.0, 1440.0
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


@dataclass(frozen=True)
class DatasetOptions:
    """Where studies are copied to, and how often."""

    repository: str
    minutes: float = DEFAULT_MINUTES
    """Above 0, up to 1440."""


def dataset_options() -> DatasetOptions | None:
    """What the environment says; None where it names no repository.

    Raises:
        PlaceError: a variable cannot be used.
    """
    repository, said = (
        os.environ.get(DATASET_VARIABLE, "").strip(),
        os.environ.get(MINUTES_VARIABLE, "").strip(),
    )
    if not repository:
        return None
    if not REPOSITORY.fullmatch(repository):
        raise PlaceError(
            f"{DATASET_VARIABLE} must be owner/name of a dataset repository, not {repository!r}."
        )
    try:
        minutes = float(said) if said else DEFAULT_MINUTES
    except ValueError as error:
        raise PlaceError(f"{MINUTES_VARIABLE} must be a number of minutes, not {said!r}.") from error
    if not 0 < minutes <= MAX_MINUTES:
        raise PlaceError(
            f"{MINUTES_VARIABLE} must be above 0 and at most {MAX_MINUTES:.0f} minutes, not {said}."
        )
    return DatasetOptions(repository, minutes)


class Copy(Protocol):
    """A running copy to a dataset repository."""

    options: DatasetOptions
    copied_at: float
    """When what is copied was the newest."""
    problem: str | None
    """Why the last attempt failed; None where it did not."""


class Durability:
    """Whether answers last.

    Args:
        folder: data directory.
        sqlite: whether the database is a file there; a database server keeps its data by itself.
        options: the dataset repository, where there is one. ``copy`` is set where this process makes the copies.
    """

    def __init__(self, folder: Path, sqlite: bool, options: DatasetOptions | None = None) -> None:
        kind = file_system(folder) if sqlite else None
        self.remote = kind if kind is not None and is_remote(kind) else None
        """The file system's type where SQLite lies on a network or on FUSE."""
        self.memory = kind if kind in MEMORY else None
        """The file system's type where it is the machine's memory."""
        self.lasting = not sqlite or (lasts(folder) and not self.remote and not self.memory)
        self.folder = folder
        self.options = options
        self.copy: Copy | None = None
        self._started = time.time()

    def minutes_at_risk(self) -> float:
        """Minutes of answers that could be lost now: 0 where storage lasts, the time since the start where nothing is copied."""
        if self.lasting:
            return 0.0
        if self.options is None:
            return (time.time() - self._started) / 60
        behind = (time.time() - self.copy.copied_at) / 60 if self.copy and self.copy.problem else 0.0
        return max(self.options.minutes, behind)

    def warning(self) -> str | None:
        """What could be lost, for the administrator; None where storage lasts."""
        if self.lasting:
            return None
        minutes = max(1, math.ceil(self.minutes_at_risk()))
        if self.options is not None:
            return (
                f"{self._danger()}. Answers are copied to {self.options.repository} every {counted(self.options.minutes)}: "
                f"up to {counted(minutes)} of answers could be lost."
            )
        if self.remote or self.memory:
            return (
                f"{self._danger()}: all answers of all studies could be lost. Use a folder on a local disk (--data or {DATA_VARIABLE}), or set "
                f"{DATABASE_VARIABLE} or {DATASET_VARIABLE}."
            )
        return (
            f"{self._danger()}: all answers since its last start, now {counted(minutes)} of them, could be lost. "
            f"Attach a persistent volume at {VOLUME}, or set {DATABASE_VARIABLE} or {DATASET_VARIABLE}."
        )

    def _danger(self) -> str:
        """Why answers could be lost."""
        if self.remote:
            return (
                f"The data folder {self.folder} is on a network drive or FUSE ({self.remote}), where SQLite's locks do not always hold and "
                "stored data is not always on a disk, so that the database can be damaged"
            )
        if self.memory:
            return f"The data folder {self.folder} is in memory ({self.memory}), which is empty after the machine restarts"
        return "This Space keeps no files when it restarts"

    def report(self) -> str | None:
        """How the copy to the dataset repository goes; None where there is none."""
        if self.copy is None:
            return None
        repository, ago = self.copy.options.repository, counted(int((time.time() - self.copy.copied_at) / 60))
        if self.copy.problem:
            return f"The copy to {repository} fails, the last one is {ago} old: {self.copy.problem}"
        return f"Copied to {repository} {ago} ago."


def counted(minutes: float) -> str:
    """Minutes in words."""
    return "1 minute" if minutes == 1 else f"{minutes:g} minutes"
