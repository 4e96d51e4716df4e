"""A rater in headless Chromium: link, consent, practice, rating, correction, resume, end; on the studio's own server."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import uvicorn
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page, expect

from siamese.study.answers.export import read_answers
from siamese.study.answers.record import AnswerRecord
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from tests.browser.conftest import PATIENCE, PHONE, Serving
from tests.study.phantom_study import make_study
from tests.study.protocols import PAIRWISE, RANKING
from tests.study.rated_study import rated_study

WINDOWS = {
    "desktop": {"width": 1440, "height": 900},
    "dark": {"width": 1440, "height": 900, "dark": True},
    "phone": PHONE,
    "dark phone": PHONE | {"dark": True},
}
Open = Callable[..., Page]
Invite = Callable[..., tuple[StudyStore, str, str]]


@pytest.fixture
def invite(studio: Serving, tmp_path, request) -> Iterator[Invite]:
    """Makes a study and a link: store, study id, address."""
    folder = studio.data / "studies"
    stores = []

    def make(**changes) -> tuple[StudyStore, str, str]:
        name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:48]
        store, _study = make_study(
            tmp_path, f"sqlite:///{folder / 'studies.sqlite3'}", id=name, display_side=256, **changes
        )
        stores.append(store)
        return store, name, studio.address + store.invite(name, ["Dr A"])[0].path

    yield make
    for store in stores:
        store.database.close()


@pytest.fixture
def rater(browser: Browser) -> Iterator[Open]:
    """Opens a link in a browser of its own; fails the test if the page throws, breaks its own policy or asks another host for anything."""
    contexts, wrong = [], []

    def open_link(
        address: str,
        width: int = 1440,
        height: int = 900,
        ratio: float = 1,
        touch: bool = False,
        dark: bool = False,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=ratio,
            has_touch=touch,
            is_mobile=touch,
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        origin = re.match(r"https?://[^/]+", address)[0]
        page.on(
            "request",
            lambda r: None if r.url.startswith((origin, "data:", "blob:", "file:")) else wrong.append(r.url),
        )
        page.on("pageerror", lambda e: wrong.append(str(e)))
        # A refused or interrupted request is a line in the console, too; the tests provoke some.
        page.on(
            "console",
            lambda m: (
                wrong.append(m.text)
                if m.type == "error" and "Failed to load resource" not in m.text
                else None
            ),
        )
        page.goto(address)
        return page

    yield open_link
    for context in contexts:
        context.close()
    assert not wrong


def consent(page: Page) -> None:
    """Fill in who rates and begin."""
    page.get_by_label("Pseudonym").fill("owl")
    page.get_by_label("Role").fill("Endoscopist")
    page.get_by_label("I have read this and consent.").check()
    page.get_by_role("button", name="Begin").click()
    at(page, "1 of")


def at(page: Page, progress: str) -> None:
    """Wait until the screen of that number is ready to be judged."""
    expect(page.locator("#progress")).to_contain_text(progress, timeout=PATIENCE)
    expect(page.locator("#stage img").first).to_be_visible()


def press(page: Page, *keys: str) -> None:
    """Type one key after the other."""
    for key in keys:
        page.keyboard.press(key)


def accessible(page: Page) -> None:
    """No violation of WCAG 2.1 A and AA that axe-core finds."""
    report = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa"]}).response
    assert [(v["id"], [n["html"] for n in v["nodes"]][:4]) for v in report["violations"]] == []


def no_overflow(page: Page) -> None:
    """The page is no wider than the window."""
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def given(store: StudyStore, study: str) -> list[AnswerRecord]:
    """Answers as stored."""
    return list(read_answers(store, study).answers)


@pytest.mark.parametrize("window", WINDOWS)
def test_whole_session_by_keyboard(invite, rater, window):
    store, study, link = invite(groups=2, training=1, repeats=1)
    page = rater(link, **WINDOWS[window])
    expect(page.get_by_role("heading", name="Consent")).to_be_visible()
    accessible(page)
    no_overflow(page)
    page.get_by_role("button", name="Begin").click()
    expect(page.locator("#rating")).to_be_hidden()  # not without a name and consent
    consent(page)

    expect(page.locator("#progress")).to_have_text("Practice 1 of 1")
    press(page, "r", "7", "Enter")
    expect(page.locator("#feedback")).to_have_text(
        re.compile(r"^(Right|Not right)\. The image is (real|synthetic)\. The practice is over")
    )
    accessible(page)
    press(page, "Enter")

    at(page, "1 of 7")
    expect(page.get_by_role("button", name="Correct last answer")).to_be_hidden()  # practice is done with
    expect(page.get_by_role("button", name="Confirm")).to_be_disabled()
    press(page, "Enter", "s", "Enter")  # no confidence yet: nothing happens
    expect(page.locator("#progress")).to_have_text("1 of 7")
    accessible(page)
    no_overflow(page)
    press(page, "r", "s", "3", "4", "Enter")  # the last word counts
    at(page, "2 of 7")
    press(page, "r", "0")
    page.get_by_label("Comment").fill("a comment with r, s and 5\nsecond line")
    page.keyboard.press("Escape")
    page.keyboard.press("Enter")
    at(page, "3 of 7")

    page.get_by_role("button", name="Correct last answer").click()
    at(page, "2 of 7")
    expect(page.get_by_role("heading", name="Correct your last answer")).to_be_visible()
    expect(page.get_by_role("button", name="Real", exact=False).first).to_have_attribute(
        "aria-pressed", "true"
    )
    expect(page.get_by_label("Confidence 10 of 10")).to_have_attribute("aria-pressed", "true")
    expect(page.get_by_label("Comment")).to_have_value("a comment with r, s and 5\nsecond line")
    page.get_by_role("button", name="Leave it as it was").click()
    at(page, "3 of 7")
    page.get_by_role("button", name="Correct last answer").click()
    at(page, "2 of 7")
    press(page, "s", "2", "Enter")
    at(page, "3 of 7")

    before = page.evaluate(
        "fetch(location.pathname + '/api/state').then(r => r.json()).then(s => s.step.task.id)"
    )
    page.reload()
    at(page, "3 of 7")
    assert (
        page.evaluate("fetch(location.pathname + '/api/state').then(r => r.json()).then(s => s.step.task.id)")
        == before
    )
    for number in range(3, 8):
        at(page, f"{number} of 7")
        press(page, "r", str(number), "Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    accessible(page)
    page.get_by_role("button", name="Correct last answer").click()
    at(page, "7 of 7")
    press(page, "s", "Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()

    rated = [(a.response[0], a.confidence, a.supersedes) for a in given(store, study)]
    assert rated == [
        (1, 7, None),
        (0, 4, None),
        (1, 10, None),
        (0, 2, 3),
        *((1, n, None) for n in range(3, 8)),
        (0, 7, 9),
    ]
    assert {a.comment for a in given(store, study) if a.position == 2} == {
        "a comment with r, s and 5\nsecond line"
    }
    assert all(0 < a.client_ms < 60_000 and a.client_ms <= a.server_ms + 1000 for a in given(store, study))


def test_taps_on_a_phone_and_second_browser(invite, rater):
    store, study, link = invite(groups=2)
    page = rater(link, **PHONE)
    consent(page)
    for number in (1, 2):
        at(page, f"{number} of 6")
        page.get_by_role("button", name="Synthetic").tap()
        page.get_by_label("Confidence 9 of 10").tap()
        confirm = page.get_by_role("button", name="Confirm")
        expect(confirm).to_be_in_viewport(ratio=1)
        confirm.tap()
    at(page, "3 of 6")
    other = rater(link)
    at(other, "3 of 6")
    press(other, "r", "5", "Enter")
    at(other, "4 of 6")
    page.get_by_role("button", name="Synthetic").tap()
    page.get_by_label("Confidence 1 of 10").tap()
    page.get_by_role("button", name="Confirm").tap()
    expect(page.get_by_role("alert")).to_contain_text(
        "answered already"
    )  # in the other browser: that answer stays
    at(page, "4 of 6")
    assert [(a.response[0], a.confidence) for a in given(store, study)] == [(0, 9), (0, 9), (1, 5)]


@pytest.mark.parametrize("window", WINDOWS)
def test_ranking(invite, rater, window):
    store, study, link = invite(groups=2, protocol=RANKING)
    page = rater(link, **WINDOWS[window])
    consent(page)
    assert page.locator("#stage img").count() == 3
    accessible(page)
    no_overflow(page)
    press(page, "2", "2", "3", "Enter")  # no ties, and not before all have a rank
    expect(page.locator("#progress")).to_have_text("1 of 2")
    press(page, "Backspace", "1", "3", "Enter")
    at(page, "2 of 2")
    for image, rank in (("A", 1), ("B", 1), ("C", 2), ("A", 3)):
        page.get_by_role("group", name=f"Rank of image {image}").get_by_role("button", name=str(rank)).click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert [a.response for a in given(store, study)] == [(2, 1, 3), (3, 1, 2)]


@pytest.mark.parametrize("window", ["desktop", "phone"])
def test_pairs(invite, rater, window):
    store, study, link = invite(groups=1, protocol=PAIRWISE)
    page = rater(link, **WINDOWS[window])
    consent(page)
    accessible(page)
    no_overflow(page)
    press(page, "b", "a", "8", "Enter")
    at(page, "2 of 2")
    press(page, "b", "1", "Enter")
    expect(page.get_by_role("heading", name="Thank you")).to_be_visible()
    assert [(a.response, a.confidence) for a in given(store, study)] == [((1, 0), 8), ((0, 1), 1)]


def test_answer_waits_for_the_server(invite, rater):
    store, study, link = invite(groups=2)
    page = rater(link)
    consent(page)
    page.context.set_offline(True)
    press(page, "r", "5", "Enter", "Enter")
    expect(page.get_by_role("alert")).to_contain_text("not stored yet")
    assert given(store, study) == []
    page.context.set_offline(False)
    at(page, "2 of 6")
    expect(page.get_by_role("alert")).to_be_hidden()
    assert len(given(store, study)) == 1


def test_page_waits_while_the_database_is_away(invite, rater, studio: Serving):
    store, study, link = invite(groups=2)
    page, file = rater(link), studio.data / "studies" / "studies.sqlite3"
    alert, away = page.get_by_role("alert"), studio.data / "away"
    page.get_by_label("Pseudonym").fill("owl")
    page.get_by_label("Role").fill("Endoscopist")
    page.get_by_label("I have read this and consent.").check()

    def lost(act: Callable[[], object]) -> None:
        file.rename(away)
        try:
            act()
            expect(alert).to_contain_text("The database file is gone")
            expect(alert).to_contain_text("Trying again")
            expect(
                page.get_by_role("button", name="Try again")
            ).to_be_hidden()  # nothing is left to the rater
        finally:
            away.rename(file)

    lost(page.get_by_role("button", name="Begin").click)
    at(page, "1 of 6")
    expect(alert).to_be_hidden()
    lost(lambda: press(page, "r", "5", "Enter", "Enter"))
    at(page, "2 of 6")
    expect(alert).to_be_hidden()
    lost(page.get_by_role("button", name="Correct last answer").click)
    at(page, "1 of 6")
    lost(lambda: press(page, "s", "Enter"))
    at(page, "2 of 6")
    page.route("**/image/*", lambda route: route.fulfill(status=503))
    press(page, "r", "6", "Enter")
    at(page, "3 of 6")  # that one was fetched ahead
    press(page, "s", "7", "Enter")
    expect(alert).to_contain_text("An image could not be loaded. Trying again")
    page.unroute("**/image/*")
    at(page, "4 of 6")
    expect(alert).to_be_hidden()
    lost(page.reload)
    at(page, "4 of 6")
    assert [(a.response[0], a.confidence) for a in given(store, study)] == [(1, 5), (0, 5), (1, 6), (0, 7)]


def test_zoom_help_and_withdrawal(invite, rater):
    store, study, link = invite(groups=2)
    page = rater(link)
    consent(page)
    page.get_by_role("button", name="Enlarge image").click()
    expect(page.locator("#zoom-view img")).to_be_visible()
    width = page.locator("#zoom-view img").bounding_box()["width"]
    page.get_by_role("button", name="Larger").click()
    assert page.locator("#zoom-view img").bounding_box()["width"] == pytest.approx(1.5 * width)
    accessible(page)
    press(page, "r", "Escape")  # keys belong to the dialog while it is open
    expect(page.locator("#zoom")).to_be_hidden()
    press(page, "s", "6", "Enter")
    at(page, "2 of 6")
    press(page, "z")
    expect(page.locator("#zoom")).to_be_visible()
    press(page, "Escape")
    page.get_by_role("button", name="Help").click()
    accessible(page)
    page.get_by_text("Withdraw from the study").click()
    expect(page.get_by_role("button", name="Withdraw", exact=True)).to_be_disabled()
    page.get_by_label("Delete all my data.").check()
    page.get_by_role("button", name="Withdraw", exact=True).click()
    expect(page.locator("#done-text")).to_contain_text("Your data is deleted (1 answer)")
    assert given(store, study) == []
    assert len(store.withdrawals(study)) == 1
    page.reload()
    expect(page.get_by_role("alert")).to_contain_text("was deleted")


def test_links_that_do_not_work_say_so(invite, rater):
    store, study, link = invite(groups=2)
    expect(rater(link[:-3]).get_by_role("alert")).to_contain_text("not known")
    store.close(study)
    page = rater(link, **PHONE)
    expect(page.get_by_role("alert")).to_contain_text("closed")
    accessible(page)


@pytest.fixture(scope="module")
def administered(tmp_path_factory) -> Iterator[str]:
    """Address of a server of the studies alone, with a rated study each of few and of many answers."""
    folder = tmp_path_factory.mktemp("administered")
    begun, ranked = (
        {"raters": 1, "most": 1, "id": "begun"},
        {"raters": 2, "id": "ranked", "protocol": RANKING},
    )
    for values in ({"raters": 3, "groups": 6, "training": 1, "repeats": 3}, begun, ranked):
        rated_study(folder, **values).database.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SIAMESE_ADMIN_PASSWORD", "secret")
        app = study_app(folder)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("window", WINDOWS)
def test_administrators_pages(administered, rater, tmp_path, window):
    page = rater(f"{administered}/study/admin", **WINDOWS[window])
    expect(page.get_by_role("alert")).to_have_count(0)  # nobody has done anything wrong
    accessible(page)
    page.get_by_label("Administrator's password").fill("secret")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("heading", name="New study")).to_be_visible()
    accessible(page)
    no_overflow(page)
    for study in ("phantoms", "begun", "ranked"):
        for part in ("", "/results"):
            page.goto(f"{administered}/study/admin/studies/{study}{part}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            accessible(page)
            no_overflow(page)
        expect(page.get_by_role("heading", name="Progress")).to_be_visible()
    page.goto(f"{administered}/study/admin/studies/phantoms/results")
    expect(page.locator("svg").first).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download as a report").click()
    download.value.save_as(tmp_path / "report.html")
    page.goto((tmp_path / "report.html").as_uri())
    expect(page.get_by_role("table", name="By method", exact=True)).to_be_visible()
    accessible(page)
    no_overflow(page)
