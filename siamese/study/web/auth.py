"""The administrator's password, session cookie and protection against forged requests and guessing."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path

from itsdangerous import BadSignature, URLSafeTimedSerializer

from siamese.study.web.attempts import Attempts, TooManyAttemptsError, Turns
from siamese.study.web.ended_sessions import EndedSessions
from siamese.web.keys import private_file
from siamese.web.settings import LoginEnvironment

COOKIE = "siamese_study_admin"
SESSION_SECONDS = 12 * 3600
SCRYPT = {"n": 2**15, "r": 8, "p": 1, "maxmem": 64 * 2**20, "dklen": 32}
"""32 MiB and about a tenth of a second a guess."""


class NotLoggedInError(RuntimeError):
    """The request has no valid session."""


class NoSessionError(NotLoggedInError):
    """Nothing is wrong but that there is no session (any more).

    Args:
        ended: whether there was one.
    """

    def __init__(self, message: str, ended: bool = False) -> None:
        super().__init__(message)
        self.ended = ended


class ForgedRequestError(RuntimeError):
    """The form was not one of this session's pages."""


def hash_password(password: str) -> str:
    """``salt$hash`` by scrypt, in base64."""
    salt = secrets.token_bytes(16)
    return "$".join(
        base64.b64encode(x).decode("ascii")
        for x in (salt, hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, **SCRYPT))
    )


def matches(password: str, stored: str) -> bool:
    """Whether ``password`` is the one that was hashed; takes the same time either way."""
    salt, wanted = (base64.b64decode(x) for x in stored.split("$"))
    return hmac.compare_digest(
        hashlib.scrypt(password.encode("utf-8", "replace"), salt=salt, **SCRYPT), wanted
    )


class Administrator:
    """Log-in with one password.

    Args:
        folder: data directory; holds the password's hash and the cookies' key. The environment variable
            ``SIAMESE_ADMIN_PASSWORD`` has precedence over the stored password.
        announce: called once with the text that names a password that was made here.
        users: who logs in elsewhere (see ``oauth``). With them there is a password only if the variable gives one.
    """

    def __init__(
        self, folder: Path, announce: Callable[[str], None] = print, users: Sequence[str] = ()
    ) -> None:
        said = LoginEnvironment.read().password
        given = said.get_secret_value() if said else ""
        self._hash: str | None = None
        if given:
            self._hash = hash_password(given)
        elif not users:
            made = secrets.token_urlsafe(15)
            self._hash, new = private_file(folder / "admin-password", lambda: hash_password(made))
            if new:
                announce(
                    f"Password of the rating studies' administrator: {made}\n(shown once; delete {folder / 'admin-password'} for a new one)"
                )
        key, _ = private_file(folder / "cookie-key", lambda: secrets.token_hex(32))
        # Password and users are part of the key: other ones end all sessions.
        self.key = hashlib.sha256(" ".join((key, given or self._hash or "", *users)).encode("utf-8")).digest()
        self._sign = URLSafeTimedSerializer(self.key, salt="siamese-study-admin")
        self._attempts, self._turns = Attempts("wrong passwords"), Turns()
        self._ended = EndedSessions(folder, SESSION_SECONDS)

    @property
    def has_password(self) -> bool:
        """Whether anybody can log in by password."""
        return self._hash is not None

    def new_session(self) -> str:
        """A session for the cookie of somebody who has shown who they are."""
        return self._sign.dumps(secrets.token_hex(16))

    def log_in(self, password: str, address: str) -> str:
        """A session for the cookie.

        Raises:
            TooManyAttemptsError: the password was not looked at.
            NotLoggedInError: it is wrong, or nobody can log in by password.
        """
        if self._hash is None:
            raise NotLoggedInError("there is no password here; log in by Hugging Face.")
        self._attempts.begin(address)
        try:
            with self._turns.turn():
                right = len(password) <= 1000 and matches(password, self._hash)
        except TooManyAttemptsError:
            self._attempts.undo(address)
            raise
        if not right:
            raise NotLoggedInError("the password is wrong.")
        self._attempts.forgive(address)
        return self.new_session()

    def session(self, cookie: str | None) -> str:
        """The session of a cookie.

        Raises:
            NoSessionError: none, forged, logged out, or older than twelve hours.
        """
        if not cookie:
            raise NoSessionError("log in first.")
        try:
            session = self._sign.loads(cookie, max_age=SESSION_SECONDS)
        except BadSignature as error:
            raise NoSessionError("your session has ended; log in again.", ended=True) from error
        if session in self._ended:
            raise NoSessionError("you have logged out; log in again.", ended=True)
        return session

    def log_out(self, session: str) -> None:
        """End ``session``: its cookie is worth nothing from now on.

        Raises:
            siamese.study.storage.database.StorageFullError: that could not be stored, and the session continues.
        """
        self._ended.add(session)

    def csrf(self, session: str) -> str:
        """What the session's forms carry."""
        return hmac.new(self.key, f"csrf {session}".encode(), hashlib.sha256).hexdigest()

    def check_csrf(self, session: str, token: str) -> None:
        """Raise a ForgedRequestError if ``token`` is not the session's."""
        if not hmac.compare_digest(self.csrf(session).encode(), token.encode("utf-8", "replace")):
            raise ForgedRequestError("this form is not from your session; load the page again.")
