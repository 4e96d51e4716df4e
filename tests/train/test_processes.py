"""Training by several processes: the same numbers as by one, and all of them stop when one is asked to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from tests.child import Child, start_group
from tests.train.stages import checkpoints, final_state, real_stage
from train.engine import loop

ROOT = Path(__file__).parents[2]


def _arguments(data: Path, model: Path, out: Path, steps: int, mode: str = "run") -> list[str]:
    return [mode, "siamese", str(data), str(model), str(out), str(steps), "1"]


def _ended(children: list[Child], seconds: float) -> None:
    for child in children:
        assert child.wait(seconds) == 0, child.said


def _same(one: dict, two: dict, before: dict) -> None:
    assert one["step"] == two["step"] == 2
    moved = torch.cat([(value - before[name]).flatten() for name, value in one["module"].items()])
    apart = torch.cat([(value - two["module"][name]).flatten() for name, value in one["module"].items()])
    # Adam turns rounding errors of tiny gradients into whole steps, hence all weights together and not the largest error.
    assert apart.norm() < 0.01 * moved.norm()


@pytest.mark.slow
def test_two_processes_train_as_one_does(polyps: Path, model_folder: Path, tmp_path: Path) -> None:
    # The first run also fills the cache of latents.
    loop.run(*real_stage("siamese", polyps, model_folder, tmp_path / "one", max_steps=2))
    _ended(start_group(_arguments(polyps, model_folder, tmp_path / "two", 2), tmp_path / "errors"), 300)
    start, _ = real_stage("siamese", polyps, model_folder, tmp_path / "none")
    _same(final_state(tmp_path / "one"), final_state(tmp_path / "two"), start.module.state_dict())


@pytest.mark.slow
@pytest.mark.parametrize("model_folder", ["small"], indirect=True)
def test_one_process_that_is_asked_to_stop_stops_all_under_torchs_launcher(
    polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    steps = 100_000
    loop.run(*real_stage("siamese", polyps, model_folder, tmp_path / "cached", max_steps=1))
    launcher = subprocess.Popen(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--rdzv-backend", "c10d"]
        + ["--rdzv-endpoint", "localhost:0", "-m", "tests.child"]
        + _arguments(polyps, model_folder, tmp_path / "two", steps),
        cwd=ROOT,
        env=os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 240
    while not list((tmp_path / "two").glob("checkpoints/step-*/state.pt")):
        assert launcher.poll() is None, launcher.stderr.read()
        assert time.monotonic() < limit, launcher.stderr.read()
        time.sleep(0.2)
    workers = [p for p in psutil.Process(launcher.pid).children() if "tests.child" in p.cmdline()]
    assert len(workers) == 2
    workers[1].send_signal(signal.SIGINT)
    _, said = launcher.communicate(timeout=120)
    assert launcher.returncode == 0, said
    step = checkpoints(tmp_path / "two")[-1]
    assert 0 < step < steps
    assert final_state(tmp_path / "two")["step"] == step
    assert (tmp_path / "two" / "model").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["asked-while-agreeing", "asked-while-saving"])
@pytest.mark.parametrize("model_folder", ["small"], indirect=True)
def test_a_signal_between_two_looks_at_it_is_neither_lost_nor_stops_one_alone(
    mode: str, polyps: Path, model_folder: Path, tmp_path: Path
) -> None:
    loop.run(*real_stage("siamese", polyps, model_folder, tmp_path / "cached", max_steps=1))
    _ended(
        start_group(_arguments(polyps, model_folder, tmp_path / "two", 500, mode), tmp_path / "errors"), 200
    )
    assert checkpoints(tmp_path / "two")[-1] in (2, 3, 4)
    assert (tmp_path / "two" / "model").is_dir()
