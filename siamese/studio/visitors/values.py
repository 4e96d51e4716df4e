"""A check before the page's functions: a request holds values of the types that the page's components send.

A client other than the page can send anything in place of a number. Gradio passes it on, and the function's failure is a server error.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import gradio as gr
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from gradio.route_utils import FnIndexInferError
from gradio.utils import get_type_hints
from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

from siamese.masks.core import MaskError
from siamese.masks.packed import unpack
from siamese.web.inputs import PARSED

log = logging.getLogger(__name__)

EVENT = re.compile(r"/gradio_api/(?:queue/join|(?:run|api|call)/[^/]*)/?")
NUMBERS, TEXTS = (gr.Number, gr.Slider), (gr.Textbox, gr.Markdown)
RELOAD = "Reload the page and try again."
ODD = f"The page does not send requests of this form. {RELOAD}"


def problem_of(page: gr.Blocks, path: str, body: Any) -> tuple[int, str] | None:
    """What is wrong with a request for ``page``: HTTP status and a sentence; None if the request is valid.

    Args:
        body: the parsed body.
    """
    if not EVENT.fullmatch(path):
        return None
    if not isinstance(body, dict) or not isinstance(data := body.get("data"), list):
        return 422, ODD
    number, name = body.get("fn_index"), path.rstrip("/").rpartition("/")[2]
    function = (
        next((f for f in page.fns.values() if f.api_name == name), None)
        if number is None
        else page.fns.get(number)
        if type(number) is int
        else None
    )
    if function is None or function.fn is None:
        return 404, f"The page has no such function. {RELOAD}"
    if not isinstance(body.get("session_hash"), str | None):
        return 422, f"The request names no session of a page. {RELOAD}"
    if selects(function.fn) and not (
        isinstance(event := body.get("event_data"), dict) and {"index", "value"} <= set(event)
    ):
        return 422, f"The request does not say what was selected. {RELOAD}"
    inputs = function.inputs
    if len(data) != len(inputs):
        return 422, f"The function takes {len(inputs)} values, not {len(data)}. {RELOAD}"
    for i, (part, value) in enumerate(zip(inputs, data, strict=True)):
        if not fits(part, value):
            return (
                422,
                f"Value {i + 1}{f' ({label})' if (label := getattr(part, 'label', None)) else ''} is of the wrong kind. {RELOAD}",
            )
    return None


@lru_cache(maxsize=1024)
def selects(function: Callable) -> bool:
    """Whether a function of the page takes a selection."""
    return any(hint is gr.SelectData for hint in get_type_hints(function).values())


def fits(part: Any, value: Any) -> bool:
    """Whether ``value`` has the type that the component ``part`` sends. The function checks its range."""
    if value is None or isinstance(part, gr.State):  # the server keeps the values of states itself
        return True
    if isinstance(part, NUMBERS):
        return type(value) in (int, float)
    if isinstance(part, gr.Checkbox):
        return type(value) is bool
    if isinstance(part, TEXTS):
        return isinstance(value, str)
    if isinstance(part, gr.Radio | gr.Dropdown):
        return isinstance(value, str | int | float)
    if isinstance(part, gr.HTML):
        return isinstance(value, str) or is_drawing(value)
    model = getattr(part, "data_model", None)
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return True
    try:
        model.model_validate(value)
    except ValidationError:
        return False
    return True


def is_drawing(value: Any) -> bool:
    """Whether it is a drawing as the page sends it."""
    try:
        return isinstance(value, dict) and unpack(value) is not None
    except MaskError:
        return False


class Values:
    """ASGI middleware; see the module. The reply has status 422 if a function refuses a value with a message to the visitor.

    It comes after ``siamese.web.inputs``, which parses the body.
    """

    def __init__(self, app: Callable, page: gr.Blocks) -> None:
        self.app, self.page = app, page

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] != "http" or not scope["path"].startswith("/gradio_api/") or PARSED not in scope:
            await self.app(scope, receive, send)
            return
        problem = problem_of(self.page, scope["path"], scope[PARSED])
        if problem:
            await JSONResponse({"error": problem[1], "detail": problem[1]}, problem[0])(scope, receive, send)
            return
        held: dict | None = None

        async def renamed(message: dict) -> None:
            nonlocal held
            if message["type"] == "http.response.start" and message["status"] == 500:
                held = message
                return
            if held is not None:
                start, held = held, None
                await send(start | {"status": 422} if is_message(message.get("body", b"")) else start)
            await send(message)

        await self.app(scope, receive, renamed)


def is_message(body: bytes) -> bool:
    """Whether a reply's body is that of a ``gr.Error``, not of an unexpected exception."""
    try:
        said = json.loads(body)
    except ValueError:
        return False
    return isinstance(said, dict) and "title" in said and isinstance(said.get("error"), str)


def tell_faults(app: FastAPI) -> None:
    """Make ``app``, Gradio's application, answer with a sentence if it cannot read a request.

    Gradio handles errors of the page's functions itself; the handlers here get those that it raises while it reads a request.
    """

    async def invalid(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse(
            {"error": ODD, "detail": ODD}, 422
        )  # FastAPI's own reply repeats the input, which JSON may not be able to represent

    async def unread(request: Request, error: Exception) -> JSONResponse:
        log.warning("%s %s could not be read", request.method, request.url.path[:200], exc_info=error)
        return JSONResponse({"error": ODD, "detail": ODD}, 400)

    app.add_exception_handler(RequestValidationError, invalid)
    for kind in (ArithmeticError, AttributeError, FnIndexInferError, LookupError, TypeError, ValueError):
        app.add_exception_handler(kind, unread)
