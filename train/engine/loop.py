"""The training loop of every stage, from the first update to the exported model; read it from top to bottom.

A stage is an object with the few methods of ``train.engine.stage.Stage``; the loop does not know what it trains. ``step``
counts optimiser updates from 0. All randomness of an update is a function of (seed, step, position in the update), never of
the process layout, of the accumulation or of how often the run was resumed. An update reads nothing back from the device, so
the host can be some updates ahead of it.

By hand and not a trainer library's, because that keyed randomness and a resume that is exact to the bit are tested here.
"""

from __future__ import annotations

import json
import time
from contextlib import nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from train.engine import messages
from train.engine.checkpoints import CheckpointWriter, SaveError, go_on
from train.engine.config import LoopConfig
from train.engine.disk import DiskFull, quiet_log_thread, replacing, writing
from train.engine.identity import settings_of
from train.engine.log import Throughput, TrainingLog
from train.engine.randomness import Draws, sample_order
from train.engine.readings import NotFinite
from train.engine.schedule import learning_rate
from train.engine.signals import StopAgreement, StopSignals, interrupted
from train.engine.stage import ParameterGroup, Stage
from train.engine.trainer import Trainer

__all__ = ["LoopConfig", "ParameterGroup", "Stage", "Trainer", "interrupted", "run", "train", "update"]


def run(
    stage: Stage, config: LoopConfig, facts: dict[str, Any] | None = None, then: str | None = None
) -> int:
    """Train ``stage`` until ``max_steps`` (or ``extend_to``), ``minutes`` or Ctrl-C; returns the updates done so far.

    Args:
        facts: settings of the stage and digests of its data, written to ``run.json``; a continuation must have the same.
        then: what to do with the model of a complete run. None: nothing is printed about the step at which the run continues or ends.

    Raises:
        ResumeError: ``config.out`` holds another run.
        ValueError: the batch cannot be split into processes and accumulation steps.
        FloatingPointError: the loss or the gradient is no longer finite. It is noticed when losses are read, at the latest
            before the next checkpoint, which is then not written. The model of the one before is exported.
        SaveError: a checkpoint, the log or the model could not be written.
    """
    trainer = Trainer(stage, config, facts)
    reports = then is not None and trainer.main
    checkpoints = CheckpointWriter(config.out / "checkpoints", config.keep_checkpoints)
    try:
        with quiet_log_thread():
            log = _opened_log(trainer) if trainer.main else None
            if reports and trainer.resumed:
                _print_continuation(trainer)
            with checkpoints:
                try:
                    train(trainer, checkpoints, log)
                except NotFinite as error:
                    checkpoints.wait()
                    raise FloatingPointError(f"{error} {trainer.export_last_checkpoint()}") from error
            if log is not None:
                trainer.export()
                log.close()
    except DiskFull as error:
        raise SaveError(f"{error} {go_on(checkpoints.folder)}") from error
    except KeyboardInterrupt:
        if reports:
            print(messages.broken_off(config.out), flush=True)
        raise
    if then is not None and trainer.main:
        print(messages.ended(config.out, trainer.step, trainer.ends[-1], then), flush=True)
    return trainer.step


def train(trainer: Trainer, checkpoints: CheckpointWriter, log: TrainingLog | None) -> None:
    """Update until the run's end, its minutes or Ctrl-C, and read losses, evaluate and save at the intervals of the settings."""
    config, end, started = trainer.config, trainer.ends[-1], time.monotonic()
    speed, processes, stop = Throughput(config.batch_size, trainer.step), StopAgreement(trainer.world), False
    with (
        StopSignals() as signals,
        tqdm(
            total=end, initial=trainer.step, unit="step", dynamic_ncols=True, disable=not trainer.main
        ) as bar,
    ):
        while trainer.step < end and not stop:
            update(trainer)
            bar.update()
            step, last = trainer.step, trainer.step == end
            late = config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            stop = processes.any_process(signals.received or late)
            reads, evaluates, saves = (
                last or step % every == 0
                for every in (config.log_every, config.evaluate_every, config.checkpoint_every)
            )
            saves = saves or stop
            # Reading waits for the device, and raises NotFinite before anything spoilt is evaluated or saved.
            losses = trainer.readings.read() if reads or evaluates or saves else {}
            if reads:
                rate, samples = learning_rate(config, step - 1, trainer.ends), speed.samples_per_second(step)
                bar.set_postfix(loss=f"{losses['total']:.4f}", samples_per_s=f"{samples:.1f}")
                if log is not None:
                    log.add("train", losses | {"learning_rate": rate, "samples_per_s": samples}, step)
            if evaluates and log is not None:
                with trainer.averaged(), speed.paused(), writing("the sample sheet"):
                    figures = trainer.stage.evaluate(step, log.writer)
                    log.add("val", figures, step)
                for name, value in figures.items():
                    bar.write(f"step {step}: val {name} {value:.5g}")
            if trainer.main:
                checkpoints.check()
                if saves:
                    checkpoints.save(step, trainer.state())


