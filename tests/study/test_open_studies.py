"""What visitors are told of open studies, and how long a study takes."""

from __future__ import annotations

import pytest

from siamese.study.rating import duration
from siamese.study.rating.duration import Duration, assumed_seconds, expected_duration, round_minutes
from siamese.study.rating.open_studies import OpenStudies
from siamese.study.rating.session import RaterSessions
from siamese.study.storage.database import StorageError
from tests.study.phantom_study import answer_all, config, make_study
from tests.study.protocols import RANKING


@pytest.fixture
def study(tmp_path):
    """Store and configuration of an open study of 12 screens, two more for practice."""
    store, made = make_study(tmp_path, training=2)
    yield store, made.config
    store.database.close()


def test_only_open_studies_are_listed_without_ids_methods_or_links(study):
    store, config = study
    token = store.invite(config.id, ["Dr Secret"])[0].token
    (found,) = OpenStudies(store)()
    assert (found.title, found.practice) == ("Phantoms", 2)
    assert found.kind == "Real or synthetic, one at a time"
    assert found.duration == Duration(14, 3, measured=False)  # 14 screens of 10 s
    for secret in (token, "Dr Secret", config.id, "ControlNet", "Ours", config.hash()):
        assert secret not in repr(found)
    store.close(config.id)
    assert OpenStudies(store)() == ()
    store.open(config.id)
    assert len(OpenStudies(store)()) == 1


def test_a_list_is_kept_for_a_moment_and_an_error_too(study, monkeypatch):
    store, config = study
    now, asked, listed = [100.0], [], OpenStudies(store)
    read = store.studies
    monkeypatch.setattr("siamese.study.rating.open_studies.time.monotonic", lambda: now[0])
    monkeypatch.setattr(store, "studies", lambda: asked.append(1) or read())
    assert listed() is listed()
    store.close(config.id)
    assert len(listed()) == 1
    now[0] += 5
    assert listed() == ()
    assert len(asked) == 2

    def away():
        asked.append(1)
        raise StorageError("the database is away.")

    monkeypatch.setattr(store, "studies", away)
    now[0] += 5
    for _ in range(3):
        with pytest.raises(StorageError, match="away"):
            listed()
    assert len(asked) == 3


def test_a_study_that_was_rated_tells_its_own_pace(study, monkeypatch):
    store, config = study
    sessions, token = RaterSessions(store), store.invite(config.id, ["A"])[0].token
    sessions.register(token, "owl", "resident", True)
    assert answer_all(sessions, token, config) == 14  # 12 of them count, each took 0.9 s
    with store.database.read() as connection:
        assert not expected_duration(connection, config).measured
        monkeypatch.setattr(duration, "ENOUGH", 12)
        assert expected_duration(connection, config) == Duration(14, 1, measured=True)
        monkeypatch.setattr(duration, "ENOUGH", 13)  # practice does not tell
        assert not expected_duration(connection, config).measured


def test_assumed_time_grows_with_the_images_of_a_screen():
    assert assumed_seconds(config()) == 10
    assert assumed_seconds(config(protocol=RANKING)) == 18  # three images, no confidence


@pytest.mark.parametrize(
    ("seconds", "minutes"), [(0, 1), (60, 1), (61, 2), (1200, 20), (1201, 25), (1501, 30)]
)
def test_minutes_are_rounded_up(seconds, minutes):
    assert round_minutes(seconds) == minutes
