"""A study, its items and raters as values, and how they are read from the database's rows."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, Row, select

from siamese.records.burned_in_text import Box
from siamese.study.config import ConfigError, StudyConfig
from siamese.study.storage.database import StorageError
from siamese.study.storage.schema import studies


class StudyError(RuntimeError):
    """The study does not allow this; the message says why."""


class NoSuchStudyError(StudyError):
    """No study or rater has that id."""


@dataclass(frozen=True)
class Study:
    """A study as stored."""

    config: StudyConfig
    config_hash: str
    content_hash: str
    created_at: float
    opened_at: float | None
    closed_at: float | None
    locked_at: float | None

    @property
    def state(self) -> str:
        """``draft`` (raters cannot begin), ``open`` or ``closed``."""
        return "closed" if self.closed_at else "open" if self.opened_at else "draft"


@dataclass(frozen=True)
class NewItem:
    """One image of a study to be."""

    group: str
    method: str
    training: bool
    png: bytes
    text: tuple[Box, ...] | None = None
    """Burned-in text that was found; None if it was not looked for."""


@dataclass(frozen=True)
class Invitation:
    """A rater's link. The token cannot be had again: only its hash is stored."""

    rater: str
    label: str
    token: str

    @property
    def path(self) -> str:
        """Path of the link."""
        return f"/rate/{self.token}"


@dataclass(frozen=True)
class InvitedRater:
    """A rater as administrators see them."""

    rater: str
    label: str
    pseudonym: str | None
    role: str | None
    created_at: float
    consented_at: float | None
    revoked_at: float | None
    excluded_reason: str | None
    answered: int
    screens: int


@dataclass(frozen=True)
class Withdrawal:
    """That a rater's data was deleted."""

    created_at: float
    answers_deleted: int
    requested_by: str


def random_id() -> str:
    """128 random bits in hexadecimal."""
    return secrets.token_hex(16)


def hash_token(token: str) -> str:
    """What is stored of a link. Its 192 random bits need no salt and no slow hash."""
    return hashlib.sha256(token.encode("utf-8")).hexdigest()


def to_study(row: Row) -> Study:
    """A study's row; the configuration is held against its hash.

    Raises:
        StorageError: the configuration was changed behind the application's back.
    """
    config = checked_config(row.id, row.config, row.config_hash)
    return Study(
        config=config,
        config_hash=row.config_hash,
        content_hash=row.content_hash,
        created_at=row.created_at,
        opened_at=row.opened_at,
        closed_at=row.closed_at,
        locked_at=row.locked_at,
    )


@lru_cache(maxsize=64)
def checked_config(study: str, text: str, stored_hash: str) -> StudyConfig:
    """A stored configuration; kept, because every request of a rater needs it. See ``to_study`` for errors."""
    try:
        config = StudyConfig.from_json(text)
    except ConfigError as error:
        raise StorageError(f"the stored configuration of study {study} cannot be read: {error}") from error
    if config.hash() != stored_hash:
        raise StorageError(
            f"the configuration of study {study} no longer has the hash that it was stored with; "
            "somebody changed the database."
        )
    return config


def find_study(connection: Connection, study: str) -> Study:
    """The study of that id.

    Raises:
        NoSuchStudyError: no study has it.
        StorageError: see ``to_study``.
    """
    row = (
        None
        if "\0" in study
        else connection.execute(select(studies).where(studies.c.id == study)).one_or_none()
    )  # PostgreSQL has no such texts
    if row is None:
        raise NoSuchStudyError(f"there is no study {study!r}.")
    return to_study(row)


def content_hash(contents: Sequence[NewItem]) -> str:
    """SHA-256 over groups, methods and image bytes, whatever their order."""
    whole = hashlib.sha256()
    for item in sorted(contents, key=lambda i: (i.group, i.method)):
        digest = hashlib.sha256(item.png).hexdigest()
        whole.update(f"{item.group}\0{item.method}\0{int(item.training)}\0{digest}\n".encode())
    return whole.hexdigest()
