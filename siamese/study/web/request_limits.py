"""What stands before every request's body: an administrator's request needs a session, and no body is longer than its page needs.

FastAPI reads a form before it asks a route's dependencies. Here nothing is read from somebody who has not logged in, and nothing is
kept of a body that is too long.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from siamese.study.web.auth import COOKIE, Administrator, NotLoggedInError
from siamese.study.web.security import ENTRY

HOME = "/study/admin"
MAX_UPLOAD_BYTES = 512 * 2**20
"""Bytes of a ZIP file or an export with its form; the paper's study has about 60 MB."""
MAX_FORM_BYTES = 256 * 2**10
MAX_ANSWER_BYTES = 64 * 2**10
"""Bytes of a rater's request; the longest comment fits several times."""
STUDIES = ("Rating studies", HOME)
"""Name and address of the page above all others of the administrator."""
LOGIN, OAUTH = f"{HOME}/login", f"{HOME}/login/huggingface"
CALLBACK = f"{OAUTH}/callback"
OPEN = (LOGIN, OAUTH, CALLBACK)
UPLOADS = (f"{HOME}/create", f"{HOME}/import")


class TooLargeError(HTTPException):
    """The body is longer than is read."""

    def __init__(self, limit: int) -> None:
        size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
        super().__init__(
            413, f"this is too large: up to {size} can be sent. For more images, name a folder on the server."
        )


def limit_of(path: str) -> int:
    """Most bytes that a request to ``path`` may have."""
    return (
        MAX_UPLOAD_BYTES if path in UPLOADS else MAX_FORM_BYTES if path.startswith(HOME) else MAX_ANSWER_BYTES
    )


class RequestLimits:
    """ASGI middleware for the paths of the studies; others pass.

    Args:
        refuse: the page for an error, (request, error) to response.
    """

    def __init__(
        self, app: Callable, administrator: Administrator, refuse: Callable[[Request, Exception], Response]
    ) -> None:
        self.app, self.administrator, self.refuse = app, administrator, refuse

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        path = scope.get("path", "").rstrip("/")
        admin = path == HOME or path.startswith(f"{HOME}/")
        if scope["type"] != "http" or not (admin or path == ENTRY or path.startswith(f"{ENTRY}/")):
            await self.app(scope, receive, send)
            return
        request, limit = Request(scope), limit_of(path)
        if admin and path not in OPEN:
            try:
                self.administrator.session(request.cookies.get(COOKIE))
            except NotLoggedInError as error:
                await self.refuse(request, error)(scope, receive, send)
                return
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said) > limit:
            if admin and path not in OPEN:
                await discard(receive)  # a browser shows the message only once it has sent all
            await self.refuse(request, TooLargeError(limit))(scope, receive, send)
            return
        await self.app(scope, limited_receive(receive, limit), send)


async def discard(receive: Callable) -> None:
    """Read a body to its end and keep nothing."""
    while (message := await receive())["type"] == "http.request" and message.get("more_body"):
        pass


def limited_receive(receive: Callable, limit: int) -> Callable:
    """``receive``, which raises a TooLargeError beyond ``limit`` bytes: a body sent in chunks does not say its length before."""
    seen = 0

    async def receive_counted() -> dict:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            raise TooLargeError(limit)
        return message

    return receive_counted
