"""What pages of others can do with the studio in a visitor's browser: neither show it, nor read it, nor ask it for anything."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

TRY = """async address => {
    const tried = async (path, options) => {
        try { const reply = await fetch(address + path, {credentials: "include", ...options}); return `${reply.status} ${(await reply.text()).slice(0, 20)}`; }
        catch (error) { return error.name; }
    };
    const form = new FormData();
    form.append("files", new Blob(["x"]), "planted.png");
    return [await tried("/config"), await tried("/gradio_api/upload", {method: "POST", body: form}),
            await tried("/gradio_api/run/predict", {method: "POST", body: "{}", headers: {"Content-Type": "application/json"}})];
}"""


@pytest.fixture
def foreign(studio) -> Iterator[str]:
    """Address of a page of somebody else that shows the studio in a frame."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(
                f'<h1>Foreign</h1><iframe id="stolen" src="{studio.address}/"></iframe>'.encode()
            )

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_foreign_pages_neither_show_nor_read_nor_ask(studio, browser, foreign):
    context = browser.new_context()
    page, said = context.new_page(), []
    page.on("console", lambda message: said.append(message.text))
    page.goto(foreign)
    assert page.evaluate(TRY, studio.address) == ["TypeError"] * 3  # nothing of a reply can be read
    page.wait_for_function("() => document.querySelector('#stolen')")
    assert not any("gradio" in frame.content() for frame in page.frames if frame.url.startswith("http"))
    assert any("frame-ancestors" in text for text in said), said
    context.close()
