"""Where a data set is written to: a folder or a ZIP file. The same items give the same bytes, DICOM's times and ids aside."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from siamese.files.atomic import atomic_file, replacing_files

Put = Callable[[str, bytes], None]
"""Writes one file: its path, with slashes, and its content."""
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a ZIP can hold
_PACKED = (".png", ".jpg")


@contextmanager
def into_folder(folder: Path) -> Iterator[Put]:
    """Files of ``folder``, which appear when all are written. ``folder`` is made if it is missing; its other files stay.

    Raises:
        OSError: the disk is full or refuses. After any error, nothing in ``folder`` has changed.
    """
    with replacing_files(Path(folder)) as part:

        def put(name: str, data: bytes) -> None:
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        yield put


@contextmanager
def into_zip(path: Path) -> Iterator[Put]:
    """Files of the ZIP ``path``, which appears when all are written and replaces what lay there. Its folder must exist.

    Raises:
        OSError: the disk is full or refuses. After any error, what lay at ``path`` before is still there.
    """
    with atomic_file(Path(path)) as file, zipfile.ZipFile(file, "w") as archive:

        def put(name: str, data: bytes) -> None:
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.create_system, entry.external_attr = 3, 0o644 << 16  # the same on every system
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(_PACKED) else zipfile.ZIP_DEFLATED
            archive.writestr(entry, data)

        yield put


def json_bytes(document: Any) -> bytes:
    """``document`` as JSON in plain ASCII, which no reader takes for another encoding."""
    return json.dumps(document, allow_nan=False).encode()


def json_lines(rows: list[dict[str, Any]]) -> bytes:
    """A line of JSON for each of ``rows``."""
    return b"".join(json_bytes(row) + b"\n" for row in rows)
