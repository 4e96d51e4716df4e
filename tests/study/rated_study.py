"""Studies with random answers."""

from __future__ import annotations

import random

from siamese.study.rating.judgement import Judgement
from siamese.study.rating.session import RaterSessions
from siamese.study.rating.steps import Task
from siamese.study.storage.store import StudyStore
from tests.study.fixed_chance import fixed_chance
from tests.study.phantom_study import make_study
from tests.study.protocols import RANKING, REAL_SYNTHETIC

HOSTILE = "<script>alert('x')</script>\"&"


def random_judgement(protocol: str, task: Task, chance: random.Random) -> Judgement:
    """Any answer that fits."""
    if protocol == RANKING:
        return Judgement(
            {
                "ranks": dict(
                    zip(
                        task.items, chance.sample(range(1, len(task.items) + 1), len(task.items)), strict=True
                    )
                )
            },
            None,
            "",
            800,
        )
    response = (
        {"real": chance.random() < 0.5}
        if protocol == REAL_SYNTHETIC
        else {"chosen": chance.choice(task.items)}
    )
    return Judgement(response, chance.randint(1, 10), HOSTILE, chance.randint(500, 4000))


def rated_study(folder, raters: int = 3, most: int | tuple[int, ...] = 10**9, **changes) -> StudyStore:
    """A study with random answers, at most ``most`` a rater, or as many as it says for each."""
    # The orders are fixed: which answer an image gets depends on them, and some answers leave no interval.
    with fixed_chance(changes.get("id", "phantoms")):
        store, study = make_study(folder, **changes)
        sessions, chance = RaterSessions(store), random.Random(5)
        for n, screens in enumerate([most] * raters if isinstance(most, int) else most):
            token = store.invite(study.config.id, [f"Dr Secret {n}"])[0].token
            step = sessions.register(token, f"owl{n}", HOSTILE, True)
            for count in range(screens):
                if not step.task:
                    break
                judgement = random_judgement(study.config.protocol, step.task, chance)
                step = sessions.answer(token, step.task.id, str(count), judgement).step
    return store
