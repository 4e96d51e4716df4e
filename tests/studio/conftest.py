"""A studio without a model, its visitors, and a visitor's collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from siamese.records.catalogue import find_models
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.server import Studio
from siamese.studio.storage.collections import Collections
from siamese.studio.visitors import cookie as visitor
from tests.studio.collected import Clock


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(visitor, "MAX_NEW", 10_000)
        studio = Studio(
            ModelWorker(find_models("nowhere", None)), tmp_path_factory.mktemp("data"), "127.0.0.1"
        )
        yield studio
        studio.close()


@pytest.fixture
def come(studio) -> Iterator:
    """A new visitor's client, as a function; each has its own cookie."""
    with ExitStack() as stack:

        def new() -> httpx2.Client:
            client = stack.enter_context(httpx2.Client(base_url=studio.address, timeout=30))
            client.get("/")
            return client

        yield new


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def kept(tmp_path: Path, clock: Clock) -> Collections:
    return Collections(tmp_path / "kept", clock=clock)
