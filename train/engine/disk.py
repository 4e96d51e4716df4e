"""A full disk: recognised whichever library met it, and reported with what could not be written."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from siamese.files.atomic import replacing as replacing  # together with ``writing``

_NUMBERS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# safetensors, written in Rust, and torch's archives tell the system's message in an error of their own.
_WORDS = ("No space left on device", "Disk quota exceeded", "File too large")


class DiskFull(RuntimeError):
    """Something could not be written for want of space; the message says what."""


def is_full(error: BaseException | None) -> bool:
    """Whether a disk without space is behind ``error``, at whatever depth of its causes."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if (
            isinstance(error, DiskFull)
            or (isinstance(error, OSError) and error.errno in _NUMBERS)
            or any(w in str(error) for w in _WORDS)
        ):
            return True
        error = error.__cause__ or error.__context__
    return False


@contextmanager
def writing(what: str) -> Iterator[None]:
    """Within, ``what`` is written.

    Raises:
        DiskFull: there was no space for it. All other errors pass as they are.
    """
    try:
        yield
    except Exception as error:
        if not is_full(error) or isinstance(error, DiskFull):
            raise
        raise DiskFull(f"No space is left on the disk: {what} could not be written.") from error


@contextmanager
def quiet_log_thread() -> Iterator[None]:
    """Within, a thread that ends for want of space prints no traceback: the log's next call raises the same error, which is reported."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not is_full(arguments.exc_value):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