def update(trainer: Trainer) -> None:
    """One optimiser update: forward and backward passes of the batch's parts, clipping, AdamW, the average of the weights."""
    config, step, micro = (
        trainer.config,
        trainer.step,
        trainer.config.batch_size // trainer.config.accumulation,
    )
    rate = learning_rate(config, step, trainer.ends)
    for group, relative in zip(trainer.optimiser.param_groups, trainer.relative_rates, strict=True):
        group["lr"] = rate * relative
    order = sample_order(config.seed, trainer.stage.size, step * config.batch_size, config.batch_size)
    sums: dict[str, Tensor] = {}
    for part in range(config.accumulation):
        rows = np.arange(part * micro, (part + 1) * micro)[trainer.accelerator.process_index :: trainer.world]
        draws = Draws(seed=config.seed, step=step, count=config.batch_size, rows=rows, device=trainer.device)
        batch = trainer.stage.batch(order[rows], draws, trainer.device)
        complete = part == config.accumulation - 1  # processes exchange gradients once an update
        with nullcontext() if complete else trainer.accelerator.no_sync(trainer.module):
            # Beyond max_steps, in an extension, the losses' schedule stays as at its end.
            losses = trainer.module(batch, min(step, config.max_steps), config.max_steps)
            trainer.accelerator.backward(losses["total"] / config.accumulation)
        for name, value in losses.items():
            share = value.detach() / config.accumulation
            sums[name] = sums[name] + share if name in sums else share
    trainer.readings.add(step, sums | {"gradient_norm": _limited_gradient(trainer)})
    trainer.optimiser.step()
    trainer.optimiser.zero_grad(set_to_none=True)
    if trainer.average:
        trainer.average.update()
    trainer.step += 1


def _limited_gradient(trainer: Trainer) -> Tensor:
    """Scale the gradient down to ``clip_norm``; returns its norm before, a scalar on the device."""
    if trainer.config.clip_norm is not None:
        norm = trainer.accelerator.clip_grad_norm_(trainer.parameters, trainer.config.clip_norm)
        return cast(Tensor, norm)  # None with DeepSpeed only
    trainer.accelerator.unscale_gradients()
    return torch.nn.utils.get_total_norm([p.grad for p in trainer.parameters if p.grad is not None])


def _opened_log(trainer: Trainer) -> TrainingLog:
    """The run's log; before it, OUT/run.json with all that a continuation must have in common."""
    out = trainer.config.out
    record = settings_of(trainer.config) | trainer.facts | {"ends": trainer.ends}
    with writing(f"{out / 'run.json'}"):
        out.mkdir(parents=True, exist_ok=True)
        with replacing(out / "run.json") as part:
            part.write_text(json.dumps(record, indent=1))
    return TrainingLog(out, trainer.step + 1 if trainer.resumed else None)


def _print_continuation(trainer: Trainer) -> None:
    out, max_steps = trainer.config.out, trainer.config.max_steps
    print(
        messages.continues(
            out,
            step=trainer.step,
            ends=trainer.ends,
            max_steps=max_steps,
            schedule=lambda step: trainer.stage.schedule(step, max_steps),
        ),
        flush=True,
    )
