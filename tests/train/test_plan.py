"""The plan of ``train all``: how minutes become updates, and what the rehearsal measures."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch

from siamese.records.prompts import LESION, POLYP
from tests.phantoms import write_folder
from tests.train.stages import ToyStage
from train.data.pairs import check_pairs, read_pairs
from train.engine import loop
from train.engine.loop import LoopConfig
from train.recipe.plan import MIN_STEPS, Plan, PlanError, StageProgress, difference, outlook, write_json
from train.recipe.rehearsal import Pace, Timed, _some_pairs, rehearse
from train.recipe.stages import EVALUATIONS, SECONDS_AT_RISK, TINY_RECIPE, TrainingRecipe, Workplace

NAMES = [stage.name for stage in TINY_RECIPE.stages]


def paces(update: float, begin: float = 0.0, publish: float = 0.0) -> dict[str, Pace]:
    return {name: Pace(update, 0.0, begin) for name in NAMES} | {"publish": Pace(0.0, 0.0, publish)}


def planned(place: Workplace, plan: Plan, minutes: float | None, extend: bool = False) -> dict[str, int]:
    return {name: o.updates for name, o in outlook(TINY_RECIPE, plan, place, minutes, extend).items()}


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    return Workplace(tmp_path, (tmp_path,))


def test_shares_are_of_the_whole() -> None:
    assert NAMES == ["vae", "base", "siamese", "decoder", "segment"]
    assert {s.name: s.share for s in TINY_RECIPE.stages} == {
        "vae": 0.25,
        "base": 0.35,
        "siamese": 0.27,
        "decoder": 0.05,
        "segment": 0.08,
    }
    with pytest.raises(ValueError, match=r"add up to 0.920"):
        TrainingRecipe(TINY_RECIPE.stages[:-1], TINY_RECIPE.sampling)


def test_minutes_are_shared_out_by_the_table_and_what_is_needed_beside_is_taken_off(place: Workplace) -> None:
    plan = Plan({}, paces(1.0, begin=10.0, publish=30.0), rehearsed=20.0)
    found = planned(place, plan, 1000 / 60)  # 1000 s: 20 and 30 and 5 x 10 s are taken off
    assert found == {"vae": 225, "base": 315, "siamese": 243, "decoder": 45, "segment": 72}
    seconds = sum(o.seconds for o in outlook(TINY_RECIPE, plan, place, 1000 / 60, False).values())
    assert seconds == pytest.approx(950)


def test_the_recipes_updates_are_the_most_unless_more_are_asked_for(place: Workplace) -> None:
    plan = Plan({}, paces(0.01))
    table = {s.name: s.updates for s in TINY_RECIPE.stages}
    assert planned(place, plan, None) == planned(place, plan, 60) == table
    more = planned(place, plan, 60, extend=True)
    assert more["decoder"] == table["decoder"]
    assert all(more[n] > 5 * table[n] for n in ("vae", "base", "siamese", "segment"))
    assert sum(more.values()) * 0.01 == pytest.approx(
        3600, rel=1e-3
    )  # what the decoder leaves goes to the segmenter


def test_a_stage_that_needs_less_hands_its_minutes_on(place: Workplace) -> None:
    quick = paces(1.0) | {"vae": Pace(0.001, 0.0, 0.0)}
    found = planned(place, Plan({}, quick), 1000 / 60)
    updates = TINY_RECIPE.stages[0].updates
    assert found["vae"] == updates
    assert found["base"] == math.floor((1000 - 0.001 * updates) * 0.35 / 0.75)


def test_too_few_minutes_leave_a_handful_of_updates(place: Workplace) -> None:
    assert set(planned(place, Plan({}, paces(10.0, begin=100.0)), 1).values()) == {MIN_STEPS}


def test_updates_of_a_begun_stage_stay_and_the_others_share_what_remains(place: Workplace) -> None:
    plan = Plan({}, paces(1.0), updates={"vae": 250, "base": 350})
    StageProgress(250, 450.0, True).save(place.run("vae"))
    (place.model("vae")).mkdir()
    StageProgress(100, 100.0).save(place.run("base"))
    found = outlook(TINY_RECIPE, plan, place, 1000 / 60, False)
    assert (found["vae"].left, found["vae"].seconds) == (0, 0)
    assert (found["base"].updates, found["base"].left) == (350, 250)
    assert found["siamese"].updates == math.floor(200 * 0.27 / 0.4)


def test_a_machine_that_has_become_slower_is_noticed(place: Workplace) -> None:
    plan = Plan({}, paces(1.0), updates={"vae": 250}, expected={"vae": 250.0})
    place.model("vae").mkdir(parents=True)
    StageProgress(250, 500.0, True).save(place.run("vae"))
    assert planned(place, plan, 1000 / 60)["base"] == math.floor(500 * 0.35 / 0.75 / 2)


def test_settings_shrink_with_the_updates(place: Workplace) -> None:
    base = TINY_RECIPE.stages[1]
    assert (
        base.configured(place, base.updates).loop.warmup_steps
        == base.configure(place).loop.warmup_steps
        == 200
    )
    few = base.configured(place, 100, seconds=10.0).loop
    assert few.max_steps == 100
    assert few.warmup_steps == 10
    assert few.checkpoint_every == SECONDS_AT_RISK / 10
    assert base.configured(place, 100_000).loop.evaluate_every == 100_000 / EVALUATIONS
    assert base.configured(place, 10, seconds=1000.0).loop.checkpoint_every == 1


def test_progress_counts_the_checkpoint_that_a_killed_run_left(tmp_path: Path) -> None:
    assert StageProgress.of(tmp_path) == StageProgress()
    for name in ("step-00000005", "step-00000007", "step-00000009.part"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
        (tmp_path / "checkpoints" / name / "state.pt").touch()
    StageProgress(3, 2.0, True).save(tmp_path)
    assert StageProgress.of(tmp_path) == StageProgress(7, 2.0, False), (
        "without its model folder no stage is complete"
    )


def test_a_plan_is_read_as_it_was_written(tmp_path: Path) -> None:
    plan = Plan({"a": 1}, paces(0.5), 3.0, {"vae": 5}, {"vae": 2.5}, True)
    plan.save(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]
    assert Plan.read(tmp_path / "none.json") is None
    write_json(tmp_path / "plan.json", {"request": {}, "paces": {"vae": {"speed": 1}}})
    with pytest.raises(PlanError, match="damaged"):
        Plan.read(tmp_path / "plan.json")


def test_differences_are_reported_in_words() -> None:
    assert difference(
        {"a": {"b": 1, "c": None}, "pairs_files": "x", "d": True},
        {"a": {"b": 2, "c": "t"}, "pairs_files": "y", "d": True},
    ) == ["a b was 1, now 2", 'a c was not given, now "t"', "the pairs have changed"]


def test_rehearsal_pairs_have_every_prompt_and_some_held_out(tmp_path: Path) -> None:
    polyps = write_folder(tmp_path / "kvasir-seg", 9, {"train": range(7), "val": range(7, 9)})
    lesions = write_folder(tmp_path / "isic2018", 9, {"train": range(7), "val": range(7, 9)})
    train, val = (read_pairs((polyps, lesions), split) for split in ("train", "val"))
    made = _some_pairs(tmp_path / "some", train, val, 8)
    some, held_out = (read_pairs(made["data"], split) for split in ("train", "val"))
    check_pairs(some + held_out)
    assert [sum(p.prompt == prompt for p in some) for prompt in (POLYP, LESION)] == [4, 4]
    assert len(held_out) == 1
    alone = _some_pairs(tmp_path / "alone", train, [], 8)
    assert len(read_pairs(alone["data"])) == 8
    assert not read_pairs(alone["data"], "val", required=False)
    own = write_folder(tmp_path / "ward", 9, {"train": range(7), "val": range(7, 9)})
    train, val = (read_pairs((own,), split, "a stain") for split in ("train", "val"))
    asked = _some_pairs(tmp_path / "asked", train, val, 8)
    assert {p.prompt for split in ("train", "val") for p in read_pairs(asked["data"], split, "a stain")} == {
        "a stain"
    }


def test_timed_updates_are_those_of_the_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 6.0, 8.0, 10.0, 13.0, 17.0])  # five updates, then the evaluation
    monkeypatch.setattr("train.recipe.rehearsal._now", lambda: next(clock))
    timed = Timed(ToyStage(), LoopConfig(out=tmp_path, max_steps=5, batch_size=4))
    loop.run(timed, timed.settings)
    assert timed.seconds(2) == pytest.approx((2 + 2 + 3) / 3)
    assert timed.evaluation == 4
    assert len(timed.evaluated) == 1
    assert isinstance(timed.evaluated[0][1], torch.Tensor)


def test_a_rehearsal_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(_: object) -> loop.Stage:
        raise ValueError("no such thing")

    folder = write_folder(tmp_path / "kvasir-seg", 3)
    recipe = dataclasses.replace(
        TINY_RECIPE, stages=tuple(dataclasses.replace(s, begin=fail) for s in TINY_RECIPE.stages)
    )
    with pytest.raises(ValueError, match="no such thing"):
        rehearse(
            recipe,
            read_pairs((folder,)),
            [],
            Workplace(tmp_path / "out", (folder,)),
            tmp_path / "out" / "rehearsal",
            lambda _: None,
        )
    assert not (tmp_path / "out" / "rehearsal").exists()
