"""The administrator's pages: nothing without log-in, nothing by forged forms, hostile text escaped."""

from __future__ import annotations

import io
import os
import re
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from siamese.study.web import attempts, auth
from siamese.study.web.app import study_app
from siamese.study.web.attempts import TooManyAttemptsError
from siamese.study.web.auth import Administrator, hash_password, matches
from siamese.study.web.ended_sessions import EndedSessions
from tests.clock import set_clock
from tests.study.admin_pages import PASSWORD, admin_routes, log_in, zipped
from tests.study.phantom_study import write_folders

HOSTILE = "<script>alert('x')</script>\""


@pytest.mark.slow
def test_nothing_works_without_log_in(served):
    store, app, client = served
    rater = store.invite("phantoms", ["A"])[0].rater
    checked = 0
    for method, path in admin_routes(app):
        if path.endswith("/login"):
            continue
        address = path.replace("{study}", "phantoms").replace("{rater}", rater)
        for action in ("revoke", "exclude", "withdraw") if "{action}" in path else ("",):
            for cookie in ({}, {"siamese_study_admin": "forged.cookie.x"}):
                headers = {"Cookie": "; ".join(f"{k}={v}" for k, v in cookie.items())} if cookie else {}
                values = (
                    {"study": "phantoms", "sure": "yes", "reason": "x", "labels": "B"}
                    if method == "POST"
                    else None
                )
                reply = client.request(
                    method, address.replace("{action}", action), data=values, headers=headers
                )
                assert reply.status_code == 401, (method, address)
                assert "Phantoms" not in reply.text
                checked += 1
    assert checked >= 24
    assert [p.revoked_at for p in store.progress("phantoms")] == [None]
    assert store.study("phantoms").state == "open"


@pytest.mark.slow
def test_forged_forms_are_refused(served):
    store, _app, client = served
    log_in(client)
    for token in ("", "0" * 64, "é"):
        assert client.post("/study/admin/studies/phantoms/close", data={"csrf": token}).status_code == 403
    assert store.study("phantoms").state == "open"


@pytest.mark.slow
def test_invite_progress_revoke_exclude_withdraw(served):
    store, _app, client = served
    csrf = log_in(client)
    page = client.post(
        "/study/admin/studies/phantoms/invite", data={"csrf": csrf, "labels": f"Dr A\n{HOSTILE}\n"}
    ).text
    links = re.findall(r"http://testserver(/rate/[\w-]+)", page)
    assert len(links) == 2
    assert HOSTILE not in page
    assert "&lt;script&gt;" in page
    assert (
        client.post(
            f"{links[0]}/api/register", json={"pseudonym": HOSTILE, "role": HOSTILE, "consent": True}
        ).status_code
        == 200
    )
    page = client.get("/study/admin/studies/phantoms").text
    assert "0 of 12" in page
    assert HOSTILE not in page
    assert links[0] not in page
    first, second = (p.rater for p in store.progress("phantoms"))

    def act(rater: str, action: str, **values) -> int:
        return client.post(
            f"/study/admin/raters/{rater}/{action}", data={"csrf": csrf, "study": "phantoms"} | values
        ).status_code

    assert act(second, "revoke") == 303
    assert client.get(f"{links[1]}/api/state").status_code == 403
    assert act(first, "exclude", reason=HOSTILE) == 303
    assert HOSTILE not in client.get("/study/admin/studies/phantoms").text
    assert act(first, "exclude", reason=" ") == 422
    assert act(first, "include") == 303
    assert act(first, "none") == 422
    assert act(first, "withdraw") == 422
    assert act(first, "withdraw", sure="yes") == 303
    assert client.get(f"{links[0]}/api/state").status_code == 410
    assert "data was deleted" in client.get("/study/admin/studies/phantoms").text
    assert act(first, "revoke") == 404


@pytest.mark.slow
def test_exports_results_and_logout(served):
    _store, _app, client = served
    csrf = log_in(client)
    reply = client.get("/study/admin/studies/phantoms/answers.csv")
    assert reply.status_code == 200
    assert 'filename="phantoms.csv"' in reply.headers["content-disposition"]
    assert client.get("/study/admin/studies/phantoms/answers.json").json()["config"]["id"] == "phantoms"
    assert client.get("/study/admin/studies/phantoms/results").status_code == 200
    assert client.get("/study/admin/studies/none").status_code == 404
    assert client.post("/study/admin/logout", data={"csrf": csrf}).status_code == 303
    assert client.get("/study/admin").status_code == 401


@pytest.mark.slow
def test_cookie_is_http_only_and_strict(served):
    client = served[2]
    cookie = client.post("/study/admin/login", data={"password": PASSWORD}).headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert "path=/study" in cookie


