"""A rater's session: order, resume, correction, double clicks, withdrawal, blinding of images to others."""

from __future__ import annotations

import dataclasses
import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import delete, func, select, update

from siamese.study.rating import session
from siamese.study.rating.errors import (
    BadAnswerError,
    ConflictError,
    LinkClosedError,
    NoSuchLinkError,
    WithdrawnError,
)
from siamese.study.rating.judgement import Judgement
from siamese.study.rating.order import REPEAT
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.database import Database, StorageError, StorageFullError
from siamese.study.storage.schema import answers, items, presentations, raters, studies
from siamese.study.storage.store import NoSuchStudyError, StudyError, StudyStore
from tests.clock import set_clock
from tests.study.phantom_study import answer_all, judge, make_study
from tests.study.protocols import PAIRWISE, PROTOCOLS, RANKING


def begin(folder, url=None, **changes):
    """A registered rater: store, study, sessions, token."""
    store, study = make_study(folder, url, **changes)
    sessions, token = RaterSessions(store), store.invite(study.config.id, ["Dr A"])[0].token
    sessions.register(token, "owl", "endoscopist", True)
    return store, study.config, sessions, token


def rows(store, table=answers):
    with store.database.read() as connection:
        return connection.execute(select(table)).all()


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_whole_session(tmp_path, any_database, protocol):
    store, config, sessions, token = begin(tmp_path, any_database, protocol=protocol, training=2, repeats=2)
    first = sessions.overview(token).step
    assert first.task.training
    assert (first.task.number, first.task.total) == (1, 2)
    assert not first.can_go_back
    assert len(first.task.items) == {PAIRWISE: 2, RANKING: 3}.get(protocol, 1)
    assert answer_all(sessions, token, config) == 2 + config.rated
    assert sessions.overview(token).step.task is None
    progress = store.progress(config.id)[0]
    assert progress.answered == progress.screens == 2 + config.rated
    assert progress.pseudonym == "owl"
    shown = rows(store, presentations)
    assert sum(r.phase == REPEAT for r in shown) == 2
    store.database.close()


def test_training_gives_feedback_and_rating_does_not(tmp_path):
    store, config, sessions, token = begin(tmp_path, training=3)
    truth = {r.id: r.method == "real" for r in rows(store, items)}
    seen = set()
    for i in range(3):
        task = sessions.overview(token).step.task
        done = sessions.answer(token, task.id, f"t{i}", judge(config, task))
        assert done.feedback == {
            "real": [task.items[0]] if truth[task.items[0]] else [],
            "correct": truth[task.items[0]],
        }
        assert not done.step.can_go_back
        with pytest.raises(ConflictError, match="no answer that could be corrected"):
            sessions.previous(token)
        with pytest.raises(ConflictError):
            sessions.answer(token, task.id, f"again{i}", judge(config, task), correction=True)
        seen.add(task.items)
    assert len(seen) == 3
    task = done.step.task
    assert not task.training
    assert task.number == 1
    assert task.total == 12
    assert sessions.answer(token, task.id, "first", judge(config, task)).feedback is None


@pytest.mark.parametrize("protocol", [PAIRWISE, RANKING])
def test_feedback_of_other_protocols(tmp_path, protocol):
    store, _config, sessions, token = begin(tmp_path, protocol=protocol, training=1)
    real = {r.id for r in rows(store, items) if r.method == "real"}
    task = sessions.overview(token).step.task
    best = next(i for i in task.items if i in real)
    others = [i for i in task.items if i != best]
    response = {"chosen": best} if protocol == PAIRWISE else {"ranks": {best: 3, others[0]: 1, others[1]: 2}}
    done = sessions.answer(token, task.id, "k", Judgement(response, 5 if protocol == PAIRWISE else None))
    assert done.feedback == {"real": [best], "correct": True}


def test_wrong_feedback_of_other_protocols(tmp_path):
    store, _config, sessions, token = begin(tmp_path, protocol=RANKING, training=1)
    real = {r.id for r in rows(store, items) if r.method == "real"}
    task = sessions.overview(token).step.task
    ranks = {i: 1 if i in real else 2 + k for k, i in enumerate(sorted(task.items, key=lambda i: i in real))}
    assert sessions.answer(token, task.id, "k", Judgement({"ranks": ranks})).feedback["correct"] is False


