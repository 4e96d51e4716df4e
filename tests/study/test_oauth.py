"""Log-in of named users by a stand-in of Hugging Face: forged answers, strangers, refusals and breakdowns let nobody in."""

from __future__ import annotations

import logging
import re
import time

import itsdangerous.timed
import pytest
from fastapi.testclient import TestClient

from siamese.study.web import attempts
from siamese.study.web.app import study_app
from siamese.web.settings import SetupError
from tests.clock import set_clock
from tests.study.admin_pages import PASSWORD, admin_routes
from tests.study.phantom_study import make_study
from tests.study.provider import CLIENT, SECRET, serve_provider

HOST = "clinic-studio.example"
START, CALLBACK, HOME = (
    "/study/admin/login/huggingface",
    "/study/admin/login/huggingface/callback",
    "/study/admin",
)
SESSION, STATE = "siamese_study_admin", "siamese_study_oauth"


@pytest.fixture
def provider(monkeypatch):
    monkeypatch.delenv("SIAMESE_ADMIN_PASSWORD", raising=False)
    with serve_provider() as provider:
        for name, value in (
            ("SIAMESE_ADMIN_USERS", "dr-lee, Dr.Roe"),
            ("OAUTH_CLIENT_ID", CLIENT),
            ("OAUTH_CLIENT_SECRET", SECRET),
            ("OPENID_PROVIDER_URL", provider.address),
            ("SPACE_HOST", HOST),
        ):
            monkeypatch.setenv(name, value)
        yield provider


@pytest.fixture
def app(tmp_path, provider):
    store, _ = make_study(tmp_path)
    store.database.close()
    return study_app(tmp_path)


@pytest.fixture
def browser(app):
    return open_browser(app)


def open_browser(app) -> TestClient:
    return TestClient(app, base_url=f"https://{HOST}", follow_redirects=False)


def come_back(browser: TestClient, provider) -> str:
    """Begin a log-in and agree there: the address that the provider sends the browser to."""
    return provider.visit(browser.get(START).headers["location"])


def inside(browser: TestClient) -> bool:
    return browser.get(HOME).status_code == 200


