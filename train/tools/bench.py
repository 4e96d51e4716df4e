"""Cost of a training step beside the released algorithm's, samples a second of each stage, and time of sampling.

The step: floating-point operations (forward and backward, counted by torch), wall-clock and peak memory of
``SiameseObjective`` and of the literal transcription in ``train/tools/reference.py``, on the golden configuration.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from siamese.diffusion import scaled_linear_alphas
from siamese.models.controlnet import SiameseControlNet
from siamese.models.presets import NetworkConfig
from siamese.models.unet import freeze_encoder
from siamese.objective import SiameseObjective
from siamese.sampling import MaskDiffusion
from train.engine.randomness import sent
from train.stages.latent_batches import padded_lengths, padded_rows
from train.tools.rates import RatesConfig, rates
from train.tools.reference import reference_losses

Which = Literal["reference", "ours"]
MAX_STEPS, BEFORE, AFTER = 3000, 500, 1500


@dataclass(frozen=True)
class BenchConfig:
    """Compare the fast step with the released one, time every stage's updates and the embedded model."""

    model: Path = Path("assets/siamese-tiny")
    """Model folder that is sampled."""
    batch: int = 3
    """Samples a step."""
    repeats: int = 5
    """Timed steps and images, after one warm-up; medians are printed."""
    json: bool = False
    """End with one line of JSON."""
    skip_step: bool = False
    """No comparison with the released step."""
    skip_sample: bool = False
    """No sampling."""
    train: RatesConfig = RatesConfig()
    """Stages whose updates are timed; ``--train.stages`` without a name: none."""


class Bench:
    """Golden-size networks with random weights and a batch of inputs."""

    def __init__(self, batch: int) -> None:
        torch.manual_seed(0)
        unet = NetworkConfig(
            block_out_channels=(32, 64, 128, 128), cross_attention_dim=64, latent_size=16
        ).build_unet()
        net = SiameseControlNet.from_unet(unet)
        freeze_encoder(unet)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = SiameseObjective(unet, net, scaled_linear_alphas()).to(self.device)
        self.model.build_tied_decoder()
        make = lambda *shape: torch.randn(batch, *shape, device=self.device)  # noqa: E731
        self.inputs = [
            make(4, 16, 16),
            make(77, 64),
            (make(1, 128, 128) > 0).float().expand(-1, 3, -1, -1),
            make(3, 128, 128).sigmoid(),
        ]
        self.noise = make(4, 16, 16)

    def step(self, which: Which, t: torch.Tensor, step: int) -> None:
        """One loss and its gradients."""
        self.model.zero_grad(set_to_none=True)
        known, t = t.numpy(), t.to(self.device)  # as in training, the host knows t
        if which == "ours":
            early = [sent(x, t.device) for x in padded_rows(known <= self.model.augment_t)]
            loss = self.model(*self.inputs, t, self.noise, step, MAX_STEPS, tuple(early))["total"]
        else:
            x, context, mask, image = self.inputs
            loss = reference_losses(
                self.model.unet,
                self.model.controlnet,
                self.model.alphas_cumprod,
                x,
                context,
                mask,
                image,
                t,
                self.noise,
                step,
                MAX_STEPS,
            )["total"]
        loss.backward()

    def flops(self, which: Which, t: torch.Tensor, step: int) -> int:
        """Floating-point operations of one step."""
        with FlopCounterMode(display=False) as counter:
            self.step(which, t, step)
        return counter.get_total_flops()


def expected_flops(batch: int) -> dict[str, dict[str, float]]:
    """Operations a step, before and after a third of the steps, in expectation over uniform t.

    The released step augments the whole batch if any sample has t <= 200, ours those samples only, their number filled
    up to 0, B/8, B/4, B/2 or B. The number of such samples is binomial (B, 201/1000), and each case is weighted by its
    probability. No operation is shared between samples, so those of one sample are measured, with and without augmentation.
    """
    bench, share = Bench(1), 201 / 1000
    late, early = torch.tensor([700]), torch.tensor([100])
    cases: dict[Which, list[int]] = {"reference": [0, batch], "ours": sorted(set(padded_lengths(batch)))}
    found: dict[str, dict[str, float]] = {}
    for which, lengths in cases.items():
        plain, augmented = bench.flops(which, late, AFTER), bench.flops(which, early, AFTER)
        after = 0.0
        for shorter, length in zip([-1, *lengths], lengths, strict=False):
            likely = sum(_binomial(batch, count, share) for count in range(shorter + 1, length + 1))
            after += likely * (batch * plain + length * (augmented - plain))
        found[which] = {"before": float(batch * bench.flops(which, late, BEFORE)), "after": after}
    return found


def _binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


