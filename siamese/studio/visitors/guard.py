"""The guard before Gradio's routes: it identifies the visitor, allows known routes only, and checks what a request holds.

The studio mounts Gradio's page into its own application. Mounting does not set what Gradio's ``launch`` sets; ``guard_page`` decides each.
"""

from __future__ import annotations

import logging
import mimetypes
import shutil
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import gradio as gr
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from gradio.components import File
from gradio.route_utils import upload_fn
from gradio.routes import App as GradioApp
from gradio.routes import file_upload_statuses
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from siamese.studio.visitors import limits
from siamese.studio.visitors.cache import caching
from siamese.studio.visitors.cookie import SCOPE_KEY, Visitor, VisitorCookies, serving
from siamese.studio.visitors.event_limit import EventLimit
from siamese.studio.visitors.refusal import RefusedError
from siamese.studio.visitors.sessions import Sessions, VisitorStates
from siamese.studio.visitors.upload_folder import TemporaryFolder, use
from siamese.web.bodies import read_body, replay

log = logging.getLogger(__name__)

API = "/gradio_api/"
FILES, UPLOAD = f"{API}file=", f"{API}upload"
EVENTS = (f"{API}queue/join", f"{API}run/", f"{API}cancel", f"{API}reset")
"""Routes with a body."""
STREAMS = (f"{API}heartbeat/", f"{API}queue/data")
"""Routes of an open page."""
OTHERS = (
    f"{API}info",
    f"{API}app_id",
    f"{API}upload_progress",
    f"{API}theme.css",
    f"{API}startup-events",
    "/config",
    "/theme.css",
    "/static/",
    "/assets/",
    "/svelte/",
    "/favicon.ico",
    "/robots.txt",
    "/manifest.json",
    "/pwa_icon",
)
"""The other routes that the page requests. All others of Gradio's answer 404, among them ``deep_link`` (writes a session's values to a
file), ``proxy=`` and ``file=`` of a URL (make the server request other hosts), ``component_server``, ``stream``, ``process_recording``, ``call``, ``api``, ``monitoring``,
``run-history``, ``vibe-edit``, ``profiling``, ``login``, ``custom_component``, and whatever a later version brings."""
SHOWN = ("image/png", "image/jpeg", "image/gif", "image/webp")
"""Types of files that the browser may show; all others are downloads, because they could hold a script."""
LOOK_AGAIN = 2**20
"""Bytes of an upload between two checks of the limits."""
BROKEN = "Something went wrong on the server. The details are in its log; please try again."


