"""Images from an uploaded ZIP file: a folder a method. Nothing in it is trusted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from siamese.files.archives import (
    ArchivedFile,
    ArchivedFileError,
    ArchiveError,
    ArchiveLimits,
    BoundedArchive,
    open_archive,
)
from siamese.files.listing import PassedOver, describe_passed_over, reason_to_pass_over
from siamese.study.config import NAME, ConfigError
from siamese.study.storage.database import StorageFullError

MAX_BYTES, MAX_FILES, MAX_FILE_BYTES = 4 * 2**30, 20_000, 64 * 2**20
"""Bytes after unpacking, files, and bytes of one file, which is held in memory."""
MAX_NAME_BYTES = 250
"""Bytes in UTF-8 of a file's name with its suffix, which file systems and the database can store."""
LIMITS = ArchiveLimits(entries=2 * MAX_FILES, file_bytes=MAX_FILE_BYTES, total_bytes=MAX_BYTES)
log = logging.getLogger(__name__)


def unpack(stream: BinaryIO, folder: Path, note: Callable[[str], None] = log.warning) -> dict[str, Path]:
    """Write the images of a ZIP file to ``folder/METHOD/`` and return the folders by method. If one folder is around all of them,
    it is taken off.

    Args:
        note: called with a line for each reason for which files were not read, with their names.

    Raises:
        ConfigError: not a ZIP file, too large, without a folder for each method, or every file that cannot be read, by name.
        StorageFullError: there is no space to unpack it.
    """
    try:
        with open_archive(stream, LIMITS) as archive:
            files = _images_in(archive, note)
            _check_layout(files)
            return _write(archive, files, folder)
    except ArchiveError as error:
        raise ConfigError([f"the ZIP file cannot be read: {error}"]) from error
    except OSError as error:
        raise StorageFullError(
            f"the server could not unpack the ZIP file ({error.strerror}). Tell the administrator."
        ) from error


def _images_in(archive: BoundedArchive, note: Callable[[str], None]) -> list[ArchivedFile]:
    files, passed_over = [], list(archive.passed_over)
    for file in archive.files:
        if reason := reason_to_pass_over(file.parts):
            passed_over.append(PassedOver(file.shown, reason))
        else:
            files.append(file)
    for line in describe_passed_over(passed_over, indent=""):
        note(f"not read from the ZIP file: {line}")
    return files


def _check_layout(files: Sequence[ArchivedFile]) -> None:
    """Raise a ConfigError unless ``files`` are one folder a method, and are few, small and named as they must be."""
    if len(files) > MAX_FILES or sum(file.size for file in files) > MAX_BYTES:
        raise ConfigError(
            [
                f"the ZIP file unpacks to more than {MAX_FILES} images or {MAX_BYTES // 2**30} GiB; use a folder on the server."
            ]
        )
    depths = {len(file.parts) for file in files}
    if depths not in ({2}, {3}) or (depths == {3} and len({file.parts[0] for file in files}) > 1):
        raise ConfigError(["the ZIP file must hold one folder a method, with the images directly in it."])
    problems = []
    for file in files:
        if file.fault is not None:
            problems.append(f"{file.shown!r} in the ZIP file {file.fault}.")
        elif not NAME.fullmatch(file.parts[-2]):
            problems.append(
                f"{file.shown!r} in the ZIP file: folders need letters, digits, spaces and . _ + - only."
            )
        elif len(file.name.encode("utf-8", "replace")) > MAX_NAME_BYTES:
            problems.append(
                f"{file.name[:40]!r}... in the ZIP file: names have up to {MAX_NAME_BYTES} bytes. Rename the files."
            )
    if problems:
        raise ConfigError(problems[:20])


def _write(archive: BoundedArchive, files: Sequence[ArchivedFile], folder: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for file in files:
        method = file.parts[-2]
        found[method] = folder / method
        found[method].mkdir(exist_ok=True)
        try:
            (found[method] / file.name).write_bytes(archive.read(file))
        except ArchivedFileError as error:
            raise ConfigError([f"the ZIP file cannot be read: {file.shown!r} {error}."]) from error
    return found
