"""Fixtures: phantom data sets and small model folders, made once a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from siamese.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tests.models import build
from tests.phantoms import phantom, write_folder

TESTS = Path(__file__).parent


def pytest_itemcollected(item: pytest.Item) -> None:
    """A file's tests run in one process, for its fixtures' sake; so do all of the browser's, since two browsers draw no
    faster than one. The processes' plugin reads the groups before ``pytest_collection_modifyitems`` here is called.
    """
    file = item.path.relative_to(TESTS)
    if file.parts[0] == "browser":
        item.add_marker("browser")
        item.add_marker("slow")
    item.add_marker(pytest.mark.xdist_group("browser" if file.parts[0] == "browser" else str(file)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with long tests come first, so that both processes end together; the browser last, which then has the machine
    for itself: beside other tests its editor draws all the longer, and the whole takes as long as one after the other.
    """
    slow = {item.path for item in items if "slow" in item.keywords}
    items.sort(key=lambda item: ("browser" in item.keywords, item.path not in slow, str(item.path)))


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
