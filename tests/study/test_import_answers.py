"""Import of an export: the same results again, and nothing that does not fit."""

from __future__ import annotations

import json

import pytest

from siamese.study.__main__ import main
from siamese.study.answers.export import answers_json, read_answers
from siamese.study.answers.import_answers import ImportRefusedError, import_study
from siamese.study.config import ConfigError
from siamese.study.rating.session import RaterSessions
from siamese.study.report.results import read_results
from siamese.study.storage.opening import open_store
from siamese.study.storage.store import StudyError
from tests.study.admin_pages import log_in
from tests.study.phantom_study import judge
from tests.study.protocols import PROTOCOLS, RANKING
from tests.study.rated_study import HOSTILE, rated_study


def empty(folder):
    """A store without studies."""
    (folder / "other").mkdir()
    return open_store(folder / "other")


def rich_study(folder, protocol: str):
    """A study with practice, repeats, corrections, comments, an exclusion, a withdrawal and somebody who never answered."""
    store = rated_study(folder, 4, protocol=protocol, groups=6, training=2, repeats=3)
    config, sessions = store.study("phantoms").config, RaterSessions(store)
    people = [p.rater for p in store.progress("phantoms")]
    store.exclude(people[1], f"too fast {HOSTILE}")
    store.withdraw(people[3])
    store.invite("phantoms", ["never came"])
    last = store.invite("phantoms", ["corrects"])[0].token
    step = sessions.register(last, "fox", "resident", True)
    for n in range(4):
        step = sessions.answer(last, step.task.id, f"k{n}", judge(config, step.task, "first")).step
    task, _ = sessions.previous(last)
    for n in range(2):
        sessions.answer(last, task.id, f"c{n}", judge(config, task, f"corrected {n}"), correction=True)
    return store


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("pseudonyms", [True, False])
def test_same_results_in_an_empty_database(tmp_path, any_database, protocol, pseudonyms):
    store = rich_study(tmp_path, protocol)
    given = read_answers(store, "phantoms")
    other = open_store(tmp_path, any_database) if any_database.startswith("postgres") else empty(tmp_path)
    study = import_study(other, answers_json(store, given, pseudonyms))
    again = read_answers(other, "phantoms")
    assert [vars(a) | {"pseudonym": ""} for a in again.answers] == [
        vars(a) | {"pseudonym": ""} for a in given.answers
    ]
    assert ("owl0" in {a.pseudonym for a in again.answers}) == pseudonyms
    before, after = read_results(store, "phantoms"), read_results(other, "phantoms")
    assert after.summary == before.summary is not None
    assert after.exclusions == before.exclusions
    assert after.times == before.times
    assert [p for p in after.progress if p.answered] == [p for p in before.progress if p.answered]
    assert after.corrections == before.corrections == 2
    assert [w.answers_deleted for w in after.withdrawals] == [w.answers_deleted for w in before.withdrawals]
    assert (study.state, study.config_hash, study.content_hash) == (
        "closed",
        before.study.config_hash,
        before.study.content_hash,
    )
    assert (
        json.loads(answers_json(other, again, pseudonyms))["answers"]
        == json.loads(answers_json(store, given, pseudonyms))["answers"]
    )
    with pytest.raises(StudyError, match="no images"):
        other.open("phantoms")
    with pytest.raises(ImportRefusedError, match="already"):
        import_study(other, answers_json(store, given))
    other.database.close()