class PageGuard:
    """ASGI middleware before Gradio's application; see ``guard_page`` for the arguments."""

    def __init__(
        self,
        app: ASGIApp,
        page: gr.Blocks,
        folder: TemporaryFolder,
        cookies: VisitorCookies,
        sessions: Sessions,
    ) -> None:
        self.app, self.page, self.folder = app, page, folder
        self.cookies, self.sessions, self.event_limit = cookies, sessions, EventLimit(page)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request, or pass it on."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":  # the page uses none
                await send({"type": "websocket.close", "code": 1000})
            return
        visitor = self.cookies.visitor(scope)
        path = _path(scope)
        if path == "/":
            visitor = visitor if visitor.cookie else self.cookies.new(scope) or visitor
            if visitor.cookie:
                send = _with_cookie(send, self.cookies.header(visitor, scope["scheme"]))
        scope[SCOPE_KEY] = visitor
        with serving(visitor), caching(self.folder.of(visitor.id)):
            try:
                await self._answer(path, scope=scope, receive=receive, send=send, visitor=visitor)
            except RefusedError as refused:
                await refused.response()(scope, receive, send)
            except HTTPException as error:  # the body is too long, or cannot be read
                await RefusedError(error.status_code, error.detail).response()(scope, receive, send)
            except ClientDisconnect:
                return

    async def _answer(self, path: str, scope: Scope, receive: Receive, send: Send, visitor: Visitor) -> None:
        kind = "read" if scope["method"] in ("GET", "HEAD") else scope["method"]
        if kind == "read" and path.startswith(FILES):
            await self._file(path.removeprefix(FILES), visitor)(_without_range(scope), receive, send)
        elif kind == "POST" and path == UPLOAD:
            await (await self._upload(Request(scope, receive), visitor))(scope, receive, send)
        elif kind == "POST" and _is_among(path, EVENTS):
            with (
                self.event_limit.through(visitor.id, path.startswith(EVENTS[0]))
                if path.startswith(EVENTS[:2])
                else nullcontext()
            ):
                body = await read_body(receive, limits.MAX_BODY_BYTES)
                self._check(limits.read_json(body), path, visitor)
                await self.app(scope, replay(body, receive), send)
        elif kind == "read" and _is_among(path, STREAMS):
            request = Request(scope)
            beating = path.startswith(STREAMS[0])
            name = path.removeprefix(STREAMS[0]) if beating else request.query_params.get("session_hash")
            if not beating:
                self.sessions.enter(visitor, name)
            with self.sessions.open(visitor, name) if beating else nullcontext():
                await self.app(scope, receive, send)
        elif kind == "read" and (path == "/" or _is_among(path, OTHERS)):
            await self.app(scope, receive, send)
        else:
            raise RefusedError(404, "The studio has no such page. Open its start page.")

    def _check(self, body_values: dict[str, Any], path: str, visitor: Visitor) -> None:
        """Raise RefusedError if the visitor's page could not have sent this body."""
        if body_values.get("session_hash") is not None or path.startswith(EVENTS[0]):
            self.sessions.enter(visitor, body_values.get("session_hash"))
        limits.check_files(body_values, visitor.id, self.folder)
        if path.startswith(EVENTS[:2]):
            function = (
                self.page.fns.get(number) if isinstance(number := body_values.get("fn_index"), int) else None
            )
            if function is None or not isinstance(body_values.get("data"), list):
                raise RefusedError(404, "The page has no such function. Reload it.")
            for component, value in zip(function.inputs, body_values["data"], strict=False):
                if not isinstance(
                    component, File
                ):  # the reader of a file has its own check: photos may be larger than the canvas
                    limits.check_pictures(value)

    def _file(self, path: str, visitor: Visitor) -> Response:
        """A file of the visitor's own, or of the page."""
        if not self.folder.owns(visitor.id, path):
            raise RefusedError(403, "This file is not yours, or it does not exist any more.")
        if not Path(path).exists():
            raise RefusedError(
                404,
                "This file does not exist any more: the server deletes files an hour after their last use. Make it again.",
            )
        use(path)
        kind = mimetypes.guess_type(path)[0]
        headers = {"X-Content-Type-Options": "nosniff", "Cache-Control": "private"}
        if kind in SHOWN:
            return FileResponse(path, media_type=kind, headers=headers)
        return FileResponse(
            path, media_type="application/octet-stream", filename=Path(path).name, headers=headers
        )

    async def _upload(self, request: Request, visitor: Visitor) -> Response:
        """Store files in the visitor's folder and answer with their paths, as Gradio does."""
        limits.check_room(self.folder)
        sent = request.headers.get("content-length", "")
        if (
            sent.isdecimal()
            and len(sent) < 20
            and self.folder.uploaded(visitor.id) + int(sent) > limits.UPLOADS_EACH + limits.MB
        ):
            raise RefusedError(413, limits.TOO_MUCH)
        target, name = self.folder.new_upload(visitor.id), request.query_params.get("upload_id")
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            message = await request.receive()
            before, taken = taken, taken + len(message.get("body", b""))
            if before // LOOK_AGAIN != taken // LOOK_AGAIN or not message.get("more_body"):
                if self.folder.uploaded(visitor.id) > limits.UPLOADS_EACH:
                    raise RefusedError(413, limits.TOO_MUCH)
                limits.check_room(self.folder)
            return message

        try:
            files, _, _ = await upload_fn(
                Request(request.scope, counted),
                target,
                limits.MAX_UPLOAD_BYTES,
                name,
                upload_progress=file_upload_statuses if name else None,
            )
            if self.folder.uploaded(visitor.id) > limits.UPLOADS_EACH:
                raise RefusedError(413, limits.TOO_MUCH)
        except BaseException as error:
            shutil.rmtree(target, ignore_errors=True)
            if isinstance(error, MultiPartException):
                large = "maximum allowed size" in error.message
                raise (
                    RefusedError(413, limits.TOO_LARGE) if large else RefusedError(400, limits.DAMAGED)
                ) from None
            if isinstance(error, HTTPException | TypeError | KeyError):
                raise RefusedError(400, limits.DAMAGED) from None
            if isinstance(error, OSError):
                log.exception("an upload could not be stored")
                raise RefusedError(507, limits.DISK_FULL) from None
            raise
        return JSONResponse(files)


