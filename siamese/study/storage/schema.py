"""The study database's tables. ``migrations`` makes them; a test holds the two against each other.

Times are seconds since 1970 in UTC. Only ``items.method`` and a study's configuration tell the source of an image: neither is
in anything that raters are sent.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    CursorResult,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMING)
ROW = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts rows up only in a column of its own integer type."""

studies = Table(
    "studies",
    metadata,
    Column("id", String(48), primary_key=True),
    Column("config", Text, nullable=False),  # canonical JSON
    Column("config_hash", String(64), nullable=False),
    Column("content_hash", String(64), nullable=False),  # of which image is whose, and of every image's bytes
    Column("created_at", Double, nullable=False),
    Column("opened_at", Double),
    Column("closed_at", Double),
    Column("locked_at", Double),  # nothing of the configuration changes from then on
    Column("loss_accepted_at", Double),  # an administrator accepted that storage may not last
    Column("text_accepted_at", Double),
)  # an administrator accepted burned-in text

items = Table(
    "items",
    metadata,
    Column("id", String(32), primary_key=True),  # random: says nothing
    Column("study_id", ForeignKey("studies.id"), nullable=False),
    Column("group_name", String(255), nullable=False),  # mask id
    Column("method", String(64), nullable=False),
    Column("training", Boolean, nullable=False),
    Column("text_boxes", Text),  # JSON list of burned-in text; null if it was not looked for
    UniqueConstraint("study_id", "group_name", "method"),
)

images = Table(  # apart, so that reading items does not read pictures
    "images",
    metadata,
    Column("item_id", ForeignKey("items.id"), primary_key=True),
    Column("data", LargeBinary, nullable=False),
)

raters = Table(
    "raters",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column("label", String(200), nullable=False),  # the administrator's note of whom the link is for
    Column("token_hash", String(64), nullable=False, unique=True),  # SHA-256; the link itself is not stored
    Column("order_seed", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("pseudonym", String(80)),
    Column("role", String(80)),
    Column("consented_at", Double),
    Column("revoked_at", Double),
    Column("excluded_at", Double),
    Column("excluded_reason", Text),
)

presentations = Table(  # one row a screen, made at registration
    "presentations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rater_id", ForeignKey("raters.id"), nullable=False),
    Column("position", Integer, nullable=False),  # from 0
    Column("phase", String(8), nullable=False),
    Column("group_name", String(255), nullable=False),
    Column("item_ids", Text, nullable=False),  # JSON list, from left to right
    Column("repeat_of", Integer),  # position
    Column("shown_at", Double),  # last sent to the rater
    UniqueConstraint("rater_id", "position"),
)

answers = Table(  # append-only: a trigger refuses changes
    "answers",
    metadata,
    Column("id", ROW, primary_key=True, autoincrement=True),
    Column("rater_id", ForeignKey("raters.id"), nullable=False),
    Column("presentation_id", ForeignKey("presentations.id"), nullable=False, index=True),
    Column("supersedes", ForeignKey("answers.id"), unique=True),  # the answer that this one corrects
    Column("idempotency_key", String(64), nullable=False),
    Column("response", Text, nullable=False),  # canonical JSON
    Column("confidence", Integer),
    Column("comment", Text, nullable=False),
    Column("client_ms", Integer),  # from the image on the screen to the answer, as the browser measured it
    Column("server_ms", BigInteger, nullable=False),  # from sending the screen to the answer's arrival
    Column("created_at", Double, nullable=False),
    UniqueConstraint("rater_id", "idempotency_key"),
)

# A presentation has one answer that corrects none, and each answer is corrected at most once: so one of them is current.
Index(
    "uq_answers_first",
    answers.c.presentation_id,
    unique=True,
    sqlite_where=answers.c.supersedes.is_(None),
    postgresql_where=answers.c.supersedes.is_(None),
)

withdrawals = Table(  # that data was deleted, not whose
    "withdrawals",
    metadata,
    Column("id", ROW, primary_key=True, autoincrement=True),
    Column("study_id", ForeignKey("studies.id"), nullable=False, index=True),
    Column(
        "token_hash", String(64), nullable=False, unique=True
    ),  # so that the old link can say what happened
    Column("created_at", Double, nullable=False),
    Column("answers_deleted", Integer, nullable=False),
    Column("requested_by", String(16), nullable=False),
)  # rater or administrator


def new_number(inserted: CursorResult[Any]) -> int:
    """The number that the database gave the one row that was inserted."""
    key = inserted.inserted_primary_key
    assert key is not None
    return key[0]
