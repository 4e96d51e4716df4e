"""Raters who have not answered everything: left out of the figures by default, with a line that says so, and a switch."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from siamese.study.__main__ import main
from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.raters import ALL, COMPLETE, Raters, who_counts
from siamese.study.report.results import read_results
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from tests.study.rated_study import rated_study
from tests.study.result_texts import texts


@pytest.fixture(scope="module")
def half_way(tmp_path_factory) -> StudyStore:
    """Three raters who answered all 18 items and repeats, one with 14 items, one with a single one, one with practice only."""
    return rated_study(
        tmp_path_factory.mktemp("half way"), most=(99, 99, 99, 16, 3, 2), groups=6, training=2, repeats=3
    )


@pytest.mark.slow
def test_incomplete_raters_are_left_out_and_a_line_says_so(half_way):
    found = read_results(half_way, "phantoms")
    assert [r.rater for r in found.summary.raters] == ["rater 1", "rater 2", "rater 3"]
    assert found.summary.answers == 54
    assert [t.rater for t in found.times] == [None, "rater 1", "rater 2", "rater 3"]
    text = texts(found)
    assert (
        "3 of 6 raters with answers count: those who answered all 18 items, practice and repeats apart."
        in text
    )
    assert "Excluded: 3 raters with 0, 1 and 14 of 18 answers." in text
    assert "leaves out 0 items" in text
    assert {
        ("rater 4", 16, "answered 14 of 18 items that count"),
        ("rater 5", 3, "answered 1 of 18 items that count"),
    } <= {(e.rater, e.answers, e.reason) for e in found.exclusions}
    assert [p.counted for p in found.progress] == [18, 18, 18, 14, 1, 0]
    assert "14 of 18" in text
    assert (
        found.summary
        == read_results(without(half_way, "rater 4", "rater 5", "rater 6"), "phantoms", ALL).summary
    )


def without(store: StudyStore, *raters: str) -> StudyStore:
    """The store, whose ``read_answers`` would be without ``raters``: they are excluded, and included again at the next call."""
    for n, p in enumerate(store.progress("phantoms"), 1):
        store.exclude(p.rater, "test" if f"rater {n}" in raters else None)
    return store


@pytest.mark.slow
@pytest.mark.parametrize("choice", [COMPLETE, ALL])
def test_every_figure_of_a_row_is_of_the_same_raters(half_way, choice):
    found = read_results(without(half_way), "phantoms", choice)
    real = found.summary.methods[0]
    for row in (
        found.summary.overall,
        *(m.detection for m in found.summary.methods[1:]),
        *(r.detection for r in found.summary.raters),
    ):
        assert row.balanced_accuracy.value == pytest.approx(
            (row.sensitivity.value + row.specificity.value) / 2
        )
    for method in found.summary.methods[1:]:
        assert (
            method.detection.specificity.value
            == pytest.approx(real.mos.value)
            == pytest.approx(found.summary.overall.specificity.value)
        )
        assert method.detection.sensitivity.value == pytest.approx(1 - method.mos.value)
        assert method.real_minus_method.value == pytest.approx(real.mos.value - method.mos.value)


@pytest.mark.slow
def test_all_raters_weigh_by_their_answers(half_way):
    found = read_results(without(half_way), "phantoms", ALL)
    assert [r.rater for r in found.summary.raters] == [f"rater {n}" for n in (1, 2, 3, 4)]
    each = [(r.answers, r.detection.auc.value, r.detection.sensitivity.value) for r in found.summary.raters]
    for figure, n in ((found.summary.overall.auc, 1), (found.summary.overall.sensitivity, 2)):
        assert figure.value == pytest.approx(sum(r[0] * r[n] for r in each) / (3 * 18 + 14))
    text = texts(found)
    assert "4 of 6 raters with answers count, whether or not they answered all 18 items" in text
    assert "weighs by the number of answers given" in text
    assert "without an answer to an image of each method so far: rater 5, rater 6." in text
    assert ("rater 5", 1, "rater without an answer to an image of each method") in {
        (e.rater, e.answers, e.reason) for e in found.exclusions
    }


@pytest.mark.slow
def test_the_switch_is_on_the_page_in_the_report_and_on_the_command_line(
    half_way, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "x")
    folder = Path(without(half_way).database.engine.url.database).parent
    line = {COMPLETE: "3 of 6 raters with answers count", ALL: "4 of 6 raters with answers count"}
    with TestClient(study_app(folder), follow_redirects=False) as client:
        client.post("/study/admin/login", data={"password": "x"})
        address = "/study/admin/studies/phantoms"
        assert line[COMPLETE] in client.get(f"{address}/results").text
        assert line[COMPLETE] in client.get(f"{address}/report.html").text
        for choice, other in ((COMPLETE, ALL), (ALL, COMPLETE)):
            page = client.get(f"{address}/results?raters={choice}").text
            assert line[choice] in page
            assert f'href="{address}/results?raters={other}"' in page
            assert f'href="{address}/report.html?raters={choice}"' in page
            assert line[choice] in client.get(f"{address}/report.html?raters={choice}").text
    for choice, arguments in ((COMPLETE, []), (ALL, ["--raters", "all"])):
        main(
            [
                "report",
                "--study",
                "phantoms",
                "--out",
                str(tmp_path / "report.html"),
                "--data",
                str(folder),
                *arguments,
            ]
        )
        assert line[choice] in capsys.readouterr().out
        assert line[choice] in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_exports_keep_all_raters_and_say_who_is_complete(half_way):
    given = read_answers(without(half_way), "phantoms")
    rows = list(csv.DictReader(io.StringIO(answers_csv(given), newline="")))
    assert len(rows) == 3 * 23 + 16 + 3 + 2
    assert {(r["rater"], r["rater_complete"]) for r in rows} == {
        (f"rater {n}", "1" if n < 4 else "0") for n in range(1, 7)
    }
    data = json.loads(answers_json(half_way, given))
    assert data["complete_raters"] == ["rater 1", "rater 2", "rater 3"]
    assert len(data["answers"]) == len(rows)


def test_many_incomplete_raters_are_counted_and_not_listed():
    far = Raters(18, ("rater 1",), tuple((f"rater {n}", n) for n in range(2, 12)))
    assert who_counts(far, COMPLETE, ("rater 1",))[-1] == "Excluded: 10 raters with 2 to 11 of 18 answers."
    one = Raters(18, (), (("rater 1", 4),))
    assert who_counts(one, COMPLETE, ())[-1] == "Excluded: 1 rater with 4 of 18 answers."
    assert who_counts(Raters(18, (), ()), ALL, ()) == ("Nobody has answered yet.",)


def test_figures_of_nobody(half_way):
    found = read_results(without(half_way, "rater 1", "rater 2", "rater 3"), "phantoms")
    assert found.summary is None
    assert found.missing.startswith("no rater has answered all 18 items that count yet; the furthest has 14.")
    assert found.who[0].startswith("0 of 3 raters")
    assert "Excluded: 3 raters with 0, 1 and 14 of 18 answers." in found.who
    assert read_results(half_way, "phantoms", ALL).who[0].startswith("1 of 3 raters")
    without(half_way)
