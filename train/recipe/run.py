"""All stages of a preset's recipe in order, from images and masks to a folder that the app opens.

    python -m train all --data my_pairs --prompt "a photo of a leaf with rust" --minutes 30

Stopped at any moment, by Ctrl-C, SIGTERM or kill -9, the same command continues: complete stages are skipped, one that
was interrupted goes on from its newest checkpoint and ends with the weights of a run that was never stopped.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from siamese.files.atomic import replacing
from siamese.masks.shapes import PACKAGED, load_statistics, save_statistics
from siamese.models.checkpoint import weights_hash
from siamese.models.presets import PRESETS
from siamese.records.subjects import Subject, named
from train.data.pairs import Pair, check_pairs, fingerprint, read_pairs
from train.engine import identity, loop, messages
from train.engine.messages import STOPPED
from train.engine.precision import resolved
from train.evaluation.synthesis import SamplingOptions
from train.recipe.plan import MIN_STEPS, Outlook, Plan, PlanError, StageProgress, difference, outlook
from train.recipe.rehearsal import rehearse
from train.recipe.stages import RECIPES, StageShare, TrainingRecipe, Workplace
from train.stages.lesion_shapes import fit_enough
from train.tools import publish

PERCEPTUAL = "alexnet_lpips.safetensors"


@dataclass(frozen=True)
class AllConfig:
    """Train every stage of a preset's recipe and publish the model: autoencoder, base, Siamese, decoder, segmenter."""

    data: tuple[Path, ...]
    """Folders with images/, masks/ and optional split files, or JSON-lines files {source, target, prompt}."""
    prompt: str | None = None
    """Prompt of all pairs, for example "a photo of a leaf with rust", instead of what JSON lines or a known data set's name say; none: those."""
    name: str | None = None
    """Short name of what the images show, for the page, for example "Leaf with rust"; with --prompt only. None: the prompt."""
    noun: str | None = None
    """Word for what is drawn, for the page, for example "rust"; with --prompt only. None: "object"."""
    preset: Literal["tiny", "sd15"] = "tiny"
    """Architecture, settings and sampling (``train.recipe.presets``). tiny: the embedded model's, from scratch. sd15: the paper's,
    from Stable Diffusion 1.5 in --init."""
    init: Path | None = None
    """Model folder that sd15 starts from: Stable Diffusion 1.5 in diffusers' format."""
    minutes: float | None = None
    """How long it may take in all, shared out by the recipe's table; none: the updates that the shipped weights had."""
    extend: bool = False
    """Make more updates than the recipe if the minutes allow it (on a GPU)."""
    out: Path = Path("runs/all")
    """Folder of everything. An interrupted run there is continued; the model comes to lie in OUT/model."""
    weights: Path = Path("weights")
    """Folder of the perceptual weights (alexnet_lpips.safetensors). The word ``none``: train without them, and get blurred images."""


