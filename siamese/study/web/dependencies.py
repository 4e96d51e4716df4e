"""What the routes of the studies share: the store, the sessions, and who may call them.

FastAPI would run a dependency that is not ``async`` in the threads that the studio's page also uses; so each is ``async`` or runs
``beside`` in the administrators' threads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Form, Request
from pydantic import AfterValidator

from siamese.study.creation.generated import Turn
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.durability import Durability
from siamese.study.storage.store import StudyStore
from siamese.study.web.auth import COOKIE, Administrator
from siamese.study.web.oauth import HuggingFaceLogin
from siamese.study.web.pages import Pages
from siamese.study.web.rating_files import RatingFiles
from siamese.study.web.request_limits import HOME
from siamese.study.web.security import storable
from siamese.study.web.threads import ADMINISTRATORS

Text = Annotated[str, Form(max_length=20_000), AfterValidator(storable)]
"""A field of a form that can be stored."""


@dataclass(frozen=True)
class StudyServices:
    """What the routes work with. ``app.state.studies`` holds it."""

    store: StudyStore
    sessions: RaterSessions
    administrator: Administrator
    huggingface: HuggingFaceLogin | None
    """Log-in by Hugging Face; None if it is not set up."""
    turn: Turn
    """Images are sampled in it; see ``siamese.study.creation.generated``."""
    pages: Pages
    """What administrators and raters are shown."""
    files: RatingFiles
    """The raters' page and what it loads."""
    durability: Durability | None = None
    """Whether answers last; None if nobody asks."""


async def services(request: Request) -> StudyServices:
    """The application's."""
    return request.app.state.studies


Services = Annotated[StudyServices, Depends(services)]


async def store(services: Services) -> StudyStore:
    """The studies."""
    return services.store


async def rater_sessions(services: Services) -> RaterSessions:
    """The raters' requests."""
    return services.sessions


Store = Annotated[StudyStore, Depends(store)]
Sessions = Annotated[RaterSessions, Depends(rater_sessions)]


def require_session(request: Request, services: Services) -> str:
    """The administrator's session of a request.

    Raises:
        NotLoggedInError: it has none.
    """
    return services.administrator.session(request.cookies.get(COOKIE))


Session = Annotated[str, Depends(ADMINISTRATORS.beside(require_session))]
"""The administrator's session; a route that has this parameter answers nobody else."""


def require_own_form(
    session: Session, services: Services, csrf: Annotated[str, Form(max_length=200)] = ""
) -> None:
    """Raise a ForgedRequestError if the form is not one of the session's own pages."""
    services.administrator.check_csrf(session, csrf)


async def form_token(session: Session, services: Services) -> str:
    """What the forms of the session's pages carry."""
    return services.administrator.csrf(session)


FormToken = Annotated[str, Depends(form_token)]

_OPTIONS: dict[str, Any] = {
    "prefix": HOME,
    "include_in_schema": False,
    "route_class": ADMINISTRATORS.route,
}


def public_router() -> APIRouter:
    """Routes under ``/study/admin`` that anybody may call: the log-in."""
    return APIRouter(**_OPTIONS)


def read_router() -> APIRouter:
    """Routes that ask for the administrator's session first, whether or not a function asks for it as well."""
    return APIRouter(**_OPTIONS, dependencies=[Depends(ADMINISTRATORS.beside(require_session))])


def change_router() -> APIRouter:
    """Routes that ask for the session and for the token of its forms first: whatever changes something."""
    return APIRouter(**_OPTIONS, dependencies=[Depends(ADMINISTRATORS.beside(require_own_form))])
