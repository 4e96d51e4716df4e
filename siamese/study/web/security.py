"""Headers that every study response has, and what its errors say."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from siamese.study.config import ConfigError
from siamese.study.rating.errors import SessionError
from siamese.study.storage.database import StorageError, StorageFullError
from siamese.study.storage.store import NoSuchStudyError, StudyError
from siamese.study.web.request_limits import HOME, TooLargeError

HEADERS = {
    "Cache-Control": "no-store",
    # The page is its own files and pictures that its script fetched. A Space shows it in a frame of huggingface.co.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self' https://huggingface.co",
    "Referrer-Policy": "same-origin",  # the link is a secret: other sites do not get it
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
FULL, AWAY = 507, 503
RETRY_SECONDS = 2
"""When to ask again while the database is away."""
ERRORS = (SessionError, StorageError, StudyError, ConfigError, TooLargeError)
PATHS = ("/rate/", "/study-static/", "/study/")


class InvalidRequestError(HTTPException):
    """Fields of a form or a rater's request are missing or of the wrong kind."""

    def __init__(self, error: RequestValidationError) -> None:
        # Not what was sent: it may be what cannot be written.
        found = [(".".join(str(part) for part in one["loc"][1:]), one["msg"]) for one in error.errors()[:5]]
        super().__init__(
            422,
            "; ".join(f"{name or 'the request'}: {said[:1].lower()}{said[1:]}" for name, said in found) + ".",
        )


def storable(text: str) -> str:
    """``text``, or a ValueError where it holds a null character, which PostgreSQL does not store."""
    if "\0" in text:
        raise ValueError("it holds a null character")
    return text


def status_of(error: Exception) -> int:
    """HTTP status of an error that is the study's own."""
    if isinstance(error, StorageFullError):
        return FULL
    if isinstance(error, StorageError):
        return AWAY
    if isinstance(error, NoSuchStudyError):
        return 404
    return (
        error.status
        if isinstance(error, SessionError)
        else error.status_code
        if isinstance(error, HTTPException)
        else 422
    )


def install_errors(app: FastAPI, page: Callable[[Request, Exception, int], Response]) -> None:
    """Make ``app`` answer the study's errors: raters' requests with JSON, an administrator's with ``page`` (request, error, status)."""

    async def handle(request: Request, error: Exception) -> Response:
        return refusal(request, error, page)

    async def handle_invalid(request: Request, error: RequestValidationError) -> Response:
        return refusal(request, InvalidRequestError(error), page)

    for kind in ERRORS:
        app.add_exception_handler(kind, handle)
    app.add_exception_handler(RequestValidationError, handle_invalid)


def refusal(
    request: Request, error: Exception, page: Callable[[Request, Exception, int], Response]
) -> Response:
    """What a request gets instead of what it asked for."""
    status = status_of(error)
    if request.url.path.startswith(HOME):
        response = page(request, error, status)
    else:
        text = str(error.detail if isinstance(error, HTTPException) else error)
        response = JSONResponse(
            {"error": text} if is_study(request.url.path) else {"error": text, "detail": text}, status
        )  # Gradio shows the latter
    if status == AWAY:
        response.headers["Retry-After"] = str(RETRY_SECONDS)
    return response


def is_study(path: str) -> bool:
    """Whether ``HEADERS`` are for it."""
    return path.startswith(PATHS)


def static_file(data: bytes, media_type: str) -> Response:
    """A file of the page itself."""
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-cache"})
