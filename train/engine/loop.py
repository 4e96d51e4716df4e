"""The training loop that every stage shares: accelerate, keyed randomness, averages, checkpoints, exact resume.

A stage is an object with the few methods of ``Stage``; the loop knows nothing of what it trains. ``step`` counts
optimiser updates from 0. All randomness of a step is a function of (seed, step, position in the update), never of the
process layout, of the accumulation or of how often the run was resumed. An update asks the device nothing, so that the
host can be some updates ahead of it.
"""

from __future__ import annotations

import dataclasses
import json
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
import torch.distributed
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from train.engine import messages
from train.engine.checkpoints import (
    DRAWING,
    CheckpointWriter,
    ResumeError,
    SaveError,
    go_on,
    last_whole,
    load_checkpoint,
)
from train.engine.disk import DiskFull, quiet_log_thread, replacing, writing
from train.engine.ema import Average
from train.engine.export import written
from train.engine.identity import SETTINGS_THAT_MAY_CHANGE, of_frozen, plain
from train.engine.precision import Precision, resolved
from train.engine.randomness import Draws
from train.engine.readings import NotFinite, Readings
from train.engine.schedule import ends_of, learning_rate


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast and how safely to train. Each stage has defaults of its own, which suit small models on few images; the
    paper's are 3000 updates of batch 48 at 1e-5, betas 0.9 and 0.999, constant, in float32, without warm-up, clipping or average."""

    out: Path = Path("runs/run")
    """Folder of checkpoints, logs and the exported model. An interrupted run there is continued."""
    max_steps: int = 3000
    """Optimiser updates in all. Ramp and gate of the losses are relative to it."""
    extend_to: int | None = None
    """Train an earlier run further, to so many updates in all, with its other settings as they were. Its schedule stays max_steps':
    beyond, ramp and gate are as at its end (w_i = 1, augmentation on). A cosine rises again to the full rate and falls to 0 there."""
    batch_size: int = 48
    """Samples an optimiser update, over all processes and accumulation steps."""
    accumulation: int = 1
    """Parts that a batch is split into, to save memory."""
    learning_rate: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.01
    warmup_steps: int = 0
    """Updates over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    clip_norm: float | None = None
    """Largest norm of the gradient; none: no clipping."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the trained weights; none: no average."""
    mixed_precision: Precision = "no"
    """``auto`` is bf16 if this machine calculates in it, else float32."""
    tf32: bool = False
    """On a GPU: multiply float32 with ten bits of mantissa, several times as fast. The paper is float32."""
    compile: bool = False
    """Compile the networks' blocks (torch.compile): minutes at the start, faster updates afterwards."""
    seed: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 20
    """Updates after which the losses are read, and found to be finite or not: in between, the device is asked nothing."""
    evaluate_every: int = 500
    """Updates between a sample sheet with validation figures and the next."""
    minutes: float | None = None
    """Save and stop after so many minutes (continue later with the same command); none: run to max_steps."""


class Stage(Protocol):
    """What a training stage gives the loop. ``module(batch, step, max_steps)`` returns losses by name, with ``total``."""

    module: nn.Module
    size: int

    def batch(self, indices: np.ndarray, draws: Draws, device: torch.device) -> dict[str, Any]:
        """Samples ``indices`` on ``device``, with all that is random from ``draws``; asks the device nothing."""

    def prepared(self) -> list[nn.Module]:
        """Build what aliases parameters, now that they are where they stay; returns the modules so built."""

    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]:
        """Validation figures by name, and a sheet."""

    def export(self, folder: Path) -> None:
        """Save the trained model."""

    def schedule(self, step: int, max_steps: int) -> str:
        """What of the losses depends on the step, at ``step`` of ``max_steps``, in words; empty: nothing."""


def sample_order(seed: int, size: int, first: int, count: int) -> np.ndarray:
    """Indices of samples number ``first`` to ``first + count``: one permutation an epoch, no sample ever dropped."""
    numbers = np.arange(first, first + count)
    epochs = numbers // size
    orders = {e: np.random.default_rng((seed, int(e))).permutation(size) for e in np.unique(epochs)}
    return np.array([orders[e][n % size] for e, n in zip(epochs, numbers, strict=True)])


