"""What no page of ours sends, refused before any route reads it: it would break what reads it, or the answer that repeats it."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any, NoReturn

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from siamese.web.bodies import read_body, replay

MAX_JSON_BYTES = 2 * 2**20
"""Bytes; images and archives are sent as files."""
MAX_DIGITS, DEEPEST = 20, 60
MAX_PATH_LENGTH, MAX_PART_LENGTH = 4000, 255
"""Bytes of an address and between two of its slashes: no file system has longer names, and what looks one up fails."""
PARSED = "siamese.json"
"""Key of the scope under which the parsed body is kept for others."""
FORMS = ("multipart/form-data", "application/x-www-form-urlencoded")
RANGE = re.compile(r"bytes=(?:\d{1,18}-\d{0,18}|-\d{1,18})(?:\s*,\s*(?:\d{1,18}-\d{0,18}|-\d{1,18})){0,9}")
UNWRITABLE = re.compile("[\0\ud800-\udfff]")
"""A null character, which PostgreSQL does not store, and halves of a character, which UTF-8 cannot write."""


class UnreadableError(HTTPException):
    """The request cannot be read; ``detail`` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(400, f"the request cannot be read: {reason}. Load the page again.")


def parse_json(body: bytes) -> Any:
    """The value of a JSON text whose strings can be stored and whose numbers are finite.

    Raises:
        UnreadableError: it is not such a text.
    """
    try:
        text = body.decode("utf-8")
        value = json.loads(text, parse_constant=_no_number, parse_float=_finite, parse_int=_whole)
    except UnicodeDecodeError as error:
        raise UnreadableError("its text is not UTF-8") from error
    except RecursionError as error:
        raise UnreadableError("it is nested too deeply") from error
    except ValueError as error:
        raise UnreadableError("it is not JSON") from error
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise UnreadableError("it is nested too deeply")
        below: list[Any] = []
        for one in level:
            if isinstance(one, str):
                check_text(one)
            elif isinstance(one, dict):
                below += [*one, *one.values()]
            elif isinstance(one, list):
                below += one
        level = below
    return value


def check_text(text: str) -> str:
    """``text``, or an UnreadableError if it holds what cannot be stored or written."""
    if UNWRITABLE.search(text):
        raise UnreadableError("a text holds a null character or half a character")
    return text


def _no_number(name: str) -> NoReturn:
    raise UnreadableError(f"{name} is not a number")


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise UnreadableError("a number is too large")
    return value


def _whole(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise UnreadableError("a number is too large")
    return int(text)


class CheckedInput:
    """ASGI middleware: refuses addresses, headers and JSON bodies that cannot be read. Whatever is not a form counts as JSON.

    Args:
        refuse: the reply to an error, (request, error) to response.
    """

    def __init__(self, app: Callable, refuse: Callable[[Request, Exception], Response]) -> None:
        self.app, self.refuse = app, refuse

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        try:
            if UNWRITABLE.search(scope["path"]) or b"%00" in scope.get("query_string", b""):
                raise UnreadableError("its address holds a null character")
            path = scope["path"].encode("utf-8")
            if len(path) > MAX_PATH_LENGTH or max(map(len, path.split(b"/"))) > MAX_PART_LENGTH:
                raise UnreadableError("its address is too long")
            if scope["method"] not in ("GET", "HEAD", "OPTIONS") and not headers.get(
                "content-type", ""
            ).lower().startswith(FORMS):
                body = await read_body(receive, MAX_JSON_BYTES)
                if body:
                    scope[PARSED] = parse_json(body)
                receive = replay(body, receive)
        except ClientDisconnect:
            return
        except HTTPException as error:  # also a body that is too long, of the request limits before this
            await self.refuse(Request(scope), error)(scope, receive, send)
            return
        if not RANGE.fullmatch(
            headers.get("range", "bytes=0-")
        ):  # HTTP lets a server pass over what it cannot read of it
            scope = scope | {
                "headers": [(name, value) for name, value in scope["headers"] if name.lower() != b"range"]
            }
        await self.app(scope, receive, send)
