"""Results pages and reports: the figures are the statistics', everything missing has its reason, nothing names a rater or is left unescaped."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from siamese.study.answers.export import read_answers
from siamese.study.answers.raters import ALL, COMPLETE
from siamese.study.config import Method
from siamese.study.document.blocks import number, p_value, table
from siamese.study.document.plot import Dot, ReferenceLine, dot_plot, shorten
from siamese.study.protocols.real_synthetic import RealSynthetic
from siamese.study.report import results as results_module
from siamese.study.report.results import read_results
from siamese.study.report.sections import sections_of
from siamese.study.statistics import Figure
from siamese.study.web.app import study_app
from siamese.study.web.pages import report_html
from tests.study.phantom_study import METHODS
from tests.study.protocols import PAIRWISE, PROTOCOLS, RANKING, REAL_SYNTHETIC
from tests.study.rated_study import HOSTILE, rated_study
from tests.study.result_texts import texts


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


@pytest.mark.slow
def test_repeats_that_are_planned_and_not_reached_are_not_asked_for(tmp_path):
    text = texts(read_results(rated_study(tmp_path, 1, 18, groups=6, repeats=3), "phantoms"))
    assert "The study shows 3 screens a second time, after all others." in text
    assert "No item was answered twice." in text
    assert "plan repeated" not in text
    text = texts(read_results(rated_study(tmp_path, 1, groups=6, id="none"), "none"))
    assert "The study shows nothing a second time" in text


def test_friedman_without_enough_methods_says_why(tmp_path):
    assert "needs three or more methods" in texts(
        read_results(rated_study(tmp_path, protocol=RANKING, methods=METHODS[:2], groups=3), "phantoms")
    )