def _measure(which: Which, batch: int, repeats: int, results: Any) -> None:
    """Wall-clock and peak memory of steps after a third of a run, in a process of its own."""
    bench = Bench(batch)
    rng = np.random.default_rng(0)
    loaded = _peak_memory()
    times = []
    for _ in range(repeats + 1):
        t = torch.from_numpy(rng.integers(0, 1000, batch))
        started = time.perf_counter()
        bench.step(which, t, AFTER)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    results.put((sum(times[1:]) / repeats, _peak_memory() - loaded))


def _peak_memory() -> float:
    """Bytes: of the process on a CPU, of the allocator on a GPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.is_file():  # Linux: getrusage would count the parent process's peak, which survives exec
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
        return float(line.split()[1]) * 1024
    unit = 1 if platform.system() == "Darwin" else 1024
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def measured(batch: int, repeats: int) -> dict[str, tuple[float, float]]:
    """Mean seconds a step and peak bytes above the loaded networks, of both; the same timesteps for both."""
    found = {}
    context = multiprocessing.get_context("spawn")
    for which in ("reference", "ours"):
        results = context.Queue()
        process = context.Process(target=_measure, args=(which, batch, repeats, results))
        process.start()
        found[which] = results.get()
        process.join()
    return found


# What a fresh process needs until it has an image; the app does the same behind its page.
_FIRST_IMAGE = """
import sys, numpy as np
from siamese.sampling import MaskDiffusion
model = MaskDiffusion.from_pretrained(sys.argv[1])
mask = np.zeros((256, 256), np.uint8); mask[90:170, 80:190] = 255
model.sample(mask, model.prompts[0] if model.prompts else "", [0])
"""


def time_sampling(model_folder: Path, repeats: int) -> dict[str, float]:
    """Median seconds of an image at default settings, and seconds from a process's start to its first image."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", _FIRST_IMAGE, str(model_folder)], check=True)
    first = time.perf_counter() - started
    model = MaskDiffusion.from_pretrained(model_folder)
    mask = np.zeros((256, 256), np.uint8)
    mask[90:170, 80:190] = 255
    prompt, times = (model.prompts[0] if model.prompts else ""), []
    for seed in range(repeats + 1):
        started = time.perf_counter()
        model.sample(mask, prompt, [seed])
        times.append(time.perf_counter() - started)
    return {"seconds_per_image": statistics.median(times[1:]), "start_to_first_image_seconds": first}


def compared(batch: int, repeats: int) -> dict[str, float]:
    """Print the released step beside ours; returns the ratios."""
    flops, cost = expected_flops(batch), measured(batch, repeats)
    ratios = {
        "flops_ratio_before": flops["reference"]["before"] / flops["ours"]["before"],
        "flops_ratio_after": flops["reference"]["after"] / flops["ours"]["after"],
        "wall_ratio_after": cost["reference"][0] / cost["ours"][0],
        "peak_memory_ratio": cost["reference"][1] / cost["ours"][1],
    }
    print(f"{'step of ' + str(batch) + ' samples':28}{'released':>12}{'ours':>12}{'ratio':>8}")
    rows = [
        (
            "GFLOP before a third",
            *(flops[w]["before"] / 1e9 for w in ("reference", "ours")),
            ratios["flops_ratio_before"],
        ),
        (
            "GFLOP after a third",
            *(flops[w]["after"] / 1e9 for w in ("reference", "ours")),
            ratios["flops_ratio_after"],
        ),
        ("seconds after a third", cost["reference"][0], cost["ours"][0], ratios["wall_ratio_after"]),
        (
            "peak MB above networks",
            cost["reference"][1] / 1e6,
            cost["ours"][1] / 1e6,
            ratios["peak_memory_ratio"],
        ),
    ]
    for title, theirs, mine, ratio in rows:
        print(f"{title:28}{theirs:12.3f}{mine:12.3f}{ratio:8.2f}")
    return ratios


def main(config: BenchConfig) -> None:
    """Print the figures; with ``--json`` the last line is for programs."""
    result: dict[str, Any] = {}
    if not config.skip_step:
        result["step"] = compared(config.batch, config.repeats)
    if config.train.stages:
        with tempfile.TemporaryDirectory() as folder:
            result["train"] = rates(config.train, Path(folder))
        print(
            f"training {config.train.preset} at {config.train.size} pixels, {config.train.precision}: samples a second"
        )
        for name, value in result["train"].items():
            print(f"{name:28}{value['samples_per_second']:12.2f}  batch of {value['batch']}")
    if not config.skip_sample:
        result["sample"] = time_sampling(config.model, config.repeats)
        for name, value in result["sample"].items():
            print(f"{name:40}{value:8.2f}")
    if config.json:
        print(json.dumps(result))
