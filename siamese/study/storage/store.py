"""Studies, their images and raters in the database: what administrators do. Raters' own steps are in ``session``."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from siamese.study.config import StudyConfig
from siamese.study.storage.database import Database
from siamese.study.storage.entities import (
    Invitation,
    InvitedRater,
    NewItem,
    NoSuchStudyError,
    Study,
    StudyError,
    Withdrawal,
    content_hash,
    find_study,
    hash_token,
    random_id,
    to_study,
)
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
        """Raise a StudyError if answers could be lost and that is not ``accepted``."""
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
            NoSuchStudyError: no image has that id.
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

    def progress(self, study: str) -> list[InvitedRater]:
        """The study's raters in the order of their invitations."""
        given = (
            select(
                answers.c.rater_id,
                func.count(func.distinct(answers.c.presentation_id)).label("answered"),
            )
            .group_by(answers.c.rater_id)
            .subquery()
        )
        query = (
            select(raters, given.c.answered)
            .outerjoin(given, given.c.rater_id == raters.c.id)
            .where(raters.c.study_id == study)
            .order_by(raters.c.created_at, raters.c.id)
        )
        with self.database.read() as connection:
            config = find_study(connection, study).config
            return [
                InvitedRater(
                    rater=r.id,
                    label=r.label,
                    pseudonym=r.pseudonym,
                    role=r.role,
                    created_at=r.created_at,
                    consented_at=r.consented_at,
                    revoked_at=r.revoked_at,
                    excluded_reason=r.excluded_reason,
                    answered=r.answered or 0,
                    screens=config.training + config.rated,
                )
                for r in connection.execute(query)
            ]

    def revoke(self, rater: str) -> None:
        """Make a link useless; answers given so far are kept."""
        self._change_rater(rater, revoked_at=time.time())

    def exclude(self, rater: str, reason: str | None) -> None:
        """Exclude a rater's answers from results for ``reason``, or include them again if None. Nothing is deleted."""
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
