"""Fixtures: phantom data sets and small model folders, made once a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.models import build
from tests.phantoms import phantom, write_folder

LONG = [
    "test_processes",
    "test_bench",
    "test_process",
    "test_resume",
    "test_kill",
    "test_phantom_training",
    "test_golden",
    "test_sampling",
    "test_app",
    "test_lean",
    "test_run",
    "test_fuzz",
]
"""Files of half a minute and more."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, so that both processes end together; the browser last, which then has the machine for itself."""

    def turn(item: pytest.Item) -> tuple[bool, int, str]:
        return (
            "browser" in item.keywords,
            LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG),
            scope(item.nodeid),
        )

    items.sort(key=turn)


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    """A file's tests run in one process, for its fixtures' sake; so do all of the browser's, since two browsers draw no faster than one."""
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):
    """Shares out files."""

    def _split_scope(self, nodeid: str) -> str:
        return scope(nodeid)


def scope(nodeid: str) -> str:
    """What is shared out whole: a file, or the browser's folder."""
    return "tests/browser" if nodeid.startswith("tests/browser/") else nodeid.split("::")[0]


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Networks this small are slower on several threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def polyps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pairs with split files, named as a known data set."""
    return write_folder(
        tmp_path_factory.mktemp("data") / "kvasir-seg",
        12,
        {"train": range(8), "val": range(8, 10), "test": range(10, 12)},
    )


@pytest.fixture(scope="session", params=["small", "sd"])
def model_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Model folders of both kinds, each in its turn. Not to be written to."""
    folder = tmp_path_factory.mktemp("models") / request.param
    save_checkpoint(build(request.param), folder)
    return folder


@pytest.fixture
def model(model_folder: Path) -> Checkpoint:
    """The model of ``model_folder``, loaded afresh."""
    return load_checkpoint(model_folder)


@pytest.fixture
def mask() -> np.ndarray:
    """A mask of no particular size."""
    return phantom(3)[1]
