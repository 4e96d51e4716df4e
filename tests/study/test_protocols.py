"""A protocol is one class, one template part and one script: a fourth one works without a change to any other file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi.testclient import TestClient

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.config import ConfigError, Method
from siamese.study.document.blocks import Section, table
from siamese.study.protocols import RatingProtocol, protocol_names, register, registry
from siamese.study.protocols.base import MAX_IMAGES
from siamese.study.report.results import read_results
from siamese.study.report.sections import sections_of
from siamese.study.statistics.paper import Reported
from siamese.study.storage.database import Database
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from siamese.study.web.pages import report_html, templates
from tests.study.phantom_study import METHODS, config, make_study


@dataclass(frozen=True)
class StarSummary:
    """Mean number of stars."""

    raters: tuple[str, ...]
    exclusions: tuple = ()
    means: tuple[tuple[str, float], ...] = ()


class Stars(RatingProtocol[StarSummary]):
    """One image at a time gets 0 to 5 stars."""

    name = "stars"
    title = "Stars"
    instructions = "Give each image 0 to 5 stars."
    has_confidence = False

    def method_problem(self, methods: Sequence[Method]) -> str | None:
        return None if len(methods) > 1 else "stars needs two or more methods."

    def screens(self, methods: Sequence[Method], members: Mapping[str, str]) -> list[tuple[str, ...]]:
        return [(image,) for image in members.values()]

    def images_per_screen(self, methods: Sequence[Method]) -> int:
        return 1

    def response_problem(self, shown: Sequence[str], response: Mapping[str, Any]) -> str | None:
        return None if response.get("stars") in range(6) else "give 0 to 5 stars."

    def is_correct(self, real: Collection[str], response: Mapping[str, Any]) -> bool:
        return (response["stars"] > 2) == bool(real)

    def values(self, shown: Sequence[str], response: Mapping[str, Any]) -> tuple[int, ...]:
        return (response["stars"],)

    def response_of(self, shown: Sequence[str], values: Sequence[int]) -> dict[str, Any]:
        return {"stars": values[0]}

    def shows(self, screen: Sequence[str], methods: Sequence[Method]) -> bool:
        return len(screen) == 1

    def rows(
        self, screen: Sequence[str], values: Sequence[int], confidence: int | None, **about: Any
    ) -> list[Any]:
        return [(about["rater"], screen[0], values[0])]

    def summarise(self, rows: Sequence[Any], seed: int) -> StarSummary:
        means = []
        for method in dict.fromkeys(method for _, method, _ in rows):
            given = [stars for _, m, stars in rows if m == method]
            means.append((method, sum(given) / len(given)))
        return StarSummary(tuple(dict.fromkeys(rater for rater, _, _ in rows)), means=tuple(sorted(means)))

    def sections(self, summary: StarSummary, reported: Sequence[Reported], repeats: int) -> list[Section]:
        rows = [(method, f"{mean:.2f}") for method, mean in summary.means]
        return [Section("Stars", tables=(table("By method", ("Method", "Stars"), rows),))]


@pytest.fixture
def stars(tmp_path, monkeypatch):
    """The fourth protocol, with its files in a folder of its own."""
    folder = tmp_path / "stars"
    folder.mkdir()
    (folder / "stars.html").write_text(
        '<p class="question">How many stars?</p><p class="keys">Keys: 0 to 5.</p>'
    )
    (folder / "stars.js").write_text('import { register } from "../controls.js";\nregister("stars", {});\n')
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(Stars, "assets", folder)
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "x")
    register(Stars)
    templates.cache_clear()
    yield
    templates.cache_clear()


@pytest.mark.slow
def test_a_fourth_protocol(tmp_path, stars):
    assert protocol_names()[-1] == "stars"
    with pytest.raises(ConfigError, match="stars needs two or more methods"):
        config(protocol="stars", methods=METHODS[:1])
    store, study = make_study(tmp_path, protocol="stars", groups=2, training=1, repeats=1)
    assert (study.config.rated, study.config.instructions) == (7, Stars.instructions)
    path = store.invite("phantoms", ["A"])[0].path
    with TestClient(study_app(tmp_path)) as client:
        assert "How many stars?" in client.get(path).text
        assert '"/study-static/protocols/stars.js"' in client.get(path).text
        assert "register" in client.get("/study-static/protocols/stars.js").text
        state = client.get(f"{path}/api/state").json()
        assert (state["protocol"], state["images"], state["share"]) == ("stars", 1, None)
        who = {"pseudonym": "owl", "role": "nurse", "consent": True}
        step = client.post(f"{path}/api/register", json=who).json()["step"]
        wrong = {"task": step["task"]["id"], "key": "w", "response": {"stars": 6}}
        assert client.post(f"{path}/api/answer", json=wrong).json() == {"error": "give 0 to 5 stars."}
        wrong |= {"response": {"stars": 5}, "confidence": 3}
        assert client.post(f"{path}/api/answer", json=wrong).json() == {
            "error": "answers of this protocol have no confidence."
        }
        count = 0
        while step["task"]:
            body = {"task": step["task"]["id"], "key": str(count), "response": {"stars": count % 6}}
            reply = client.post(f"{path}/api/answer", json=body).json()
            assert (reply["feedback"] is not None) == (count == 0)
            step, count = reply["step"], count + 1
        assert count == 8
    given = read_answers(store, "phantoms")
    assert [a.response for a in given.answers] == [(n % 6,) for n in range(8)]
    assert '"stars"' in answers_json(store, given)
    assert "phantoms" in answers_csv(given)
    results = read_results(store, "phantoms")
    shown = next(s for s in sections_of(results) if s.title == "Stars")
    assert [row[0] for row in shown.tables[0].rows] == ["ControlNet", "Ours", "real"]
    assert "<h2>Stars</h2>" in report_html(results)
    other = StudyStore(Database(f"sqlite:///{tmp_path / 'other.sqlite3'}"))
    import_study(other, answers_json(store, given))
    assert read_results(other, "phantoms").summary == results.summary


def test_names_are_taken_once_and_the_paper_comes_first(stars):
    assert protocol_names() == ("real_synthetic", "ranking", "pairwise", "stars")
    with pytest.raises(ValueError, match="already"):
        register(Stars)
    with pytest.raises(ConfigError, match="use one of real_synthetic, ranking, pairwise, stars"):
        config(protocol="none")
    for odd in (None, [], 3):
        with pytest.raises(ConfigError, match="use one of"):
            config(protocol=odd)


@pytest.mark.parametrize("name", protocol_names())
def test_every_protocol_keeps_the_contract(name):
    rules = registry.find_protocol(name)
    shown = rules.screens(METHODS, {m.name: f"id of {m.name}" for m in METHODS})
    assert len(shown) == rules.screens_per_group(METHODS)
    assert {len(s) for s in shown} == {rules.images_per_screen(METHODS)} <= set(range(1, MAX_IMAGES + 1))
    assert re.fullmatch("[a-z_]+", name)
    assert rules.method_problem(METHODS[:1])
    screen = shown[-1]
    assert rules.shows([i.removeprefix("id of ") for i in screen], METHODS)
    assert rules.response_problem(screen, {})
    response = next(
        r
        for r in (
            {"real": True},
            {"chosen": screen[0]},
            {"ranks": {image: n for n, image in enumerate(screen, 1)}},
        )
        if not rules.response_problem(screen, r)
    )
    values = rules.values(screen, response)
    assert rules.response_of(screen, values) == response
    assert json.loads(json.dumps(response)) == response
    assert bool(rules.answer_problem(screen, response, None)) == rules.has_confidence
    assert bool(rules.answer_problem(screen, response, 5)) != rules.has_confidence
