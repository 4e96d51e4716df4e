"""Studies copied to a stand-in of the hub and restored from it: raters go on from their last screen, and what was withdrawn is gone."""

from __future__ import annotations

import io
import zipfile

import pytest
from huggingface_hub import HfApi
from sqlalchemy import delete, select

from siamese.study.answers.export import answers_csv, answers_json, read_answers
from siamese.study.answers.import_answers import import_study
from siamese.study.backup import snapshot
from siamese.study.backup.hub import DatasetError, start_copy
from siamese.study.backup.snapshot import TABLES, dump_images, restore
from siamese.study.rating.errors import WithdrawnError
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.database import StorageError
from siamese.study.storage.durability import DatasetOptions
from siamese.study.storage.schema import (
    answers,
    images,
    items,
    metadata,
    presentations,
    raters,
    studies,
    withdrawals,
)
from tests.study.hub import REPOSITORY, TOKEN
from tests.study.hub_copies import begin, empty, state, wait_for
from tests.study.phantom_study import answer_all, judge, make_study


@pytest.fixture
def copies():
    """Copies to be stopped at the test's end: their threads would go on."""
    made = []
    yield made
    for copy in made:
        copy.stop()


@pytest.mark.slow
def test_raters_go_on_after_all_files_are_lost(tmp_path, hub, copies):
    (tmp_path / "first").mkdir()
    store, study = make_study(tmp_path / "first", repeats=2)
    made, sessions = store.invite("phantoms", ["Dr A", "Dr B", "Dr C"]), RaterSessions(store)
    for n, one in enumerate(made[:2]):
        step = sessions.register(one.token, f"owl {n}", "x", True)
        for i in range(3):
            step = sessions.answer(
                one.token, step.task.id, f"k{i}", judge(study.config, step.task, 'caf\u00e9 \u2028 "x"\n')
            ).step
    task, _ = sessions.previous(made[0].token)
    sessions.answer(made[0].token, task.id, "corrected", judge(study.config, task), correction=True)
    store.exclude(made[1].rater, "a test")
    store.revoke(made[2].rater)
    begin(hub, store, tmp_path / "first", copies)
    assert hub.private
    assert len(hub.rows("phantoms", "answers")) == 7

    other = empty(tmp_path / "second")
    begin(hub, other, tmp_path / "second", copies)
    assert state(other) == state(store)
    assert answers_json(other, read_answers(other, "phantoms"), True) == answers_json(
        store, read_answers(store, "phantoms"), True
    )
    again = RaterSessions(other)
    for one in made[:2]:
        assert again.overview(one.token).step == sessions.overview(one.token).step
    shown = again.overview(made[0].token).step.task
    assert again.image(made[0].token, shown.items[0]) == sessions.image(made[0].token, shown.items[0])
    assert answer_all(again, made[0].token, study.config) == study.config.rated - 3


@pytest.mark.slow
def test_restoring_twice_changes_nothing(tmp_path, hub, copies):
    store, _study = make_study(tmp_path)
    begin(hub, store, tmp_path, copies)
    before, commits = state(store), len(hub.commits)
    begin(hub, store, tmp_path, copies)  # a restart with the database in place
    assert state(store) == before
    assert len(hub.commits) == commits


@pytest.mark.slow
def test_only_what_changed_is_pushed(tmp_path, hub, copies):
    store, _study = make_study(tmp_path)
    copy = begin(hub, store, tmp_path, copies)
    images = hub.files["studies/phantoms/images.zip"]
    assert len(zipfile.ZipFile(io.BytesIO(images)).namelist()) == 12
    store.invite("phantoms", ["A"])
    sent = len(hub.requests)
    copy.trigger().result()
    assert [r for r in hub.requests[sent:] if "commit" in r] == [
        f"POST /api/datasets/{REPOSITORY}/commit/main"
    ]
    assert len(hub.rows("phantoms", "raters")) == 1
    assert hub.files["studies/phantoms/images.zip"] == images


@pytest.mark.slow
def test_a_withdrawal_leaves_nothing_in_the_repository(tmp_path, hub, copies):
    store, study = make_study(tmp_path)
    stays, goes = store.invite("phantoms", ["Dr Stays", "Dr Goes"])
    sessions = RaterSessions(store)
    for one, name in ((stays, "heron"), (goes, "bittern")):
        sessions.register(one.token, name, "x", True)
        answer_all(sessions, one.token, study.config)
    copy = begin(hub, store, tmp_path, copies)
    assert b"bittern" in hub.history()
    assert goes.rater.encode() in hub.history()
    store.changed = copy.trigger
    sessions.withdraw(goes.token)  # pushes by itself
    wait_for(lambda: goes.rater.encode() not in hub.history())
    for trace in (b"bittern", b"Dr Goes", goes.rater.encode()):
        assert trace not in hub.history()
    assert b"heron" in hub.history()
    assert len(hub.rows("phantoms", "answers")) == study.config.rated
    assert len(hub.commits) == 1

    other = empty(tmp_path / "other")
    begin(hub, other, tmp_path / "other", copies)
    with pytest.raises(WithdrawnError):
        RaterSessions(other).overview(goes.token)
    assert RaterSessions(other).overview(stays.token).pseudonym == "heron"


