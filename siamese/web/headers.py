"""Headers that every response has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence


def studio_headers(frame_ancestors: Sequence[str] = ()) -> dict[str, str]:
    """The studio's: as strict as Gradio's page bears.

    Gradio writes scripts and styles into its page, makes functions of text, and runs workers from blobs. Everything else is the server's
    own. Reasons are in SECURITY.md.

    Args:
        frame_ancestors: origins besides the studio's own that may show it in a frame.
    """
    policy = {
        "default-src": "'self'",
        "script-src": "'self' 'unsafe-inline' 'unsafe-eval' blob:",
        "worker-src": "'self' blob:",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "media-src": "'self' data: blob:",
        "connect-src": "'self' data: blob:",
        "object-src": "'none'",
        "base-uri": "'self'",
        "form-action": "'self'",
        "frame-ancestors": " ".join(("'self'", *frame_ancestors)),
    }
    return {
        "Content-Security-Policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "Referrer-Policy": "same-origin",
        "X-Content-Type-Options": "nosniff",
    }


class AddedHeaders:
    """ASGI middleware: adds ``headers`` to the responses of paths that ``applies``, if these do not have them.

    Plain ASGI: Starlette's own base class would copy every image's bytes.
    """

    def __init__(
        self, app: Callable, headers: Mapping[str, str], applies: Callable[[str], bool] = lambda path: True
    ) -> None:
        self.app, self.applies = app, applies
        self.headers = [(k.lower().encode("ascii"), v.encode("ascii")) for k, v in headers.items()]

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        """ASGI."""
        if scope["type"] != "http" or not self.applies(scope["path"]):
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                names = {name.lower() for name, _ in message["headers"]}
                message = message | {
                    "headers": [*message["headers"], *((k, v) for k, v in self.headers if k not in names)]
                }
            await send(message)

        await self.app(scope, receive, send_with_headers)