def _identity(config: LoopConfig) -> dict[str, Any]:
    return {k: v for k, v in plain(dataclasses.asdict(config)).items() if k not in SETTINGS_THAT_MAY_CHANGE}


def compile_blocks(module: nn.Module) -> None:
    """Have torch compile the members of ``module``'s outermost lists, in place: the blocks of U-Nets and autoencoders.

    Not the whole: a loss takes ``step``, which changes with each update, and equal blocks are compiled once.
    """
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            for block in child:
                block.compile()
        else:
            compile_blocks(child)


class _Interrupt:
    """Ctrl-C or SIGTERM asks for a stop after the current update; a second Ctrl-C stops at once."""

    latest = False
    """Whether the latest run was asked."""

    def __enter__(self) -> _Interrupt:
        self.asked = False
        self.old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: Any) -> None:
        _Interrupt.latest = self.asked
        for number, handler in self.old.items():
            signal.signal(number, handler)


def interrupted() -> bool:
    """Whether Ctrl-C or SIGTERM came during the latest ``run``, be it after its last update: a caller with more to do stops as well."""
    return _Interrupt.latest


class Trainer:
    """A stage with its optimiser and average: all that an update changes and a checkpoint holds.

    Args:
        facts: settings of the stage; a continuation has to have the same.

    Raises:
        ResumeError: ``config.out`` holds another run.
        ValueError: the batch cannot be split as asked.
    """

    def __init__(self, stage: Stage, config: LoopConfig, facts: dict[str, Any] | None = None) -> None:
        self.stage, self.config = stage, config
        self.accelerator = Accelerator(
            mixed_precision=resolved(config.mixed_precision), cpu=not torch.cuda.is_available()
        )
        self.device, self.world, self.main = (
            self.accelerator.device,
            self.accelerator.num_processes,
            self.accelerator.is_main_process,
        )
        if config.batch_size % (self.world * config.accumulation):
            raise ValueError(
                f"batch_size {config.batch_size} is not a multiple of processes x accumulation = {self.world} x {config.accumulation}."
            )
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = config.tf32  # torch's own default is True
        self.parameters = [p for p in stage.module.parameters() if p.requires_grad]
        self.trained = {name for name, p in stage.module.named_parameters() if p.requires_grad}
        self.facts = plain(facts or {}) | {"samples": stage.size, "frozen_weights": of_frozen(stage.module)}
        self.readings, self.step = Readings(skips=config.mixed_precision == "fp16"), 0
        state = load_checkpoint(config.out / "checkpoints", _identity(config), self.facts)
        if state is None and (config.out / "model").is_dir():
            raise ResumeError(
                f"{config.out / 'model'} is there, but no checkpoint in {config.out / 'checkpoints'}: this run cannot be continued, "
                f"and a new one would overwrite its model. Give another --loop.out, or remove {config.out}."
            )
        self.ends = ends_of(config, state)
        if state:
            self._load_weights(state["module"])
        optimiser = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )
        self.module, self.optimiser = self.accelerator.prepare(stage.module, optimiser)
        aliases = stage.prepared()
        if config.compile:
            for module in (stage.module, *aliases):
                compile_blocks(module)
        self.average = Average(self.parameters, config.ema_decay) if config.ema_decay else None
        self._stops = torch.distributed.new_group(backend="gloo") if self.world > 1 else None
        if state:
            self._load_progress(state)
        self.resumed = state is not None
        stage.module.train()

    def _load_weights(self, weights: dict[str, Tensor]) -> None:
        if odd := sorted(self.trained ^ set(weights)):
            raise ResumeError(
                f"{self.config.out}: the checkpoint trains other weights than this run ({', '.join(odd[:3])}, {len(odd)} in all). "
                "Use the same settings, or another --loop.out."
            )
        self.stage.module.load_state_dict(weights, strict=False)  # the frozen weights are not in it

    def _load_progress(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.optimiser.load_state_dict(state["optimiser"])
        if self.average:
            self.average.load_state_dict(state["ema"])
        if self.accelerator.scaler is not None and "scaler" in state:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds; the tensors are those that training changes."""
        weights = {
            name: tensor.detach()
            for name, tensor in self.stage.module.state_dict().items()
            if name in self.trained
        }
        scaler = self.accelerator.scaler
        return {
            "drawing": DRAWING,
            "step": self.step,
            "config": _identity(self.config),
            "facts": self.facts,
            "ends": self.ends,
            "module": weights,
            "optimiser": self.optimiser.state_dict(),
            **({"ema": self.average.state_dict()} if self.average else {}),
            **({"scaler": scaler.state_dict()} if scaler is not None else {}),
        }

    def update(self) -> None:
        """One optimiser update. Its losses are in ``readings``."""
        config, step, micro = self.config, self.step, self.config.batch_size // self.config.accumulation
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(config, step, self.ends)
        order = sample_order(config.seed, self.stage.size, step * config.batch_size, config.batch_size)
        sums: dict[str, Tensor] = {}
        for part in range(config.accumulation):
            rows = np.arange(part * micro, (part + 1) * micro)[self.accelerator.process_index :: self.world]
            batch = self.stage.batch(
                order[rows], Draws(config.seed, step, config.batch_size, rows, self.device), self.device
            )
            with nullcontext() if part == config.accumulation - 1 else self.accelerator.no_sync(self.module):
                losses = self.module(
                    batch, min(step, config.max_steps), config.max_steps
                )  # beyond: as at its end
                self.accelerator.backward(losses["total"] / config.accumulation)
            for name, value in losses.items():
                share = value.detach() / config.accumulation
                sums[name] = sums[name] + share if name in sums else share
        self.readings.add(step, sums | {"gradient_norm": self._limit_gradient()})
        self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        if self.average:
            self.average.update()
        self.step += 1

    def _limit_gradient(self) -> Tensor:
        """Scale the gradient down to ``clip_norm``; returns its norm before, a scalar on the device."""
        if self.config.clip_norm is not None:
            return self.accelerator.clip_grad_norm_(self.parameters, self.config.clip_norm)
        self.accelerator.unscale_gradients()
        return torch.nn.utils.get_total_norm([p.grad for p in self.parameters if p.grad is not None])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the stage has the averaged weights, where there are any, and does not train."""
        self.stage.module.eval()
        with self.average.in_place() if self.average else nullcontext():
            try:
                yield
            finally:
                self.stage.module.train()

    def export(self) -> None:
        """Write the averaged model, or the trained one where there is no average, to OUT/model.

        Raises:
            DiskFull: there was no space; a model that was there before is whole.
        """
        with (
            self.averaged(),
            writing(f"the model ({self.config.out / 'model'})"),
            written(self.config.out / "model") as folder,
        ):
            self.stage.export(folder)

    def last_model(self) -> str:
        """Export the model of the newest checkpoint, as the weights now are of no use; returns what there is, and what to do."""
        config = self.config
        state = load_checkpoint(config.out / "checkpoints", _identity(config), self.facts)
        again = "The same command would come to that point again: the new run needs another --loop.out"
        if state is None:
            return f"{last_whole(config.out / 'checkpoints')} {again}."
        if self.main:
            self._load_weights(state["module"])
            if self.average:
                self.average.load_state_dict(state["ema"])
            self.export()
        return (
            f"{last_whole(config.out / 'checkpoints')} Its model: {config.out / 'model'}. {again}; it can start from that model where its "
            "stage has --init."
        )

    def any_process(self, asked: bool) -> bool:
        """Whether one process was asked to stop: all stop after the same update. The hosts talk, the devices go on."""
        if self._stops is None:
            return asked
        flag = torch.tensor([int(asked)])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, self._stops)
        return bool(flag.item())


