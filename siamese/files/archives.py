"""A bounded reader of ZIP files of strangers. Nothing in the file is trusted, and nothing is written to disk here.

The number of entries, the bytes of each and of all of them are limited before anything is unpacked, and while it is. The ratio of
packing has no limit of its own: an honest black mask packs 1000 : 1, and the total bounds what a bomb can take.
"""

from __future__ import annotations

import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from siamese.files.listing import LITTER, PassedOver, is_litter
from siamese.files.names import normal_form, path_parts, shown_name

# What zipfile and zlib raise on damaged or hostile files. A version or a compression that zipfile does not know is a RuntimeError, too.
_DAMAGE = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, struct.error)
_DAMAGE += (EOFError, RuntimeError, ValueError, OverflowError)
_PACKED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ArchiveError(ValueError):
    """The file is not a ZIP file that can be read, or above a limit; the message says what to do."""


class ArchivedFileError(ValueError):
    """One file in the archive cannot be read; the message is the fault alone, without the file's name."""


@dataclass(frozen=True)
class ArchiveLimits:
    """What a ZIP file may hold."""

    entries: int
    """Files and folders, with those that are passed over."""
    file_bytes: int
    """Bytes of one file, unpacked; so much is held in memory."""
    total_bytes: int
    """Bytes of all files that are data, unpacked."""


@dataclass(frozen=True)
class ArchivedFile:
    """A file in a ZIP."""

    parts: tuple[str, ...]
    """The path as the archive has it, split at slashes and backslashes."""
    size: int
    """Bytes, unpacked, as the archive says."""
    fault: str | None
    """Why it must not be read; None if nothing is wrong as far as the archive's directory tells."""
    entry: zipfile.ZipInfo

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.parts[-1]

    @property
    def shown(self) -> str:
        """The path for a message."""
        return shown_name(self.entry.filename)


class BoundedArchive:
    """The files of an open ZIP in the order of their paths; see ``open_archive``."""

    def __init__(self, archive: zipfile.ZipFile, limits: ArchiveLimits) -> None:
        self._archive, self._limits, self._unpacked = archive, limits, 0
        self.files: list[ArchivedFile] = []
        self.passed_over: list[PassedOver] = []
        seen: dict[str, str] = {}
        for entry in sorted(archive.infolist(), key=lambda e: e.filename):
            if entry.is_dir() or entry.filename.endswith("\\"):
                continue
            parts = tuple(part for part in path_parts(entry.filename) if part != ".") or ("",)
            if is_litter(parts):
                self.passed_over.append(PassedOver(shown_name(entry.filename), LITTER))
                continue
            path = normal_form("/".join(parts)).casefold()
            fault = _fault_of(entry, parts, limits)
            if fault is None and path in seen:
                fault = f"has the same name as {seen[path]} on some systems; rename one of them"
            seen.setdefault(path, shown_name(entry.filename))
            self.files.append(ArchivedFile(parts, entry.file_size, fault, entry))

    def read(self, file: ArchivedFile) -> bytes:
        """The content of ``file``.

        Raises:
            ArchivedFileError: it has a fault, is damaged, or has another length than the archive says.
            ArchiveError: all that was read has more bytes than the limit.
            OSError: the disk fails.
        """
        if file.fault is not None:
            raise ArchivedFileError(file.fault)
        self._unpacked += file.size
        if self._unpacked > self._limits.total_bytes:
            raise ArchiveError(
                f"the files up to this one have more than {self._limits.total_bytes / 1e6:.0f} MB unpacked; split the ZIP file"
            )
        try:
            with self._archive.open(file.entry) as stream:
                data = stream.read(self._limits.file_bytes + 1)  # the size in the directory is a claim only
        except _DAMAGE as error:
            raise ArchivedFileError(f"cannot be read ({shown_name(str(error))})") from error
        if len(data) != file.size:
            raise ArchivedFileError("is not as long as the ZIP says")
        return data


@contextmanager
def open_archive(source: Path | BinaryIO, limits: ArchiveLimits) -> Iterator[BoundedArchive]:
    """The ZIP file ``source``, of which every name and size has been checked.

    Raises:
        ArchiveError: not a ZIP file that can be read, or too many entries.
        OSError: the disk fails.
    """
    try:
        archive = zipfile.ZipFile(source)
    except _DAMAGE as error:
        raise ArchiveError(
            f"this is not a ZIP file that can be read ({shown_name(str(error))}). Pack it again."
        ) from error
    with archive:
        if (count := len(archive.infolist())) > limits.entries:
            raise ArchiveError(
                f"the ZIP file holds {count} files and folders; at most {limits.entries} can be read. Split it."
            )
        yield BoundedArchive(archive, limits)


def _fault_of(entry: zipfile.ZipInfo, parts: tuple[str, ...], limits: ArchiveLimits) -> str | None:
    """What the directory of a ZIP says to be wrong with an entry."""
    if ".." in parts or not parts[0] or re.match("[A-Za-z]:", parts[0]) or "\0" in entry.orig_filename:
        return "its path leads out of the ZIP file or is malformed; pack the files again"
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        return "is a link or a device; pack the file itself"
    if entry.flag_bits & 0x1:
        return "is encrypted; pack it without a password"
    if entry.compress_type not in _PACKED:  # zipfile unpacks only these in bounded memory
        return "is packed by another method than deflate; use plain ZIP compression"
    if entry.file_size > limits.file_bytes:
        return f"has {entry.file_size / 1e6:.0f} MB unpacked; at most {limits.file_bytes / 1e6:.0f} MB can be read"
    return None
