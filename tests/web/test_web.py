"""What stands before both servers: names, origins, proxies, headers, the socket."""

from __future__ import annotations

import http.client
import socket
import statistics
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn
from fastapi import FastAPI, Request, WebSocket
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from siamese.web.access import Access, AccessError, StudioAccess
from siamese.web.guard import guard
from siamese.web.headers import studio_headers
from siamese.web.hf_space import frame_ancestors, trusted_proxies
from siamese.web.hosts import Hosts, hosts_of, is_local
from siamese.web.listen import ListenError, address_of, bind, listen


def guarded(hosts: Hosts = Hosts(frozenset({"testserver"})), proxies: tuple[str, ...] = ()) -> FastAPI:
    """An application that says what it sees of a request."""
    app = FastAPI()

    @app.api_route("/", methods=["GET", "POST", "DELETE"])
    def seen(request: Request) -> dict:
        return {"client": request.client.host, "scheme": request.url.scheme, "headers": dict(request.headers)}

    @app.websocket("/socket")
    async def talk(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("hello")
        await websocket.close()

    guard(app, hosts, proxies, studio_headers())
    return app


LOOPBACK = [
    "localhost",
    "LOCALHOST",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:7860",
    "[::1]:7860",
    "localhost:1",
]
FOREIGN = [
    "evil.example",
    "evil.example:7860",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "192.168.1.5",
    "[2001:db8::1]",
    "127.0.0.1.nip.example",
]


@pytest.mark.parametrize(
    ("listened", "more", "allowed", "refused"),
    [
        ("127.0.0.1", (), LOOPBACK, FOREIGN),
        ("localhost", (), LOOPBACK, FOREIGN),
        ("::1", (), LOOPBACK, FOREIGN),
        (
            "127.0.0.1",
            ("studio.example", "https://other.example:8443/x", None, "", "UPPER.example"),
            [*LOOPBACK, "studio.example", "other.example:99", "upper.example", "Studio.Example:7860"],
            [*FOREIGN, "x.studio.example"],
        ),
        (
            "0.0.0.0",
            (),
            [*LOOPBACK, "192.168.1.5:7860", "[2001:db8::1]:7860"],
            ["evil.example", "127.0.0.1.nip.example", "0x7f.1", "2130706433"],
        ),
        ("::", ("studio.example",), [*LOOPBACK, "192.168.1.5", "studio.example"], ["evil.example"]),
    ],
)
def test_only_the_servers_own_names_are_served(listened, more, allowed, refused):
    listener = bind(listened, 0)
    client = TestClient(guarded(hosts_of(listener, listened, more)))
    listener.close()
    assert {h: client.get("/", headers={"Host": h}).status_code for h in allowed} == dict.fromkeys(
        allowed, 200
    )
    for host in refused:
        reply = client.get("/", headers={"Host": host})
        assert reply.status_code == 421
        assert "--allow-host" in reply.text
        assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "host",
    ["", " ", "a b", "a/b", "[::1", "evil.example@testserver", "testserver:99999999", "testserver:x", "<b>"],
)
def test_what_is_not_a_name_is_refused(host):
    reply = TestClient(guarded()).get("/", headers={"Host": host})
    assert reply.status_code in (400, 421)
    assert "<" not in reply.text.replace("'<b>'", "").replace("--allow-host <b>", "")
    assert reply.headers["content-type"].startswith("text/plain")


def test_two_names_are_refused():
    assert (
        TestClient(guarded()).get("/", headers=[("Host", "testserver"), ("Host", "testserver")]).status_code
        == 400
    )


OWN = Hosts(frozenset({"testserver", "studio.example", "127.0.0.1", "localhost"}), True)


@pytest.mark.parametrize(
    ("origin", "fine"),
    [
        (None, True),
        ("http://testserver", True),
        ("https://studio.example", True),
        ("https://studio.example:444", True),
        ("http://evil.example", False),
        ("null", False),
        ("http://testserver.evil.example", False),
        ("http://localhost:9999", False),
        ("http://192.168.1.5", False),
        ("file://", False),
        ("chrome-extension://abc", False),
        ("", False),
    ],
)
def test_changes_that_foreign_pages_ask_for_are_refused(origin, fine):
    client = TestClient(guarded(OWN))
    headers = {} if origin is None else {"Origin": origin}
    for method in ("POST", "DELETE"):
        reply = client.request(method, "/", headers=headers)
        assert (reply.status_code == 200) is fine
        assert fine or (reply.status_code == 403 and "--allow-host" in reply.text)
    reply = client.get("/", headers=headers)
    assert reply.status_code == 200
    assert not [h for h in reply.headers if h.startswith("access-control")]