def run(
    stage: Stage, config: LoopConfig, facts: dict[str, Any] | None = None, then: str | None = None
) -> int:
    """Train ``stage`` until ``max_steps`` (or ``extend_to``), ``minutes`` or Ctrl-C; returns the updates done so far.

    Args:
        facts: settings of the stage and digests of its data, written to ``run.json``; a continuation has to have the same.
        then: what to do with the model of a whole run. None: nothing is said of where the run continues and where its model is.

    Raises:
        ResumeError: ``config.out`` holds another run.
        ValueError: the batch cannot be split as asked.
        FloatingPointError: the loss or the gradient is no longer finite. It is noticed where losses are read, at the latest
            before the next checkpoint, which is then not written. The model of the one before is exported.
        SaveError: a checkpoint, the log or the model could not be written.
    """
    trainer = Trainer(stage, config, facts)
    reports = then is not None and trainer.main
    checkpoints = CheckpointWriter(config.out / "checkpoints", config.keep_checkpoints)
    try:
        with quiet_log_thread():
            _run(trainer, checkpoints, reports)
    except DiskFull as error:
        raise SaveError(f"{error} {go_on(checkpoints.folder)}") from error
    except KeyboardInterrupt:
        if reports:
            print(messages.broken_off(config.out), flush=True)
        raise
    if reports:
        print(messages.ended(config.out, trainer.step, trainer.ends[-1], then), flush=True)
    return trainer.step


