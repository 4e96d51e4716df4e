"""The place of studies: a data directory that no server serves, or a PostgreSQL database."""

from __future__ import annotations

import os
from pathlib import Path

from siamese.web.data_folder import default_folder
from siamese.web.settings import DATA_VARIABLE, DATABASE_VARIABLE, SetupError, StudyEnvironment

FILE_NAME = "studies.sqlite3"
SERVED = "served-at"
"""File with the address that the studies were last served at."""


def data_directory(given: str | Path | None = None) -> Path:
    """The data directory, readable by its owner only. It is made if it does not exist.

    Args:
        given: a folder; if None, the environment variable ``SIAMESE_STUDY_DATA``, and without that ``studies`` in ``default_folder``.

    Raises:
        SetupError: it lies in the working directory or in this repository, from which a page might serve it, or cannot be written.
    """
    chosen = given or StudyEnvironment.read().data or default_folder() / "studies"
    folder = Path(chosen).expanduser().resolve()
    for served in (Path.cwd().resolve(), Path(__file__).resolve().parents[3]):
        if folder == served or served in folder.parents:
            raise SetupError(
                f"{folder} lies in {served}, whose files a web page might serve. Name a folder elsewhere with --data or "
                f"{DATA_VARIABLE}, or start from another working directory."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SetupError(
            f"{folder} cannot be made ({error}). Name another folder with --data or {DATA_VARIABLE}."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise SetupError(f"{folder} cannot be written. Name another folder with --data or {DATA_VARIABLE}.")
    return folder


def database_url(folder: Path, given: str | None = None) -> str:
    """SQLAlchemy URL: ``given``, or ``SIAMESE_STUDY_DATABASE``, or the SQLite file in ``folder``.

    PostgreSQL URLs as hosts hand them out (``postgres://``, ``postgresql://``) get the driver pg8000.

    Raises:
        SetupError: a URL of another database.
    """
    url = given or StudyEnvironment.read().database
    if not url:
        return f"sqlite:///{folder / FILE_NAME}"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+pg8000"):
        raise SetupError(
            f"{DATABASE_VARIABLE} must be a postgresql:// URL, not {scheme!r}; without it SQLite in the data directory is used."
        )
    return f"postgresql+pg8000://{rest}"


def note_address(folder: Path, address: str) -> None:
    """Keep the address at which the studies in ``folder`` are served, for links that are made by another process."""
    (folder / SERVED).write_text(address, encoding="utf-8")


def noted_address(folder: Path) -> str | None:
    """The address at which the studies in ``folder`` are served, or were last; None if they never were."""
    try:
        return (folder / SERVED).read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
