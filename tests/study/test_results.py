"""Results pages and reports: the figures are the statistics', everything missing has its reason, nothing names a rater or is left unescaped."""
from __future__ import annotations

import random
import re
from xml.etree import ElementTree

import pytest
from fastapi.testclient import TestClient

from siamese.study import results as results_module
from siamese.study.config import PAIRWISE, PROTOCOLS, RANKING, REAL_SYNTHETIC, Method
from siamese.study.plot import Dot, Line, dot_plot, shorten
from siamese.study.results import read_results
from siamese.study.sections import number, p_value, sections_of, table
from siamese.study.session import Judgement, RaterSessions, Task
from siamese.study.statistics import Figure, Ratings, summarise_ratings
from siamese.study.store import StudyStore
from siamese.study.web.app import study_app
from siamese.study.web.pages import report_html
from tests.study.phantom_study import METHODS, make_study

HOSTILE = "<script>alert('x')</script>\"&"


def random_judgement(protocol: str, task: Task, chance: random.Random) -> Judgement:
    """Any answer that fits."""
    if protocol == RANKING:
        return Judgement({"ranks": dict(zip(task.items, chance.sample(range(1, len(task.items) + 1), len(task.items))))}, None, "", 800)
    response = {"real": chance.random() < 0.5} if protocol == REAL_SYNTHETIC else {"chosen": chance.choice(task.items)}
    return Judgement(response, chance.randint(1, 10), HOSTILE, chance.randint(500, 4000))


def rated_study(folder, raters: int = 3, most: int = 10**9, **changes) -> StudyStore:
    """A study with random answers, at most ``most`` a rater."""
    store, study = make_study(folder, **changes)
    sessions, chance = RaterSessions(store), random.Random(5)
    for n in range(raters):
        token = store.invite(study.config.id, [f"Dr Secret {n}"])[0].token
        step = sessions.register(token, f"owl{n}", HOSTILE, True)
        for count in range(most):
            if not step.task:
                break
            step = sessions.answer(token, step.task.id, str(count), random_judgement(study.config.protocol, step.task, chance)).step
    return store


def texts(results) -> str:
    """All words of the sections."""
    return "\n".join([line for s in sections_of(results) for line in
                      (s.title, *s.text, *(x for p in s.plots for x in (p.title, p.markup)),
                       *(x for t in s.tables for x in (t.caption, *t.headers, *t.notes, *(c for row in t.rows for c in row))))])


def test_figures_are_the_statistics_own(tmp_path):
    store = rated_study(tmp_path, groups=6, training=2, repeats=3)
    found = read_results(store, "phantoms")
    assert found.missing is None and found.summary.answers == 3 * 18 and found.summary.groups == 6
    rows = results_module.rows_of(found.study.config, results_module.read_answers(store, "phantoms").answers)
    assert found.summary == summarise_ratings(Ratings.from_rows(rows), seed=results_module.SEED)
    text = texts(found)
    mos = found.summary.methods[1].mos
    assert f"{mos.value:.3f} ({mos.low:.3f} to {mos.high:.3f})" in text
    assert "conditional on these raters" in text and "Fleiss' kappa" in text and "within raters" in text.lower()
    reasons = {(e.rater, e.reason.split(":")[0]): e.answers for e in found.exclusions}
    assert reasons[("rater 1", "training item")] == 2 and reasons[("rater 3", "repeated item")] == 3
    assert [(p.answered, p.screens) for p in found.progress] == [(23, 23)] * 3


def test_ranking_and_pairs_show_their_tests(tmp_path):
    found = read_results(rated_study(tmp_path, protocol=RANKING, groups=6, repeats=2), "phantoms")
    assert {e.answers for e in found.exclusions} == {2}  # rankings, not images
    text = texts(found)
    for words in ("Friedman", "Holm", "Plackett-Luce", "Kendall's W", "ISIC2016", "as reported by the paper", "Mean rank by rater"):
        assert words in text
    text = texts(read_results(rated_study(tmp_path, protocol=PAIRWISE, groups=6, id="pairs"), "pairs"))
    for words in ("Bradley-Terry", "Real image found", "The paper has no study of this protocol"):
        assert words in text


