"""After every error a form holds what was typed, and messages name the format."""

from __future__ import annotations

import html
import re

import pytest

from siamese.study.web.creation_check import creation_problems
from siamese.study.web.forms import NEW_STUDY, CreationForm
from tests.study.admin_pages import log_in, zipped
from tests.study.phantom_study import write_folders

HOSTILE = "<b>'x'</b>\""
TYPED = {
    "id": "Bad Id",
    "title": f"Title {HOSTILE}",
    "protocol": "pairwise",
    "organ": "skin",
    "real": "photos, more",
    "groups": "7",
    "training": "3",
    "repeats": "2",
    "seed": "11",
    "share_known": "yes",
    "instructions": f"\nLook {HOSTILE}",
    "consent": "I agree.",
    "folder": "/nowhere",
    "masks": "outlines",
    "sample": "ours=somewhere",
}


def fields(page: str) -> dict[str, str]:
    """What the form that makes a study holds, as a browser would send it."""
    form = re.search(r'<form method="post" action="/study/admin/create".*?</form>', page, re.DOTALL)[0]
    found = {}
    for attributes in re.findall(r"<input ([^>]*)>", form):
        name = re.search(r'name="(\w+)"', attributes)[1]
        value = re.search(r'value="([^"]*)"', attributes)
        if 'type="checkbox"' not in attributes or attributes.endswith(" checked"):
            found[name] = html.unescape(value[1]) if value else ""
    for name, text in re.findall(r'<textarea [^>]*name="(\w+)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL):
        found[name] = html.unescape(text)
    options = re.findall(r'<option value="(\w+)"( selected)?>', form)
    found["protocol"] = next((name for name, selected in options if selected), options[0][0])
    return found


def test_every_field_stays_and_what_is_wrong_stands_beside_it(served):
    client = served[2]
    csrf = log_in(client)
    reply = client.post("/study/admin/create", data=TYPED | {"csrf": csrf})
    assert reply.status_code == 422
    held = fields(reply.text)
    assert {name: held.get(name) for name in TYPED} == TYPED
    assert "comments" not in held  # was not ticked
    assert HOSTILE not in reply.text
    assert "Id &#39;Bad Id&#39;: use 1 to 48 lower-case letters, digits and hyphens" in reply.text
    wrong = re.findall(r'id="create-(\w+)-wrong"', reply.text)
    assert set(wrong) == {"id", "organ"}  # a skin has no prompt to sample with
    assert reply.text.count('aria-invalid="true"') == 2
    assert 'href="#create-id"' in reply.text


@pytest.mark.parametrize("error", ["layout", "later"])
def test_fields_stay_after_an_error_of_the_images(served, tmp_path, error):
    client = served[2]
    values = TYPED | {"csrf": log_in(client), "id": "new", "sample": "", "masks": "", "folder": ""}
    values |= {"protocol": "ranking", "organ": "skin", "real": "real", "groups": "9"}
    write_folders(tmp_path / "new", 3)
    archive = zipped(tmp_path / "new" / "real") if error == "layout" else zipped(tmp_path / "new")
    reply = client.post(
        "/study/admin/create", data=values, files={"archive": ("mine.zip", archive, "application/zip")}
    )
    assert reply.status_code == 422
    assert ("one folder a method" if error == "layout" else "3 masks have an image") in reply.text
    held = fields(reply.text)
    assert {name: held.get(name, "") for name in values if name != "csrf"} == {
        name: value for name, value in values.items() if name != "csrf"
    }
    assert "Choose the ZIP file mine.zip again" in reply.text


def test_an_upload_is_not_unpacked_before_the_fields_are_right(served, tmp_path, monkeypatch):
    client = served[2]
    monkeypatch.setattr(
        "siamese.study.web.routes.creation.unpack", lambda *a: pytest.fail("the ZIP file was read")
    )
    reply = client.post(
        "/study/admin/create",
        data=TYPED | {"csrf": log_in(client)},
        files={"archive": ("x.zip", b"whatever", "application/zip")},
    )
    assert reply.status_code == 422


def test_fields_are_checked_before_a_file_is_sent(served):
    store, _app, client = served
    csrf = log_in(client)
    reply = client.post("/study/admin/create/check", data=TYPED | {"csrf": csrf, "id": "phantoms"})
    assert reply.status_code == 200
    said = reply.json()["problems"]
    assert said["id"] == "there is a study 'phantoms' already; choose another short name."
    right = {"csrf": csrf, "id": "new", "title": "New", "protocol": "ranking", "organ": "polyp"}
    right |= {"groups": "0", "chosen": "x.zip"}
    assert client.post("/study/admin/create/check", data=right).json() == {"problems": {}}
    assert client.post("/study/admin/create/check", data=right | {"csrf": "x"}).status_code == 403
    assert len(store.studies()) == 1


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"id": "-x"}, "id", "use 1 to 48 lower-case letters, digits and hyphens"),
        ({"title": " "}, "title", "title must be text of 1 to 200 characters."),
        ({"groups": ""}, "groups", "groups must be a whole number, 0 for all or from 1 to 5000, not ''."),
        ({"groups": "x"}, "groups", "not 'x'."),
        ({"groups": "9" * 5000}, "groups", "groups must be a whole number"),
        ({"training": "1.5"}, "training", "training must be a whole number from 0 to 200, not '1.5'."),
        ({"repeats": "-1"}, "repeats", "repeats must be a whole number from 0 to 1000, not -1."),
        ({"seed": str(2**63)}, "seed", "seed must be a whole number from 0 to"),
        ({"protocol": "x"}, "protocol", "use one of"),
        ({"consent": " "}, "consent", "consent must be text of 1 to 20000 characters."),
        ({"instructions": "x" * 20_001}, "instructions", "up to 20000"),
        ({"folder": "a\0"}, "folder", "cannot be stored: it holds a null character."),
        ({"folder": ""}, "archive", "choose a ZIP file, or name a folder on the server."),
        ({"sample": "a=b"}, "masks", "sampling needs masks"),
        ({"sample": "a", "masks": "m"}, "sample", "write NAME=MODEL"),
        ({"masks": "m"}, "sample", "no method to sample"),
    ],
)
def test_messages_name_the_format(served, changes, field, said):
    values = {"id": "new", "title": "New", "protocol": "ranking", "organ": "polyp", "groups": "5"}
    problems = creation_problems(CreationForm(**(values | {"folder": "/somewhere"} | changes)), served[0])
    assert said in problems[field]
    assert len(problems[field]) < 300
    assert list(problems) == [field]