def main(config: AllConfig) -> None:
    """Check, plan, train, publish.

    Raises:
        DataError: pairs cannot be used.
        FileNotFoundError: no perceptual weights.
        PlanError: the folder holds another run.
        SystemExit: it was stopped, with status 130.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt  # outside the loop, which has its own way, SIGTERM is as Ctrl-C

    before = signal.signal(signal.SIGTERM, stop)
    try:
        _run(config, RECIPES[config.preset])
    except KeyboardInterrupt:
        print(
            f"\nStopped. The same command continues from there; everything is in {config.out}:\n  {messages.typed()}",
            flush=True,
        )
        raise SystemExit(STOPPED) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(config: AllConfig, recipe: TrainingRecipe) -> None:
    started = time.monotonic()
    place = workplace(config)
    train, val = (
        read_pairs(config.data, split, config.prompt, required=split == "train") for split in ("train", "val")
    )
    check_pairs(train + val)
    sets = sorted({pair.name.split("/")[0] for pair in train})
    _say_conditions(config, train=train, val=val, sets=sets)
    plan = plan_of(config, recipe=recipe, place=place, train=train, val=val)
    if not plan.paces:
        _say("Rehearsal: each stage for a few updates on a few pairs, to see how long they take here.")
        plan.paces = rehearse(
            recipe,
            train=train,
            val=val,
            place=place,
            scratch=config.out / "rehearsal",
            publish=lambda rehearsed: _publish(config, recipe=recipe, place=rehearsed, sets=sets),
        )
        plan.rehearsed = time.monotonic() - started
        plan.save(config.out / "plan.json")
    planned = outlook(recipe, plan=plan, place=place, minutes=config.minutes, extend=config.extend)
    _say(plan_table(recipe, plan, place, planned))
    if config.minutes is not None and sum(o.seconds for o in planned.values()) > 66 * config.minutes:
        _say(
            f"{config.minutes:g} minutes are too few: reading the data and {MIN_STEPS} updates of each stage take longer. The model will be poor."
        )
    for number, stage in enumerate(recipe.stages, 1):
        _stage(
            stage,
            f"{number} of {len(recipe.stages) + 1}",
            config=config,
            recipe=recipe,
            place=place,
            plan=plan,
        )
    model, last = config.out / "model", f"publish ({len(recipe.stages) + 1} of {len(recipe.stages) + 1})"
    if plan.published and (model / "model_index.json").is_file():
        _say(f"{last}: complete since before.")  # its card may have been edited by now
    else:
        _say(last)
        shapes = _fitted_shapes(train, config.out / PACKAGED)
        _publish(config, recipe=recipe, place=place, sets=sets, shapes=shapes)
        plan.published = True
        plan.save(config.out / "plan.json")
    took = plan.rehearsed + sum(StageProgress.of(place.run(s.name)).seconds for s in recipe.stages)
    _say(
        f"Done, after {took / 60:.1f} minutes of training in all. The model, {publish.megabytes(model):.1f} MB with segmenter, card and licence, "
        f"is {model}. To open it:\n  python app.py --model {model}"
    )


def _say_conditions(
    config: AllConfig, train: Sequence[Pair], val: Sequence[Pair], sets: Sequence[str]
) -> None:
    """Print what the run has, and what it lacks."""
    _say(
        f"Recipe {config.preset}, {len(train)} training and {len(val)} validation pairs ({', '.join(sets)})."
    )
    if not val:
        _say(
            "No validation pairs (no val.txt): neither the autoencoder's PSNR, nor losses, nor the segmenter's Dice on images that were not "
            "learnt from are measured."
        )
    if str(config.weights) == "none":
        _say("Without perceptual weights, as given by --weights none: images will be blurred.")
    if resolved("auto") == "no":
        _say("In float32: this machine does not calculate in bfloat16, or only by imitating it.")


def workplace(config: AllConfig) -> Workplace:
    """Where the run lies and what it learns from.

    Raises:
        FileNotFoundError: the perceptual weights are missing, and ``--weights none`` was not given.
        ValueError: options that do not go together, or several processes.
    """
    if (config.minutes is not None and config.minutes <= 0) or (config.extend and config.minutes is None):
        raise ValueError("--minutes must be positive, and --extend needs them.")
    if RECIPES[config.preset].needs_init != (config.init is not None):
        raise ValueError(
            "--preset sd15 needs --init, the folder of Stable Diffusion 1.5; tiny starts from scratch."
        )
    if config.name is not None or config.noun is not None:
        _subject(config)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise ValueError("`all` runs in one process; under torchrun train the stages one by one.")
    place = Workplace(config.out, config.data, config.prompt, init=config.init)
    perceptual = {"vae", "decoder"} & {stage.name for stage in RECIPES[config.preset].stages}
    if str(config.weights) == "none" or not perceptual:
        return place
    if not (config.weights / PERCEPTUAL).is_file():
        raise FileNotFoundError(
            f"{config.weights / PERCEPTUAL}: no perceptual weights. They sharpen what the autoencoder draws. Give their folder "
            "with --weights (its README or `python -m train vae --help` says what belongs there), or train without them, "
            "for blurred images, with --weights none. Nothing has been trained yet."
        )
    return dataclasses.replace(place, weights=config.weights)


def plan_of(
    config: AllConfig, recipe: TrainingRecipe, place: Workplace, train: Sequence[Pair], val: Sequence[Pair]
) -> Plan:
    """The plan of ``config.out``, or a new one if nothing was begun there.

    Raises:
        PlanError: another run was begun there.
    """
    request = {
        "preset": config.preset,
        "minutes": config.minutes,
        "extend": config.extend,
        "prompt": config.prompt,
        "perceptual weights": place.weights is not None,
        "training pairs_files": fingerprint(train),
        "validation pairs_files": fingerprint(val),
        **({} if config.init is None else {"init": weights_hash(config.init)}),
        "recipe": {stage.name: _settings(stage, place) for stage in recipe.stages}
        | {"network": PRESETS[config.preset].to_dict()},
    }
    request = json.loads(json.dumps(request))  # tuples become lists, as in the file
    plan = Plan.read(config.out / "plan.json")
    if plan is None:
        if any((place.run(s.name) / "checkpoints").is_dir() for s in recipe.stages):
            raise PlanError(
                f"{config.out} holds checkpoints of single stages, but no plan.json; give another --out."
            )
        return Plan(request)
    if other := difference(plan.request, request):
        raise PlanError(
            f"{config.out} holds a run of another kind: {'; '.join(other)}. To continue it give what it was begun with; "
            "for a new run give another --out."
        )
    return plan


def _settings(stage: StageShare, place: Workplace) -> dict[str, Any]:
    """A stage's settings without places, which may move."""
    config = stage.configured(place, stage.updates)
    kept = {
        k: v
        for k, v in dataclasses.asdict(config).items()
        if k not in ("data", "prompt", "subject") and not isinstance(v, Path)
    }
    return kept | {"loop": identity.settings_of(config.loop)}


