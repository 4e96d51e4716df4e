"""Bodies of requests: read whole within a limit, and passed on to the next reader."""

from __future__ import annotations

from collections.abc import Callable

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect


async def read_body(receive: Callable, most: int) -> bytes:
    """The body of a request of at most ``most`` bytes.

    Raises:
        HTTPException: 413, it is longer. Nothing more of it is read.
        ClientDisconnect: it did not come to its end.
    """
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise HTTPException(
                413, f"this is too large: up to {most // 2**20} MiB can be sent. Make it smaller."
            )
        if not message.get("more_body"):
            return b"".join(parts)


def replay(body: bytes, receive: Callable) -> Callable:
    """A ``receive`` that gives the body as one piece, and then whatever comes."""
    given = False

    async def again() -> dict:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again