@pytest.mark.slow
def test_resumes_exactly_and_orders_differ(tmp_path):
    store, config, sessions, token = begin(tmp_path, groups=8)
    task = sessions.overview(token).step.task
    step = sessions.answer(token, task.id, "a", judge(config, task)).step
    store.database.close()
    again = RaterSessions(StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}")))
    assert again.overview(token).step == step
    assert again.register(token, "other", "other", True) == step  # registering twice changes nothing
    assert again.overview(token).pseudonym == "owl"
    other = again.store.invite(config.id, ["Dr B"])[0]
    again.register(other.token, "fox", "resident", True)
    by_rater = {}
    for r in rows(again.store, presentations):
        by_rater.setdefault(r.rater_id, []).append((r.position, r.item_ids))
    first, second = ([i for _, i in sorted(v)] for v in by_rater.values())
    assert sorted(first) == sorted(second)
    assert first != second


def test_double_click_counts_once(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    task = sessions.overview(token).step.task
    first, second = (sessions.answer(token, task.id, "same", judge(config, task)) for _ in range(2))
    assert first == second
    assert len(rows(store)) == 1
    with pytest.raises(ConflictError, match="another answer"):
        sessions.answer(token, task.id, "same", Judgement({"real": False}, 7))
    with pytest.raises(ConflictError, match="answered already"):  # another window, with a key of its own
        sessions.answer(token, task.id, "other", judge(config, task))
    assert len(rows(store)) == 1


@pytest.mark.slow
def test_simultaneous_clicks_count_once(tmp_path, any_database):
    store, config, sessions, token = begin(tmp_path, any_database)
    task = sessions.overview(token).step.task

    def click(key: str) -> bool:
        try:
            sessions.answer(token, task.id, key, judge(config, task))
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(click, ["same"] * 8))
        assert not any(pool.map(click, [f"k{i}" for i in range(8)]))
    assert len(rows(store)) == 1
    store.database.close()


