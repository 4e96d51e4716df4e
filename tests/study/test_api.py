"""Raters' routes over HTTP: what is served, to whom, with which headers, and what is refused."""

from __future__ import annotations

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import select

from siamese.study.protocols import protocol_names
from siamese.study.storage.database import Database, StorageFullError
from siamese.study.storage.opening import OpenedStudies
from siamese.study.storage.schema import answers, items
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import add_study_routes, study_app
from tests.study.phantom_study import METHODS, make_study

HOSTILE = "<script>alert(1)</script>\"'&=cmd|'/c calc'!A0"


@pytest.fixture
def served(tmp_path):
    """Store, client, path of a registered rater's link."""
    store, _study = make_study(tmp_path)
    path = store.invite("phantoms", ["Dr A"])[0].path
    with TestClient(study_app(tmp_path)) as client:
        assert (
            client.post(
                f"{path}/api/register", json={"pseudonym": "owl", "role": "endoscopist", "consent": True}
            ).status_code
            == 200
        )
        yield store, client, path
    store.database.close()


def body(task: dict, key: str = "k", **changes) -> dict:
    return {
        "task": task["id"],
        "key": key,
        "response": {"real": True},
        "confidence": 5,
        "client_ms": 1200,
    } | changes


@pytest.mark.slow
def test_session_over_http(served):
    _store, client, path = served
    step, count = client.get(f"{path}/api/state").json()["step"], 0
    while step["task"]:
        for item in step["task"]["items"] + step["upcoming"]:
            assert client.get(f"{path}/image/{item}").status_code == 200
        reply = client.post(f"{path}/api/answer", json=body(step["task"], str(count)))
        assert reply.status_code == 200
        assert reply.json()["saved"] is True
        step, count = reply.json()["step"], count + 1
    assert count == 12
    assert step["can_go_back"]
    previous = client.get(f"{path}/api/previous").json()
    assert previous["response"] == {"real": True}
    assert previous["confidence"] == 5
    assert previous["task"]["number"] == 12
    assert (
        client.post(
            f"{path}/api/answer", json=body(previous["task"], "c", response={"real": False}, correction=True)
        ).status_code
        == 200
    )
    assert client.post(f"{path}/api/withdraw", json={"confirm": False}).status_code == 404
    assert client.post(f"{path}/api/withdraw", json={"confirm": True}).json() == {"deleted": 13}
    assert client.get(f"{path}/api/state").status_code == 410


def test_amount_and_duration_are_said_before_consent(tmp_path):
    store, _study = make_study(tmp_path, training=2, repeats=1)
    path = store.invite("phantoms", ["Dr A"])[0].path
    with TestClient(study_app(tmp_path)) as client:
        before = client.get(f"{path}/api/state").json()
        assert (before["total"], before["training"], before["images"]) == (13, 2, 1)
        assert before["duration"] == {"screens": 15, "minutes": 3, "measured": False}
        client.post(f"{path}/api/register", json={"pseudonym": "owl", "role": "nurse", "consent": True})
        assert client.get(f"{path}/api/state").json()["duration"] is None  # nothing more to decide
        page = client.get(path).text
    assert page.index('id="amount"') < page.index('id="consent-text"') < page.index('id="register"')
    assert "What happens next" in page
    store.database.close()


@pytest.mark.slow
def test_page_is_the_same_for_everyone(served):
    _, client, path = served
    known, unknown = client.get(path), client.get("/rate/none")
    assert known.content == unknown.content
    assert known.status_code == 200
    assert dict(known.headers) == dict(unknown.headers)
    assert "script-src 'self'" in known.headers["content-security-policy"]
    assert "no-store" in known.headers["cache-control"]
    for name in ("rate.js", "rate.css"):
        assert client.get(f"/study-static/{name}").status_code == 200
    for name in ("../api.py", "%2e%2e%2fapi.py", "none.js"):
        assert client.get(f"/study-static/{name}").status_code == 404


@pytest.mark.slow
def test_images_have_constant_headers_and_length(served):
    _, client, path = served
    step, seen = client.get(f"{path}/api/state").json()["step"], set()
    while step["task"]:
        reply = client.get(f"{path}/image/{step['task']['items'][0]}")
        seen.add(tuple(sorted(reply.headers.items())))
        step = client.post(f"{path}/api/answer", json=body(step["task"], step["task"]["id"])).json()["step"]
    assert len(seen) == 1
    headers = dict(seen.pop())
    assert headers["cache-control"] == "no-store"
    assert headers["content-type"] == "image/png"
    assert int(headers["content-length"]) > 10_000
    assert not {"etag", "last-modified", "content-disposition", "server-timing"} & set(headers)


@pytest.mark.slow
def test_nothing_names_a_method(served):
    store, client, path = served
    step = client.get(f"{path}/api/state").json()["step"]
    replies = [
        client.get(path),
        client.get(f"{path}/api/state"),
        client.post(f"{path}/api/answer", json=body(step["task"])),
        client.get(f"{path}/api/previous"),
        client.get(f"{path}/image/{step['task']['items'][0]}"),
        client.get(f"{path}/image/none"),
        client.get("/openapi.json"),
        client.get("/docs"),
        client.get("/"),
    ]
    with store.database.read() as connection:
        secrets = (
            [m.name for m in METHODS[1:]]
            + list(connection.execute(select(items.c.group_name)).scalars())
            + ["repeat", "phase"]
        )
    for reply in replies:
        whole = reply.content + str(reply.headers).encode()
        assert not [s for s in secrets if s.encode() in whole]
    assert [r.status_code for r in replies[-3:]] == [404, 404, 404]