@pytest.mark.parametrize("protocol, drawn", [(REAL_SYNTHETIC, ("Siamese-Diffusion, Polyps, MOS 0.587", "Siamese-Diffusion, Polyps, confidence 6.04",
                                                              "real, Polyps, MOS 0.9", "real, Polyps, confidence 6.17")),
                                             (RANKING, ("Siamese-Diffusion, ISIC2016, MOS 1.96", "ControlNet, ISIC2018, MOS 1.22"))])
def test_paper_is_drawn_as_reported(tmp_path, protocol, drawn):
    plots = "".join(p.markup for s in sections_of(read_results(rated_study(tmp_path, protocol=protocol), "phantoms")) for p in s.plots)
    for words in drawn:
        assert f"{words} (as reported by the paper)" in plots


def test_ranks_on_another_scale_get_no_paper_lines(tmp_path):
    methods = (*METHODS, Method("Third", "synthetic"))
    found = read_results(rated_study(tmp_path, protocol=RANKING, methods=methods), "phantoms")
    assert "plot-letter" in "".join(p.markup for p in sections_of(found)[0].plots[1:]) and "reported" not in sections_of(found)[0].plots[0].markup
    assert "another scale" in texts(found) and "ISIC2016" in texts(found)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("raters, most", [(0, 0), (1, 0), (1, 1), (2, 2), (1, 99)])
def test_few_answers_give_sentences(tmp_path, monkeypatch, protocol, raters, most):
    monkeypatch.setenv("SIAMESE_ADMIN_PASSWORD", "x")
    store = rated_study(tmp_path, raters, most, protocol=protocol, groups=2, training=1)
    found = read_results(store, "phantoms")
    text = texts(found)
    if not raters or most <= 1:
        assert found.summary is None and "No answers to analyse yet" in text
    elif found.summary is None:
        assert protocol == RANKING and "figures come with the second" in found.missing
    else:
        assert re.search(r"\[1\] .{20,}", text)
    assert "nan" not in text.lower().replace("finan", "") and "None" not in text
    with TestClient(study_app(tmp_path), follow_redirects=False) as client:
        client.post("/study/admin/login", data={"password": "x"})
        for name in ("results", "report.html"):
            assert client.get(f"/study/admin/studies/phantoms/{name}").status_code == 200
        assert client.get("/study/admin/studies/none/results").status_code == client.get("/study/admin/studies/none/report.html").status_code == 404


def test_excluded_and_withdrawn_raters(tmp_path):
    store = rated_study(tmp_path)
    before = read_results(store, "phantoms")
    first, second, _ = (p.rater for p in store.progress("phantoms"))
    store.exclude(second, f"answered blindly {HOSTILE}")
    after = read_results(store, "phantoms")
    assert after.summary.answers == before.summary.answers - 12 and {r.rater for r in after.summary.raters} == {"rater 1", "rater 3"}
    assert ("rater 2", 12, f"answered blindly {HOSTILE}") in [(e.rater, e.answers, e.reason) for e in after.exclusions]
    assert HOSTILE not in report_html(after) and "answered blindly" in report_html(after)
    store.exclude(second, None)
    assert read_results(store, "phantoms").summary == before.summary
    store.withdraw(first)
    assert "A rater's data was deleted (12 answers), asked for by the administrator." in texts(read_results(store, "phantoms"))
    for p in store.progress("phantoms"):
        store.exclude(p.rater, "no")
    assert read_results(store, "phantoms").summary is None


