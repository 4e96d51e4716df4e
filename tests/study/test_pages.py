"""What all pages of the studies share: the head, the way back, the look; the log-in and the page for an invitation."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from siamese.studio.theme import FAVICON, theme
from siamese.study.storage.opening import OpenedStudies
from siamese.study.web.app import add_study_routes
from siamese.study.web.pages import STYLE_SHEETS
from siamese.study.web.rating_files import STATIC
from tests.study.admin_pages import PASSWORD, log_in
from tests.study.phantom_study import make_study

FILES = resources.files("siamese.study.web") / "static"
BACK = '<a class="back" href="/">Back to the studio</a>'


@pytest.fixture
def in_studio(tmp_path, monkeypatch):
    """Store, and a client of the studies as the studio mounts them."""
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", PASSWORD)
    store, _ = make_study(tmp_path)
    app = FastAPI()
    add_study_routes(app, OpenedStudies(tmp_path, store), home="/")
    with TestClient(app, follow_redirects=False) as client:
        yield store, client
    store.database.close()


def crumbs(page: str) -> list[str]:
    """Names in the head's trail, from the outermost page on."""
    trail = re.search(r'<nav aria-label="You are here">(.*?)</nav>', page, re.DOTALL)
    return re.findall(r"<li[^>]*>(?:<a [^>]*>)?([^<]+)", trail[1])


def test_each_page_has_the_head_and_the_way_back(in_studio):
    store, client = in_studio
    link = store.invite("phantoms", ["A"])[0].path
    study = "/study/admin/studies/phantoms"
    places = {
        "/study/admin/login": ["Studio", "Rating studies", "Log in"],
        "/study/admin": ["Studio", "Rating studies", "Log in"],
        "/rate": ["Studio", "Rate a study"],
        link: ["Studio", "Rate"],
    }
    inside = {
        "/study/admin": ["Studio", "Rating studies"],
        study: ["Studio", "Rating studies", "Phantoms"],
        f"{study}/results": ["Studio", "Rating studies", "Phantoms", "Results"],
        "/study/admin/plan?half_width=0.1": ["Studio", "Rating studies", "Size of a study"],
        "/study/admin/studies/none": ["Studio", "Rating studies", "Request refused"],
    }
    for wanted in (places, inside):
        for address, names in wanted.items():
            page = client.get(address).text
            assert crumbs(page) == names, address
            assert BACK in page, address
            assert page.index('class="skip" href="#main"') < page.index("<header")
            assert '<main id="main" tabindex="-1">' in page
            assert page.count("<h1") == 1
            assert 'href="/study-static/look.css"' in page
        log_in(client)


def test_a_server_of_the_studies_alone_has_no_way_back(served):
    store, _app, client = served
    link = store.invite("phantoms", ["A"])[0].path
    for address in ("/study/admin", "/rate", link):
        page = client.get(address).text
        assert "Siamese-Diffusion Studio" in page
        assert "Back to the studio" not in page
        assert 'href="/"' not in page
        assert "Studio" not in crumbs(page)


def test_the_look_is_the_studio_s():
    look = (FILES / "look.css").read_text(encoding="utf-8")
    light, dark = look.split("@media (prefers-color-scheme: dark)")[:2]
    studio = theme()
    assert f"--ground: {studio.body_background_fill};" in light
    assert f"--ground: {studio.body_background_fill_dark};" in dark
    assert f"--fill: {studio.button_primary_background_fill};" in light
    assert f"--fill-hover: {studio.button_primary_background_fill_hover};" in light
    assert (FILES / "icon.svg").read_bytes() == FAVICON.read_bytes()


def test_every_colour_that_a_page_uses_is_in_the_look():
    known = set(re.findall(r"(--[\w-]+):", (FILES / "look.css").read_text(encoding="utf-8")))
    own = {"--side", "--shape"}  # set by the raters' script
    for name in {*STYLE_SHEETS, "rate.css"}:
        used = set(re.findall(r"var\((--[\w-]+)\)", (FILES / name).read_text(encoding="utf-8")))
        assert used <= known | own, name


def test_every_file_of_the_pages_is_served(in_studio):
    _, client = in_studio
    for name, kind in STATIC.items():
        reply = client.get(f"/study-static/{name}")
        assert reply.status_code == 200
        assert reply.headers["content-type"].startswith(kind)


def test_somebody_who_comes_by_is_told_what_this_is(served):
    client = served[2]
    reply = client.get("/study/admin")
    assert reply.status_code == 401
    assert "This is where the people who run rating studies" in reply.text
    assert 'href="/rate">enter your invitation' in reply.text
    assert "was printed in the terminal" in reply.text
    assert 'role="alert"' not in reply.text
    assert 'role="status"' not in reply.text
    client.cookies.set("siamese_study_admin", "old.cookie.x", path="/study")
    page = client.get("/study/admin").text
    assert '<p class="note" role="status">Your session has ended; log in again.</p>' in page
    assert 'role="alert"' not in page
    wrong = client.post("/study/admin/login", data={"password": "wrong"})
    assert wrong.status_code == 401
    assert '<p class="message" role="alert">The password is wrong.</p>' in wrong.text
    assert 'value="wrong"' not in wrong.text


@pytest.mark.parametrize(
    "typed", ["{token}", " {token}\n", "http://clinic.example/rate/{token}", "clinic.example/rate/{token}/#x"]
)
def test_an_invitation_leads_to_the_rater_s_page(served, typed):
    store, _app, client = served
    token = store.invite("phantoms", ["A"])[0].token
    reply = client.post("/rate", data={"invitation": typed.format(token=token)})
    assert reply.status_code == 303
    assert reply.headers["location"] == f"/rate/{token}"


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("", 404, "This is not an invitation. It is a link with /rate/ and 32 letters"),
        ("Dr <b> A", 404, "This is not an invitation"),
        ("//evil.example/x", 404, "This is not an invitation"),
        ("a" * 32, 404, "This link is not known"),
        ("https://clinic.example/rate/" + "b" * 32, 404, "This link is not known"),
        ("x" * 200_000, 413, "too large"),
    ],
)
def test_an_invitation_that_does_not_work_stays_in_the_form(served, typed, status, said):
    reply = served[2].post("/rate", data={"invitation": typed})
    assert reply.status_code == status
    assert said in reply.text
    if status == 404:
        assert f'value="{typed.replace("<", "&lt;").replace(">", "&gt;")}"' in reply.text
        assert 'role="alert"' in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_an_invitation_of_a_closed_study_or_withdrawn_rater_says_so(served):
    store, _app, client = served
    first, second = store.invite("phantoms", ["A", "B"])
    store.withdraw(first.rater)
    assert "Your data was deleted" in client.post("/rate", data={"invitation": first.token}).text
    store.close("phantoms")
    reply = client.post("/rate", data={"invitation": second.token})
    assert reply.status_code == 403
    assert "The study is closed" in reply.text