def guard_page(app: FastAPI, page: gr.Blocks, folder: TemporaryFolder, cookies: VisitorCookies) -> Sessions:
    """Put the guard before ``page``, the last one that was mounted on ``app``.

    Args:
        folder: holds the visitors' files.
        cookies: identifies the visitors.

    Returns:
        The visitors' sessions. Call their ``tidy`` now and then.
    """
    mount = cast(Mount, app.router.routes[-1])
    gradio_app = cast(GradioApp, mount.app)
    # What Gradio's ``launch`` sets, and mounting does not:
    page.has_launched = True  # otherwise its check of paths accepts every path; it is the second check here, after ``check_files``
    page.enable_monitoring = False  # None would count as True
    page.run_history = False
    page.share = False
    # allowed_paths, blocked_paths: mounting has emptied both, and the guard serves the visitor's own files only.
    # state_session_capacity: at this number Gradio drops the oldest session. ``Sessions`` refuses before, so it is never reached.
    # max_threads: part of the queue. flagging, vibe mode, MCP, PWA, share links: off without launch, and their routes answer 404.
    # auth: none, because the studio is public.
    sessions = Sessions()
    gradio_app.state_holder = VisitorStates(sessions)
    gradio_app.state_holder.set_blocks(page)
    process = page.process_api

    async def process_api(
        block_fn: Any, inputs: list[Any], *rest: Any, request: gr.Request | None = None, **more: Any
    ) -> dict[str, Any]:
        # All events pass here, those of the queue in a task without the context of their request.
        visitor = (
            request.request.scope.get(SCOPE_KEY)
            if request is not None and request.request is not None
            else None
        )
        if visitor is None:
            raise gr.Error(limits.NOT_YOURS, print_exception=False)
        try:
            limits.check_files(inputs, visitor.id, folder)
            limits.check_room(folder)
        except RefusedError as refused:
            raise gr.Error(str(refused), print_exception=False) from None
        with serving(visitor), caching(folder.of(visitor.id)):
            return await process(block_fn, inputs, *rest, request=request, **more)

    cast(Any, page).process_api = process_api
    gradio_app.add_exception_handler(
        RefusedError, lambda request, refused: cast(RefusedError, refused).response()
    )
    gradio_app.add_exception_handler(
        RequestValidationError, lambda request, error: RefusedError(422, limits.STRANGE).response()
    )
    gradio_app.add_exception_handler(Exception, lambda request, error: RefusedError(500, BROKEN).response())
    mount.app = PageGuard(app=gradio_app, page=page, folder=folder, cookies=cookies, sessions=sessions)
    return sessions


def _path(scope: Mapping[str, Any]) -> str:
    path, root = scope["path"], scope.get("root_path", "")
    return (path.removeprefix(root) if root else path) or "/"


def _is_among(path: str, routes: tuple[str, ...]) -> bool:
    """Whether a path is one of the routes, or begins with one that ends in a slash."""
    return any(
        path.startswith(r)
        if r.endswith("/")
        else path.rstrip("/") == r or (r == "/pwa_icon" and path.startswith(f"{r}/"))
        for r in routes
    )


def _with_cookie(send: Send, header: bytes) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {
                **message,
                "headers": [*message["headers"], (b"set-cookie", header), (b"cache-control", b"no-store")],
            }
        await send(message)

    return sending


def _without_range(scope: Scope) -> Scope:
    """Files are served as a whole: they are small, and a list of thousands of ranges would cost much time."""
    return {**scope, "headers": [h for h in scope["headers"] if h[0] not in (b"range", b"if-range")]}
