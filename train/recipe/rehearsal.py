"""Rehearsal: every stage of a recipe for a few updates on a few pairs, thrown away afterwards.

It measures how long an update of each stage takes here, before hours are spent, and fails early if a stage cannot run.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from train.data.pairs import Pair
from train.engine import loop
from train.recipe.stages import StageShare, TrainingRecipe, Workplace

FEW, MANY = 4, 20
"""Pairs on which each stage begins; the difference is what a further pair costs."""
UPDATES, MORE_UPDATES = (1, 1), (5, 20)
"""How many updates are not timed, and how many are: more if they are quick."""
QUICK = 0.5
"""Seconds below which an update is quick."""


@dataclass(frozen=True)
class Pace:
    """How long a stage takes on this machine, in seconds."""

    update: float
    evaluation: float
    begin: float
    """Before the first update: reading images, caching latents."""


class Timed:
    """A stage that notes when each of its updates begins, and how long it evaluates. Everything else is the stage's."""

    def __init__(self, stage: loop.Stage, config: loop.LoopConfig) -> None:
        self._stage, self.settings = stage, config
        self.marks: list[float] = []
        self.evaluation = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stage, name)

    def batch(self, *arguments: Any) -> dict[str, Tensor]:
        """The stage's batch, with which an update begins."""
        self.marks.append(_now())
        return self._stage.batch(*arguments)

    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Makes the stage's figures, right after the last update, and returns none: they are of a few updates."""
        self.marks.append(_now())
        self._stage.evaluate(step, writer)
        self.evaluation = _now() - self.marks[-1]
        return {}

    def seconds(self, warm_up: int) -> float:
        """Mean duration of an update after the first ``warm_up``."""
        return float(np.diff(self.marks[:: self.settings.accumulation])[warm_up:].mean())


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()  # otherwise the time would be when work was queued
    return time.monotonic()


def rehearse(
    recipe: TrainingRecipe,
    train: Sequence[Pair],
    val: Sequence[Pair],
    place: Workplace,
    scratch: Path,
    publish: Callable[[Workplace], object],
) -> dict[str, Pace]:
    """Pace of each stage, and of ``publish``, on data like ``train`` and ``val``.

    Args:
        scratch: folder that is made and removed.
        publish: writes the model of a workplace.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    shutil.rmtree(scratch, ignore_errors=True)  # of one that was killed
    try:
        few, many = (
            dataclasses.replace(
                place, out=scratch, **_some_pairs(scratch / f"{count} pairs", train, val, count)
            )
            for count in (FEW, MANY)
        )
        sizes = [len(_chosen(train, count)) + len(_chosen(val, count // 4)) for count in (FEW, MANY)]
        paces = {}
        for stage in recipe.stages:
            paces[stage.name] = _pace(stage, few=few, many=many, sizes=sizes, count=len(train) + len(val))
            print(f"  {stage.name}: {paces[stage.name].update:.2f} s an update", flush=True)
        start = time.monotonic()
        publish(many)
        return paces | {"publish": Pace(0.0, 0.0, time.monotonic() - start)}
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pace(stage: StageShare, few: Workplace, many: Workplace, sizes: list[int], count: int) -> Pace:
    """Pace of one stage, begun on both workplaces (of ``sizes`` pairs), for ``count`` pairs."""
    first, _ = _begun(stage, dataclasses.replace(many, data=few.data), UPDATES)
    second, timed = _begun(stage, many, UPDATES)
    update = _trained(timed, UPDATES)
    if update < QUICK:
        update = _trained(_begun(stage, many, MORE_UPDATES)[1], MORE_UPDATES)
    a_pair = max(0.0, second - first) / max(1, sizes[1] - sizes[0])
    return Pace(update, timed.evaluation, second + a_pair * max(0, count - sizes[1]))


def _begun(stage: StageShare, place: Workplace, updates: tuple[int, int]) -> tuple[float, Timed]:
    """Seconds that beginning takes, and the stage; the last of ``updates`` have the Siamese stage's augmentation, as two thirds of all have."""
    config = stage.configured(place, sum(updates))
    config = dataclasses.replace(
        config,
        loop=dataclasses.replace(config.loop, out=place.run(stage.name), checkpoint_every=sum(updates)),
    )
    start = time.monotonic()
    begun = stage.begin(config)
    return time.monotonic() - start, Timed(begun, config.loop)


def _trained(timed: Timed, updates: tuple[int, int]) -> float:
    """Seconds an update, of a stage that is trained and exported."""
    shutil.rmtree(timed.settings.out, ignore_errors=True)
    loop.run(cast(loop.Stage, timed), timed.settings)
    if loop.interrupted():
        raise KeyboardInterrupt
    return timed.seconds(updates[0])


def _chosen(pairs: Sequence[Pair], count: int) -> list[Pair]:
    """About ``count`` pairs, at least one of each prompt."""
    groups = defaultdict(list)
    for pair in pairs:
        groups[pair.prompt].append(pair)
    return [pair for group in groups.values() for pair in group[: max(1, count // len(groups))]]


def _some_pairs(folder: Path, train: Sequence[Pair], val: Sequence[Pair], count: int) -> dict[str, Any]:
    """Copies of some pairs as ``data``: training pairs as JSON lines, held-out ones of one data set as a folder of its name."""
    rows = []
    for number, pair in enumerate(_chosen(train, count)):
        image, mask = _copied(pair, folder / "train", number)
        rows.append(
            {
                "source": str(mask.relative_to(folder)),
                "target": str(image.relative_to(folder)),
                "prompt": pair.prompt,
            }
        )
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    if not val:
        return {"data": (folder / "train.jsonl",)}
    own = val[0].name.split("/")[0]  # by its name, or by the run's --prompt, its prompt is known as it was
    place, of_one = (
        folder / "held out" / own,
        [pair for pair in _chosen(val, count // 4) if pair.name.split("/")[0] == own],
    )
    names = [_copied(pair, place, number)[0].stem for number, pair in enumerate(of_one)]
    (place / "val.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    return {"data": (folder / "train.jsonl", place)}


def _copied(pair: Pair, folder: Path, number: int) -> tuple[Path, Path]:
    files = []
    for part, file in (("images", pair.image), ("masks", pair.mask)):
        files.append(folder / part / f"{number:04d}{file.suffix}")
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, files[-1])
    return files[0], files[1]