def test_last_answer_can_be_corrected_and_no_earlier(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    with pytest.raises(ConflictError):
        sessions.previous(token)
    step, tasks = sessions.overview(token).step, []
    for i in range(2):
        tasks.append(step.task)
        step = sessions.answer(token, step.task.id, f"k{i}", judge(config, step.task, "why")).step
    assert step.can_go_back
    task, given = sessions.previous(token)
    assert task == tasks[1]
    assert given == judge(config, task, "why")
    corrected = sessions.answer(token, task.id, "c", Judgement({"real": False}, 2), correction=True)
    assert corrected.step == step  # still at the third
    assert sessions.answer(token, task.id, "c", Judgement({"real": False}, 2), correction=True).step == step
    assert sessions.previous(token)[1] == Judgement({"real": False}, 2)
    kept = rows(store)
    assert [(r.supersedes, json.loads(r.response)["real"], r.confidence) for r in kept] == [
        (None, True, 7),
        (None, True, 7),
        (kept[1].id, False, 2),
    ]
    with pytest.raises(ConflictError, match="answered already"):
        sessions.answer(token, tasks[0].id, "d", Judgement({"real": False}, 2), correction=True)
    with pytest.raises(ConflictError, match="does not come now"):
        sessions.answer(token, step.task.id, "e", judge(config, step.task), correction=True)
    assert store.progress(config.id)[0].answered == 2


def test_answers_out_of_turn_are_refused(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    later = next(r for r in rows(store, presentations) if r.position == 3)
    with pytest.raises(ConflictError, match="does not come now"):
        sessions.answer(token, later.id, "k", Judgement({"real": True}, 1))
    with pytest.raises(NoSuchLinkError, match="no such item"):
        sessions.answer(token, "0" * 32, "k", Judgement({"real": True}, 1))
    other = store.invite(config.id, ["B"])[0].token
    sessions.register(other, "fox", "resident", True)
    with pytest.raises(NoSuchLinkError):  # somebody else's screen
        sessions.answer(other, later.id, "k", Judgement({"real": True}, 1))
    assert rows(store) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("protocol", "response", "confidence"),
    [
        ("real_synthetic", {}, 5),
        ("real_synthetic", {"real": 1}, 5),
        ("real_synthetic", {"real": True, "x": 1}, 5),
        ("real_synthetic", {"real": True}, None),
        ("real_synthetic", {"real": True}, 0),
        ("real_synthetic", {"real": True}, 11),
        ("real_synthetic", {"real": True}, True),
        ("pairwise", {"chosen": "0" * 32}, 5),
        ("pairwise", {"chosen": None}, 5),
        ("pairwise", {"chosen": []}, 5),
        ("ranking", {"ranks": {}}, None),
        ("ranking", {"ranks": [1, 2, 3]}, None),
        ("ranking", {"ranks": (1, 1, 2)}, None),
        ("ranking", {"ranks": (0, 1, 2)}, None),
        ("ranking", {"ranks": (1.0, 2, 3)}, None),
        ("ranking", {"ranks": (1, 2, 3)}, 5),
    ],
)
def test_refuses_answers_that_do_not_fit(tmp_path, protocol, response, confidence):
    store, _config, sessions, token = begin(tmp_path, protocol=protocol)
    task = sessions.overview(token).step.task
    if isinstance(response.get("ranks"), tuple):
        response = {"ranks": dict(zip(task.items, response["ranks"], strict=True))}
    with pytest.raises(BadAnswerError):
        sessions.answer(token, task.id, "k", Judgement(response, confidence))
    assert rows(store) == []


def test_refuses_comments_keys_and_times_that_do_not_fit(tmp_path):
    store, config, sessions, token = begin(tmp_path, comments=False)
    task = sessions.overview(token).step.task
    for change, key in (
        ({"comment": "no"}, "k"),
        ({"comment": "x" * 2001}, "k"),
        ({"comment": "\0"}, "k"),
        ({"client_ms": -1}, "k"),
        ({"client_ms": 2**40}, "k"),
        ({}, ""),
        ({}, "k" * 65),
    ):
        with pytest.raises(BadAnswerError):
            sessions.answer(token, task.id, key, dataclasses.replace(judge(config, task), **change))
    assert rows(store) == []


def test_images_only_of_screens_around_the_current(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    planned = [
        json.loads(r.item_ids)[0] for r in sorted(rows(store, presentations), key=lambda r: r.position)
    ]

    def served() -> set[int]:
        found = set()
        for i, item in enumerate(planned):
            try:
                assert sessions.image(token, item).startswith(b"\x89PNG")
                found.add(i)
            except NoSuchLinkError:
                pass
        return found

    assert served() == {0, 1}
    step = sessions.overview(token).step
    for i in range(3):
        step = sessions.answer(token, step.task.id, f"k{i}", judge(config, step.task)).step
    assert served() == {2, 3, 4}
    assert step.upcoming == (planned[4],)
    other = store.invite(config.id, ["B"])[0].token
    with pytest.raises(NoSuchLinkError):  # not before consent
        sessions.image(other, planned[3])
    with pytest.raises(NoSuchLinkError):
        sessions.image(token, "nothing")


def test_registration_needs_consent_and_names(tmp_path):
    store, _study = make_study(tmp_path)
    sessions, token = RaterSessions(store), store.invite("phantoms", [""])[0].token
    assert sessions.overview(token).step is None
    for pseudonym, role, consent in (
        ("owl", "x", False),
        (" ", "x", True),
        ("owl", "", True),
        ("o" * 81, "x", True),
        ("o\nwl", "x", True),
    ):
        with pytest.raises(BadAnswerError):
            sessions.register(token, pseudonym, role, consent)
    assert store.study("phantoms").locked_at is None
    assert rows(store, presentations) == []


def test_configuration_is_locked_before_the_first_answer(tmp_path):
    store, study = make_study(tmp_path)
    changed = store.change(dataclasses.replace(study.config, title="Better"))
    assert changed.config.title == "Better"
    assert changed.config_hash != study.config_hash
    with pytest.raises(StudyError, match="groups cannot change"):
        store.change(dataclasses.replace(study.config, groups=3))
    token = store.invite("phantoms", [""])[0].token
    RaterSessions(store).register(token, "owl", "x", True)
    with pytest.raises(StudyError, match="locked"):
        store.change(dataclasses.replace(study.config, title="Other"))
    assert store.study("phantoms") == dataclasses.replace(
        changed, locked_at=store.study("phantoms").locked_at
    )


def test_changed_configuration_is_noticed(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    with store.database.write() as connection:
        connection.execute(
            update(studies).values(config=dataclasses.replace(config, title="Other").canonical())
        )
    with pytest.raises(StorageError, match="no longer has the hash"):
        sessions.overview(token)


def test_links_that_do_not_work(tmp_path):
    store, config, sessions, token = begin(tmp_path)
    with pytest.raises(NoSuchLinkError, match="not known"):
        sessions.overview(token + "x")
    store.close(config.id)
    with pytest.raises(LinkClosedError, match="closed"):
        sessions.overview(token)
    store.open(config.id)
    store.revoke(store.progress(config.id)[0].rater)
    for call in (
        lambda: sessions.overview(token),
        lambda: sessions.previous(token),
        lambda: sessions.register(token, "a", "b", True),
        lambda: sessions.image(token, "x"),
        lambda: sessions.answer(token, "x", "k", Judgement({})),
    ):
        with pytest.raises(LinkClosedError, match="revoked"):
            call()
    assert token not in "".join(str(r) for r in rows(store, raters))
    with pytest.raises(NoSuchStudyError):
        store.invite("none", ["a"])
    with pytest.raises(NoSuchStudyError):
        store.revoke("none")


@pytest.mark.parametrize("by_rater", [True, False])
def test_withdrawal_deletes_and_leaves_a_note(tmp_path, by_rater):
    store, config, sessions, token = begin(tmp_path)
    other = store.invite(config.id, ["B"])[0].token
    sessions.register(other, "fox", "resident", True)
    task = sessions.overview(token).step.task
    sessions.answer(token, task.id, "a", judge(config, task, "SECRETCOMMENT"))
    sessions.answer(token, task.id, "b", judge(config, task, "SECRETCOMMENT 2"), correction=True)
    answer_all(sessions, other, config)
    if by_rater:
        store.close(config.id)  # withdrawing is possible nevertheless
        assert sessions.withdraw(token) == 2
    else:
        assert store.withdraw(store.progress(config.id)[0].rater) == 2
    with pytest.raises(WithdrawnError, match="deleted"):
        sessions.overview(token)
    with pytest.raises(WithdrawnError):
        sessions.withdraw(token)
    (note,) = store.withdrawals(config.id)
    assert note.answers_deleted == 2
    assert note.requested_by == ("rater" if by_rater else "administrator")
    assert [p.pseudonym for p in store.progress(config.id)] == ["fox"]
    assert len(rows(store)) == 12
    store.database.close()
    files = b"".join(f.read_bytes() for f in tmp_path.glob("studies.sqlite3*"))
    assert b"SECRETCOMMENT" not in files
    assert b"owl" not in files


def test_exclusion_keeps_answers_and_needs_a_reason(tmp_path):
    store, config, _sessions, _token = begin(tmp_path)
    rater = store.progress(config.id)[0].rater
    with pytest.raises(StudyError, match="reason"):
        store.exclude(rater, " ")
    store.exclude(rater, "answered in one second each")
    assert store.progress(config.id)[0].excluded_reason == "answered in one second each"
    store.exclude(rater, None)
    assert store.progress(config.id)[0].excluded_reason is None


@pytest.mark.slow
def test_full_disk_is_not_acknowledged(tmp_path):
    store, config, _sessions, token = begin(tmp_path, groups=40, display_side=128)
    store.database.close()
    with sqlite3.connect(tmp_path / "studies.sqlite3") as connection:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
    full = RaterSessions(StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}", page_limit=pages)))
    acknowledged, step = 0, full.overview(token).step
    with pytest.raises(StorageFullError):
        while step.task:
            step = full.answer(
                token, step.task.id, f"k{acknowledged}", judge(config, step.task, "x" * 2000)
            ).step
            acknowledged += 1
    assert 0 < acknowledged < config.rated
    with full.database.read() as connection:
        assert connection.execute(select(func.count()).select_from(answers)).scalar_one() == acknowledged
    full.database.close()
    roomy = RaterSessions(StudyStore(Database(f"sqlite:///{tmp_path / 'studies.sqlite3'}")))
    assert (
        roomy.overview(token).step.task == step.task
    )  # nothing half done: they go on from their last screen


def test_rows_of_a_study_cannot_lose_their_images(tmp_path):
    store, _config, _sessions, _token = begin(tmp_path)
    with pytest.raises(Exception, match="FOREIGN KEY"), store.database.write() as connection:
        connection.execute(delete(items))


def test_times_are_recorded(tmp_path, monkeypatch):
    store, config, sessions, token = begin(tmp_path)
    clock = [1000.0]
    set_clock(monkeypatch, session, time=lambda: clock[0])
    step = sessions.overview(token).step
    clock[0] += 2.5
    step = sessions.answer(token, step.task.id, "a", judge(config, step.task)).step
    clock[0] += 60
    step = sessions.overview(token).step  # the page is loaded again: the screen is new to the rater
    clock[0] += 1
    sessions.answer(token, step.task.id, "b", judge(config, step.task))
    assert [(r.client_ms, r.server_ms) for r in rows(store)] == [(900, 2500), (900, 1000)]
