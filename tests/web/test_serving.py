"""The launcher that both servers use."""

from __future__ import annotations

import ast
import asyncio
import inspect
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx2
import pytest
from fastapi import FastAPI

from siamese.studio import server as studio_server
from siamese.study.commands import serve as study_commands
from siamese.web import serving
from siamese.web.access import Access, AccessError
from siamese.web.listen import ListenError
from siamese.web.serving import WebServer

HEADERS = {"X-Content-Type-Options": "nosniff"}


def application() -> FastAPI:
    app = FastAPI()

    @app.get("/")
    def home() -> str:
        return "here"

    return app


def nagle_is_off(server: WebServer, client: httpx2.Client) -> bool:
    """Whether every open connection of the server sends what it has at once."""
    reply = client.get(server.address)
    assert reply.json() == "here"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "server" not in reply.headers
    assert client.get(server.address, headers={"Host": "evil.example"}).status_code == 421
    connections = list(server._uvicorn.server_state.connections)
    assert connections
    sockets = [one.transport.get_extra_info("socket") for one in connections]
    return all(one.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for one in sockets)


@pytest.mark.slow
def test_from_a_thread_answers_leave_at_once():
    server = WebServer("127.0.0.1", 0, Access(), grace=1)
    server.start(application(), HEADERS)
    with httpx2.Client() as client:
        assert nagle_is_off(server, client)
    server.close()
    server.wait()
    with pytest.raises(httpx2.ConnectError), httpx2.Client() as client:
        client.get(server.address)


def test_an_application_that_does_not_end_is_left_with_a_warning(monkeypatch, caplog):
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.Event().wait()

    monkeypatch.setattr(serving, "END_SECONDS", 0.2)
    server = WebServer("127.0.0.1", 0, Access(), grace=0)
    server.start(FastAPI(lifespan=lifespan), HEADERS)
    server.close()
    assert f"The server at {server.address} does not end" in caplog.text
    assert "LifespanOn" in caplog.text


def test_in_this_thread_answers_leave_at_once(capsys):
    server = WebServer("127.0.0.1", 0, Access())
    thread = threading.Thread(target=server.run, args=(application(), HEADERS, "It is there."))
    thread.start()
    while server._uvicorn is None or not server._uvicorn.started:
        time.sleep(0.01)
    assert capsys.readouterr().out == "It is there.\n"
    with httpx2.Client() as client:
        assert nagle_is_off(server, client)
    server.close()
    thread.join()


def test_nobody_can_connect_before_it_serves_and_a_port_in_use_is_said():
    server = WebServer("127.0.0.1", 0, Access())
    with pytest.raises(httpx2.ConnectError), httpx2.Client() as client:
        client.get(server.address)
    server.start(application(), HEADERS)
    with pytest.raises(ListenError, match="choose another with --port"):
        WebServer("127.0.0.1", int(server.address.rsplit(":", 1)[1]), Access())
    server.close()


def test_a_wrong_option_is_said_before_a_port_is_taken():
    with pytest.raises(AccessError, match="--trusted-proxies all"):
        WebServer("240.0.0.1", 0, Access(trusted_proxies=("all",)))


@pytest.mark.parametrize("module", [studio_server, study_commands])
def test_both_servers_are_launched_by_it(module):
    tree = ast.parse(inspect.getsource(module))
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    imported = {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    assert "WebServer" in called
    assert not {"uvicorn", "socket"} & imported
