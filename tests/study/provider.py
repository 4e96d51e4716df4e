"""A stand-in of Hugging Face's log-in on loopback: discovery, authorization, token and user information."""

from __future__ import annotations

import base64
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

CLIENT, SECRET = "client-of-the-space", "secret-of-the-space"


@dataclass
class Provider:
    """Who is logged in there, and what it does."""

    user: str = "dr-lee"
    denies: bool = False
    """The user does not agree."""
    broken: dict[str, tuple[int, Any]] = field(default_factory=dict)
    """Answers by path that are wrong."""
    address: str = ""
    codes: dict[str, str] = field(default_factory=dict)
    """Redirect address by code; a code counts once."""
    tokens: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def visit(self, address: str) -> str:
        """What a browser does with the address it is sent to: the address it is sent back to."""
        assert address.startswith(f"{self.address}/oauth/authorize?")
        asked = dict(parse_qsl(urlsplit(address).query))
        assert asked["client_id"] == CLIENT
        assert asked["response_type"] == "code"
        assert asked["scope"] == "openid profile"
        code = secrets.token_hex(8)
        self.codes[code] = asked["redirect_uri"]
        answer = {"error": "access_denied"} if self.denies else {"code": code}
        return f"{asked['redirect_uri']}?{urlencode(answer | {'state': asked['state']})}"


class Handler(BaseHTTPRequestHandler):
    """One request."""

    provider: Provider

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def reply(self, status: int, body: Any) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def handle_any(self) -> None:
        self.provider.asked.append(self.path)
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode())
        if self.path in self.provider.broken:
            self.reply(*self.provider.broken[self.path])
        elif self.path == "/.well-known/openid-configuration":
            self.reply(
                200,
                {
                    f"{n}_endpoint": f"{self.provider.address}/oauth/{p}"
                    for n, p in (("authorization", "authorize"), ("token", "token"), ("userinfo", "userinfo"))
                },
            )
        elif self.path == "/oauth/token":
            basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
            redirect = self.provider.codes.pop(form.get("code", [""])[0], None)
            if (
                self.headers["Authorization"] != f"Basic {basic}"
                or redirect is None
                or form["redirect_uri"] != [redirect]
            ):
                self.reply(400, {"error": "invalid_grant"})
                return
            token = secrets.token_hex(8)
            self.provider.tokens.add(token)
            self.reply(200, {"access_token": token, "token_type": "bearer"})
        elif (
            self.path == "/oauth/userinfo"
            and self.headers["Authorization"].removeprefix("Bearer ") in self.provider.tokens
        ):
            self.reply(200, {"sub": "1", "name": "Dr Lee", "preferred_username": self.provider.user})
        else:
            self.reply(401, {"error": "unauthorized"})

    do_GET = do_POST = handle_any


@contextmanager
def serve_provider() -> Iterator[Provider]:
    """A provider that answers at ``address`` within the block."""
    provider = Provider()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"provider": provider}))
    server.daemon_threads = True
    provider.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield provider
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
