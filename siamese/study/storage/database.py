"""The database connection: durable settings, short transactions, errors with a name, migrations.

SQLite runs with a write-ahead log and full synchronisation: once a transaction has been committed, neither the death of the process
nor of the machine takes it back.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from siamese.study.storage.datafile import DataFile, LostFileError
from siamese.study.storage.faults import (
    StorageError,
    StorageFullError,
    connect_named,
    drop_broken,
    named_errors,
    server_message,
)

__all__ = ["BUSY_SECONDS", "MIGRATIONS", "PRAGMAS", "Database", "StorageError", "StorageFullError", "migrate"]

BUSY_SECONDS = 20
"""How long a writer waits for another, and a request for a database server that says nothing, before it gives up."""
PRAGMAS = {
    "journal_mode": "wal",
    "synchronous": 2,
    "foreign_keys": 1,
    "secure_delete": 1,
    "busy_timeout": BUSY_SECONDS * 1000,
}
"""Set on each connection and read back. 2 is FULL; secure_delete overwrites what a rater has withdrawn."""
MIGRATIONS = Path(__file__).parent / "migrations"
OPENED = "siamese_logs"
"""Under this name a connection notes which log and index it opened."""
log = logging.getLogger(__name__)


class Database:
    """Connections to one database, in the newest version of the schema.

    SQLite's file is watched: if it is moved away, deleted, replaced or overwritten, requests fail until it is back.

    Args:
        url: SQLAlchemy URL, as ``siamese.study.storage.location.database_url`` gives it.
        page_limit: most pages that a SQLite file may have; tests fill the disk with it.

    Raises:
        StorageError: it cannot be opened, or its settings do not hold.
    """

    def __init__(self, url: str, page_limit: int | None = None) -> None:
        self.sqlite = url.startswith("sqlite")
        self.page_limit = page_limit
        # More connections than request threads, so that none waits for another's. One of the pool's that went stale is replaced.
        pool: dict[str, Any] = {"pool_size": 8, "max_overflow": 56, "pool_pre_ping": not self.sqlite}
        if not self.sqlite:
            pool["connect_args"] = {
                "timeout": BUSY_SECONDS
            }  # also of each answer: a server that vanished from the network says nothing
        self.engine: Engine = create_engine(url, **pool)
        self.file: DataFile | None = None
        self._lost: LostFileError | None = None
        self._starting = True
        self._reopening = threading.Lock()
        if self.sqlite:
            self.file = DataFile(Path(self.engine.url.database or "").absolute())
            event.listen(self.engine, "do_connect", self._connect)
            event.listen(self.engine, "connect", self._configure)
            event.listen(self.engine, "begin", self._begin)
        else:
            event.listen(self.engine, "do_connect", connect_named)
            event.listen(self.engine, "handle_error", drop_broken)
        try:
            with self.write() as connection:
                if not self.sqlite:
                    connection.execute(
                        text("SELECT pg_advisory_xact_lock(7305118)")
                    )  # two servers that start at once
                migrate(connection)
            self._starting = False
        except CommandError as error:
            self.close()
            raise StorageError(
                f"the database was made by another version of this program ({error}); use that one."
            ) from error
        except StorageError as error:
            self.close()
            raise StorageError(self._at_start(error)) from error

    @property
    def _sqlite_file(self) -> DataFile:
        """The file, for what only SQLite's listeners call."""
        assert self.file is not None
        return self.file

    def _at_start(self, error: StorageError) -> str:
        """``error`` for the person who starts the server: with the database's place and its own words."""
        said = server_message(getattr(error.__cause__, "orig", None))
        advice = (
            "Move the file away to begin with an empty database, or put a sound copy in its place."
            if self.sqlite
            else "Check that the database server runs, and the address, name and password."
        )
        return f"the database {self.file.path if self.file else self.engine.url.render_as_string()} cannot be used: {(said or str(error)).rstrip('.')}. {advice}"

    def _connect(
        self, dialect: Dialect, entry: ConnectionPoolEntry, arguments: list, options: dict
    ) -> DBAPIConnection:
        """Open the file, and never make one: a new file in place of a lost one would look like a study without answers."""
        self._sqlite_file.check(opening=self._starting)
        return dialect.connect(f"file:{quote(str(self._sqlite_file.path))}?mode=rw", uri=True, **options)

    def _configure(self, connection: sqlite3.Connection, entry: ConnectionPoolEntry) -> None:
        """Set the pragmas and read each back: a network drive, for one, refuses the write-ahead log without an error."""
        connection.isolation_level = None  # ``_begin`` begins transactions, not the driver by its own rules
        cursor = connection.cursor()
        for name, value in PRAGMAS.items():
            cursor.execute(f"PRAGMA {name}={value}").fetchall()
            found = cursor.execute(f"PRAGMA {name}").fetchone()[0]
            if found != value:
                raise StorageError(
                    f"the database file does not take {name}={value} (it says {found}); use a folder on a local disk."
                )
        if self.page_limit:
            cursor.execute(f"PRAGMA max_page_count={self.page_limit}").fetchall()
        cursor.execute("SELECT count(*) FROM sqlite_master").fetchall()  # opens the log
        if self._starting:
            # The log has the rest of a file that a killed process left shorter than it says. If it does not, the file was cut off.
            cursor.execute("PRAGMA wal_checkpoint").fetchall()
        entry.info[OPENED] = self._sqlite_file.logs()
        cursor.close()

    def _begin(self, connection: Connection) -> None:
        """Begin SQLite's transaction. A writer takes the lock at once: upgrading a reader would fail if another writer came between."""
        self._check(connection)
        writes = connection.get_execution_options().get("siamese_write")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
        if writes:
            self._check(connection)  # a writer may have waited

    def _check(self, connection: Connection) -> None:
        """Raise a LostFileError if ``connection`` does not have the file and the log that are at the path."""
        try:
            self._sqlite_file.check()
            self._sqlite_file.check_logs(connection.info[OPENED])
        except LostFileError as error:
            self._lost = error
            raise

    def _reopen(self) -> None:
        """After a loss: make sure that the file is back and whole, and open it again, so that no connection keeps what it remembers of before.

        Raises:
            LostFileError: the file is not back yet.
            StorageError: other requests still use connections of before, or the file is damaged.
        """
        with self._reopening:
            if self._lost is None:
                return
            self._sqlite_file.check()
            if cast(QueuePool, self.engine.pool).checkedout():
                raise StorageError("the database is being opened again; nothing was stored. Try again.")
            with self.engine.connect() as connection:
                try:
                    self._sqlite_file.check_logs(connection.info[OPENED])
                except LostFileError as error:
                    if not error.reopenable:
                        raise
                # What was committed to a log that is deleted since goes to the file, as long as a connection keeps the log open.
                busy = checkpoint(connection)
            if busy:
                raise StorageError(
                    "the database's log is gone and cannot be saved yet; nothing was stored. Try again."
                )
            self.engine.dispose()
            with self.engine.connect() as connection:
                found = connection.connection.cursor().execute("PRAGMA quick_check(1)").fetchone()[0]
                if found != "ok":
                    raise StorageError(
                        "the database file is damaged. Nothing was stored. The administrator has to restore it."
                    )
            self._lost = None
            log.warning("The database file is back at %s and was opened again.", self._sqlite_file.path)

    @contextmanager
    def _connected(self, **options: Any) -> Iterator[Connection]:
        """A connection of the pool; errors with their names."""
        with named_errors():
            if self._lost is not None:
                with sqlite_errors():
                    self._reopen()
            with self.engine.connect().execution_options(**options) as connection:
                yield connection

    @contextmanager
    def read(self, one_moment: bool = False) -> Iterator[Connection]:
        """A transaction that only reads.

        Args:
            one_moment: whether all its queries see the state of one moment; SQLite's always do.

        Raises:
            StorageError: see the class.
        """
        options = {"isolation_level": "REPEATABLE READ"} if one_moment and not self.sqlite else {}
        with self._connected(**options) as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is committed, durably, when the block ends without an exception.

        Raises:
            StorageFullError, StorageError: not committed, or not known to be; a restart may not see it.
            sqlalchemy.exc.IntegrityError: a constraint refuses the change.
        """
        with self._connected(siamese_write=True) as connection, connection.begin() as transaction:
            yield connection
            with named_errors(committing=True):
                transaction.commit()
            if self.sqlite:
                self._check(connection)  # otherwise it went to a file that a restart does not see

    def forget_log(self) -> None:
        """Empty SQLite's log, so that deleted rows are not left in it. If a reader prevents that, the next checkpoint does it."""
        try:
            with self._connected() as connection, sqlite_errors():
                checkpoint(connection)
        except StorageError as error:  # what was to be deleted is deleted: the request has not failed
            log.warning("Deleted rows stay in the database's log until its next checkpoint: %s", error)

    def close(self) -> None:
        """Give the connections back. It cannot be used afterwards."""
        self.engine.dispose()
        if self.file:
            self.file.release()


@contextmanager
def sqlite_errors() -> Iterator[None]:
    """Errors of the driver that did not pass through SQLAlchemy, as ``StorageError``."""
    try:
        yield
    except sqlite3.Error as error:
        raise StorageError(
            f"the database file cannot be used ({error}). Nothing was stored. Tell the study's administrator."
        ) from error


def checkpoint(connection: Connection) -> bool:
    """Bring SQLite's log into the file and empty it, outside any transaction; True if another connection prevented that."""
    return bool(connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])


def migrate(connection: Connection) -> None:
    """Bring the schema to the newest version, in the connection's transaction."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