def test_summaries_are_kept_until_answers_change(tmp_path, monkeypatch):
    store = rated_study(tmp_path, most=4)
    calls = []
    table_kind, summarised = results_module.TABLES[REAL_SYNTHETIC]
    monkeypatch.setitem(results_module.TABLES, REAL_SYNTHETIC, (table_kind, lambda *a, **k: calls.append(1) or summarised(*a, **k)))
    results_module.compute.cache_clear()
    first = read_results(store, "phantoms").summary
    store.close("phantoms")
    assert read_results(store, "phantoms").summary is first and len(calls) == 1
    store.exclude(store.progress("phantoms")[0].rater, "x")
    assert read_results(store, "phantoms").summary != first and len(calls) == 2


def test_report_is_one_file_without_names(tmp_path):
    store = rated_study(tmp_path, title=HOSTILE)
    html = report_html(read_results(store, "phantoms"))
    for secret in ("owl", "Dr Secret", "<script", HOSTILE, "http://", "/study", "src=", "<link", "csrf"):
        assert secret not in html.replace("http://www.w3.org/2000/svg", "")
    assert "<style>" in html and html.count("<svg") >= 4 and "&lt;script&gt;" in html
    assert " style=" not in html


def test_plot_is_escaped_and_told():
    markup = dot_plot(HOSTILE, [Dot(HOSTILE, 0.5, 0.2, 0.8, "0.5"), Dot("lone", 2.0, None, None, "2")], 0, 1, [Line(HOSTILE, 0.25)])
    tree = ElementTree.fromstring(markup)
    space = "{http://www.w3.org/2000/svg}"
    assert tree.find(f"{space}title").text == HOSTILE and "lone: 2." in tree.find(f"{space}desc").text and "Line a" in tree.find(f"{space}desc").text
    circles = tree.findall(f"{space}circle")
    assert [float(c.get("cx")) for c in circles] == [240, 466]  # the middle; beyond the scale is drawn at its end
    interval = [x for x in tree.findall(f"{space}line") if x.get("class") == "plot-dot"]
    assert len(interval) == 1 and float(interval[0].get("x1")) == pytest.approx(14 + 0.2 * 452, abs=0.1)
    assert not any(a in e.attrib for e in tree.iter() for a in ("style", "onload"))
    with pytest.raises(ValueError, match="scale"):
        dot_plot("", [], 1, 1)
    assert len(shorten("x" * 64)) == 44 and shorten("short") == "short"


def test_tables_note_reasons_once():
    few = "too few"
    made = table("T", ("a", "b"), [("x", Figure(None, reason=few)), ("y", Figure(0.5, 0.25, 0.75, "over x")), ("z", Figure(1.0, reason=few))])
    assert made.rows == (("x", "– [1]"), ("y", "0.500 (0.250 to 0.750)"), ("z", "1.000 [1]"))
    assert made.notes == ("95 % intervals are over x.", "[1] Too few.")
    two = table("T", ("a",), [(Figure(0.5, 0.25, 0.75, "over x"), Figure(0.5, 0.25, 0.75, "over y"))])
    assert two.rows == (("0.500 (0.250 to 0.750) [1]", "0.500 (0.250 to 0.750) [2]"),) and two.notes[1] == "[2] 95 % interval over y."
    assert (number(-0.0001), number(-0.5), number(12.345)) == ("0.000", "-0.500", "12.35") and (p_value(0.0001), p_value(None)) == ("< 0.001", "–")


def test_one_common_ranking_is_not_enough(tmp_path):
    found = read_results(rated_study(tmp_path, 1, 1, protocol=RANKING, groups=3), "phantoms")
    assert found.summary is None and "figures come with the second" in found.missing
    assert read_results(rated_study(tmp_path, 1, 2, protocol=RANKING, groups=3, id="two"), "two").summary.rankings == 2


def test_friedman_without_enough_methods_says_why(tmp_path):
    assert "needs three or more methods" in texts(read_results(rated_study(tmp_path, protocol=RANKING, methods=METHODS[:2], groups=3), "phantoms"))
