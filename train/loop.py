"""The training loop that every stage shares: accelerate, keyed randomness, EMA, atomic checkpoints, exact resume.

A stage is an object with the few methods of ``Stage``; the loop knows nothing of what it trains. ``step`` counts
optimiser updates from 0. All randomness of a step is a function of (seed, step, position in the update), never of the
process layout, of the accumulation or of how often the run was resumed.
"""
from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import shutil
import signal
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm


@dataclass(frozen=True)
class LoopConfig:
    """How long, how fast and how safely to train. Defaults are the paper's optimiser (ALGORITHM.md, step 9)."""

    out: Path = Path("runs/run")
    """Folder of checkpoints, logs and the exported model. An interrupted run there is continued."""
    max_steps: int = 3000
    """Optimiser updates in all. Ramp and gate of the losses are relative to it."""
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
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    seed: int = 0
    checkpoint_every: int = 500
    keep_checkpoints: int = 2
    log_every: int = 20
    evaluate_every: int = 500
    """Updates between a sample sheet with validation figures and the next."""
    minutes: float | None = None
    """Save and stop after so many minutes (continue later with the same command); none: run to max_steps."""


class Stage(Protocol):
    """What a training stage gives the loop. ``module(batch, step, max_steps)`` returns losses by name, with ``total``."""

    module: nn.Module
    size: int

    def batch(self, indices: np.ndarray, keys: list[int], device: torch.device) -> dict[str, Tensor]: ...
    def prepared(self) -> None: ...
    def evaluate(self, step: int, writer: SummaryWriter) -> dict[str, float]: ...
    def export(self, folder: Path) -> None: ...


class ResumeError(RuntimeError):
    """The checkpoint in the output folder belongs to another run."""


def key(seed: int, step: int, position: int) -> int:
    """Seed of everything random about one sample of one update."""
    return int(np.random.SeedSequence((seed, step, position)).generate_state(1, np.uint64)[0] >> 1)


def sample_order(seed: int, size: int, first: int, count: int) -> np.ndarray:
    """Indices of samples number ``first`` to ``first + count``: one permutation an epoch, no sample ever dropped."""
    numbers = np.arange(first, first + count)
    epochs = numbers // size
    orders = {e: np.random.default_rng((seed, int(e))).permutation(size) for e in np.unique(epochs)}
    return np.array([orders[e][n % size] for e, n in zip(epochs, numbers)])


def learning_rate(config: LoopConfig, step: int) -> float:
    """Warm-up, then constant or half a cosine to zero at ``max_steps``."""
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    return rate * 0.5 * (1 + math.cos(math.pi * step / config.max_steps)) if config.schedule == "cosine" else rate


# What may change between a run and its continuation; anything else would make it another run.
_FREE = {"out", "checkpoint_every", "keep_checkpoints", "log_every", "evaluate_every", "minutes", "accumulation"}
# Facts for people only: folders move.
_FREE_FACTS = {"init", "data"}


