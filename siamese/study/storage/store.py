"""Studies, their images and raters in the database: what administrators do. Raters' own steps are in ``session``."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sqlalchemy import Connection, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from siamese.records.burned_in_text import Box
from siamese.study.config import ConfigError, StudyConfig
from siamese.study.storage.database import Database, StorageError
from siamese.study.storage.schema import answers, images, items, presentations, raters, studies, withdrawals
from siamese.study.storage.text_findings import (
    TextImage,
    text_images,
    text_warning,
    thumbnail,
    to_json,
    unaccepted,
)

RATER, ADMINISTRATOR = "rater", "administrator"
MAX_LABEL_LENGTH = 200


class StudyError(RuntimeError):
    """The study does not allow this; the message says why."""


class NoSuchStudyError(StudyError):
    """There is no study or rater of that id."""


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
    """Burned-in text that was found; None where it was not looked for."""


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
class Progress:
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
    last_answer_at: float | None


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
        config, row.config_hash, row.content_hash, row.created_at, row.opened_at, row.closed_at, row.locked_at
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
        NoSuchStudyError, StorageError: there is none; see ``to_study``.
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


class StudyStore:
    """Studies in ``database``. Safe to use from several threads.

    Args:
        risk: what answers could be lost to, as a sentence for the administrator; None if nothing threatens them. A study opens
            only if that is accepted.
    """

    def __init__(self, database: Database, risk: Callable[[], str | None] = lambda: None) -> None:
        self.database = database
        self.warning = risk
        self.changed: Callable[[], object] = lambda: None
        """Is called after each change here that is committed: a copy elsewhere should not wait for it."""

    def add(self, config: StudyConfig, contents: Sequence[NewItem]) -> Study:
        """Store a study with all its images, as a draft. ``siamese.study.creation.folders`` makes ``contents``.

        Raises:
            StudyError: the id is taken, or the images are not what ``config`` says.
            StorageError: not stored.
        """
        self._check(config, contents)
        new = [(random_id(), item) for item in contents]
        secrets.SystemRandom().shuffle(new)  # not even the rows' order tells
        try:
            with self.database.write() as connection:
                connection.execute(
                    insert(studies).values(
                        id=config.id,
                        config=config.canonical(),
                        config_hash=config.hash(),
                        content_hash=content_hash(contents),
                        created_at=time.time(),
                    )
                )
                connection.execute(
                    insert(items),
                    [
                        {
                            "id": id,
                            "study_id": config.id,
                            "group_name": i.group,
                            "method": i.method,
                            "training": i.training,
                            "text_boxes": to_json(i.text),
                        }
                        for id, i in new
                    ],
                )
                for id, item in new:
                    connection.execute(insert(images).values(item_id=id, data=item.png))
                made = find_study(connection, config.id)
        except IntegrityError as error:
            raise StudyError(f"there is a study {config.id!r} already; choose another id.") from error
        self.changed()
        return made

    @staticmethod
    def _check(config: StudyConfig, contents: Sequence[NewItem]) -> None:
        """Complete groups of the right number, files of one length."""
        names, groups = sorted(m.name for m in config.methods), {}
        for item in contents:
            groups.setdefault((item.training, item.group), []).append(item.method)
        incomplete = [group for (_, group), methods in groups.items() if sorted(methods) != names]
        if incomplete:
            raise StudyError(
                f"these groups do not have one image of each method: {', '.join(sorted(incomplete)[:20])}."
            )
        for training, wanted in ((False, config.groups), (True, config.training_groups)):
            found = sum(t == training for t, _ in groups)
            if found != wanted:
                raise StudyError(
                    f"the configuration says {wanted} {'training' if training else 'rated'} groups, {found} are here."
                )
        if len({group for _, group in groups}) != len(groups):
            raise StudyError("a training group is rated as well.")
        if len({len(item.png) for item in contents}) != 1:
            raise StudyError("image files differ in length, which would tell methods apart.")

    def studies(self) -> list[Study]:
        """All studies, the newest first."""
        with self.database.read() as connection:
            return [
                to_study(r)
                for r in connection.execute(
                    select(studies).order_by(studies.c.created_at.desc(), studies.c.id)
                )
            ]

    def study(self, study: str) -> Study:
        """See ``find_study``."""
        with self.database.read() as connection:
            return find_study(connection, study)

    def change(self, config: StudyConfig) -> Study:
        """Store other texts for the study of ``config.id``; allowed until its first rater begins.

        Raises:
            StudyError: it is locked, or more than title, organ, instructions, consent, comments, share_known and repeats differ.
        """
        free = ("title", "organ", "instructions", "consent", "comments", "share_known", "repeats")
        with self.database.write() as connection:
            study = find_study(connection, config.id)
            if study.locked_at:
                raise StudyError(
                    "the study is locked: a rater has begun, and answers belong to what was asked."
                )
            old, new = study.config.to_dict(), config.to_dict()
            fixed = [name for name in new if name not in free and old[name] != new[name]]
            if fixed:
                raise StudyError(
                    f"{', '.join(fixed)} cannot change once the images are made; create another study."
                )
            connection.execute(
                update(studies)
                .where(studies.c.id == config.id)
                .values(config=config.canonical(), config_hash=config.hash())
            )
            changed = find_study(connection, config.id)
        self.changed()
        return changed

    def check_loss(self, accepted: bool) -> None:
        """Raise a StudyError where answers could be lost and that is not ``accepted``."""
        warning = self.warning()
        if warning and not accepted:
            raise StudyError(
                f"the study was not opened. {warning} To open it all the same, accept that (on the command line: --accept-loss)."
            )

    def texts(self, study: str) -> list[TextImage]:
        """The study's images with burned-in text; see ``siamese.study.storage.text_findings``."""
        with self.database.read() as connection:
            return text_images(connection, study)

    def thumbnail(self, study: str, item: str) -> bytes:
        """One of them as a small JPEG file with the text framed.

        Raises:
            NoSuchStudyError: there is none of that id.
        """
        with self.database.read() as connection:
            found = thumbnail(connection, study, item)
        if found is None:
            raise NoSuchStudyError("there is no such image.")
        return found

    def text_accepted(self, study: str) -> bool:
        """Whether nothing stands against opening: no burned-in text was found, or it was accepted."""
        with self.database.read() as connection:
            return not unaccepted(connection, study)

    def open(self, study: str, accept_loss: bool = False, accept_text: bool = False) -> None:
        """Let raters begin, or begin again after ``close``.

        Args:
            accept_loss: records that storage may not last and that this is accepted.
            accept_text: records that burned-in text was found in real images and that this is accepted; asked for once.

        Raises:
            StudyError: the study was imported and has no images, or answers could be lost or text was found and that is not accepted.
        """
        self.check_loss(accept_loss)
        with self.database.write() as connection:
            found, now = find_study(connection, study), time.time()
            pictures = (
                select(func.count())
                .select_from(items.join(images, images.c.item_id == items.c.id))
                .where(items.c.study_id == study)
            )
            if not connection.execute(pictures).scalar_one():
                raise StudyError(
                    "the study has no images: it was imported for its results. Raters cannot begin."
                )
            names = unaccepted(connection, study)
            if names and not accept_text:
                raise StudyError(text_warning(names, "the study was not opened."))
            values = {"opened_at": found.opened_at or now, "closed_at": None} | (
                {"loss_accepted_at": now} if accept_loss else {}
            )
            values |= {"text_accepted_at": now} if names else {}
            connection.execute(update(studies).where(studies.c.id == study).values(values))
        self.changed()

    def close(self, study: str) -> None:
        """Take no more answers. Links keep working for withdrawal."""
        with self.database.write() as connection:
            find_study(connection, study)
            connection.execute(update(studies).where(studies.c.id == study).values(closed_at=time.time()))
        self.changed()

    def invite(self, study: str, labels: Sequence[str]) -> list[Invitation]:
        """A personal link for each of ``labels`` (the administrator's notes; raters do not see them).

        Raises:
            NoSuchStudyError: there is no such study.
            StudyError: a label is longer than 200 characters.
        """
        if any(len(label) > MAX_LABEL_LENGTH for label in labels):
            raise StudyError(f"labels have up to {MAX_LABEL_LENGTH} characters.")
        if any("\0" in label for label in labels):
            raise StudyError("a label is text, without null characters.")
        made = [Invitation(random_id(), label, secrets.token_urlsafe(24)) for label in labels]
        with self.database.write() as connection:
            find_study(connection, study)
            for one in made:
                connection.execute(
                    insert(raters).values(
                        id=one.rater,
                        study_id=study,
                        label=one.label,
                        token_hash=hash_token(one.token),
                        order_seed=secrets.randbits(63),
                        created_at=time.time(),
                    )
                )
        self.changed()
        return made

    def progress(self, study: str) -> list[Progress]:
        """The study's raters in the order of their invitations."""
        given = (
            select(
                answers.c.rater_id,
                func.count(func.distinct(answers.c.presentation_id)).label("answered"),
                func.max(answers.c.created_at).label("last"),
            )
            .group_by(answers.c.rater_id)
            .subquery()
        )
        query = (
            select(raters, given.c.answered, given.c.last)
            .outerjoin(given, given.c.rater_id == raters.c.id)
            .where(raters.c.study_id == study)
            .order_by(raters.c.created_at, raters.c.id)
        )
        with self.database.read() as connection:
            config = find_study(connection, study).config
            return [
                Progress(
                    r.id,
                    r.label,
                    r.pseudonym,
                    r.role,
                    r.created_at,
                    r.consented_at,
                    r.revoked_at,
                    r.excluded_reason,
                    r.answered or 0,
                    config.training + config.rated,
                    r.last,
                )
                for r in connection.execute(query)
            ]

    def revoke(self, rater: str) -> None:
        """Make a link useless; answers given so far are kept."""
        self._change_rater(rater, revoked_at=time.time())

    def exclude(self, rater: str, reason: str | None) -> None:
        """Leave a rater's answers out of results for ``reason``, or take them in again where None. Nothing is deleted."""
        if reason is not None and not reason.strip():
            raise StudyError("an exclusion needs a reason.")
        if "\0" in (reason or ""):
            raise StudyError("a reason is text, without null characters.")
        self._change_rater(rater, excluded_at=None if reason is None else time.time(), excluded_reason=reason)

    def _change_rater(self, rater: str, **values: object) -> None:
        with self.database.write() as connection:
            if not connection.execute(update(raters).where(raters.c.id == rater).values(values)).rowcount:
                raise NoSuchStudyError("there is no such rater.")
        self.changed()

    def withdraw(self, rater: str, requested_by: str = ADMINISTRATOR) -> int:
        """Delete everything of a rater and note that it was done; the number of answers deleted.

        Raises:
            NoSuchStudyError: there is no such rater.
        """
        with self.database.write() as connection:
            row = connection.execute(
                select(raters).where(raters.c.id == rater).with_for_update()
            ).one_or_none()
            if row is None:
                raise NoSuchStudyError("there is no such rater.")
            count = connection.execute(delete(answers).where(answers.c.rater_id == rater)).rowcount
            connection.execute(delete(presentations).where(presentations.c.rater_id == rater))
            connection.execute(delete(raters).where(raters.c.id == rater))
            connection.execute(
                insert(withdrawals).values(
                    study_id=row.study_id,
                    token_hash=row.token_hash,
                    created_at=time.time(),
                    answers_deleted=count,
                    requested_by=requested_by,
                )
            )
        if self.database.sqlite:
            self.database.forget_log()
        self.changed()
        return count

    def withdrawals(self, study: str) -> list[Withdrawal]:
        """Notes of what was deleted from a study, the earliest first."""
        query = select(withdrawals).where(withdrawals.c.study_id == study).order_by(withdrawals.c.id)
        with self.database.read() as connection:
            return [
                Withdrawal(r.created_at, r.answers_deleted, r.requested_by) for r in connection.execute(query)
            ]
