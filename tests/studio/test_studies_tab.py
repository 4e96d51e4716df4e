"""The studies tab: what it lists, and where its links lead."""

from __future__ import annotations

import re

import gradio as gr
import pytest

from siamese.studio.tabs.studies import amount, build_studies, studies_html, wire_studies
from siamese.studio.theme import STATIC
from siamese.study.rating.duration import Duration
from siamese.study.rating.open_studies import OpenStudy
from siamese.study.storage.database import StorageError
from tests.studio.wiring import Visitor

HOSTILE = "<script>alert('x')</script>\""


def open_study(title: str = "Polyps", practice: int = 4, screens: int = 54, measured: bool = True):
    return OpenStudy(title, "Real or synthetic, one at a time", practice, Duration(screens, 12, measured))


def test_a_study_is_listed_with_its_amount_and_both_ways():
    page = studies_html([open_study(), open_study("Second")])
    assert page.count("<li>") == 2
    assert "54 items, 4 of them for practice, about 12 minutes." in page
    assert 'href="/rate" aria-label="Rate: Polyps">Rate</a>' in page
    assert page.count('href="/study/admin">Administer</a>') == 1
    assert "Real or synthetic, one at a time" in page


@pytest.mark.parametrize(
    ("practice", "screens", "measured", "words"),
    [
        (0, 54, True, "54 items, about 12 minutes"),
        (0, 1, False, "1 item, about 12 minutes (estimated)"),
    ],
)
def test_the_amount_in_words(practice, screens, measured, words):
    assert amount(open_study(practice=practice, screens=screens, measured=measured)) == words


def test_titles_are_escaped():
    page = studies_html([open_study(HOSTILE)])
    assert HOSTILE not in page
    assert page.count("&lt;script&gt;") == 2


def test_without_studies_one_sentence_and_a_link():
    page = studies_html([])
    assert 'No study is open at the moment. <a href="/study/admin#new-study">Create a study</a>' in page
    assert "<li>" not in page


def test_the_tab_asks_each_time_it_is_entered():
    answers = [[], [open_study()], StorageError("the database file is gone.")]

    def studies():
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with gr.Blocks() as page, gr.Tabs(), gr.Tab("Studies") as tab:
        shown = build_studies()
        wire_studies(shown, studies, entering=tab)
    visitor = Visitor(page)
    assert "being read" in visitor[shown]
    for words in ("No study is open", "Polyps", "cannot be read now: the database file is gone."):
        visitor.fire(tab, "select")
        assert words in visitor[shown]
        assert "Administer" in visitor[shown]
    assert not visitor.errors


def test_the_style_sheet_has_a_rule_for_each_class():
    sheet = (STATIC / "studies.css").read_text(encoding="utf-8")
    used = set(re.findall(r'class="([\w -]+)"', studies_html([open_study()])))
    for name in {name for names in used for name in names.split()} - {"hint"}:
        assert f".{name}" in sheet