def _identity(config: LoopConfig) -> dict[str, Any]:
    return {k: v for k, v in _plain(dataclasses.asdict(config)).items() if k not in _FREE}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives it back, so that what is saved and what is asked for compare equal."""
    plain = {k: dataclasses.asdict(v) if dataclasses.is_dataclass(v) else v for k, v in values.items()}
    return json.loads(json.dumps(plain, default=str))


def _frozen_digest(module: nn.Module) -> str:
    """Digest of the weights that are not trained: checkpoints lack them, so a continuation has to bring the same."""
    digest = hashlib.sha256()
    for name, p in module.named_parameters():
        if not p.requires_grad:
            digest.update(name.encode() + p.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write ``folder/step-XXXXXXXX/state.pt`` so that it is either complete or absent, then drop the oldest."""
    final, part = folder / f"step-{step:08d}", folder / f"step-{step:08d}.part"
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    with open(part / "state.pt", "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    if final.exists():
        shutil.rmtree(final)
    os.replace(part, final)
    for old in _checkpoints(folder)[:-keep]:
        shutil.rmtree(old)
    return final


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step-*") if p.suffix != ".part" and (p / "state.pt").is_file())


def load_checkpoint(folder: Path, config: LoopConfig, facts: dict[str, Any] | None = None) -> dict[str, Any] | None:
    """Newest complete checkpoint, or None. Facts that the checkpoint does not know are not compared.

    Raises:
        ResumeError: it was made with other settings (``max_steps`` among them: ramp and gate depend on it).
    """
    for leftover in folder.glob("*.part"):  # a save that was killed; the checkpoint before it is whole
        shutil.rmtree(leftover, ignore_errors=True)  # another process may be doing the same
    found = _checkpoints(folder)
    if not found:
        return None
    state = torch.load(found[-1] / "state.pt", map_location="cpu", weights_only=True)
    other = {k: (state["config"].get(k), v) for k, v in _identity(config).items() if state["config"].get(k) != v}
    known = state.get("facts", {})
    other |= {k: (known[k], v) for k, v in (facts or {}).items() if k in known and k not in _FREE_FACTS and known[k] != v}
    if other:
        changes = ", ".join(f"{k} was {old}, now {new}" for k, (old, new) in other.items())
        raise ResumeError(f"{found[-1]} belongs to a run with other settings ({changes}). Use the same settings, or another --loop.out.")
    return state


class _Interrupt:
    """Ctrl-C or SIGTERM asks for a stop after the current update; a second Ctrl-C stops at once."""

    def __enter__(self) -> "_Interrupt":
        self.asked = False
        self.old = {s: signal.signal(s, self._ask) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _ask(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True

    def __exit__(self, *_: Any) -> None:
        for number, handler in self.old.items():
            signal.signal(number, handler)


def run(stage: Stage, config: LoopConfig, facts: dict[str, Any] | None = None) -> int:
    """Train ``stage`` until ``max_steps``, ``minutes`` or Ctrl-C; returns the updates done so far.

    Args:
        facts: settings of the stage, written to ``run.json``; a continuation has to have the same.

    Raises:
        ResumeError: ``config.out`` holds another run.
        ValueError: the batch cannot be split as asked.
        FloatingPointError: the loss is no longer finite.
    """
    accelerator = Accelerator(mixed_precision=config.mixed_precision, cpu=not torch.cuda.is_available())
    world, rank = accelerator.num_processes, accelerator.process_index
    if config.batch_size % (world * config.accumulation):
        raise ValueError(f"batch_size {config.batch_size} is not a multiple of processes x accumulation = {world} x {config.accumulation}.")
    parameters = [p for p in stage.module.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(parameters, lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay, fused=True)
    trained = {name for name, p in stage.module.named_parameters() if p.requires_grad}
    facts = _plain(facts or {}) | {"samples": stage.size, "frozen_weights": _frozen_digest(stage.module)}
    state = load_checkpoint(config.out / "checkpoints", config, facts)
    if state:
        if odd := sorted(trained ^ set(state["module"])):
            raise ResumeError(f"{config.out}: the checkpoint trains other weights than this run ({', '.join(odd[:3])}, {len(odd)} in all). "
                              "Use the same settings, or another --loop.out.")
        stage.module.load_state_dict(state["module"], strict=False)  # the frozen weights are not in it
    module, optimiser = accelerator.prepare(stage.module, optimiser)
    stage.prepared()
    ema = EMAModel(parameters, decay=config.ema_decay, use_ema_warmup=True, power=0.75) if config.ema_decay else None
    step = 0
    if state:
        step = state["step"]
        optimiser.load_state_dict(state["optimiser"])
        if ema:
            ema.load_state_dict(state["ema"])
        if accelerator.scaler is not None and "scaler" in state:
            accelerator.scaler.load_state_dict(state["scaler"])
    if ema:
        ema.to(accelerator.device)

    config.out.mkdir(parents=True, exist_ok=True)
    if accelerator.is_main_process:
        (config.out / "run.json").write_text(json.dumps(_identity(config) | facts, indent=1))
    # Figures after the checkpoint are of updates that a kill has undone.
    writer = None
    if accelerator.is_main_process:
        writer = SummaryWriter(config.out / "tensorboard", purge_step=step + 1 if state else None)

    def save() -> None:
        if not accelerator.is_main_process:
            return
        weights = {name: tensor.detach() for name, tensor in stage.module.state_dict().items() if name in trained}
        save_checkpoint(config.out / "checkpoints", step, {
            "step": step, "config": _identity(config), "facts": facts, "module": weights, "optimiser": optimiser.state_dict(),
            **({"ema": ema.state_dict()} if ema else {}),
            **({"scaler": accelerator.scaler.state_dict()} if accelerator.scaler is not None else {})}, config.keep_checkpoints)

    def with_average(action, *args):
        """Run ``action`` on the averaged weights, where there are any."""
        if ema:
            ema.store(parameters)
            ema.copy_to(parameters)
        try:
            stage.module.eval()
            return action(*args)
        finally:
            stage.module.train()
            if ema:
                ema.restore(parameters)

    micro = config.batch_size // config.accumulation
    started, last_saved = time.monotonic(), step
    stage.module.train()
    with _Interrupt() as interrupt, tqdm(total=config.max_steps, initial=step, unit="step", dynamic_ncols=True,
                                         disable=not accelerator.is_main_process) as bar:
        stop = False
        while step < config.max_steps and not stop:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(config, step)
            indices = sample_order(config.seed, stage.size, step * config.batch_size, config.batch_size)
            sums: dict[str, float] = {}
            for part in range(config.accumulation):
                mine = np.arange(part * micro, (part + 1) * micro)[rank::world]
                batch = stage.batch(indices[mine], [key(config.seed, step, int(i)) for i in mine], accelerator.device)
                last = part == config.accumulation - 1
                with nullcontext() if last else accelerator.no_sync(module):
                    losses = module(batch, step, config.max_steps)
                    accelerator.backward(losses["total"] / config.accumulation)
                for name, value in losses.items():
                    sums[name] = sums.get(name, 0.0) + float(value.detach()) / config.accumulation
            if not math.isfinite(sums["total"]):
                raise FloatingPointError(f"loss is {sums['total']} at step {step}; lower --loop.learning-rate or set --loop.clip-norm. "
                                         f"The checkpoint of step {last_saved} is whole.")
            if config.clip_norm is not None:
                sums["gradient_norm"] = float(accelerator.clip_grad_norm_(parameters, config.clip_norm))
                # fp16's scaler skips such an update by itself; elsewhere it would spoil every weight.
                if config.mixed_precision != "fp16" and not math.isfinite(sums["gradient_norm"]):
                    raise FloatingPointError(f"the gradient is {sums['gradient_norm']} at step {step}; lower --loop.learning-rate. "
                                             f"The checkpoint of step {last_saved} is whole.")
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            if ema:
                ema.step(parameters)
            step += 1
            bar.update()
            if step % config.log_every == 0 or step == config.max_steps:
                rate = bar.format_dict["rate"] or 0.0
                bar.set_postfix(loss=f"{sums['total']:.4f}", samples_per_s=f"{rate * config.batch_size:.1f}")
                if writer is not None:
                    for name, value in sums.items():
                        writer.add_scalar(f"train/{name}", value, step)
                    writer.add_scalar("train/learning_rate", learning_rate(config, step - 1), step)
            stop = interrupt.asked or config.minutes is not None and time.monotonic() - started > 60 * config.minutes
            if world > 1:  # whoever is asked, all stop after the same update; asked from here on, after the next
                stop = bool(accelerator.gather(torch.tensor([stop], device=accelerator.device)).any())
            if writer is not None and (step % config.evaluate_every == 0 or step == config.max_steps):
                for name, value in with_average(stage.evaluate, step, writer).items():
                    writer.add_scalar(f"val/{name}", value, step)
                    bar.write(f"step {step}: val {name} {value:.5g}")
            if step % config.checkpoint_every == 0 or step == config.max_steps or stop:
                save()
                last_saved = step
    if accelerator.is_main_process:
        with_average(stage.export, config.out / "model")
        writer.close()
    return step
