"""Results pages and reports: the figures are the statistics', everything missing has its reason, nothing names a rater or is left unescaped."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from siamese.study.__main__ import main
from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.raters import ALL, COMPLETE, Raters, who_counts
from siamese.study.config import Method
from siamese.study.document.blocks import number, p_value, table
from siamese.study.document.plot import Dot, ReferenceLine, dot_plot, shorten
from siamese.study.protocols.real_synthetic import RealSynthetic
from siamese.study.report import results as results_module
from siamese.study.report.results import read_results
from siamese.study.report.sections import sections_of
from siamese.study.statistics import Figure
from siamese.study.storage.store import StudyStore
from siamese.study.web.app import study_app
from siamese.study.web.pages import report_html
from tests.study.phantom_study import METHODS
from tests.study.protocols import PAIRWISE, PROTOCOLS, RANKING, REAL_SYNTHETIC
from tests.study.rated_study import HOSTILE, rated_study


def texts(results) -> str:
    """All words of the sections."""
    return "\n".join(
        [
            line
            for s in sections_of(results)
            for line in (
                s.title,
                *s.text,
                *(x for p in s.plots for x in (p.title, p.markup)),
                *(
                    x
                    for t in s.tables
                    for x in (t.caption, *t.headers, *t.notes, *(c for row in t.rows for c in row))
                ),
            )
        ]
    )


@pytest.mark.slow
def test_figures_are_those_of_the_answers(tmp_path):
    store = rated_study(tmp_path, groups=6, training=2, repeats=3)
    found = read_results(store, "phantoms")
    assert found.missing is None
    assert found.summary.answers == 3 * 18
    assert found.summary.groups == 6
    text = texts(found)
    counted = [
        a
        for a in read_answers(store, "phantoms").answers
        if a.current and a.phase == "main" and a.repeat_of is None
    ]
    for method in found.summary.methods:
        judged = [a.response[0] for a in counted if a.methods == (method.method,)]
        assert len(judged) == method.answers
        assert method.mos.value == pytest.approx(sum(judged) / len(judged), abs=1e-12)
        assert f"{method.mos.value:.3f} ({method.mos.low:.3f} to {method.mos.high:.3f})" in text
    assert "conditional on these raters" in text
    assert "Fleiss' kappa" in text
    assert "within raters" in text.lower()
    reasons = {(e.rater, e.reason.split(":")[0]): e.answers for e in found.exclusions}
    assert reasons[("rater 1", "training item")] == 2
    assert reasons[("rater 3", "repeated item")] == 3
    assert [(p.answered, p.screens) for p in found.progress] == [(23, 23)] * 3


@pytest.mark.slow
def test_ranking_and_pairs_show_their_tests(tmp_path):
    found = read_results(rated_study(tmp_path, protocol=RANKING, groups=6, repeats=2), "phantoms")
    assert {e.answers for e in found.exclusions} == {2}  # rankings, not images
    text = texts(found)
    for words in (
        "Friedman",
        "Holm",
        "Plackett-Luce",
        "Kendall's W",
        "ISIC2016",
        "as reported by the paper",
        "Mean rank by rater",
    ):
        assert words in text
    text = texts(read_results(rated_study(tmp_path, protocol=PAIRWISE, groups=6, id="pairs"), "pairs"))
    for words in ("Bradley-Terry", "Real image found", "The paper has no study of this protocol"):
        assert words in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "drawn"),
    [
        (
            REAL_SYNTHETIC,
            (
                "Siamese-Diffusion, Polyps, MOS 0.587",
                "Siamese-Diffusion, Polyps, confidence 6.04",
                "real, Polyps, MOS 0.9",
                "real, Polyps, confidence 6.17",
            ),
        ),
        (RANKING, ("Siamese-Diffusion, ISIC2016, MOS 1.96", "ControlNet, ISIC2018, MOS 1.22")),
    ],
)
def test_paper_is_drawn_as_reported(tmp_path, protocol, drawn):
    plots = "".join(
        p.markup
        for s in sections_of(read_results(rated_study(tmp_path, protocol=protocol), "phantoms"))
        for p in s.plots
    )
    for words in drawn:
        assert f"{words} (as reported by the paper)" in plots


@pytest.mark.slow
def test_ranks_on_another_scale_get_no_paper_lines(tmp_path):
    methods = (*METHODS, Method("Third", "synthetic"))
    found = read_results(rated_study(tmp_path, protocol=RANKING, methods=methods), "phantoms")
    plots = sections_of(found)[1].plots
    assert "plot-letter" in "".join(p.markup for p in plots[1:])
    assert "reported" not in plots[0].markup
    assert "another scale" in texts(found)
    assert "ISIC2016" in texts(found)


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(("raters", "most"), [(0, 0), (1, 0), (1, 1), (2, 2), (1, 99)])
def test_few_answers_give_sentences(tmp_path, monkeypatch, protocol, raters, most):
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "x")
    store = rated_study(tmp_path, raters, most, protocol=protocol, groups=2, training=1)
    for choice in (COMPLETE, ALL):
        found = read_results(store, "phantoms", choice)
        text = texts(found)
        if not raters or most <= 1:
            assert found.summary is None
            assert "No answers to analyse yet" in text
        elif most == 2 and choice == COMPLETE:
            assert found.summary is None
            assert f"No rater has answered all {found.study.config.counted} items" in text
            assert "take all raters" in text
        elif found.summary is None:
            assert protocol != RANKING
            assert most == 2
            assert "No rater has answered an image of every method yet" in text
        else:
            assert re.search(r"\[1\] .{20,}", text)
        assert "nan" not in text.lower().replace("finan", "").replace("unanswered", "")
        assert "None" not in text.replace("None without figures", "")
    with TestClient(study_app(tmp_path), follow_redirects=False) as client:
        client.post("/study/admin/login", data={"password": "x"})
        for name in ("results", "report.html"):
            for query in ("", "?raters=all", "?raters=complete"):
                assert client.get(f"/study/admin/studies/phantoms/{name}{query}").status_code == 200
            assert client.get(f"/study/admin/studies/phantoms/{name}?raters=some").status_code == 422
        assert (
            client.get("/study/admin/studies/none/results").status_code
            == client.get("/study/admin/studies/none/report.html").status_code
            == 404
        )


@pytest.mark.slow
def test_excluded_and_withdrawn_raters(tmp_path):
    store = rated_study(tmp_path)
    before = read_results(store, "phantoms")
    first, second, _ = (p.rater for p in store.progress("phantoms"))
    store.exclude(second, f"answered blindly {HOSTILE}")
    after = read_results(store, "phantoms")
    assert after.summary.answers == before.summary.answers - 12
    assert {r.rater for r in after.summary.raters} == {"rater 1", "rater 3"}
    assert ("rater 2", 12, f"answered blindly {HOSTILE}") in [
        (e.rater, e.answers, e.reason) for e in after.exclusions
    ]
    assert HOSTILE not in report_html(after)
    assert "answered blindly" in report_html(after)
    store.exclude(second, None)
    assert read_results(store, "phantoms").summary == before.summary
    store.withdraw(first)
    assert "A rater's data was deleted (12 answers), asked for by the administrator." in texts(
        read_results(store, "phantoms")
    )
    for p in store.progress("phantoms"):
        store.exclude(p.rater, "no")
    assert read_results(store, "phantoms").summary is None


@pytest.mark.slow
def test_summaries_are_kept_until_answers_change(tmp_path, monkeypatch):
    store = rated_study(tmp_path)
    calls = []
    summarise = RealSynthetic.summarise

    def counted(*arguments):
        calls.append(arguments)
        return summarise(*arguments)

    monkeypatch.setattr(RealSynthetic, "summarise", counted)
    results_module.compute.cache_clear()
    first = read_results(store, "phantoms").summary
    store.close("phantoms")
    assert read_results(store, "phantoms").summary is first
    assert len(calls) == 1
    store.exclude(store.progress("phantoms")[0].rater, "x")
    assert read_results(store, "phantoms").summary != first
    assert len(calls) == 2
    read_results(store, "phantoms", ALL)
    assert len(calls) == 2  # all raters are complete


@pytest.mark.slow
def test_report_is_one_file_without_names(tmp_path):
    store = rated_study(tmp_path, title=HOSTILE)
    html = report_html(read_results(store, "phantoms"))
    for secret in ("owl", "Dr Secret", "<script", HOSTILE, "http://", "/study", "src=", "<link", "csrf"):
        assert secret not in html.replace("http://www.w3.org/2000/svg", "")
    assert "<style>" in html
    assert html.count("<svg") >= 4
    assert "&lt;script&gt;" in html
    assert " style=" not in html


def test_plot_is_escaped_and_described():
    markup = dot_plot(
        HOSTILE,
        [Dot(HOSTILE, 0.5, 0.2, 0.8, "0.5"), Dot("lone", 2.0, None, None, "2")],
        0,
        1,
        [ReferenceLine(HOSTILE, 0.25)],
    )
    tree = ElementTree.fromstring(markup)
    space = "{http://www.w3.org/2000/svg}"
    assert tree.find(f"{space}title").text == HOSTILE
    assert "lone: 2." in tree.find(f"{space}desc").text
    assert "Line a" in tree.find(f"{space}desc").text
    circles = tree.findall(f"{space}circle")
    assert [float(c.get("cx")) for c in circles] == [
        240,
        466,
    ]  # the middle; beyond the scale is drawn at its end
    interval = [x for x in tree.findall(f"{space}line") if x.get("class") == "plot-dot"]
    assert len(interval) == 1
    assert float(interval[0].get("x1")) == pytest.approx(14 + 0.2 * 452, abs=0.1)
    assert not any(a in e.attrib for e in tree.iter() for a in ("style", "onload"))
    with pytest.raises(ValueError, match="scale"):
        dot_plot("", [], 1, 1)
    assert len(shorten("x" * 64)) == 44
    assert shorten("short") == "short"


def test_tables_note_reasons_once():
    few = "too few"
    made = table(
        "T",
        ("a", "b"),
        [
            ("x", Figure(None, reason=few)),
            ("y", Figure(0.5, 0.25, 0.75, "over x")),
            ("z", Figure(1.0, reason=few)),
        ],
    )
    assert made.rows == (("x", "– [1]"), ("y", "0.500 (0.250 to 0.750)"), ("z", "1.000 [1]"))
    assert made.notes == ("95 % intervals are over x.", "[1] Too few.")
    two = table("T", ("a",), [(Figure(0.5, 0.25, 0.75, "over x"), Figure(0.5, 0.25, 0.75, "over y"))])
    assert two.rows == (("0.500 (0.250 to 0.750) [1]", "0.500 (0.250 to 0.750) [2]"),)
    assert two.notes[1] == "[2] 95 % interval over y."
    assert (number(-0.0001), number(-0.5), number(12.345)) == ("0.000", "-0.500", "12.35")
    assert (p_value(0.0001), p_value(None)) == ("< 0.001", "–")


@pytest.mark.slow
def test_one_common_ranking_has_figures_and_says_why_no_test(tmp_path):
    found = read_results(rated_study(tmp_path, 1, 1, protocol=RANKING, groups=3), "phantoms", ALL)
    assert found.summary.rankings == 1
    assert found.summary.pairs[0].p is None
    assert "The test needs two or more mask groups that every rater has ranked." in texts(found)
    assert (
        read_results(
            rated_study(tmp_path, 1, 2, protocol=RANKING, groups=3, id="two"), "two", ALL
        ).summary.rankings
        == 2
    )


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


@pytest.mark.slow
def test_repeats_that_are_planned_and_not_reached_are_not_asked_for(tmp_path):
    text = texts(read_results(rated_study(tmp_path, 1, 18, groups=6, repeats=3), "phantoms"))
    assert "The study shows 3 screens a second time, after all others." in text
    assert "No item was answered twice." in text
    assert "plan repeated" not in text
    text = texts(read_results(rated_study(tmp_path, 1, groups=6, id="none"), "none"))
    assert "The study shows nothing a second time" in text


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


def test_friedman_without_enough_methods_says_why(tmp_path):
    assert "needs three or more methods" in texts(
        read_results(rated_study(tmp_path, protocol=RANKING, methods=METHODS[:2], groups=3), "phantoms")
    )
