"""What cannot be read is refused with a sentence; what breaks all the same is logged and reported."""

from __future__ import annotations

import asyncio
import logging

import pytest
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient

from siamese.web.errors import BROKEN, LastResort
from siamese.web.guard import guard
from siamese.web.headers import studio_headers
from siamese.web.hosts import Hosts
from siamese.web.inputs import PARSED, CheckedInput, UnreadableError, parse_json


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        b'{"a": NaN}',
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e400]",
        b"1" * 21,
        b'"\\ud800"',
        b'{"\\udfff": 1}',
        b'["a\\u0000b"]',
        b"\xff\xfe",
        b'"\xff"',
        "[1]".encode("utf-16"),
        b"{",
        b"[" * 100 + b"]" * 100,
        b"[" * 100_000,
        b'{"a":' * 5000,
        b"",
        b"x",
        b'"a\0b"',
    ],
)
def test_json_that_would_break_its_reader_is_refused(body):
    with pytest.raises(UnreadableError, match=r"the request cannot be read: .*Load the page again"):
        parse_json(body)


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'{"a": [1, 2.5, "\xc3\xa9 \\ud83d\\ude00", null, true]}', {"a": [1, 2.5, "é 😀", None, True]}),
        (b"-12345678901234567890"[:20], -1234567890123456789),
        (b"[" * 50 + b"]" * 50, None),
    ],
)
def test_other_json_is_read(body, value):
    assert parse_json(body) == value or value is None


def checked() -> FastAPI:
    """Says what it got."""
    app = FastAPI()

    @app.post("/echo/{name:path}")
    async def echo(request: Request) -> dict:
        return {
            "body": (await request.body()).decode("latin-1"),
            "parsed": request.scope.get(PARSED),
            "range": request.headers.get("range"),
        }

    app.add_middleware(
        CheckedInput, refuse=lambda request, error: JSONResponse({"error": error.detail}, error.status_code)
    )
    return app


def test_bodies_pass_whole_and_are_judged_by_what_they_are():
    client = TestClient(checked())
    assert client.post("/echo/", content=b'{"a": 1}', headers={"Content-Type": "application/json"}).json()[
        "parsed"
    ] == {"a": 1}
    for kind in (
        "application/json",
        "text/plain",
        "application/octet-stream",
        "image/png",
        "",
    ):  # whatever is no form counts as JSON
        assert client.post("/echo/", content=b"NaN", headers={"Content-Type": kind}).status_code == 400
    for kind in ("multipart/form-data; boundary=x", "application/x-www-form-urlencoded"):
        reply = client.post("/echo/", content=b"\xff\0", headers={"Content-Type": kind})
        assert reply.json()["body"] == "\xff\0"
        assert reply.json()["parsed"] is None
    assert client.post("/echo/").json()["body"] == ""
    assert client.post("/echo/", content=b'"' + b"x" * 3 * 2**20 + b'"').status_code == 413


@pytest.mark.parametrize(
    "path",
    [
        "/echo/a%00b",
        "/echo/x?a=%00",
        "/echo/" + "x" * 256,
        "/echo/" + "%F0%9F%92%A9" * 64,
        "/echo/" + "a/" * 2000,
    ],
)
def test_addresses_that_nothing_could_have_are_refused(path):
    reply = TestClient(checked()).post(path)
    assert reply.status_code == 400
    assert "its address" in reply.json()["error"]


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("bytes=1-2-3", None),
        ("bytes=" + "9" * 5000 + "-", None),
        ("bytes=--", None),
        ("x", None),
        ("bytes=0-1," * 20, None),
        ("bytes=0-99", "bytes=0-99"),
        ("bytes=-5", "bytes=-5"),
        ("bytes=5-, 7-8", "bytes=5-, 7-8"),
    ],
)
def test_ranges_that_cannot_be_read_are_passed_over(said, kept):
    assert TestClient(checked()).post("/echo/", headers={"Range": said}).json()["range"] == kept


@pytest.fixture
def breaking() -> TestClient:
    """Routes that break, in an application and in one that is mounted on it, as Gradio is."""
    app, mounted = FastAPI(), FastAPI()
    for one in (app, mounted):

        @one.get("/rate/{token}/break")
        @one.get("/break")
        def broken() -> None:
            raise RuntimeError("a secret detail")

    @app.get("/said")
    def said() -> JSONResponse:
        return JSONResponse({"error": "a sentence"}, 500)

    @app.get("/midway")
    def midway() -> StreamingResponse:
        def parts():
            yield "first"
            raise RuntimeError("too late for another reply")

        return StreamingResponse(parts())

    app.mount("/gradio_api", mounted)
    guard(app, Hosts(frozenset({"testserver"})), (), studio_headers())
    return TestClient(app, raise_server_exceptions=False)


@pytest.mark.parametrize(
    ("path", "json"), [("/break", False), ("/rate/a-secret-link/break", True), ("/gradio_api/break", True)]
)
def test_what_breaks_is_logged_and_reported(breaking, caplog, path, json):
    reply = breaking.get(path)
    assert reply.status_code == 500
    assert "secret" not in reply.text
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert (reply.json()["error"] if json else reply.text) == BROKEN
    entry = next(r for r in caplog.records if r.name == "siamese.web.errors")
    assert entry.levelno == logging.ERROR
    assert "a secret detail" in str(entry.exc_info[1])
    assert "a-secret-link" not in entry.getMessage()


def test_a_sentence_stays_and_a_reply_that_began_is_not_mixed_with_another(breaking, caplog):
    reply = breaking.get("/said")
    assert reply.status_code == 500
    assert reply.json() == {"error": "a sentence"}
    reply = breaking.get("/midway")
    assert reply.text == "first"
    assert any("/midway failed" in r.getMessage() for r in caplog.records)


def test_lifespan_and_websockets_pass():
    seen = []

    async def app(scope, receive, send):
        seen.append(scope["type"])

    for kind in ("lifespan", "websocket"):
        asyncio.run(LastResort(CheckedInput(app, lambda *_: None))({"type": kind, "path": "/"}, None, None))
    assert seen == ["lifespan", "websocket"]