@pytest.mark.parametrize(
    ("host", "origin", "same"),
    [
        ("127.0.0.1:7860", "http://127.0.0.1:7860", True),
        ("127.0.0.1:7860", "http://127.0.0.1:7861", False),
        ("127.0.0.1", "http://127.0.0.1:80", True),
        ("127.0.0.1:443", "https://127.0.0.1", True),
        ("127.0.0.1:80", "https://127.0.0.1", False),
        ("[::1]:5", "http://[::1]:5", True),
        ("192.168.1.5:7860", "http://192.168.1.6:7860", False),
    ],
)
def test_another_port_is_another_page(host, origin, same):
    assert (
        TestClient(guarded(OWN)).post("/", headers={"Host": host, "Origin": origin}).status_code == 200
    ) is same


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({}, True),
        ({"Origin": "http://testserver"}, True),
        ({"Origin": "http://evil.example"}, False),
        ({"Host": "evil.example"}, False),
    ],
)
def test_websockets_are_checked_too(headers, fine):
    client = TestClient(guarded())
    if fine:
        with client.websocket_connect("/socket", headers=headers) as websocket:
            assert websocket.receive_text() == "hello"
    else:
        with (
            pytest.raises(WebSocketDisconnect) as refused,
            client.websocket_connect("/socket", headers=headers),
        ):
            pass
        assert refused.value.code == 1008


def said(proxies: tuple[str, ...], peer: str, **headers: str) -> dict:
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return TestClient(guarded(proxies=proxies), client=(peer, 1)).get("/", headers=headers).json()


