"""What ``python -m train all`` remembers of a run: what it was asked for, its paces, and each stage's updates.

    OUT/plan.json               request, paces, and the updates of each stage that has begun
    OUT/STAGE/progress.json     updates done, seconds taken and whether the stage is complete

Both are replaced in one step: a kill leaves the old or the new one. The updates of a stage are fixed when it begins,
because the losses' ramp and the schedule of the learning rate are relative to them.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from train.engine.disk import replacing, writing
from train.recipe.rehearsal import Pace
from train.recipe.stages import Recipe, StageShare, Workplace

MIN_STEPS = 10
"""Updates that each stage makes at least, however few the minutes."""
_SLOWEST, _QUICKEST = 3.0, 0.5
"""Bounds of how far finished stages correct the paces of those to come."""


class PlanError(ValueError):
    """The folder holds another run, or a damaged plan; the message says what to do."""


def write_json(file: Path, values: object) -> None:
    """Replace ``file`` in one step, so that it is whole at any moment."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with writing(str(file)), replacing(file) as part, open(part, "w", encoding="utf-8") as stream:
        stream.write(json.dumps(values, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())


@dataclass(frozen=True)
class Progress:
    """How far a stage is."""

    updates: int = 0
    seconds: float = 0.0
    complete: bool = False

    @classmethod
    def of(cls, run: Path) -> Progress:
        """That of a run's folder. After a kill the newest checkpoint is ahead of the record, which then has too few seconds.

        Raises:
            PlanError: the record is damaged.
        """
        file = run / "progress.json"
        try:
            known = cls(**json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else cls()
        except (ValueError, TypeError) as error:
            raise PlanError(
                f"{file} is damaged ({error}); remove it, and the stage continues from its newest checkpoint."
            ) from error
        saved = [
            int(p.name.split("-")[1])
            for p in (run / "checkpoints").glob("step-*")
            if p.suffix != ".part" and (p / "state.pt").is_file()
        ]
        return dataclasses.replace(
            known, updates=max([known.updates, *saved]), complete=known.complete and (run / "model").is_dir()
        )

    def save(self, run: Path) -> None:
        """Write it to a run's folder."""
        write_json(run / "progress.json", dataclasses.asdict(self))


@dataclass
class Plan:
    """The contents of plan.json."""

    request: dict[str, Any]
    """What the run was asked for, and the recipe's settings: a continuation has to have the same."""
    paces: dict[str, Pace] = field(default_factory=dict)
    rehearsed: float = 0.0
    """Seconds that were spent before the first stage."""
    updates: dict[str, int] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    """Seconds that each stage which has begun was expected to take."""
    published: bool = False

    @classmethod
    def read(cls, file: Path) -> Plan | None:
        """The plan in ``file``, or None.

        Raises:
            PlanError: the file is damaged.
        """
        if not file.is_file():
            return None
        try:
            values = json.loads(file.read_text(encoding="utf-8"))
            return cls(**values | {"paces": {name: Pace(**pace) for name, pace in values["paces"].items()}})
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise PlanError(
                f"{file} is damaged ({error!r}); give another --out, or remove that folder to begin anew."
            ) from error

    def save(self, file: Path) -> None:
        """Write it."""
        write_json(file, dataclasses.asdict(self))


def difference(before: dict[str, Any], now: dict[str, Any], where: str = "") -> list[str]:
    """What differs between two requests, in words."""
    told = []
    for name in sorted(before.keys() | now.keys()):
        a, b, title = before.get(name), now.get(name), f"{where}{name}"
        if isinstance(a, dict) and isinstance(b, dict):
            told += difference(a, b, f"{title} ")
        elif a != b:
            told.append(
                f"the {name[:-6]} have changed"
                if name.endswith("_files")
                else f"{title} was {_shown(a)}, now {_shown(b)}"
            )
    return told


def _shown(value: Any) -> str:
    return "not given" if value is None else json.dumps(value) if isinstance(value, str) else str(value)


@dataclass(frozen=True)
class Outlook:
    """A stage as it is planned: all updates of it, those still to make, and seconds to its end."""

    updates: int
    left: int
    seconds: float


def outlook(
    recipe: Recipe, plan: Plan, place: Workplace, minutes: float | None, extend: bool
) -> dict[str, Outlook]:
    """Every stage's updates and time, in order; what one leaves of its minutes goes to the following ones.

    Without ``minutes`` the recipe's numbers of updates. With them, what remains after all that has been spent and after
    what is needed beside the updates is shared out by the recipe's table; never more than its updates unless ``extend``.
    """
    done = {s.name: Progress.of(place.run(s.name)) for s in recipe.stages}
    slower = _slowdown(recipe, plan, done)
    left = (
        math.inf
        if minutes is None
        else 60 * minutes
        - plan.rehearsed
        - sum(p.seconds for p in done.values())
        - plan.paces["publish"].begin
    )
    beside = {
        s.name: 0.0
        if done[s.name].complete
        else slower * (plan.paces[s.name].begin + plan.paces[s.name].evaluation)
        for s in recipe.stages
    }
    left -= sum(beside.values())
    coming = [s for s in recipe.stages if s.name not in plan.updates]
    begun = {s.name: plan.updates[s.name] for s in recipe.stages if s.name in plan.updates}
    left -= sum(
        0.0 if done[name].complete else slower * plan.paces[name].update * (count - done[name].updates)
        for name, count in begun.items()
    )
    found = {}
    for stage in recipe.stages:
        pace, progress = slower * plan.paces[stage.name].update, done[stage.name]
        if stage.name in begun:
            count = begun[stage.name]
        else:
            count = _count(
                stage, left * stage.share / sum(s.share for s in coming), pace, minutes is not None and extend
            )
            coming.remove(stage)
            left -= count * pace
        rest = 0 if progress.complete else max(0, count - progress.updates)
        further = 0 if progress.complete else count // stage.configured(place, count).loop.evaluate_every - 1
        seconds = (
            0.0
            if progress.complete
            else rest * pace
            + beside[stage.name]
            + max(0, further) * slower * plan.paces[stage.name].evaluation
        )
        found[stage.name] = Outlook(count, rest, seconds)
    return found


def _count(stage: StageShare, seconds: float, pace: float, extend: bool) -> int:
    if math.isinf(seconds):
        return stage.updates
    fit = max(MIN_STEPS, math.floor(seconds / pace))
    return fit if extend and stage.extends else min(fit, stage.updates)


def _slowdown(recipe: Recipe, plan: Plan, done: dict[str, Progress]) -> float:
    """How much longer complete stages took than expected: the machine may have other work by now."""
    complete = [s.name for s in recipe.stages if done[s.name].complete and s.name in plan.expected]
    expected = sum(plan.expected[name] for name in complete)
    took = sum(done[name].seconds for name in complete)
    return min(_SLOWEST, max(_QUICKEST, took / expected)) if expected else 1.0