@pytest.mark.slow
def test_history_is_erased_after_a_crash_before_it(tmp_path, hub, copies, monkeypatch):
    store, _study = make_study(tmp_path)
    goes = store.invite("phantoms", ["Dr Goes"])[0]
    copy = begin(hub, store, tmp_path, copies)
    store.withdraw(goes.rater)

    def unreachable(*arguments, **options) -> None:
        raise OSError("the connection broke")

    monkeypatch.setattr(copy.api, "super_squash_history", unreachable)
    with pytest.raises(DatasetError):
        copy.trigger().result()
    assert b"Dr Goes" in hub.history()
    assert b"Dr Goes" not in b"".join(hub.files.values())
    copy.stop()
    begin(hub, store, tmp_path, copies)
    assert b"Dr Goes" not in hub.history()


def test_public_repository_is_refused(tmp_path, hub, copies):
    store, _ = make_study(tmp_path)
    copy = begin(hub, store, tmp_path, copies)
    hub.private = False
    with pytest.raises(DatasetError, match="is public"):
        begin(hub, store, tmp_path, copies)
    store.invite("phantoms", ["A"])
    commits = len(hub.commits)
    with pytest.raises(DatasetError, match="is public"):  # made public later
        copy.trigger().result()
    assert len(hub.commits) == commits
    assert "is public" in copy.problem