@pytest.mark.slow
def test_create_from_zip_and_folder(served, tmp_path):
    store, _app, client = served
    csrf = log_in(client)
    write_folders(tmp_path / "new", 3)
    values = {
        "csrf": csrf,
        "title": HOSTILE,
        "protocol": "ranking",
        "organ": "polyp",
        "real": "real",
        "groups": "0",
    }
    reply = client.post(
        "/study/admin/create",
        data=values | {"id": "zipped"},
        files={"archive": ("x.zip", zipped(tmp_path / "new", "top/"), "application/zip")},
    )
    assert reply.status_code == 303
    assert store.study("zipped").config.groups == 3
    assert store.study("zipped").state == "draft"
    assert (
        client.post(
            "/study/admin/create", data=values | {"id": "folder", "folder": str(tmp_path / "new")}
        ).status_code
        == 303
    )
    assert HOSTILE not in client.get("/study/admin").text
    assert HOSTILE not in client.get("/study/admin/studies/zipped").text
    assert client.post("/study/admin/studies/zipped/open", data={"csrf": csrf}).status_code == 303
    assert store.study("zipped").state == "open"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no zip", "cannot be read"), (None, "one folder a method"), ("traversal", "one folder a method")],
)
def test_bad_archives_are_refused(served, content, message):
    store, _app, client = served
    csrf, buffer = log_in(client), io.BytesIO(content if isinstance(content, bytes) else b"")
    if not isinstance(content, bytes):
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("../../../etc/a.png" if content else "a.png", b"x")
        buffer.seek(0)
    values = {"csrf": csrf, "id": "bad", "title": "x", "protocol": "ranking", "organ": "x", "groups": "1"}
    reply = client.post(
        "/study/admin/create", data=values, files={"archive": ("x.zip", buffer, "application/zip")}
    )
    assert reply.status_code == 422
    assert message in reply.text
    assert len(store.studies()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("again", [False, True])
def test_logging_out_ends_the_session_everywhere(served, tmp_path, again):
    """On this server, on another one on the same folder, and after a restart; no other session ends."""
    store, app, client = served
    other = TestClient(
        study_app(tmp_path), follow_redirects=False
    )  # another process would have its own objects, too
    csrf, cookie = log_in(client), {"Cookie": f"siamese_study_admin={client.cookies['siamese_study_admin']}"}
    log_in(other)
    assert other.get("/study/admin", headers=cookie).status_code == 200
    assert client.post("/study/admin/logout", data={"csrf": csrf}).status_code == 303
    fresh = [TestClient(a, follow_redirects=False) for a in (app, other.app, study_app(tmp_path))]
    for each in fresh:
        reply = each.get("/study/admin", headers=cookie)
        assert reply.status_code == 401
        assert "You have logged out" in reply.text
        assert (
            each.post("/study/admin/studies/phantoms/close", data={"csrf": csrf}, headers=cookie).status_code
            == 401
        )
    assert other.get("/study/admin").status_code == 200
    assert store.study("phantoms").state == "open"
    if again:  # a new log-in is another session
        log_in(client)
        assert client.get("/study/admin").status_code == 200


def test_ended_sessions_are_forgotten_once_they_would_be_over(tmp_path, monkeypatch):
    ended = EndedSessions(tmp_path, 100)
    ended.add("a")
    assert "a" in ended
    assert "b" not in ended
    assert (tmp_path / "ended-sessions").stat().st_mode & 0o777 == 0o700
    os.utime(tmp_path / "ended-sessions" / "a", (time.time() - 101,) * 2)
    ended.add("b")
    assert "b" in ended
    assert "a" not in ended
    assert len(list((tmp_path / "ended-sessions").iterdir())) == 1


@pytest.mark.slow
def test_a_log_out_that_cannot_be_noted_is_reported(served, monkeypatch):
    client = served[2]
    csrf = log_in(client)

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "touch", full)
    reply = client.post("/study/admin/logout", data={"csrf": csrf})
    assert reply.status_code == 507
    assert "you are still logged in" in reply.text
    assert client.get("/study/admin").status_code == 200


@pytest.fixture
def guessed(tmp_path, monkeypatch):
    """Administrator, a clock that stands still, and a function that guesses wrongly."""
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    monkeypatch.setattr(
        auth, "matches", lambda password, stored: password == PASSWORD
    )  # no hash: its time is not the subject
    clock = [0.0]
    set_clock(monkeypatch, attempts, monotonic=lambda: clock[0])
    administrator = Administrator(tmp_path)

    def guess(address: str) -> None:
        with pytest.raises(auth.NotLoggedInError):
            administrator.log_in("wrong", address)

    return administrator, clock, guess


