"""Acknowledged answers survive kill -9, and a few raters at once are served."""

from __future__ import annotations

import os

import pytest

from tests.tools.kill import kill_often
from tests.tools.load import measure

KILLS = int(os.environ.get("SIAMESE_KILLS", "5"))
"""Continuous integration asks for 20, as docs/deployment.md reports; ``python -m tests.tools.kill --kills 200`` does more."""


@pytest.mark.slow
def test_no_acknowledged_answer_is_lost_or_doubled(tmp_path):
    outcome = kill_often(tmp_path, KILLS, seed=1, forked=True)
    assert outcome.lost == 0
    assert outcome.duplicated == 0
    assert outcome.integrity == "ok"
    assert outcome.kills == KILLS
    assert outcome.acknowledged >= KILLS
    assert outcome.retries > 0


@pytest.mark.slow
def test_some_raters_at_once(tmp_path):
    load = measure(tmp_path, 4, 2, 0.3, 128)
    assert load.answers > 5
    assert load.p95 < 5000