def _run(trainer: Trainer, checkpoints: CheckpointWriter, reports: bool) -> None:
    config, writer = trainer.config, None
    if trainer.main:
        with writing(f"{config.out / 'run.json'}"):
            config.out.mkdir(parents=True, exist_ok=True)
            with replacing(config.out / "run.json") as part:
                part.write_text(
                    json.dumps(_identity(config) | trainer.facts | {"ends": trainer.ends}, indent=1)
                )
        # Figures after the checkpoint are of updates that a kill has undone.
        with writing("the log"):
            writer = SummaryWriter(
                config.out / "tensorboard", purge_step=trainer.step + 1 if trainer.resumed else None
            )
    if reports and trainer.resumed:
        print(
            messages.continues(
                config.out,
                trainer.step,
                trainer.ends,
                config.max_steps,
                lambda step: trainer.stage.schedule(step, config.max_steps),
            ),
            flush=True,
        )
    with checkpoints:
        try:
            _train(trainer, checkpoints, writer)
        except NotFinite as error:
            checkpoints.wait()
            raise FloatingPointError(f"{error} {trainer.last_model()}") from error
    if writer is not None:
        trainer.export()
        with writing("the log"):
            writer.close()


def _train(trainer: Trainer, checkpoints: CheckpointWriter, writer: SummaryWriter | None) -> None:
    config, started, end = trainer.config, time.monotonic(), trainer.ends[-1]
    clock, stop = _Clock(config.batch_size, trainer.step), False
    with (
        _Interrupt() as interrupt,
        tqdm(
            total=end, initial=trainer.step, unit="step", dynamic_ncols=True, disable=not trainer.main
        ) as bar,
    ):
        while trainer.step < end and not stop:
            trainer.update()
            bar.update()
            step, ends = trainer.step, trainer.step == end
            late = config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            stop = trainer.any_process(interrupt.asked or late)
            logs, evaluates, saves = (
                (ends or step % every == 0)
                for every in (config.log_every, config.evaluate_every, config.checkpoint_every)
            )
            saves = saves or stop
            figures = (
                trainer.readings.read() if logs or evaluates or saves else {}
            )  # the device is waited for here only
            if logs:
                speed = clock.samples_per_second(step)
                bar.set_postfix(loss=f"{figures['total']:.4f}", samples_per_s=f"{speed:.1f}")
                if writer is not None:
                    rates = {
                        "learning_rate": learning_rate(config, step - 1, trainer.ends),
                        "samples_per_s": speed,
                    }
                    with writing("the log"):
                        for name, value in (figures | rates).items():
                            writer.add_scalar(f"train/{name}", value, step)
            if evaluates and writer is not None:
                with trainer.averaged(), clock.stopped(), writing("the sample sheet"):
                    for name, value in trainer.stage.evaluate(step, writer).items():
                        writer.add_scalar(f"val/{name}", value, step)
                        bar.write(f"step {step}: val {name} {value:.5g}")
            if trainer.main:
                checkpoints.check()
                if saves:
                    checkpoints.save(step, trainer.state())


class _Clock:
    """Samples a second between one reading of the losses and the next, without the time of evaluations."""

    def __init__(self, batch_size: int, step: int) -> None:
        self.batch_size, self.since, self.step = batch_size, time.monotonic(), step

    def samples_per_second(self, step: int) -> float:
        """Since the last call; ``step`` updates are done. The first call has the first updates, which are slow, in it."""
        now, samples = time.monotonic(), (step - self.step) * self.batch_size
        seconds, self.since, self.step = now - self.since, now, step
        return samples / max(seconds, 1e-9)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Time within does not count."""
        started = time.monotonic()
        yield
        self.since += time.monotonic() - started
