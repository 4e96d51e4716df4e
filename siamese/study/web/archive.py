"""Images from an uploaded ZIP file: a folder a method. Nothing in it is trusted."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from siamese.study.config import NAME, ConfigError
from siamese.study.storage.database import StorageFullError
from siamese.study.storage.images import SUFFIXES

MAX_BYTES, MAX_FILES, MAX_FILE_BYTES = 4 * 2**30, 20_000, 64 * 2**20
"""Bytes after unpacking, files, and bytes of one file, which is held in memory."""
MAX_NAME_LENGTH = 250
"""Bytes that file systems take, and the database as a mask's name."""


def unpack(stream: BinaryIO, folder: Path) -> dict[str, Path]:
    """Write the images of a ZIP file to ``folder/METHOD/`` and return the folders by method; one folder around all is taken off.

    Raises:
        ConfigError: no ZIP file, too large, or without a folder for each method.
    """
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = [
                e
                for e in archive.infolist()
                if not e.is_dir()
                and Path(e.filename).suffix.lower() in SUFFIXES
                and not any(part.startswith((".", "__MACOSX")) for part in PurePosixPath(e.filename).parts)
            ]
            if len(entries) > MAX_FILES or sum(e.file_size for e in entries) > MAX_BYTES:
                raise ConfigError(
                    [
                        f"the ZIP file unpacks to more than {MAX_FILES} images or {MAX_BYTES // 2**30} GiB; use a folder on the server."
                    ]
                )
            depths = {len(PurePosixPath(e.filename).parts) for e in entries}
            if depths not in ({2}, {3}) or (
                depths == {3} and len({PurePosixPath(e.filename).parts[0] for e in entries}) > 1
            ):
                raise ConfigError(
                    ["the ZIP file must hold one folder a method, with the images directly in it."]
                )
            found: dict[str, Path] = {}
            for entry in entries:
                method, name = PurePosixPath(entry.filename).parts[-2:]
                if not NAME.fullmatch(method) or "\\" in name:
                    raise ConfigError(
                        [
                            f"{entry.filename[:100]!r} in the ZIP file: folders need letters, digits, spaces and . _ + - only."
                        ]
                    )
                if len(name.encode("utf-8", "replace")) > MAX_NAME_LENGTH:
                    raise ConfigError(
                        [
                            f"{name[:40]!r}... in the ZIP file: names have up to {MAX_NAME_LENGTH} bytes. Rename the files."
                        ]
                    )
                found[method] = folder / method
                found[method].mkdir(exist_ok=True)
                if entry.file_size > MAX_FILE_BYTES:
                    raise ConfigError(
                        [
                            f"{entry.filename[:100]!r} in the ZIP file is larger than {MAX_FILE_BYTES // 2**20} MiB."
                        ]
                    )
                # The header's size is a claim: no more than it is read.
                with archive.open(entry) as source:
                    (found[method] / name).write_bytes(source.read(entry.file_size))
    # zipfile raises NotImplementedError for a compression or version that it does not know, RuntimeError for an encrypted file; damage
    # is the packers' own errors, of bzip2 an OSError without a number.
    except (
        zipfile.BadZipFile,
        zipfile.LargeZipFile,
        NotImplementedError,
        RuntimeError,
        EOFError,
        ValueError,
        zlib.error,
        lzma.LZMAError,
        OSError,
    ) as error:
        if isinstance(error, ConfigError):
            raise
        if isinstance(error, OSError) and error.errno is not None:
            raise StorageFullError(
                f"the server could not unpack the ZIP file ({error.strerror}). Tell the administrator."
            ) from error
        raise ConfigError([f"the ZIP file cannot be read ({error})."]) from error
    return found
