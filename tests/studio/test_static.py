"""The page's own script and style sheet, and what the rest of the page expects of them."""

from __future__ import annotations

import re

from siamese.studio.tabs.mask_tools import TOOLS
from siamese.studio.theme import SCRIPT, STATIC, STYLE_SHEET, page_head

NAMES = dict(re.findall(r"^  '(.+?)': '(.+?)',$", SCRIPT.read_text(encoding="utf-8"), re.MULTILINE))


def test_a_tool_with_an_arrow_has_a_name_in_words():
    arrows = [text for text in TOOLS if not text.isascii()]
    assert arrows
    assert list(NAMES) == arrows
    assert len(set(NAMES.values())) == len(arrows)
    for text, name in NAMES.items():
        assert name.isascii()
        assert name.startswith(text.split()[0]), "a visitor who speaks the visible word must reach the button"


def test_functions_that_events_call_exist():
    script = SCRIPT.read_text(encoding="utf-8")
    called = {
        name
        for file in STATIC.parent.rglob("*.py")
        for name in re.findall(r"studioPage\.(\w+)\(", file.read_text(encoding="utf-8"))
    }
    assert called
    for name in called:
        assert re.search(rf"^  {name}\(", script, re.MULTILINE), name


def test_the_head_holds_the_script_whole():
    script = SCRIPT.read_text(encoding="utf-8")
    assert "</script" not in script, "it would end the element around it"
    assert f"<script>\n{script}</script>" in page_head()
    assert STYLE_SHEET.read_text(encoding="utf-8").count("{") > 50
