"""The database connection: durable settings, short transactions, errors with a name, migrations.

SQLite runs with a write-ahead log and full synchronisation: once a transaction has been committed, neither the death of the process
nor of the machine takes it back.
"""
from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

BUSY_SECONDS = 20
"""How long a writer waits for another before it gives up."""
PRAGMAS = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": BUSY_SECONDS * 1000}
"""Set on each connection and read back. 2 is FULL; secure_delete overwrites what a rater has withdrawn."""
MIGRATIONS = Path(__file__).parent / "migrations"
DISK_FULL = "53100"
"""PostgreSQL's error code."""


class StorageError(RuntimeError):
    """The database cannot be used, or did not take a change; nothing of the change is stored."""


class StorageFullError(StorageError):
    """The disk is full; nothing of the change is stored."""


class Database:
    """Connections to one database, in the newest version of the schema.

    Args:
        url: SQLAlchemy URL, as ``siamese.study.places.database_url`` gives it.
        page_limit: most pages that a SQLite file may have; tests fill the disk with it.

    Raises:
        StorageError: it cannot be opened, or its settings do not hold.
    """

    def __init__(self, url: str, page_limit: int | None = None) -> None:
        self.sqlite = url.startswith("sqlite")
        self.page_limit = page_limit
        # More connections than request threads, so that none waits for another's.
        pool: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_pre_ping": not self.sqlite}
        self.engine: Engine = create_engine(url, **pool)
        if self.sqlite:
            event.listen(self.engine, "connect", self._configure)
            event.listen(self.engine, "begin", begin)
        with self.write() as connection:
            if not self.sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(7305118)"))  # two servers that start at once
            migrate(connection)

    def _configure(self, connection: sqlite3.Connection, record: object) -> None:
        """Set the pragmas and read each back: a network drive, for one, refuses the write-ahead log without an error."""
        connection.isolation_level = None  # transactions begin where ``begin`` says, not where the driver guesses
        cursor = connection.cursor()
        for name, value in PRAGMAS.items():
            cursor.execute(f"PRAGMA {name}={value}").fetchall()
            found = cursor.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                raise StorageError(f"the database file does not take {name}={value} (it says {found}); use a folder on a local disk.")
        if self.page_limit:
            cursor.execute(f"PRAGMA max_page_count={self.page_limit}").fetchall()
        cursor.close()

    @contextmanager
    def read(self, one_moment: bool = False) -> Iterator[Connection]:
        """A transaction that only reads.

        Args:
            one_moment: whether all its queries see the state of one moment; SQLite's always do.

        Raises:
            StorageError: see the class.
        """
        options = {"isolation_level": "REPEATABLE READ"} if one_moment and not self.sqlite else {}
        with named_errors(), self.engine.connect().execution_options(**options) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed, durably, when the block ends without an exception.

        Raises:
            StorageFullError, StorageError: not committed.
            sqlalchemy.exc.IntegrityError: a constraint refuses the change.
        """
        with named_errors(), self.engine.connect().execution_options(siamese_write=True) as connection, connection.begin():
            yield connection

    def forget_log(self) -> None:
        """Empty SQLite's log, so that deleted rows are not left in it. Where a reader is in the way, the next checkpoint does it."""
        connection = self.engine.raw_connection()  # outside any transaction
        try:
            connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        finally:
            connection.close()

    def close(self) -> None:
        """Give the connections back."""
        self.engine.dispose()


def begin(connection: Connection) -> None:
    """Begin SQLite's transaction. A writer takes the lock at once: upgrading a reader would fail where another writer came between."""
    writes = connection.get_execution_options().get("siamese_write")
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


@contextmanager
def named_errors() -> Iterator[None]:
    """The driver's errors as ``StorageError``; a violated constraint stays what it is."""
    try:
        yield
    except IntegrityError:
        raise
    except DBAPIError as error:
        if is_full(error):
            raise StorageFullError("the server's disk is full; nothing was stored. Tell the study's administrator.") from error
        if isinstance(error, OperationalError) or error.connection_invalidated:
            raise StorageError(f"the database did not answer ({type(error.orig).__name__}); nothing was stored. Try again.") from error
        raise
    except OSError as error:
        raise StorageFullError(f"the server could not write ({error.strerror}); nothing was stored. Tell the administrator.") from error


def is_full(error: DBAPIError) -> bool:
    """Whether the database had no room. SQLite reports a full disk as that, or as an input/output error in its log."""
    if isinstance(error.orig, sqlite3.Error):
        # The extended code's low byte is the primary one; drivers' own errors have none.
        return (getattr(error.orig, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR)
    details = error.orig.args[0] if error.orig is not None and error.orig.args else None
    return isinstance(details, dict) and details.get("C") == DISK_FULL


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