@pytest.mark.slow
def test_a_named_user_gets_in(browser, provider, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    page = browser.get(f"{HOME}/login").text
    assert START in page
    assert 'name="password"' not in page
    assert not inside(browser)
    back = come_back(browser, provider)
    assert back.startswith(f"https://{HOST}{CALLBACK}?")
    reply = browser.get(back)
    assert reply.status_code == 200
    assert 'http-equiv="refresh" content="0; url=/study/admin"' in reply.text
    session = next(c for c in reply.headers.get_list("set-cookie") if c.startswith(f"{SESSION}=")).lower()
    assert all(x in session for x in ("httponly", "samesite=strict", "secure", "path=/study"))
    assert STATE not in browser.cookies
    assert inside(browser)
    csrf = re.search(r'name="csrf" value="(\w+)"', browser.get(HOME).text)[1]
    assert browser.post(f"{HOME}/studies/phantoms/close", data={"csrf": csrf}).status_code == 303
    code = re.search(r"code=(\w+)", back)[1]
    # What goes to the Space's own address is logged by the test's browser.
    said = "".join(
        [*capsys.readouterr(), *(r.getMessage() for r in caplog.records if HOST not in r.getMessage())]
    )
    assert "/oauth/token" in said
    assert not any(secret in said for secret in (SECRET, code, *provider.tokens))


def test_the_state_cookie_is_short_and_not_a_session(browser, provider):
    cookie = browser.get(START).headers["set-cookie"].lower()
    assert all(
        x in cookie for x in ("httponly", "samesite=lax", "secure", "path=/study/admin/login", "max-age=600")
    )
    assert (
        open_browser(browser.app)
        .get(HOME, headers={"Cookie": f"{SESSION}={browser.cookies[STATE]}"})
        .status_code
        == 401
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "spoil", ["no cookie", "other browser", "other state", "no state", "forged cookie", "late", "twice"]
)
def test_forged_states_are_refused(app, browser, provider, monkeypatch, spoil):
    back, victim = come_back(browser, provider), browser
    if spoil in ("no cookie", "other browser"):  # somebody else's answer, slipped to a victim
        victim = open_browser(app)
        if spoil == "other browser":
            come_back(victim, provider)
    elif spoil == "other state":
        back = re.sub(r"state=[^&]+", "state=x", back)
    elif spoil == "no state":
        back = re.sub(r"&state=[^&]+", "", back)
    elif spoil == "forged cookie":
        browser.cookies.clear()
        browser.cookies.set(STATE, "x.y.z", domain=HOST, path="/study/admin/login")
    elif spoil == "late":
        now, victim = time.time, open_browser(app)
        victim.headers["Cookie"] = (
            f"{STATE}={browser.cookies[STATE]}"  # which the browser itself would have thrown away
        )
        set_clock(monkeypatch, itsdangerous.timed, time=lambda: now() + 601)
    else:
        assert victim.get(back).status_code == 200
        victim.cookies.delete(SESSION)
    asked = len(provider.asked)
    reply = victim.get(back)
    assert reply.status_code == 403
    assert "log in again" in reply.text
    assert not inside(victim)
    assert len(provider.asked) == asked  # its code is not even looked at


@pytest.mark.slow
@pytest.mark.parametrize("user", ["stranger", "DR-LEE", "dr-lee ", "Dr.Roe2", "dr-lee, Dr.Roe", "<b>"])
def test_strangers_are_refused(browser, provider, user):
    provider.user = user
    reply = browser.get(come_back(browser, provider))
    assert reply.status_code == 403
    assert "is not an administrator here" in reply.text
    assert "<b>" not in reply.text
    assert not inside(browser)


@pytest.mark.slow
def test_every_named_user_gets_in(browser, provider):
    provider.user = "Dr.Roe"
    assert browser.get(come_back(browser, provider)).status_code == 200
    assert inside(browser)


def test_a_refusal_is_reported(browser, provider):
    provider.denies = True
    reply = browser.get(come_back(browser, provider))
    assert reply.status_code == 401
    assert "(access_denied)" in reply.text
    assert not inside(browser)
    reply = browser.get(come_back(browser, provider).replace("access_denied", "%3Cscript%3E"))
    assert reply.status_code == 401
    assert "no reason given" in reply.text
    assert "%3Cscript" not in reply.text
    assert reply.text.count("script>") == 1  # the end of the page's own


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "answer", "message"),
    [
        ("/oauth/token", (500, {}), "HTTP 500"),
        ("/oauth/token", (200, b"<html>"), "JSONDecodeError"),
        ("/oauth/token", (200, {}), "lacks access_token"),
        ("/oauth/token", (200, [1]), "not answer as expected"),
        ("/oauth/userinfo", (403, {}), "HTTP 403"),
        ("/oauth/userinfo", (200, {"preferred_username": None}), "lacks preferred_username"),
        ("/oauth/userinfo", (302, {"preferred_username": "dr-lee"}), "HTTP 302"),
    ],
)
def test_a_broken_provider_lets_nobody_in(browser, provider, path, answer, message):
    provider.broken[path] = answer
    reply = browser.get(come_back(browser, provider))
    assert reply.status_code == 502
    assert message in reply.text
    assert not inside(browser)
    provider.broken.clear()
    assert browser.get(come_back(browser, provider)).status_code == 200
    assert inside(browser)


def test_an_unreachable_provider_is_reported(tmp_path, provider, monkeypatch):
    monkeypatch.setenv("OPENID_PROVIDER_URL", "http://127.0.0.1:9")
    reply = open_browser(study_app(tmp_path)).get(START)
    assert reply.status_code == 502
    assert "ConnectError" in reply.text
    assert "location" not in reply.headers


def test_no_open_redirect(browser, provider):
    for more in ("?next=https://evil.example", "?redirect_uri=https://evil.example"):
        address = browser.get(START + more, headers={"Host": "evil.example"}).headers["location"]
        assert address.startswith(provider.address)
        assert "evil" not in address
    reply = browser.get(
        come_back(browser, provider) + "&next=https://evil.example&redirect_uri=https://evil.example"
    )
    assert reply.status_code == 200
    assert "evil" not in reply.text


