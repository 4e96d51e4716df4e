"""Requests that are refused, with a sentence for the visitor."""

from __future__ import annotations

from starlette.responses import JSONResponse


class RefusedError(Exception):
    """The server refuses the request. Its text is for the visitor: what is wrong and what to do. ``status`` is the HTTP status, 400 to 507."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def response(self) -> JSONResponse:
        """The HTTP response, with the text in both fields that Gradio's client shows."""
        return JSONResponse(
            {"detail": str(self), "error": str(self)}, self.status, {"Cache-Control": "no-store"}
        )
