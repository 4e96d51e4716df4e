"""The page's own script and style sheet, and what the rest of the page expects of them."""

from __future__ import annotations

import re

from siamese.studio.components.canvas import MARKUP
from siamese.studio.theme import SCRIPT, STATIC, STYLE_SHEETS, page_head


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


def test_modules_are_short_and_import_what_exists():
    modules = sorted((STATIC / "canvas").glob("*.js"))
    assert len(modules) > 10
    for module in modules:
        text = module.read_text(encoding="utf-8")
        assert text.count("\n") <= 400, module.name
        for names, file in re.findall(r"^import (.+?) from '\./(\w+\.js)';$", text, re.MULTILINE):
            exported = (module.parent / file).read_text(encoding="utf-8")
            for name in re.findall(r"\{(.+)\}", names):
                for one in name.split(","):
                    assert re.search(
                        rf"export (?:class|const|function|async function) {one.strip()}\b", exported
                    ), (module.name, one)


def test_the_markup_holds_nothing_that_gradio_would_replace():
    assert not re.search(r"\$\{|\{\{|@children|<script", MARKUP.read_text(encoding="utf-8"))
    assert all(sheet.is_file() for sheet in STYLE_SHEETS)
