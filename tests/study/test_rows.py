"""What the statistics are fed with."""

from __future__ import annotations

import pytest

from siamese.study.answers.export import read_answers
from siamese.study.answers.rows import rows_of
from siamese.study.rating.judgement import Judgement
from siamese.study.rating.session import RaterSessions
from tests.study.phantom_study import answer_all, make_study
from tests.study.protocols import PROTOCOLS


@pytest.mark.slow
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_rows_for_the_statistics(tmp_path, protocol):
    store, study = make_study(tmp_path, protocol=protocol, training=2, repeats=2)
    sessions = RaterSessions(store)
    for label in ("A", "B"):
        token = store.invite("phantoms", [label])[0].token
        sessions.register(token, label, "x", True)
        answer_all(sessions, token, study.config)
    task, _ = sessions.previous(token)
    last = {
        "real_synthetic": {"real": False},
        "ranking": {"ranks": dict(zip(task.items, (3, 1, 2), strict=False))},
        "pairwise": {"chosen": task.items[-1]},
    }[protocol]
    sessions.answer(
        token, task.id, "c", Judgement(last, None if protocol == "ranking" else 1), correction=True
    )
    given = read_answers(store, "phantoms")
    rows = rows_of(study.config, given.answers)
    each = 3 if protocol == "ranking" else 1
    assert len(rows) == each * 2 * (2 + study.config.rated)
    assert sum(r.training for r in rows) == each * 4
    assert sum(r.repeat for r in rows) == each * 4
    assert {r.rater for r in rows} == {"rater 1", "rater 2"}
    assert {r.seconds for r in rows} >= {0.9}
    corrected = given.answers[-1]
    assert corrected.current
    assert corrected.supersedes == len(given.answers) - 1
    assert not given.answers[-2].current
    if protocol == "real_synthetic":
        assert {r.method for r in rows} == {"real", "ControlNet", "Ours"}
        assert rows[-1].real == 0
        assert rows[-1].confidence == 1
    elif protocol == "ranking":
        assert [r.rank for r in rows[-3:]] == [3, 1, 2]
        assert [r.method for r in rows[-3:]] == list(corrected.methods)
    else:
        assert all("real" in (r.winner, r.loser) for r in rows)
        assert rows[-1].winner == corrected.methods[1]
        assert rows[-1].loser == corrected.methods[0]
    store.exclude(store.progress("phantoms")[0].rater, "too fast")
    assert {r.rater for r in rows_of(study.config, read_answers(store, "phantoms").answers)} == {"rater 2"}