def test_the_form_is_first_shown_with_usable_values(served):
    store, _app, client = served
    log_in(client)
    page = client.get("/study/admin").text
    held = fields(page)
    assert held["groups"] == NEW_STUDY.groups
    assert held["comments"] == "yes"
    problems = creation_problems(
        CreationForm(**{k: v for k, v in held.items() if k not in ("csrf", "archive")}), store
    )
    assert set(problems) == {"id", "title", "archive"}
    for name in ("id", "title", "groups", "training", "consent", "archive"):
        help_text = re.search(rf'<small id="create-{name}-help">([^<]+)</small>', page)[1]
        assert len(help_text) > 20


def test_invitations_stay(served):
    store, _app, client = served
    csrf = log_in(client)
    typed = f"Dr A\n{'x' * 201}\n{HOSTILE}"
    reply = client.post("/study/admin/studies/phantoms/invite", data={"csrf": csrf, "labels": typed})
    assert reply.status_code == 422
    assert "Labels have up to 200 characters." in reply.text
    text = re.search(r'<textarea name="labels"[^>]*>\n(.*?)</textarea>', reply.text, re.DOTALL)[1]
    assert html.unescape(text) == typed
    empty = client.post("/study/admin/studies/phantoms/invite", data={"csrf": csrf, "labels": " \n"})
    assert empty.status_code == 422
    assert "Nobody was invited: write a name or a note" in empty.text
    assert store.progress("phantoms") == []


def test_a_reason_stays(served):
    store, _app, client = served
    csrf = log_in(client)
    one, other = (made.rater for made in store.invite("phantoms", ["A", "B"]))
    values = {"csrf": csrf, "study": "phantoms", "reason": "a\0b"}
    reply = client.post(f"/study/admin/raters/{one}/exclude", data=values)
    assert reply.status_code == 422
    assert "without null characters" in reply.text
    reasons = dict(
        re.findall(r'raters/(\w+)/exclude".*?name="reason"[^>]*value="([^"]*)"', reply.text, re.DOTALL)
    )
    assert reasons == {one: "ab", other: ""}


def test_a_plan_stays(served):
    client = served[2]
    log_in(client)
    reply = client.get("/study/admin/plan?method=0.4&real=x&half_width=&power=0.9")
    assert reply.status_code == 422
    assert "The share of the real images must be a number such as 0.1, not &#39;x&#39;." in reply.text
    held = dict(
        re.findall(r'name="(\w+)" value="([^"]*)"', reply.text.split('action="/study/admin/plan"')[1])
    )
    assert held == {"method": "0.4", "real": "x", "half_width": "", "power": "0.9"}


def test_a_form_whose_session_has_ended_is_not_lost(served):
    client = served[2]
    reply = client.post("/study/admin/create", data=TYPED)
    assert reply.status_code == 401
    assert "Nothing was stored. What you typed comes back in this tab" in reply.text
    assert 'data-draft="create"' not in reply.text  # the script of the page with the form brings it back
    log_in(client)
    assert 'data-draft="create"' in client.get("/study/admin").text
