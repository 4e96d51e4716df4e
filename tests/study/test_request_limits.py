"""Before a body is read: who may send it, and how long it may be."""

from __future__ import annotations

import asyncio
import dataclasses
import io
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from fastapi.testclient import TestClient

from siamese.study.web import archive, request_limits
from siamese.study.web.app import study_app
from tests.study.admin_pages import PASSWORD, log_in
from tests.study.phantom_study import make_study


def send(
    app, path: str, headers: dict[str, str], chunks: list[bytes]
) -> tuple[int, bytes, dict[str, str], int]:
    """One POST by bare ASGI: status, body, headers, and how many of ``chunks`` were read."""
    read, sent = [], []

    async def receive() -> dict:
        read.append(1)
        return {"type": "http.request", "body": chunks[len(read) - 1], "more_body": len(read) < len(chunks)}

    async def reply(message: dict) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": ("1.2.3.4", 5),
        "server": ("testserver", 80),
        "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
    }
    with ThreadPoolExecutor(
        1
    ) as thread:  # browser tests before this one leave an event loop running in the main thread
        thread.submit(asyncio.run, app(scope, receive, reply)).result()
    given = {k.decode(): v.decode() for k, v in sent[0]["headers"]}
    return sent[0]["status"], b"".join(m.get("body", b"") for m in sent[1:]), given, len(read)


MULTIPART = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [
        "/study/admin/create",
        "/study/admin/import",
        "/study/admin/create/",
        "/study/admin/studies/phantoms/close",
        "/study/admin/none",
    ],
)
@pytest.mark.parametrize("cookie", [{}, {"Cookie": "siamese_study_admin=forged.x.y"}])
def test_nothing_is_read_without_log_in(served, path, cookie):
    app = served[1]
    status, body, headers, read = send(app, path, MULTIPART | cookie, [b"x" * 1000] * 50)
    assert (status, read) == (401, 0)
    assert b"Log in to administer studies" in body
    assert b'role="alert"' not in body  # nobody has done anything wrong
    assert b"Nothing was stored" in body
    assert "default-src 'none'" in headers["content-security-policy"]


@pytest.mark.slow
def test_log_in_reads_no_long_body(served):
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    status, _, _, read = send(
        served[1], "/study/admin/login", form | {"Content-Length": str(10**9)}, [b"password=x"]
    )
    assert (status, read) == (413, 0)
    status, _, _, read = send(served[1], "/study/admin/login", form, [b"x" * 100_000] * 50)
    assert status == 413
    assert read == 3


@pytest.mark.slow
def test_raters_requests_are_short(served):
    store, app, client = served
    path = store.invite("phantoms", ["A"])[0].path
    json = {"Content-Type": "application/json"}
    status, body, _, read = send(app, f"{path}/api/answer", json, [b" " * 60_000] * 3)
    assert (status, read) == (413, 2)
    assert b'{"error":"this is too large: up to 64 KiB' in body
    comment = "\u4e2d" * 2000
    reply = client.post(f"{path}/api/register", json={"pseudonym": "owl", "role": "x", "consent": True})
    task = reply.json()["step"]["task"]
    answer = {"task": task["id"], "key": "k", "response": {"real": True}, "confidence": 1, "comment": comment}
    assert client.post(f"{path}/api/answer", json=answer).status_code == 200


@pytest.mark.slow
@pytest.mark.parametrize("said", [True, False])
def test_upload_is_limited_with_a_message(tmp_path, monkeypatch, said):
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    monkeypatch.setattr(request_limits, "MAX_UPLOAD_BYTES", 2**20)
    make_study(tmp_path)
    app = study_app(tmp_path)
    with TestClient(app, follow_redirects=False) as client:
        log_in(client)
        cookie = {"Cookie": f"siamese_study_admin={client.cookies['siamese_study_admin']}"}
    start = b'--x\r\nContent-Disposition: form-data; name="archive"; filename="a.zip"\r\n\r\n'
    chunks = [start] + [b"y" * 2**18] * 8
    length = {"Content-Length": str(sum(map(len, chunks)))} if said else {}
    status, body, _, read = send(app, "/study/admin/create", MULTIPART | cookie | length, chunks)
    assert status == 413
    assert b"up to 1 MiB can be sent" in body
    assert b"folder on the server" in body
    assert read == (
        len(chunks) if said else 5
    )  # discarded to the end, so that a browser shows the message; or stopped


@pytest.mark.slow
def test_errors_of_administrators_are_pages(served):
    client = served[2]
    csrf = log_in(client)
    reply = client.post("/study/admin/studies/<b>/open", data={"csrf": csrf})
    assert reply.status_code == 404
    assert reply.headers["content-type"].startswith("text/html")
    assert "<b>" not in reply.text
    assert "There is no study" in reply.text


@pytest.mark.slow
def test_one_huge_file_in_a_zip_is_refused(served, monkeypatch):
    monkeypatch.setattr(archive, "LIMITS", dataclasses.replace(archive.LIMITS, file_bytes=1000))
    client, buffer = served[2], io.BytesIO()
    csrf = log_in(client)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("real/a.png", bytes(10**6))
    buffer.seek(0)
    values = {"csrf": csrf, "id": "bad", "title": "x", "protocol": "ranking", "organ": "x", "groups": "1"}
    reply = client.post(
        "/study/admin/create", data=values, files={"archive": ("x.zip", buffer, "application/zip")}
    )
    assert reply.status_code == 422
    assert "can be read" in reply.text
