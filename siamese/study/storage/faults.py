"""What goes wrong with a database, by name: the drivers' errors as errors that say what happened to the request."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pg8000.exceptions import InterfaceError
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, NotSupportedError, ProgrammingError
from sqlalchemy.exc import TimeoutError as NoFreeConnectionError

DISK_FULL = "53100"
"""PostgreSQL's error code."""
OWN_FAULTS = ("0A", "21", "22", "23", "42", "44", "P0")
"""Classes of PostgreSQL's codes for a statement that is wrong or refused by a constraint; all others are the database's trouble."""
DATABASE_FAULTS = ("42P01", "42501")
"""Codes of those classes that a right statement meets too: a table that is gone, a right that was taken away."""
GONE = ("08", "57P")
"""Classes of PostgreSQL's codes after which a connection is of no use: the server shuts down, or is not up yet."""
DAMAGED = (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT)
UNREADABLE = (
    sqlite3.SQLITE_IOERR_READ,
    sqlite3.SQLITE_IOERR_SHORT_READ,
    sqlite3.SQLITE_IOERR_FSTAT,
    sqlite3.SQLITE_IOERR_ACCESS,
    sqlite3.SQLITE_IOERR_DATA,
    sqlite3.SQLITE_IOERR_CORRUPTFS,
    sqlite3.SQLITE_IOERR_VNODE,
)
"""Input/output errors that a full disk does not cause."""


class StorageError(RuntimeError):
    """The database cannot be used, or did not take a change; the message says whether the change may be stored all the same."""


class StorageFullError(StorageError):
    """The disk is full; nothing of the change is stored."""


@contextmanager
def named_errors(committing: bool = False) -> Iterator[None]:
    """The driver's errors as ``StorageError``. A violated constraint and a wrong statement stay what they are: they are no fault of the storage.

    Args:
        committing: whether the block commits. A database server that goes away then may have stored the change, and the message says so.
    """
    try:
        yield
    except NoFreeConnectionError as error:
        raise StorageError(
            "too many requests wait for the database; nothing was stored. Try again."
        ) from error
    except DBAPIError as error:
        if is_database_full(error):
            raise StorageFullError(
                "the server's disk is full; nothing was stored. Tell the study's administrator."
            ) from error
        if is_own_fault(error):
            raise
        name = type(error.orig).__name__
        if committing and not isinstance(error.orig, sqlite3.Error):
            raise StorageError(
                f"the database went away while it stored this ({name}), so that it may be stored or not. Try again: an answer that is "
                "sent again counts once."
            ) from error
        if is_damaged(error):
            raise StorageError(
                "the database file is damaged; nothing was stored. Tell the study's administrator."
            ) from error
        raise StorageError(f"the database did not answer ({name}); nothing was stored. Try again.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFullError(
                "the server's disk is full; nothing was stored. Tell the study's administrator."
            ) from error
        raise StorageError(
            f"the server could not read or write ({error.strerror or type(error).__name__}); nothing was stored. "
            "Try again."
        ) from error


def server_code(error: BaseException | None) -> str:
    """The five characters by which PostgreSQL names an error; empty if the error is not the server's."""
    details = error.args[0] if error is not None and error.args else None
    return str(details.get("C", "")) if isinstance(details, dict) else ""


def server_message(error: BaseException | None) -> str:
    """What the database says about its error, for an administrator."""
    details = error.args[0] if error is not None and error.args else None
    return str(details.get("M", "") if isinstance(details, dict) else details or "")


def is_own_fault(error: DBAPIError) -> bool:
    """Whether the statement is at fault, and not the database."""
    code = server_code(error.orig)
    if code:
        return code.startswith(OWN_FAULTS) and code not in DATABASE_FAULTS
    return isinstance(error, (IntegrityError, ProgrammingError, DataError, NotSupportedError))


def is_database_full(error: DBAPIError) -> bool:
    """Whether the database had no room. SQLite reports a full disk as that, or as an input/output error in its log."""
    if isinstance(error.orig, sqlite3.Error):
        code = getattr(error.orig, "sqlite_errorcode", 0)  # drivers' own errors have none
        # The extended code's low byte is the primary one.
        return (code & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR) and code not in UNREADABLE
    return server_code(error.orig) == DISK_FULL


def is_damaged(error: DBAPIError) -> bool:
    """Whether SQLite found its file to be no database, or a damaged one."""
    code = getattr(error.orig, "sqlite_errorcode", 0)
    return (code & 0xFF) in DAMAGED or code in UNREADABLE


def drop_broken(context: ExceptionContext) -> None:
    """SQLAlchemy's ``handle_error`` for PostgreSQL: connections of a server that went away are not used again.

    By itself it knows two of pg8000's messages, and neither a server that is shutting down nor one that refuses connections.
    """
    error = context.original_exception
    if isinstance(error, InterfaceError) or server_code(error).startswith(GONE):
        context.is_disconnect = True


class NamedStream:
    """A stream of pg8000's whose reads fail with the driver's own error.

    The driver lets the system's error through if the first bytes of an answer fail, as on a time limit or a reset connection: SQLAlchemy
    would take the connection for a good one, and use it again in the middle of an answer.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.write, self.flush = stream.write, stream.flush  # these the driver guards itself

    def read(self, size: int) -> bytes:
        """Up to ``size`` bytes."""
        try:
            return self._stream.read(size)
        except OSError as error:
            raise InterfaceError("network error") from error


def connect_named(dialect: Dialect, entry: object, arguments: list, options: dict) -> DBAPIConnection:
    """SQLAlchemy's ``do_connect`` for PostgreSQL: a connection all of whose failures are the driver's errors."""
    try:
        connection = dialect.connect(*arguments, **options)
    except OSError as error:
        raise InterfaceError("communication error") from error
    connection._sock = NamedStream(connection._sock)
    return connection
