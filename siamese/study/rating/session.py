"""A rater's session: their current screen, what they are shown, what they answered. Every step is one short transaction.

An answer is acknowledged by returning; by then it is committed. A repeated request with the same idempotency key gets the same
acknowledgement and changes nothing.
"""

from __future__ import annotations

import json
import random
import time
from itertools import groupby
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from siamese.study.config import StudyConfig
from siamese.study.rating.duration import expected_duration
from siamese.study.rating.errors import (
    BadAnswerError,
    ConflictError,
    LinkClosedError,
    NoSuchLinkError,
    WithdrawnError,
)
from siamese.study.rating.judgement import Judgement, canonical, check_judgement
from siamese.study.rating.order import TRAINING, Screen, arrange
from siamese.study.rating.steps import Acknowledged, Overview, RatingStep, Task, current_answer, to_task
from siamese.study.storage.schema import answers, images, items, presentations, raters, studies, withdrawals
from siamese.study.storage.store import RATER, Study, StudyStore, find_study, hash_token, random_id

MAX_PSEUDONYM_LENGTH, MAX_KEY_LENGTH = 80, 64


class RaterSessions:
    """Raters' requests by their link's token."""

    def __init__(self, store: StudyStore) -> None:
        self.database = store.database
        self.store = store

    def overview(self, token: str) -> Overview:
        """Where the rater is; also what resuming in another browser begins with.

        Raises:
            NoSuchLinkError, LinkClosedError, WithdrawnError: the link does not work (any more).
        """
        with self.database.write() as connection:  # it notes when the screen was sent
            rater, study = self._rater(connection, token)
            if rater.consented_at is None:
                duration = expected_duration(connection, study.config)
                return Overview(study.config, False, rater.pseudonym, None, duration)
            step = self._step(connection, rater, study, sent=True)
            return Overview(study.config, True, rater.pseudonym, step)

    def check_link(self, token: str) -> None:
        """Raise what ``overview`` would if the link does not work (any more); changes nothing."""
        with self.database.read() as connection:
            self._rater(connection, token)

    def register(self, token: str, pseudonym: str, role: str, consent: bool) -> RatingStep:
        """Note who rates and that they consent, draw their order and lock the study. A second time changes nothing.

        Raises:
            BadAnswerError: no consent, or no pseudonym or role of 1 to 80 characters.
            SessionError: see ``overview``.
        """
        pseudonym, role = pseudonym.strip(), role.strip()
        if not consent:
            raise BadAnswerError("the study needs your consent.")
        if (
            not (0 < len(pseudonym) <= MAX_PSEUDONYM_LENGTH and 0 < len(role) <= MAX_PSEUDONYM_LENGTH)
            or not (pseudonym + role).isprintable()
        ):
            raise BadAnswerError(
                f"pseudonym and role are needed, each of up to {MAX_PSEUDONYM_LENGTH} characters."
            )
        with self.database.write() as connection:
            rater, study = self._rater(connection, token)
            if rater.consented_at is None:
                now = time.time()
                rows = [
                    {
                        "id": random_id(),
                        "rater_id": rater.id,
                        "position": position,
                        "phase": s.phase,
                        "group_name": s.group,
                        "item_ids": json.dumps(s.items),
                        "repeat_of": s.repeat_of,
                    }
                    for position, s in enumerate(self._order(connection, study.config, rater.order_seed))
                ]
                connection.execute(insert(presentations), rows)
                connection.execute(
                    update(raters)
                    .where(raters.c.id == rater.id)
                    .values(pseudonym=pseudonym, role=role, consented_at=now)
                )
                connection.execute(
                    update(studies)
                    .where(studies.c.id == rater.study_id, studies.c.locked_at.is_(None))
                    .values(locked_at=now)
                )
            return self._step(connection, rater, study, sent=True)

    def answer(
        self, token: str, presentation: str, key: str, judgement: Judgement, correction: bool = False
    ) -> Acknowledged:
        """Store an answer; it is on the disk when this returns.

        Args:
            presentation: the task's id.
            key: random, one per answer; a repeated request with it counts once.
            correction: replaces the last answer, which is kept as superseded.

        Raises:
            BadAnswerError, ConflictError: not stored.
            siamese.study.storage.database.StorageError: not stored; see there for a full disk.
            SessionError: see ``overview``.
        """
        if not 0 < len(key) <= MAX_KEY_LENGTH or "\0" in key:
            raise BadAnswerError(f"an idempotency key of 1 to {MAX_KEY_LENGTH} characters is needed.")
        if "\0" in presentation:  # PostgreSQL has no such texts
            raise NoSuchLinkError("there is no such item in your session.")
        now = time.time()
        with self.database.write() as connection:
            rater, study = self._rater(connection, token)
            screen = connection.execute(
                select(presentations).where(
                    presentations.c.id == presentation, presentations.c.rater_id == rater.id
                )
            ).one_or_none()
            if screen is None:
                raise NoSuchLinkError("there is no such item in your session.")
            shown = json.loads(screen.item_ids)
            response = canonical(check_judgement(study.config, shown, judgement))
            before = connection.execute(
                select(answers).where(answers.c.rater_id == rater.id, answers.c.idempotency_key == key)
            ).one_or_none()
            if before is not None:
                if (before.presentation_id, before.response, before.confidence) != (
                    presentation,
                    response,
                    judgement.confidence,
                ):
                    raise ConflictError("this key was used for another answer; load the page again.")
            else:
                values = {
                    "rater_id": rater.id,
                    "presentation_id": presentation,
                    "supersedes": self._superseded(connection, rater, screen, correction),
                    "idempotency_key": key,
                    "response": response,
                    "confidence": judgement.confidence,
                    "comment": judgement.comment.strip(),
                    "client_ms": judgement.client_ms,
                    "server_ms": max(0, round(1000 * (now - (screen.shown_at or now)))),
                    "created_at": now,
                }
                connection.execute(insert(answers).values(values))
            practice = screen.phase == TRAINING
            feedback = self._feedback(connection, study.config, shown, judgement) if practice else None
            return Acknowledged(self._step(connection, rater, study, sent=before is None), feedback)

    def previous(self, token: str) -> tuple[Task, Judgement]:
        """The last answered screen with its answer, to be corrected.

        Raises:
            ConflictError: nothing is answered yet, or it was a training screen, whose truth has been shown.
            SessionError: see ``overview``.
        """
        with self.database.write() as connection:
            rater, study = self._rater(connection, token)
            position, rows = self._around(connection, rater.id)
            last = next((r for r in rows if r.position == position - 1 and r.phase != TRAINING), None)
            if last is None:
                raise ConflictError("there is no answer that could be corrected.")
            given = current_answer(connection, last.id)
            connection.execute(
                update(presentations).where(presentations.c.id == last.id).values(shown_at=time.time())
            )
            return to_task(last, study.config), Judgement(
                json.loads(given.response), given.confidence, given.comment, given.client_ms
            )

    def image(self, token: str, item: str) -> bytes:
        """The PNG file of an image that the rater is being shown, may step back to or is shown next.

        Raises:
            NoSuchLinkError: it is not one of these, or there is no such image; the two get the same message.
            SessionError: see ``overview``.
        """
        with self.database.read() as connection:
            rater, _ = self._rater(connection, token)
            if not any(item in json.loads(r.item_ids) for r in self._around(connection, rater.id)[1]):
                raise NoSuchLinkError("there is no such image in your session now.")
            return bytes(
                connection.execute(select(images.c.data).where(images.c.item_id == item)).scalar_one()
            )

    def withdraw(self, token: str) -> int:
        """Delete everything of this rater, also when the study is closed or the link revoked; the number of answers deleted.

        Raises:
            NoSuchLinkError, WithdrawnError: there is nothing (any more).
        """
        with self.database.read() as connection:
            rater, _ = self._rater(connection, token, must_be_open=False)
        return self.store.withdraw(rater.id, RATER)

    def _rater(self, connection: Connection, token: str, must_be_open: bool = True) -> tuple[Row, Study]:
        """The link's rater, locked against their own other requests in a writing transaction, and the study."""
        hashed = hash_token(token)
        query = select(raters).where(raters.c.token_hash == hashed)
        if connection.get_execution_options().get("siamese_write"):
            query = query.with_for_update()  # SQLite has one writer anyway, and leaves this out
        rater = connection.execute(query).one_or_none()
        if rater is None:
            if connection.execute(
                select(withdrawals.c.id).where(withdrawals.c.token_hash == hashed)
            ).one_or_none():
                raise WithdrawnError("your data was deleted, and with it this link.")
            raise NoSuchLinkError("this link is not known. Check that it is complete, or ask for a new one.")
        study = find_study(connection, rater.study_id)
        if must_be_open and rater.revoked_at:
            raise LinkClosedError("this link was revoked. Ask the study's administrator.")
        if must_be_open and study.state != "open":
            raise LinkClosedError(
                "the study is not open yet." if study.state == "draft" else "the study is closed. Thank you."
            )
        return rater, study

    @staticmethod
    def _order(connection: Connection, config: StudyConfig, seed: int) -> list[Screen]:
        """The rater's screens."""
        rows = connection.execute(
            select(items).where(items.c.study_id == config.id).order_by(items.c.group_name, items.c.method)
        ).all()
        main, training = [], []
        for group, members in groupby(rows, key=lambda r: r.group_name):
            members = list(members)
            (training if members[0].training else main).extend(
                Screen(group, shown)
                for shown in config.rules.screens(config.methods, {r.method: r.id for r in members})
            )
        # All raters practise on the same screens.
        return arrange(
            main, random.Random(config.seed).sample(training, config.training), config.repeats, seed
        )

    @staticmethod
    def _position(connection: Connection, rater: str) -> int:
        """Number of answered screens: the position of the current one, as screens are answered in order."""
        first = (answers.c.rater_id == rater, answers.c.supersedes.is_(None))
        return connection.execute(select(func.count()).select_from(answers).where(*first)).scalar_one()

    def _around(self, connection: Connection, rater: str) -> tuple[int, list[Row]]:
        """The current position, and the last answered screen, the current and the next screen, if they exist."""
        position = self._position(connection, rater)
        return position, list(
            connection.execute(
                select(presentations).where(
                    presentations.c.rater_id == rater,
                    presentations.c.position.between(position - 1, position + 1),
                )
            )
        )

    def _step(self, connection: Connection, rater: Row, study: Study, sent: bool) -> RatingStep:
        """Where ``rater`` is; ``sent`` starts the server's clock for the current screen."""
        position, found = self._around(connection, rater.id)
        rows = {r.position: r for r in found}
        current, upcoming, last = (rows.get(position + i) for i in (0, 1, -1))
        if current is not None and sent:
            connection.execute(
                update(presentations).where(presentations.c.id == current.id).values(shown_at=time.time())
            )
        return RatingStep(
            to_task(current, study.config) if current else None,
            tuple(json.loads(upcoming.item_ids)) if upcoming else (),
            last is not None and last.phase != TRAINING,
        )

    def _superseded(self, connection: Connection, rater: Row, screen: Row, correction: bool) -> int | None:
        """The answer that a new one for ``screen`` supersedes, None for a first one; a ConflictError if neither fits."""
        position = self._position(connection, rater.id)
        if screen.position == position and not correction:
            return None
        if screen.position == position - 1 and correction and screen.phase != TRAINING:
            return current_answer(connection, screen.id).id
        raise ConflictError(
            "this item is answered already." if screen.position < position else "this item does not come now."
        )

    @staticmethod
    def _feedback(
        connection: Connection, config: StudyConfig, shown: list[str], judgement: Judgement
    ) -> dict[str, Any]:
        """The truth about a training screen."""
        kinds = {m.name: m.kind for m in config.methods}
        rows = connection.execute(select(items.c.id, items.c.method).where(items.c.id.in_(shown))).all()
        real = sorted(r.id for r in rows if kinds[r.method] == "real")
        return {"real": real, "correct": config.rules.is_correct(real, judgement.response)}