@pytest.mark.slow
def test_images_of_others_are_not_served(served):
    store, client, path = served
    other = store.invite("phantoms", ["B"])[0].path
    client.post(f"{other}/api/register", json={"pseudonym": "fox", "role": "x", "consent": True})
    with store.database.read() as connection:
        every = set(connection.execute(select(items.c.id)).scalars())
    mine = {i for i in every if client.get(f"{path}/image/{i}").status_code == 200}
    theirs = {i for i in every if client.get(f"{other}/image/{i}").status_code == 200}
    assert len(mine) == len(theirs) == 2
    assert {client.get(f"/rate/wrong/image/{i}").status_code for i in every} == {404}
    store.close("phantoms")
    assert {client.get(f"{path}/image/{i}").status_code for i in every} == {403}


@pytest.mark.slow
@pytest.mark.parametrize(
    "change",
    [
        {"response": {"real": "yes"}},
        {"response": []},
        {"confidence": "5"},
        {"confidence": 5.0},
        {"confidence": 11},
        {"client_ms": "1"},
        {"key": ""},
        {"key": "k" * 65},
        {"comment": 3},
        {"comment": "x" * 2001},
        {"extra": 1},
        {"correction": 1},
    ],
)
def test_malformed_answers_are_refused(served, change):
    store, client, path = served
    task = client.get(f"{path}/api/state").json()["step"]["task"]
    assert (
        client.post(
            f"{path}/api/answer", json=body(task, **({} if "key" in change else {"key": "k"})) | change
        ).status_code
        == 422
    )
    with store.database.read() as connection:
        assert connection.execute(select(answers)).all() == []


@pytest.mark.slow
def test_double_click_over_http(served):
    store, client, path = served
    task = client.get(f"{path}/api/state").json()["step"]["task"]
    first, second = (client.post(f"{path}/api/answer", json=body(task)) for _ in range(2))
    assert first.json() == second.json()
    assert first.status_code == 200
    assert client.post(f"{path}/api/answer", json=body(task, "other")).status_code == 409
    with store.database.read() as connection:
        assert len(connection.execute(select(answers)).all()) == 1


@pytest.mark.slow
def test_full_disk_is_507_and_not_acknowledged(served, monkeypatch):
    _store, client, path = served
    task = client.get(f"{path}/api/state").json()["step"]["task"]

    def full(self):
        raise StorageFullError("the server's disk is full; nothing was stored.")

    with monkeypatch.context() as patch:
        patch.setattr(Database, "write", full)
        reply = client.post(f"{path}/api/answer", json=body(task))
    assert reply.status_code == 507
    assert "full" in reply.json()["error"]
    assert "saved" not in reply.json()
    assert client.get(f"{path}/api/state").json()["step"]["task"]["id"] == task["id"]
    assert client.post(f"{path}/api/answer", json=body(task)).status_code == 200


@pytest.mark.slow
def test_really_full_disk_is_507(tmp_path):
    store, _ = make_study(tmp_path, groups=40)
    path = store.invite("phantoms", [""])[0].path
    with store.database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
    store.database.close()
    app = FastAPI()
    add_study_routes(
        app,
        OpenedStudies(
            tmp_path,
            StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}", page_limit=pages + 20)),
        ),
    )
    client = TestClient(app)
    client.post(f"{path}/api/register", json={"pseudonym": "owl", "role": "x", "consent": True})
    step, status = client.get(f"{path}/api/state").json()["step"], 200
    saved = -1
    while status == 200 and step["task"]:
        saved += 1
        reply = client.post(
            f"{path}/api/answer", json=body(step["task"], step["task"]["id"], comment="x" * 2000)
        )
        status, step = reply.status_code, reply.json().get("step", step)
    assert status == 507
    with sqlite_rows(tmp_path) as connection:
        assert len(connection.execute(select(answers)).all()) == saved > 0


def sqlite_rows(folder):
    """A fresh reader."""
    return Database(f"sqlite:///{folder / 'studies.sqlite3'}").read()


@pytest.mark.slow
def test_hostile_text_stays_text(served):
    store, client, path = served
    task = client.get(f"{path}/api/state").json()["step"]["task"]
    assert client.post(f"{path}/api/answer", json=body(task, comment=HOSTILE)).status_code == 200
    reply = client.get(f"{path}/api/previous")
    assert reply.json()["comment"] == HOSTILE
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"
    other = store.invite("phantoms", [HOSTILE])[0].path
    assert (
        client.post(
            f"{other}/api/register", json={"pseudonym": HOSTILE, "role": HOSTILE, "consent": True}
        ).status_code
        == 200
    )
    for name in ("rate", "controls", *(f"protocols/{p}" for p in protocol_names())):
        reply = client.get(f"/study-static/{name}.js")
        assert reply.headers["content-type"].startswith("text/javascript")
        for unsafe in ("innerHTML", "insertAdjacentHTML", "document.write"):
            assert unsafe not in reply.text


@pytest.mark.slow
def test_requests_of_one_kind_have_one_length(served):
    """A reply's length must not tell what was shown: all tasks of a number of digits are alike."""
    _, client, path = served
    step, lengths = client.get(f"{path}/api/state").json()["step"], []
    for i in range(8):
        reply = client.post(
            f"{path}/api/answer", json=body(step["task"], str(i), response={"real": i % 2 == 0})
        )
        lengths.append(len(reply.content))
        step = reply.json()["step"]
    assert len(set(lengths)) == 1


@pytest.mark.slow
def test_share_is_shown_only_if_it_is_to_be_known(tmp_path):
    store, _ = make_study(tmp_path, share_known=True)
    client = TestClient(study_app(tmp_path))
    assert client.get(f"{store.invite('phantoms', [''])[0].path}/api/state").json()["share"] == 33
    make_study(tmp_path, id="silent")
    assert client.get(f"{store.invite('silent', [''])[0].path}/api/state").json()["share"] is None
