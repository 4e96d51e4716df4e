"""Log-in of named users by Hugging Face: OAuth's authorization code flow with the variables that a Space has by ``hf_oauth: true``.

Only the user's name is asked for; the provider's token is used once, for that, and not kept.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

import httpx2
from itsdangerous import BadSignature, URLSafeTimedSerializer
from pydantic import BaseModel, Field, StrictStr, ValidationError

from siamese.study.web.attempts import Attempts
from siamese.study.web.auth import ForgedRequestError, NotLoggedInError
from siamese.web.hf_space import origin
from siamese.web.settings import (
    CLIENT_VARIABLE,
    HOST_VARIABLE,
    PROVIDER_VARIABLE,
    SECRET_VARIABLE,
    USERS_VARIABLE,
    LoginEnvironment,
    SetupError,
)

STATE_COOKIE = "siamese_study_oauth"
STATE_SECONDS = 600
"""How long a log-in may take."""
TIMEOUT_SECONDS = 10
PROVIDERS_ERROR = re.compile(r"[a-z_]{1,40}")


class NotAnAdministratorError(RuntimeError):
    """The user whom the provider names is not on the list."""


class ProviderError(RuntimeError):
    """The provider's answer cannot be used."""


@dataclass(frozen=True)
class OAuthSettings:
    """What a log-in needs."""

    users: tuple[str, ...]
    """Exact names, case included."""
    client: str
    secret: str = field(repr=False)
    provider: str
    callback: str
    """The address that the provider sends the browser back to."""
    scopes: str = "openid profile"


def oauth_settings(callback: str) -> OAuthSettings | None:
    """What the environment says; None if it names no users.

    Args:
        callback: path of the page that the provider sends the browser back to.

    Raises:
        SetupError: it names users, and something is missing.
    """
    said, here = LoginEnvironment.read(), origin()
    if said.users is None:
        return None
    needed = {
        CLIENT_VARIABLE: said.client,
        SECRET_VARIABLE: said.secret.get_secret_value(),
        PROVIDER_VARIABLE: said.provider,
        HOST_VARIABLE: here,
    }
    missing = [name for name, value in needed.items() if not value]
    if missing:
        raise SetupError(
            f"{USERS_VARIABLE} is set, but not {', '.join(missing)}; a Space has them with 'hf_oauth: true' in its README.md. "
            f"Elsewhere leave {USERS_VARIABLE} out: the administrator has a password."
        )
    return OAuthSettings(
        users=said.users,
        client=said.client,
        secret=said.secret.get_secret_value(),
        provider=said.provider.rstrip("/"),
        callback=f"{here}{callback}",
        scopes=said.scopes or "openid profile",
    )


NonEmpty = Annotated[StrictStr, Field(min_length=1)]


class ProviderAddresses(BaseModel):
    """What the provider's description of itself is read for."""

    authorization_endpoint: NonEmpty
    token_endpoint: NonEmpty
    userinfo_endpoint: NonEmpty


class TokenAnswer(BaseModel):
    """What the provider gives for a code."""

    access_token: NonEmpty


class UserAnswer(BaseModel):
    """Who has logged in."""

    preferred_username: NonEmpty


Answer = TypeVar("Answer", ProviderAddresses, TokenAnswer, UserAnswer)


class HuggingFaceLogin:
    """Log-in by the provider. Safe to use from several threads.

    Args:
        key: signs what the browser keeps between leaving and coming back.
    """

    def __init__(self, settings: OAuthSettings, key: bytes) -> None:
        self.settings = settings
        self._sign = URLSafeTimedSerializer(key, salt="siamese-study-oauth")
        self._attempts = Attempts("log-ins that failed")
        self._http = httpx2.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False)
        self._known: ProviderAddresses | None = None

    def begin(self) -> tuple[str, str]:
        """The address to send the browser to, and the cookie that binds the answer to it.

        Raises:
            ProviderError: it cannot be reached.
        """
        state = secrets.token_urlsafe(24)
        asked = {
            "client_id": self.settings.client,
            "redirect_uri": self.settings.callback,
            "response_type": "code",
            "scope": self.settings.scopes,
            "state": state,
        }
        return f"{self._addresses().authorization_endpoint}?{urlencode(asked)}", self._sign.dumps(
            digest(state)
        )

    def finish(self, answer: Mapping[str, str], cookie: str | None, address: str) -> str:
        """The administrator's user name, from what the provider's answer carries.

        Raises:
            ForgedRequestError: this browser did not begin the log-in, or too long ago.
            TooManyAttemptsError: others failed from ``address`` shortly before.
            NotLoggedInError: the provider refused.
            NotAnAdministratorError: it is somebody else.
            ProviderError: the provider did not answer as it should.
        """
        try:
            wanted = self._sign.loads(cookie or "", max_age=STATE_SECONDS)
        except BadSignature as error:
            raise ForgedRequestError(
                "this log-in was not started in this browser, or more than ten minutes ago; log in again."
            ) from error
        if not hmac.compare_digest(digest(answer.get("state", "")), wanted):
            raise ForgedRequestError("this log-in was not started in this browser; log in again.")
        self._attempts.begin(address)
        if "error" in answer or not answer.get("code"):
            reason = answer.get("error", "")
            raise NotLoggedInError(
                f"Hugging Face did not log you in ({reason if PROVIDERS_ERROR.fullmatch(reason) else 'no reason given'})."
            )
        user = self._user(self._token(answer["code"]))
        if user not in self.settings.users:
            raise NotAnAdministratorError(
                f"the Hugging Face user {user!r} is not an administrator here. Whoever runs this Space can add the name to "
                f"{USERS_VARIABLE}."
            )
        self._attempts.forgive(address)
        return user

    def _token(self, code: str) -> str:
        given = self._ask(
            TokenAnswer,
            "POST",
            self._addresses().token_endpoint,
            auth=(self.settings.client, self.settings.secret),
            data={
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": self.settings.callback,
                "client_id": self.settings.client,
            },
        )
        return given.access_token

    def _user(self, token: str) -> str:
        headers = {"Authorization": f"Bearer {token}"}
        address = self._addresses().userinfo_endpoint
        return self._ask(UserAnswer, "GET", address, headers=headers).preferred_username

    def _addresses(self) -> ProviderAddresses:
        """The provider's description of itself, which is read once."""
        if self._known is None:
            address = f"{self.settings.provider}/.well-known/openid-configuration"
            self._known = self._ask(ProviderAddresses, "GET", address)
        return self._known

    def _ask(self, kind: type[Answer], method: str, address: str, **options: Any) -> Answer:
        """The provider's JSON answer as a ``kind``. Messages name neither codes nor tokens.

        Raises:
            ProviderError: it did not answer as it should.
        """
        try:
            reply = self._http.request(method, address, **options)
            if reply.status_code != 200:
                raise ProviderError(f"Hugging Face refused the log-in (HTTP {reply.status_code}); try again.")
            found = reply.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError) as error:
            raise ProviderError(
                f"Hugging Face did not answer as expected ({type(error).__name__}); try again."
            ) from error
        try:
            return kind.model_validate(found)
        except ValidationError as error:
            lacking = [str(one["loc"][0]) for one in error.errors(include_input=False) if one["loc"]]
            if not lacking:
                raise ProviderError("Hugging Face did not answer as expected; try again.") from None
            raise ProviderError(f"Hugging Face's answer lacks {', '.join(lacking)}; try again.") from None


def digest(state: str) -> str:
    """What the cookie has of a state: the cookie alone does not tell it."""
    return hashlib.sha256(state.encode("utf-8", "replace")).hexdigest()
