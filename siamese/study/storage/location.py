"""Where studies are kept: a data directory that no server serves, or a PostgreSQL database."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from siamese.web.space import volume

DATA_VARIABLE = "SIAMESE_STUDY_DATA"
"""Environment variable with the data directory."""
DATABASE_VARIABLE = "SIAMESE_STUDY_DATABASE"
"""Environment variable with a PostgreSQL URL; SQLite in the data directory without it."""
FILE_NAME = "studies.sqlite3"
SERVED = "served-at"
"""File with the address that the studies were last served at."""


class PlaceError(RuntimeError):
    """The data directory cannot be used; the message says what to do."""


def default_folder() -> Path:
    """Where data lives that no folder is named for: the persistent volume on a Space that has one, else the platform's place for data."""
    mounted = volume()
    return (
        mounted / "siamese-studio"
        if mounted
        else platformdirs.user_data_path("siamese-studio", appauthor=False)
    )


def data_directory(given: str | Path | None = None) -> Path:
    """The data directory, made where it is missing, readable by its owner only.

    Args:
        given: a folder; the environment variable ``SIAMESE_STUDY_DATA`` where None; without it see ``default_folder``.

    Raises:
        PlaceError: it lies in the working directory or in this repository, where a page might serve it, or cannot be written.
    """
    chosen = given or os.environ.get(DATA_VARIABLE) or default_folder() / "studies"
    folder = Path(chosen).expanduser().resolve()
    for served in (Path.cwd().resolve(), Path(__file__).resolve().parents[3]):
        if folder == served or served in folder.parents:
            raise PlaceError(
                f"{folder} lies in {served}, whose files a web page might serve. Name a folder elsewhere with --data or "
                f"{DATA_VARIABLE}, or start from another working directory."
            )
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise PlaceError(
            f"{folder} cannot be made ({error}). Name another folder with --data or {DATA_VARIABLE}."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PlaceError(f"{folder} cannot be written. Name another folder with --data or {DATA_VARIABLE}.")
    return folder


def database_url(folder: Path, given: str | None = None) -> str:
    """SQLAlchemy URL: ``given``, or ``SIAMESE_STUDY_DATABASE``, or the SQLite file in ``folder``.

    PostgreSQL URLs as hosts hand them out (``postgres://``, ``postgresql://``) get the driver pg8000.

    Raises:
        PlaceError: a URL of another database.
    """
    url = given or os.environ.get(DATABASE_VARIABLE)
    if not url:
        return f"sqlite:///{folder / FILE_NAME}"
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in ("postgres", "postgresql", "postgresql+pg8000"):
        raise PlaceError(
            f"{DATABASE_VARIABLE} must be a postgresql:// URL, not {scheme!r}; without it SQLite in the data directory is used."
        )
    return f"postgresql+pg8000://{rest}"


def note_address(folder: Path, address: str) -> None:
    """Keep where the studies in ``folder`` are served, for links that are made by another process."""
    (folder / SERVED).write_text(address, encoding="utf-8")


def noted_address(folder: Path) -> str | None:
    """Where the studies in ``folder`` are served, or were last; None where they never were."""
    try:
        return (folder / SERVED).read_text(encoding="utf-8").strip() or None
    except (FileNotFoundError, UnicodeDecodeError):
        return None