@pytest.mark.slow
def test_failed_push_is_reported_and_made_up_for(tmp_path, hub, copies):
    store, _ = make_study(tmp_path)
    copy = begin(hub, store, tmp_path, copies)
    store.invite("phantoms", ["A"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copy.api, "repo_info", HfApi(endpoint="http://127.0.0.1:9", token=TOKEN).repo_info)
        with pytest.raises(DatasetError):
            copy.trigger().result()
    assert "did not take it (ConnectError" in copy.problem
    assert hub.rows("phantoms", "raters") == []
    copy.trigger().result()
    assert copy.problem is None
    assert len(hub.rows("phantoms", "raters")) == 1


def test_start_fails_if_the_hub_does_not_answer(tmp_path, hub):
    store, _ = make_study(tmp_path)
    with pytest.raises(DatasetError, match=r"cannot be read .*ConnectError"):
        start_copy(
            store, tmp_path, DatasetOptions(REPOSITORY), HfApi(endpoint="http://127.0.0.1:9", token=TOKEN)
        )
    with pytest.raises(DatasetError, match="HTTP 401"):
        start_copy(store, tmp_path, DatasetOptions(REPOSITORY), HfApi(endpoint=hub.address, token="hf_wrong"))
    assert hub.commits == []


@pytest.mark.slow
def test_two_servers_do_not_overwrite_each_other(tmp_path, hub, copies):
    store, _study = make_study(tmp_path)
    copy = begin(hub, store, tmp_path, copies)
    other = empty(tmp_path / "other")
    begin(hub, other, tmp_path / "other", copies)
    invited = other.invite("phantoms", ["theirs"])
    copies[-1].trigger().result()
    store.invite("phantoms", ["ours"])
    with pytest.raises(DatasetError, match="another server pushed"):
        copy.trigger().result()
    assert [r["id"] for r in hub.rows("phantoms", "raters")] == [invited[0].rater]
    hub.commit(hub.files | {"README.md": b"a note by hand"})  # anything else may change
    other.invite("phantoms", ["more"])
    copies[-1].trigger().result()
    assert len(hub.rows("phantoms", "raters")) == 2
    assert hub.files["README.md"] == b"a note by hand"


@pytest.mark.slow
def test_a_commit_in_between_is_not_overwritten(tmp_path, hub, copies, monkeypatch):
    store, _ = make_study(tmp_path)
    copy = begin(hub, store, tmp_path, copies)
    store.invite("phantoms", ["A"])
    with monkeypatch.context() as patch:
        patch.setattr(copy, "_check_owner", lambda head: hub.commit(hub.files | {"README.md": b"by hand"}))
        with pytest.raises(DatasetError, match="HTTP 412"):
            copy.trigger().result()
    assert hub.rows("phantoms", "raters") == []
    copy.trigger().result()
    assert len(hub.rows("phantoms", "raters")) == 1
    assert hub.files["README.md"] == b"by hand"


@pytest.mark.slow
def test_older_database_does_not_overwrite(tmp_path, hub, copies):
    store, study = make_study(tmp_path)
    sessions, made = RaterSessions(store), store.invite("phantoms", ["A", "B"])
    for one in made:
        sessions.register(one.token, "owl", "x", True)
        answer_all(sessions, one.token, study.config)
    begin(hub, store, tmp_path, copies)
    store.withdraw(made[1].rater)  # that is no loss
    begin(hub, store, tmp_path, copies)
    with store.database.write() as connection:
        last = connection.execute(select(answers.c.id).order_by(answers.c.id.desc())).scalars().first()
        connection.execute(delete(answers).where(answers.c.id == last))
    with pytest.raises(
        DatasetError, match="has 1 raters or answers of study phantoms that the database lacks"
    ):
        begin(hub, store, tmp_path, copies)
    assert len(hub.rows("phantoms", "answers")) == study.config.rated


@pytest.mark.slow
def test_several_studies_and_an_imported_one(tmp_path, hub, copies):
    store, study = make_study(tmp_path)
    sessions, one = RaterSessions(store), store.invite("phantoms", ["A"])[0]
    sessions.register(one.token, "owl", "x", True)
    answer_all(sessions, one.token, study.config)
    imported = empty(tmp_path / "imported")
    import_study(imported, answers_json(store, read_answers(store, "phantoms")))
    second, _ = make_study(tmp_path / "imported", id="second", protocol="ranking")
    begin(hub, second, tmp_path / "imported", copies)
    other = empty(tmp_path / "other")
    begin(hub, other, tmp_path / "other", copies)
    assert {s.config.id for s in other.studies()} == {"phantoms", "second"}
    for name in ("phantoms", "second"):
        assert answers_csv(read_answers(other, name)) == answers_csv(read_answers(second, name))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("studies.jsonl", b'"organ\\":\\"polyp', b'"organ\\":\\"other', "no longer has the hash"),
        ("items.jsonl", b'"method": "Ours"', b'"method": "Theirs"', "their hash differs"),
        ("raters.jsonl", b'"label": ', b'"lable": ', "not the columns"),
        ("answers.jsonl", b"{", b"[", "cannot be read"),
        ("presentations.jsonl", b'"position": 0', b'"position": 1', "contradict each other"),
        ("images.zip", b"PK", b"pk", "cannot be read"),
    ],
)
def test_damaged_files_are_refused_whole(tmp_path, file, old, new, message):
    store, study = make_study(tmp_path)
    sessions, one = RaterSessions(store), store.invite("phantoms", ["A"])[0]
    sessions.register(one.token, "owl", "x", True)
    answer_all(sessions, one.token, study.config)
    folder = tmp_path / "files" / "phantoms"
    folder.mkdir(parents=True)
    for name, data in state(store).items():
        (folder / name).write_bytes(data)
    dump_images(store.database, "phantoms", folder / "images.zip")
    whole = (folder / file).read_bytes()
    assert old in whole
    (folder / file).write_bytes(whole.replace(old, new))
    other = empty(tmp_path / "other")
    with pytest.raises(StorageError, match=message):
        restore(other.database, folder)
    assert other.studies() == []
    (folder / file).write_bytes(whole)
    assert restore(other.database, folder)
    assert state(other) == state(store)


@pytest.mark.slow
def test_both_databases_are_copied_as_of_one_moment(tmp_path, any_database, monkeypatch):
    store, study = make_study(tmp_path, any_database)
    sessions, one = RaterSessions(store), store.invite("phantoms", ["A"])[0]
    sessions.register(one.token, "owl", "x", True)
    answer_all(sessions, one.token, study.config)
    before, query = state(store), snapshot.query

    def meanwhile(table, name):
        if table is answers:  # the raters are read, their answers not yet
            store.withdraw(one.rater)
        return query(table, name)

    monkeypatch.setattr(snapshot, "query", meanwhile)
    monkeypatch.setattr(store.database, "forget_log", lambda: None)  # would wait for this reader
    assert state(store) == before
    monkeypatch.setattr(snapshot, "query", query)
    assert len(state(store)["withdrawals.jsonl"].splitlines()) == 1
    assert not state(store)["answers.jsonl"]
    folder = tmp_path / "files" / "phantoms"
    folder.mkdir(parents=True)
    for name, data in before.items():
        (folder / name).write_bytes(data)
    dump_images(store.database, "phantoms", folder / "images.zip")
    with store.database.write() as connection:
        for table in (withdrawals, answers, presentations, raters, images, items, studies):
            connection.execute(delete(table))
    assert restore(store.database, folder)
    assert not restore(store.database, folder)
    sessions.withdraw(one.token)  # its numbers are the database's own: more rows can follow
    assert RaterSessions(store).store.withdrawals("phantoms")[0].answers_deleted == study.config.rated
    store.database.close()


def test_every_table_is_copied():
    assert {*TABLES, images} == set(metadata.tables.values())