def plan_table(recipe: TrainingRecipe, plan: Plan, place: Workplace, planned: dict[str, Outlook]) -> str:
    """The plan as text: stage, what it does, updates, minutes, folder."""
    rows = [("stage", "what it does", "updates", "minutes", "folder")]
    for stage in recipe.stages:
        ahead = planned[stage.name]
        done = StageProgress.of(place.run(stage.name)).complete
        updates = f"{ahead.updates:,}" if ahead.left in (0, ahead.updates) else f"{ahead.left:,} more"
        rows.append(
            (
                stage.name,
                stage.does,
                updates,
                "done" if done else f"{ahead.seconds / 60:.1f}",
                str(place.model(stage.name)),
            )
        )
    rows.append(
        (
            "publish",
            "the folder for the app",
            "",
            f"{plan.paces['publish'].begin / 60:.1f}",
            str(place.out / "model"),
        )
    )
    left = sum(o.seconds for o in planned.values()) + plan.paces["publish"].begin
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    lines = [
        f"  {a:{widths[0]}}  {b:{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}  {e}"
        for a, b, c, d, e in rows
    ]
    return "\n".join(
        [
            "The plan:",
            *lines,
            f"About {_minutes(left)}, until {_clock(left)}. "
            "It can be stopped at any time; the same command continues.",
        ]
    )


def _stage(
    stage: StageShare, number: str, config: AllConfig, recipe: TrainingRecipe, place: Workplace, plan: Plan
) -> None:
    """Train one stage to its end, unless it is complete.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM came.
    """
    run = place.run(stage.name)
    progress = StageProgress.of(run)
    if progress.complete:
        _say(f"{stage.name} ({number}): complete since before, {progress.updates:,} updates.")
        return
    planned = outlook(recipe, plan=plan, place=place, minutes=config.minutes, extend=config.extend)
    ahead = planned[stage.name]
    if stage.name not in plan.updates:
        plan.updates[stage.name], plan.expected[stage.name] = ahead.updates, ahead.seconds
        plan.save(config.out / "plan.json")
    names = [s.name for s in recipe.stages]
    after = sum(planned[name].seconds for name in names[names.index(stage.name) + 1 :])
    more = f"{ahead.left:,} more of {ahead.updates:,}" if progress.updates else f"{ahead.updates:,}"
    _say(
        f"\n{stage.name} ({number}), {stage.does}: {more} updates, about {_minutes(ahead.seconds)}, until {_clock(ahead.seconds)}; "
        f"afterwards about {_minutes(after)} for the stages that follow."
    )
    # A session that was killed has left no record of its time.
    spent = max(progress.seconds, progress.updates * plan.paces[stage.name].update)
    started, done, complete = time.monotonic(), progress.updates, False
    try:
        done = stage.train(stage.configured(place, ahead.updates, plan.paces[stage.name].update))
        complete = done >= ahead.updates
    finally:
        StageProgress(done, spent + time.monotonic() - started, complete).save(run)
    if loop.interrupted():
        raise KeyboardInterrupt
    if not complete:
        raise RuntimeError(
            f"{stage.name} ended after {done} of {ahead.updates} updates though nobody stopped it."
        )


def _fitted_shapes(pairs: Sequence[Pair], file: Path) -> Path | None:
    """``file`` with the shapes of the subjects that have enough pairs and no packaged shapes; None if there are none."""
    known = load_statistics()
    statistics = fit_enough([pair for pair in pairs if pair.prompt not in known])
    if not statistics:
        return None
    with replacing(file) as part:
        save_statistics(statistics, part)
    return file


def _publish(
    config: AllConfig,
    recipe: TrainingRecipe,
    place: Workplace,
    sets: Sequence[str],
    shapes: Path | None = None,
) -> None:
    """Write the published folder, and replace what it held."""
    subject = None if config.name is None and config.noun is None else _subject(config)
    publish.publish(
        publish.PublishConfig(
            model=place.model(recipe.published),
            out=place.out / "model",
            segmenter=place.model(recipe.segmenter),
            trained_on=tuple(sets),
            runs=tuple(place.run(s.name) for s in recipe.stages),
            shapes=shapes,
            names=() if subject is None else ((subject.prompt, subject.name, subject.noun),),
            title="" if subject is None else subject.name,
            card=True,
            sampling=SamplingOptions(**dataclasses.asdict(recipe.sampling)),
        )
    )


def _subject(config: AllConfig) -> Subject:
    """The subject of the names that were given.

    Raises:
        ValueError: they have no prompt.
    """
    if not config.prompt:
        raise ValueError("--name and --noun name the images of one --prompt; give it, too.")
    return named(config.prompt, config.name, config.noun)


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"


def _clock(seconds: float) -> str:
    return f"{datetime.now() + timedelta(seconds=seconds):%H:%M}"


def _say(text: str) -> None:
    print(text, flush=True)