def test_nobody_is_believed_by_default(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    for peer in ("127.0.0.1", "::1", "10.0.0.7", "::ffff:127.0.0.1"):
        seen = said(
            trusted_proxies(Access()),
            peer,
            X_Forwarded_For="6.6.6.6",
            X_Forwarded_Proto="https",
            X_Forwarded_Host="evil.example",
            Forwarded="for=6.6.6.6",
            X_Real_Ip="6.6.6.6",
        )
        assert seen["client"] == peer
        assert seen["scheme"] == "http"
        assert not [h for h in seen["headers"] if "forward" in h or "real" in h]


def test_a_proxy_that_is_not_named_is_reported_once(caplog):
    client = TestClient(guarded(), client=("127.0.0.1", 1))
    for _ in range(3):
        client.get("/", headers={"X-Forwarded-For": "6.6.6.6"})
    (said,) = [r.getMessage() for r in caplog.records if r.name == "siamese.web.proxies"]
    assert "--trusted-proxies 127.0.0.1" in said


def test_proxies_that_the_operator_names_are_believed(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    proxies = trusted_proxies(Access(trusted_proxies=("127.0.0.1", "192.168.0.0/16", "2001:db8::/32")))
    for peer in ("127.0.0.1", "192.168.3.4", "2001:db8::5", "::ffff:192.168.3.4", "::ffff:127.0.0.1"):
        assert said(proxies, peer, X_Forwarded_For="6.6.6.6", X_Forwarded_Proto="https") | {"headers": 0} == {
            "client": "6.6.6.6",
            "scheme": "https",
            "headers": 0,
        }
    assert said(proxies, "10.0.0.7", X_Forwarded_For="6.6.6.6")["client"] == "10.0.0.7"
    # What a client wrote itself before its proxy added its address.
    assert said(proxies, "127.0.0.1", X_Forwarded_For="1.1.1.1, 6.6.6.6, 192.168.9.9")["client"] == "6.6.6.6"


def test_a_space_has_its_own_proxies(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert said(trusted_proxies(Access()), "10.0.0.7", X_Forwarded_For="6.6.6.6")["client"] == "6.6.6.6"
    assert said(trusted_proxies(Access()), "127.0.0.1", X_Forwarded_For="6.6.6.6")["client"] == "127.0.0.1"
    assert frame_ancestors(StudioAccess()) == ("https://huggingface.co",)


@pytest.mark.parametrize("wrong", ["proxy.example", "*", "", "10.0.0.0/33", "10.1.2.3/8"])
def test_what_is_not_a_proxy_is_reported(wrong):
    with pytest.raises(AccessError, match="--trusted-proxies"):
        Access(trusted_proxies=(wrong,)).proxies()


@pytest.mark.parametrize(
    "wrong", ["example.org", "https://a.example; script-src *", "https://a b", "*", "javascript:x"]
)
def test_what_is_not_an_origin_is_reported(wrong):
    with pytest.raises(AccessError, match="--frame-ancestors"):
        frame_ancestors(StudioAccess(frame_ancestors=(wrong,)))


def test_headers_of_the_studio():
    headers = studio_headers(("https://intranet.example",))
    policy = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert policy["frame-ancestors"] == "'self' https://intranet.example"
    assert policy["object-src"] == "'none'"
    assert policy["base-uri"] == policy["form-action"] == policy["default-src"] == "'self'"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert not [value for value in policy.values() if "http:" in value or " *" in value]
    assert (
        TestClient(guarded()).get("/").headers["content-security-policy"].endswith("frame-ancestors 'self'")
    )


def test_what_a_reply_says_itself_is_kept():
    app = FastAPI()
    app.get("/")(lambda: None)
    app.add_middleware(
        type("Strict", (), {"__init__": lambda self, app: setattr(self, "app", app), "__call__": strict})
    )
    guard(app, OWN, (), studio_headers())
    reply = TestClient(app).get("/")
    assert reply.headers.get_list("content-security-policy") == ["default-src 'none'"]
    assert reply.headers["x-content-type-options"] == "nosniff"


async def strict(self, scope, receive, send):
    """A page's own policy."""

    async def own(message):
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], (b"content-security-policy", b"default-src 'none'")]
        await send(message)

    await self.app(scope, receive, own)


@contextmanager
def serving(host: str):
    """``guarded`` on a port of its own: its address."""
    listener = bind(host, 0)
    server = uvicorn.Server(
        uvicorn.Config(guarded(hosts_of(listener, host)), log_level="warning", proxy_headers=False)
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield address_of(listener)
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize(
    ("host", "starts"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("localhost", "http://127.0.0.1:"),
        ("0.0.0.0", "http://localhost:"),
        ("::", "http://localhost:"),
        ("::1", "http://[::1]:"),
        ("[::1]", "http://[::1]:"),
    ],
)
def test_the_address_works_and_answers_at_once(host, starts):
    with serving(host) as address:
        assert address.startswith(starts)
        connection, took = http.client.HTTPConnection(address.removeprefix("http://")), []
        for _ in range(50):
            began = time.perf_counter()
            connection.request("GET", "/")
            reply = connection.getresponse()
            assert reply.read()
            assert reply.status == 200
            took.append(time.perf_counter() - began)
        connection.close()
    assert statistics.median(took) < 0.03  # with Nagle's algorithm each takes 40 ms and more


def test_a_port_that_is_in_use_is_refused():
    taken = bind("127.0.0.1", 0)
    port = taken.getsockname()[1]
    assert taken.proto == socket.IPPROTO_TCP  # what asyncio asks for before it turns Nagle's algorithm off
    early = bind("127.0.0.1", port)  # nobody listens yet
    listen(taken)
    with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 cannot be used .*--port"):
        listen(early)
    with pytest.raises(ListenError, match=f"port {port} on 127.0.0.1 cannot be used .*--port"):
        bind("127.0.0.1", port)
    taken.close()
    early.close()


@pytest.mark.parametrize(
    ("host", "port"), [("240.0.0.1", 0), ("no such name", 0), ("127.0.0.1", 70000), ("127.0.0.1", -1)]
)
def test_an_address_that_cannot_be_listened_on_is_reported(host, port):
    with pytest.raises(ListenError, match="cannot be used"):
        bind(host, port)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.0.0.1:8600", True),
        ("http://[::1]:1", True),
        ("http://localhost", True),
        ("https://studio.example", False),
        ("http://192.168.1.5:8600", False),
    ],
)
def test_links_for_this_machine_only_are_known(address, local):
    assert is_local(address) is local
