"""A stage with its optimiser and average of the weights: everything that an update changes and a checkpoint holds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from train.engine.checkpoints import DRAWING, ResumeError, last_whole, load_state
from train.engine.compilation import compile_blocks
from train.engine.config import LoopConfig
from train.engine.disk import writing
from train.engine.ema import Average
from train.engine.export import written
from train.engine.identity import of_frozen, plain, settings_of
from train.engine.precision import resolved
from train.engine.readings import Readings
from train.engine.schedule import ends_of
from train.engine.stage import Stage


class Trainer:
    """Networks, optimiser and average on this machine's devices, continued from the newest checkpoint if there is one.

    Args:
        facts: settings of the stage and digests of its data; a continuation must have the same.

    Attributes:
        step: optimiser updates done.
        ends: see ``ends_of``; the run ends at the last one.
        main: whether this process writes; of several only the first does.
        relative_rates: learning rate of each of the optimiser's parameter groups, as a share of the run's.

    Raises:
        ResumeError: ``config.out`` holds another run.
        ValueError: the batch cannot be split into processes and accumulation steps.
    """

    def __init__(self, stage: Stage, config: LoopConfig, facts: dict[str, Any] | None = None) -> None:
        self.stage, self.config, self.step = stage, config, 0
        self._set_up_machine()
        self.trained = {name for name, p in stage.module.named_parameters() if p.requires_grad}
        self.parameters = [p for p in stage.module.parameters() if p.requires_grad]
        self.facts = plain(facts or {}) | {"samples": stage.size, "frozen_weights": of_frozen(stage.module)}
        self.readings = Readings(skips=config.mixed_precision == "fp16")
        state = self._saved_state()
        self.resumed, self.ends = state is not None, ends_of(config, state)
        optimiser = self._new_optimiser()
        if state:
            self._check_groups(state, len(optimiser.param_groups))
            self._load_weights(state["module"])
        self.module, self.optimiser = self.accelerator.prepare(stage.module, optimiser)
        aliases = stage.prepared()
        if config.compile:
            for module in (stage.module, *aliases):
                compile_blocks(module)
        self.average = Average(self.parameters, config.ema_decay) if config.ema_decay else None
        if state:
            self._load_progress(state)
        stage.module.train()

    def _set_up_machine(self) -> None:
        config = self.config
        self.accelerator = Accelerator(
            mixed_precision=resolved(config.mixed_precision), cpu=not torch.cuda.is_available()
        )
        self.device, self.world = self.accelerator.device, self.accelerator.num_processes
        self.main = self.accelerator.is_main_process
        if config.batch_size % (self.world * config.accumulation):
            raise ValueError(
                f"batch_size {config.batch_size} is not a multiple of processes x accumulation = {self.world} x {config.accumulation}."
            )
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        torch.backends.cudnn.allow_tf32 = config.tf32  # torch's own default is True

    def _new_optimiser(self) -> torch.optim.Optimizer:
        groups, config = self.stage.parameter_groups(), self.config
        if {id(p) for g in groups for p in g.parameters} != {id(p) for p in self.parameters}:
            raise ValueError("parameter_groups() must contain every trainable parameter, and no other.")
        self.relative_rates = [group.relative_rate for group in groups]
        return torch.optim.AdamW(
            [{"params": group.parameters} for group in groups],
            lr=config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
            fused=True,
        )

    def _saved_state(self) -> dict[str, Any] | None:
        out = self.config.out
        state = load_state(out / "checkpoints", settings_of(self.config), self.facts)
        if state is None and (out / "model").is_dir():
            raise ResumeError(
                f"{out / 'model'} is there, but no checkpoint in {out / 'checkpoints'}: this run cannot be continued, "
                f"and a new one would overwrite its model. Give another --loop.out, or remove {out}."
            )
        return state

    def _check_groups(self, state: dict[str, Any], groups: int) -> None:
        if len(state["optimiser"]["param_groups"]) != groups:
            raise ResumeError(
                f"{self.config.out}: the run was begun by a version of this program that set the learning rates of pretrained and new "
                "weights in another way, so this version cannot continue it. Its exported model can still be used. Continue it with "
                "that version, or begin a new run with another --loop.out."
            )

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
        """Contents of a checkpoint. Its tensors are the live ones: the next update changes them."""
        weights = {
            name: tensor.detach()
            for name, tensor in self.stage.module.state_dict().items()
            if name in self.trained
        }
        scaler = self.accelerator.scaler
        return {
            "drawing": DRAWING,
            "step": self.step,
            "config": settings_of(self.config),
            "facts": self.facts,
            "ends": self.ends,
            "module": weights,
            "optimiser": self.optimiser.state_dict(),
            **({"ema": self.average.state_dict()} if self.average else {}),
            **({"scaler": scaler.state_dict()} if scaler is not None else {}),
        }

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Within, the stage has the averaged weights, if an average is kept, and is in evaluation mode."""
        self.stage.module.eval()
        with self.average.in_place() if self.average else nullcontext():
            try:
                yield
            finally:
                self.stage.module.train()

    def export(self) -> None:
        """Write the averaged model, or the trained one if no average is kept, to OUT/model.

        Raises:
            DiskFull: there was no space; a model that was there before is whole.
        """
        folder = self.config.out / "model"
        with self.averaged(), writing(f"the model ({folder})"), written(folder) as part:
            self.stage.export(part)

    def export_last_checkpoint(self) -> str:
        """Export the newest checkpoint's model, as the current weights are unusable; returns what exists and what to do next."""
        config, checkpoints = self.config, self.config.out / "checkpoints"
        state = load_state(checkpoints, settings_of(config), self.facts)
        again = "The same command would come to that point again: the new run needs another --loop.out"
        if state is None:
            return f"{last_whole(checkpoints)} {again}."
        if self.main:
            self._load_weights(state["module"])
            if self.average:
                self.average.load_state_dict(state["ema"])
            self.export()
        return (
            f"{last_whole(checkpoints)} Its model: {config.out / 'model'}. {again}; it can start from that model if its stage has "
            "--init."
        )