def test_wrong_passwords_slow_their_own_address(guessed):
    administrator, clock, guess = guessed
    for _ in range(3):
        guess("1.2.3.4")
    waits = []
    for _ in range(14):
        with pytest.raises(TooManyAttemptsError) as refused:
            administrator.log_in(PASSWORD, "1.2.3.4")
        waits.append(refused.value.seconds)
        clock[0] += waits[-1] - 0.25
        with pytest.raises(TooManyAttemptsError):
            administrator.log_in(PASSWORD, "1.2.3.4")
        clock[0] += 0.5
        guess("1.2.3.4")
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900, 900, 900]
    assert administrator.log_in(PASSWORD, "5.6.7.8")
    clock[0] += 901
    assert administrator.log_in(PASSWORD, "1.2.3.4")
    guess("1.2.3.4")  # all is forgiven
    assert administrator.log_in(PASSWORD, "1.2.3.4")


@pytest.mark.slow
def test_nobody_locks_the_administrator_out(guessed):
    """Of thousands of guesses from everywhere none delays another address; what is kept of them is bounded."""
    administrator, _, guess = guessed
    for i in range(3 * attempts.MAX_ADDRESSES // 2):
        guess(f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}")
    assert administrator.log_in(PASSWORD, "192.0.2.1")
    assert len(administrator._attempts._failed) in (attempts.MAX_ADDRESSES - 1, attempts.MAX_ADDRESSES)


def test_what_counts_as_one_address(guessed):
    administrator, _, guess = guessed
    for address in ("2001:db8:1:2::1", "2001:db8:1:2:ffff::2", "2001:db8:1:2:3:4:5:6"):
        guess(address)
    with pytest.raises(TooManyAttemptsError, match="1 second"):
        administrator.log_in(PASSWORD, "2001:db8:1:2::7")
    assert administrator.log_in(PASSWORD, "2001:db8:1:3::7")
    for address in ("::ffff:192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"):
        guess(address)
    with pytest.raises(TooManyAttemptsError):
        administrator.log_in(PASSWORD, "192.0.2.1")
    assert administrator.log_in(PASSWORD, "192.0.2.2")
    assert administrator.log_in(PASSWORD, "::ffff:192.0.2.3")


def test_many_guesses_at_once_are_no_way_round(guessed):
    administrator, _, _ = guessed
    looked = []

    def guess(_: int) -> None:
        try:
            administrator.log_in("wrong", "1.2.3.4")
        except auth.NotLoggedInError:
            looked.append(1)
        except TooManyAttemptsError:
            return

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(guess, range(40)))
    assert len(looked) == 3


def test_few_passwords_are_hashed_at_once_and_the_right_one_waits_its_turn(guessed, monkeypatch):
    administrator, _, _ = guessed
    now, most, lock, gate = [0], [0], threading.Lock(), threading.Event()

    def slow(password: str, stored: str) -> bool:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        gate.wait(5)
        with lock:
            now[0] -= 1
        return password == PASSWORD

    monkeypatch.setattr(auth, "matches", slow)
    with ThreadPoolExecutor(64) as pool:
        guesses = [pool.submit(administrator.log_in, "wrong", f"10.0.0.{i}") for i in range(10)]
        right = pool.submit(administrator.log_in, PASSWORD, "192.0.2.1")
        flood = [pool.submit(administrator.log_in, "wrong", f"10.0.1.{i}") for i in range(40)]
        raised = [f.exception(5) for f in flood[-10:]]  # while none is done yet
        gate.set()
        assert right.result(5)
        assert all(isinstance(g.exception(5), auth.NotLoggedInError) for g in guesses)
    assert most[0] == 2
    assert all(isinstance(t, TooManyAttemptsError) and "try again in a second" in str(t) for t in raised)
    assert "10.0.1.39" in administrator._attempts._failed
    assert administrator._attempts._failed["10.0.1.39"].count == 0


@pytest.mark.slow
def test_a_delay_is_reported_with_its_length(served):
    client = served[2]
    for _ in range(3):
        assert client.post("/study/admin/login", data={"password": "wrong"}).status_code == 401
    reply = client.post("/study/admin/login", data={"password": "wrong"})
    assert reply.status_code == 429
    assert "wait 1 second" in reply.text
    assert reply.headers["retry-after"] == "1"


@pytest.mark.slow
def test_password_is_made_once_and_only_its_hash_kept(tmp_path, monkeypatch):
    monkeypatch.delenv("SIAMESE_ADMIN_PASSWORD", raising=False)
    said = []
    first = Administrator(tmp_path, said.append)
    password = said[0].split(": ")[1].split("\n")[0]
    session = first.session(first.log_in(password, ""))
    again = Administrator(tmp_path, said.append)
    assert len(said) == 1
    assert again.session(first.log_in(password, ""))
    assert again.csrf(session) == first.csrf(session)
    for file in ("admin-password", "cookie-key"):
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
        assert password not in (tmp_path / file).read_text()
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "other")
    with pytest.raises(auth.NotLoggedInError):  # another password ends the sessions
        Administrator(tmp_path).session(first.log_in(password, ""))
    assert matches("a", hash_password("a"))
    assert not matches("b", hash_password("a"))
    assert hash_password("a") != hash_password("a")
