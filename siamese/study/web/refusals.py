"""What a request gets instead of what it asked for: raters' requests JSON, an administrator's a page."""

from __future__ import annotations

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from siamese.study.config import ConfigError
from siamese.study.rating.errors import SessionError
from siamese.study.statistics.table import StatisticsError
from siamese.study.storage.database import StorageError, StorageFullError
from siamese.study.storage.entities import NoSuchStudyError, StudyError
from siamese.study.web.attempts import TooManyAttemptsError
from siamese.study.web.auth import ForgedRequestError, NoSessionError, NotLoggedInError
from siamese.study.web.login_form import login_form
from siamese.study.web.oauth import NotAnAdministratorError, ProviderError
from siamese.study.web.request_limits import HOME, STUDIES, TooLargeError
from siamese.study.web.security import is_study

FULL, AWAY = 507, 503
RETRY_SECONDS = 2
"""When to ask again while the database is away."""
ERRORS = (SessionError, StorageError, StudyError, ConfigError, StatisticsError, TooLargeError)
LOGIN_STATUS: dict[type[Exception], int] = {
    NotLoggedInError: 401,
    NoSessionError: 401,
    ForgedRequestError: 403,
    NotAnAdministratorError: 403,
    TooManyAttemptsError: 429,
    ProviderError: 502,
}
"""HTTP status of the errors that are answered with the page to log in."""


class InvalidRequestError(HTTPException):
    """Fields of a form or a rater's request are missing or of the wrong kind."""

    def __init__(self, error: RequestValidationError) -> None:
        # Not what was sent: perhaps it cannot be written.
        found = [(".".join(str(part) for part in one["loc"][1:]), one["msg"]) for one in error.errors()[:5]]
        super().__init__(
            422,
            "; ".join(f"{name or 'the request'}: {said[:1].lower()}{said[1:]}" for name, said in found) + ".",
        )


def install_errors(app: FastAPI) -> None:
    """Make ``app`` answer the study's errors."""

    async def handle(request: Request, error: Exception) -> Response:
        return refusal(request, error)

    async def handle_invalid(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return refusal(request, InvalidRequestError(error))

    for kind in (*ERRORS, *LOGIN_STATUS):
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(RequestValidationError, handle_invalid)


def refusal(request: Request, error: Exception) -> Response:
    """The response to an error of the studies, also of a middleware that stands before their routes."""
    if type(error) in LOGIN_STATUS:
        return log_in_first(request, error)
    status = http_status(error)
    if request.url.path.startswith(HOME):
        text = getattr(error, "detail", None) or str(error)
        response: Response = request.app.state.studies.pages.render(
            "message.html",
            "Request refused",
            status,
            message=text,
            trail=[STUDIES],
            typed=request.method == "POST",
        )
    else:
        text = str(error.detail if isinstance(error, HTTPException) else error)
        # Gradio shows the detail.
        said = {"error": text} if is_study(request.url.path) else {"error": text, "detail": text}
        response = JSONResponse(said, status)
    if status == AWAY:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def log_in_first(request: Request, error: Exception) -> Response:
    """The page to log in. Somebody who only has no session yet has done nothing wrong, and is not told so."""
    response = login_form(
        request.app.state.studies,
        status=LOGIN_STATUS[type(error)],
        message=None if isinstance(error, NoSessionError) else str(error),
        note=note_for(request, error) if isinstance(error, NoSessionError) else None,
    )
    if isinstance(error, TooManyAttemptsError):
        response.headers["Retry-After"] = str(error.seconds)
    return response


def note_for(request: Request, error: NoSessionError) -> str | None:
    """What to say to somebody without a session: nothing if they only came by."""
    if request.method not in ("GET", "HEAD"):
        return f"{error} Nothing was stored. What you typed comes back in this tab once you have logged in."
    return str(error) if error.ended else None


def http_status(error: Exception) -> int:
    """HTTP status of an error that is the study's own."""
    if isinstance(error, StorageFullError):
        return FULL
    if isinstance(error, StorageError):
        return AWAY
    if isinstance(error, NoSuchStudyError):
        return 404
    if isinstance(error, SessionError):
        return error.status
    return error.status_code if isinstance(error, HTTPException) else 422