@pytest.mark.slow
def test_failures_are_limited(app, browser, provider, monkeypatch):
    clock = [0.0]
    set_clock(monkeypatch, attempts, monotonic=lambda: clock[0])
    provider.user = "stranger"
    assert [browser.get(come_back(browser, provider)).status_code for _ in range(4)] == [403] * 3 + [429]
    provider.user, asked = "dr-lee", len(provider.asked)
    assert browser.get(come_back(browser, provider)).status_code == 429
    assert len(provider.asked) == asked
    clock[0] += 1.1
    assert browser.get(come_back(browser, provider)).status_code == 200


@pytest.mark.slow
def test_nothing_else_works_without_log_in(app, provider):
    checked = 0
    for method, path in admin_routes(app):
        if "/login" in path:
            continue
        address = path.replace("{study}", "phantoms").replace("{rater}", "x").replace("{action}", "revoke")
        for cookies in ("", f"{SESSION}=forged.cookie.x"):
            reply = open_browser(app).request(method, address, headers={"Cookie": cookies} if cookies else {})
            assert reply.status_code == 401, (method, address)
            assert "Phantoms" not in reply.text, (method, address)
            checked += 1
    assert checked >= 24


def test_no_password_is_made_and_none_works(tmp_path, provider, capsys):
    browser = open_browser(study_app(tmp_path))
    assert "Password" not in capsys.readouterr().out
    assert not (tmp_path / "admin-password").exists()
    for password in ("", "None", "x"):
        assert browser.post(f"{HOME}/login", data={"password": password}).status_code in (401, 422)
    assert not inside(browser)


@pytest.mark.slow
def test_a_password_by_variable_works_beside_it(tmp_path, provider, monkeypatch):
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    browser = open_browser(study_app(tmp_path))
    page = browser.get(f"{HOME}/login").text
    assert START in page
    assert 'name="password"' in page
    assert browser.post(f"{HOME}/login", data={"password": PASSWORD}).status_code == 303
    assert inside(browser)


@pytest.mark.slow
def test_another_list_of_users_ends_sessions(tmp_path, provider, monkeypatch):
    browser = open_browser(study_app(tmp_path))
    browser.get(come_back(browser, provider))
    assert inside(browser)
    session = {"Cookie": f"{SESSION}={browser.cookies[SESSION]}"}
    assert (
        open_browser(study_app(tmp_path)).get(HOME, headers=session).status_code == 200
    )  # a restart does not
    monkeypatch.setenv("SIAMESE_ADMIN_USERS", "Dr.Roe")
    assert open_browser(study_app(tmp_path)).get(HOME, headers=session).status_code == 401


@pytest.mark.parametrize(
    "missing", ["OAUTH_CLIENT_ID", "OAUTH_CLIENT_SECRET", "OPENID_PROVIDER_URL", "SPACE_HOST"]
)
def test_missing_variables_are_named(tmp_path, provider, monkeypatch, missing):
    monkeypatch.delenv(missing)
    with pytest.raises(SetupError, match=f"not {missing}; .*hf_oauth: true"):
        study_app(tmp_path)


def test_a_list_of_nobody_is_refused(tmp_path, provider, monkeypatch):
    monkeypatch.setenv("SIAMESE_ADMIN_USERS", " , ")
    with pytest.raises(SetupError, match="names nobody"):
        study_app(tmp_path)


@pytest.mark.slow
def test_without_users_there_is_only_the_password(tmp_path, provider, monkeypatch):
    monkeypatch.delenv("SIAMESE_ADMIN_USERS")
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    browser = open_browser(study_app(tmp_path))
    assert START not in browser.get(f"{HOME}/login").text
    for path in (START, f"{CALLBACK}?code=x&state=y"):
        reply = browser.get(path)
        assert reply.status_code == 401
        assert "not set up here" in reply.text
    assert provider.asked == []
    assert not inside(browser)
