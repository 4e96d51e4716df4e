"""The environment variables that the servers read. Each is documented here, once; nothing else in ``siamese`` reads them.

``HF_TOKEN`` and the hub's other variables are read by ``huggingface_hub`` itself. Every call of ``read`` looks at the environment
again, so a test or an embedding program can change it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DATA_VARIABLE = "SIAMESE_STUDY_DATA"
DATABASE_VARIABLE = "SIAMESE_STUDY_DATABASE"
DATASET_VARIABLE = "SIAMESE_STUDY_DATASET"
USERS_VARIABLE = "SIAMESE_ADMIN_USERS"
CLIENT_VARIABLE, SECRET_VARIABLE, PROVIDER_VARIABLE = (
    "OAUTH_CLIENT_ID",
    "OAUTH_CLIENT_SECRET",
    "OPENID_PROVIDER_URL",
)
HOST_VARIABLE = "SPACE_HOST"
DEFAULT_MINUTES, MAX_MINUTES = 5.0, 1440.0
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


class SetupError(RuntimeError):
    """A server or command cannot start with these options, folders or environment variables; the message says what to do."""


class Environment(BaseSettings):
    """Base of the groups of variables below."""

    model_config = SettingsConfigDict(
        case_sensitive=True,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,  # some values are secrets
        populate_by_name=True,
    )

    @classmethod
    def read(cls) -> Self:
        """The variables as they are now.

        Raises:
            SetupError: a value cannot be used. The message names every such variable.
        """
        try:
            return cls()
        except ValidationError as error:
            raise SetupError(
                " ".join(f"{one['loc'][0]} {message_of(one)}" for one in error.errors())
            ) from error


def message_of(error: Any) -> str:
    """The sentence of one of pydantic's errors, without its prefix if it is one of our own."""
    own = error.get("ctx", {}).get("error")
    return str(own) if own is not None else f"cannot be used ({error['msg']})."


class SpaceEnvironment(Environment):
    """What a Hugging Face Space says about itself."""

    id: str | None = Field(None, alias="SPACE_ID")
    """owner/name of the Space. It is set on Spaces only."""
    host: str | None = Field(None, alias=HOST_VARIABLE)
    """Host name of the Space's own page."""


class StudyEnvironment(Environment):
    """The places that rating studies are stored in and copied to."""

    data: str | None = Field(None, alias=DATA_VARIABLE)
    """Data directory; see ``siamese.study.storage.location`` for the default."""
    database: str | None = Field(None, alias=DATABASE_VARIABLE)
    """PostgreSQL URL. Without it, SQLite in the data directory is used."""
    dataset: str | None = Field(None, alias=DATASET_VARIABLE)
    """owner/name of the private dataset repository that studies are copied to."""
    push_minutes: float = Field(DEFAULT_MINUTES, alias="SIAMESE_STUDY_PUSH_MINUTES")
    """Minutes between two copies, above 0 and at most 1440."""

    @field_validator("dataset", mode="after")
    @classmethod
    def _repository(cls, value: str | None) -> str | None:
        name = (value or "").strip()
        if name and not REPOSITORY.fullmatch(name):
            raise ValueError(f"must be owner/name of a dataset repository, not {name!r}.")
        return name or None

    @field_validator("push_minutes", mode="before")
    @classmethod
    def _minutes(cls, value: object) -> float:
        text = str(value).strip()
        try:
            minutes = float(text) if text else DEFAULT_MINUTES
        except ValueError as error:
            raise ValueError(f"must be a number of minutes, not {text!r}.") from error
        if not 0 < minutes <= MAX_MINUTES:
            raise ValueError(f"must be above 0 and at most {MAX_MINUTES:.0f} minutes, not {text}.")
        return minutes


class LoginEnvironment(Environment):
    """How the studies' administrator logs in."""

    # An empty list of users is an error, never a reason to fall back to a password.
    model_config = SettingsConfigDict(env_ignore_empty=False)

    password: SecretStr | None = Field(None, alias="SIAMESE_ADMIN_PASSWORD")
    """The administrator's password. Without it, and without users, one is generated and printed once."""
    users: Annotated[tuple[str, ...] | None, NoDecode] = Field(None, alias=USERS_VARIABLE)
    """Hugging Face user names, separated by commas, who log in through Hugging Face."""
    client: str = Field("", alias=CLIENT_VARIABLE)
    secret: SecretStr = Field(SecretStr(""), alias=SECRET_VARIABLE)
    provider: str = Field("", alias=PROVIDER_VARIABLE)
    """These three and ``OAUTH_SCOPES`` are set on a Space that has ``hf_oauth: true`` in its README.md."""
    scopes: str = Field("", alias="OAUTH_SCOPES")

    @field_validator("users", mode="before")
    @classmethod
    def _names(cls, value: str | None) -> tuple[str, ...] | None:
        if value is None:
            return None
        names = tuple(name.strip() for name in value.split(",") if name.strip())
        if not names:
            raise ValueError(
                "is set, but names nobody; give Hugging Face user names, separated by commas, or do not set it."
            )
        return names


class StudioEnvironment(Environment):
    """What the studio's page reads besides its options."""

    temporary: str | None = Field(None, alias="GRADIO_TEMP_DIR")
    """Folder of visitors' temporary files; see ``siamese.studio.visitors.upload_folder`` for the default."""