def changed(data: dict, **values) -> dict:
    """An export whose third answer says something else."""
    data["answers"][2] |= values
    return data


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d | {"format": 2}, "format 2"),
        (lambda d: d | {"config": d["config"] | {"title": "Other"}}, "does not have the hash"),
        (lambda d: d | {"content_sha256": "x"}, "content_sha256"),
        (lambda d: d | {"answers": [{}]}, "answers.0"),
        (lambda d: [], "not an export"),
        (lambda d: changed(d, confidence=11), "answer 3: say how sure"),
        (lambda d: changed(d, response=[2]), "answer 3: say Real"),
        (lambda d: changed(d, response=[1, 0]), "images and values"),
        (lambda d: changed(d, methods=["none"]), "not the configuration's"),
        (lambda d: changed(d, position=999), "beyond"),
        (lambda d: changed(d, position=0), "showed something else"),
        (lambda d: changed(d, role="another"), "not described as"),
        (lambda d: changed(d, number=7), "not numbered"),
        (lambda d: changed(d, supersedes=1), "does not correct"),
        (lambda d: changed(d, current=False), "says wrongly"),
        (lambda d: changed(d, role="a\0b"), "null character"),
        (lambda d: changed(d, phase="training"), "for practice and is rated"),
        (lambda d: changed(d, rater="rater 99999"), "rater"),
        (lambda d: changed(d, created_at=float("nan")), "not an export"),
        (lambda d: changed(d, server_ms=-1), "server_ms"),
        (lambda d: changed(d, comment="x" * 3000), "comment"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path, change, message):
    store = rated_study(tmp_path, 1)
    data = json.loads(answers_json(store, read_answers(store, "phantoms")))
    other = empty(tmp_path)
    with pytest.raises(ImportRefusedError, match=message):
        import_study(other, json.dumps(change(data)))
    assert other.studies() == []


def test_configuration_and_noise(tmp_path):
    store = empty(tmp_path)
    for noise in ("", "{", "null", b"\xff\xfe", "[" * 100_000):
        with pytest.raises(ImportRefusedError, match="not an export"):
            import_study(store, noise)
    with pytest.raises(ConfigError, match="missing"):
        import_study(
            store,
            json.dumps(
                {"format": 1, "config": {}, "config_sha256": "", "content_sha256": "0" * 64, "answers": []}
            ),
        )


def test_study_without_answers(tmp_path):
    store = rated_study(tmp_path, 0, protocol=RANKING)
    other = empty(tmp_path)
    import_study(other, answers_json(store, read_answers(store, "phantoms")))
    assert read_results(other, "phantoms").missing == read_results(store, "phantoms").missing


@pytest.mark.slow
def test_commands(tmp_path, capsys):
    (tmp_path / "first").mkdir()
    store = rated_study(tmp_path / "first")
    place = ["--data", str(tmp_path / "first")]
    main(["close", "phantoms", *place])
    assert store.study("phantoms").state == "closed"
    main(["open", "phantoms", *place])
    assert store.study("phantoms").state == "open"
    main(["export", "phantoms", str(tmp_path / "a.json"), *place])
    other = ["--data", str(tmp_path / "second")]
    main(["import", str(tmp_path / "a.json"), *other])
    for options, name in ((place, "one.html"), (other, "two.html")):
        main(["report", "--study", "phantoms", "--out", str(tmp_path / name), *options])
    one, two = (
        (tmp_path / n).read_text().split("<h2>Progress")[0].partition("<section>")[2]
        for n in ("one.html", "two.html")
    )
    assert one == two
    assert "Fleiss" in one
    capsys.readouterr()
    for arguments, message in (
        (["import", str(tmp_path / "none.json")], "cannot be read"),
        (["import", str(tmp_path / "one.html")], "not an export"),
        (["open", "phantoms"], "no images"),
        (["close", "none"], "no study"),
        (["report", "--study", "none", "--out", "x.html"], "no study"),
        (["report", "--study", "phantoms", "--out", str(tmp_path / "no" / "x.html")], "cannot be written"),
    ):
        with pytest.raises(SystemExit, match="1"):
            main([*arguments, *other])
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_import_on_the_page(served, tmp_path):
    _store, _, client = served
    csrf = log_in(client)
    (tmp_path / "elsewhere").mkdir()
    elsewhere = rated_study(tmp_path / "elsewhere", id="imported", title=HOSTILE)
    data = answers_json(elsewhere, read_answers(elsewhere, "imported"))
    reply = client.post(
        "/study/admin/import", data={"csrf": csrf}, files={"export": ("x.json", data, "application/json")}
    )
    assert reply.status_code == 303
    page = client.get(reply.headers["location"])
    assert page.status_code == 200
    assert "Fleiss" in page.text
    assert HOSTILE not in page.text
    for content, message in ((data, "already"), ("noise", "not an export")):
        reply = client.post(
            "/study/admin/import",
            data={"csrf": csrf},
            files={"export": ("x.json", content, "application/json")},
        )
        assert reply.status_code == 422
        assert message in reply.text
    assert (
        client.post(
            "/study/admin/import", data={"csrf": "x"}, files={"export": ("x.json", data, "application/json")}
        ).status_code
        == 403
    )
