"""Atomic writes: a file appears whole under its name, or not at all, also after a kill or a power cut.

What is written first has a name of its own beside the final one: hidden, so that no reader of the folder takes it for data, and
with the process id and a random part, so that several processes and machines can write one file at the same time.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

LEFT_OVER_SECONDS = 24 * 3600
"""Age from which an unfinished file belongs to a process that was killed; no write here takes nearly as long."""
_UNFINISHED = re.compile(r"\.\d+-[0-9a-f]{16}\.part(\.\w+)?")


def unfinished_name(path: Path) -> Path:
    """A new path beside ``path`` to write to, with the suffix of ``path`` at its end, which some libraries insist on.

    It is in the same folder because ``os.replace`` does not cross file systems.
    """
    return path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.part{path.suffix}")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path to write a file to, which replaces ``path`` in one step when the block ends. The folder must exist.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replacing(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'

    Raises:
        OSError: the disk is full or refuses. After any error, what was at ``path`` before is still there.
    """
    path = Path(path)
    part = unfinished_name(path)
    try:
        yield part
        flush_to_disk(part)  # otherwise a power cut could leave an empty file under the final name
        os.replace(part, path)
        flush_to_disk(path.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """``replacing`` with a file that is open for writing bytes."""
    with replacing(path) as part, part.open("xb") as file:
        yield file


@contextmanager
def replacing_files(folder: Path) -> Iterator[Path]:
    """Yield a folder to write to, whose files replace those in ``folder`` one after the other when the block ends.

    If writing fails, nothing in ``folder`` has changed. Other files in ``folder`` stay. ``folder`` is made if it is missing.
    """
    folder = Path(folder)
    part = unfinished_name(folder.with_suffix(""))
    try:
        yield part
        for file in sorted(p for p in part.rglob("*") if p.is_file()):
            final = folder / file.relative_to(part)
            final.parent.mkdir(parents=True, exist_ok=True)
            flush_to_disk(file)
            os.replace(file, final)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def flush_to_disk(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, would survive a power cut.

    Raises:
        OSError: the disk is full or refuses.
    """
    if os.name == "nt" and path.is_dir():  # Windows cannot open folders, and needs no flush of them
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_left_overs(folder: Path) -> None:
    """Remove unfinished files and folders in ``folder`` that a killed process has left. What the system refuses stays."""
    for path in folder.iterdir() if folder.is_dir() else ():
        try:
            if _UNFINISHED.fullmatch(path.name) and time.time() - path.stat().st_mtime > LEFT_OVER_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        except OSError:  # another process removes it, too, or may and this one may not
            continue
