"""Headers of the studies' responses, and what may be stored."""

from __future__ import annotations

from fastapi import Response

HEADERS = {
    "Cache-Control": "no-store",
    # The page is its own files and pictures that its script fetched. A Space shows it in a frame of huggingface.co.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'self' https://huggingface.co",
    "Referrer-Policy": "same-origin",  # the link is a secret: other sites do not get it
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex, nofollow",
}
ENTRY = "/rate"
"""The page on which raters enter their invitation; their own pages are below it."""
PATHS = ("/rate/", "/study-static/", "/study/")


def storable(text: str) -> str:
    """``text``, or a ValueError if it holds a null character, which PostgreSQL does not store."""
    if "\0" in text:
        raise ValueError("it holds a null character")
    return text


def is_study(path: str) -> bool:
    """Whether ``HEADERS`` are for it."""
    return path == ENTRY or path.startswith(PATHS)


def static_file(data: bytes, media_type: str) -> Response:
    """A file of the page itself."""
    return Response(data, media_type=media_type, headers={"Cache-Control": "no-cache"})
