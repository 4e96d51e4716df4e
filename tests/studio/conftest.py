"""A studio without a model, its visitors, and a visitor's collection."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gradio as gr
import httpx2
import pytest

from siamese.records.catalogue import find_models
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.page import build_page
from siamese.studio.server import Studio
from siamese.studio.storage.collections import Collections
from siamese.studio.tabs.batch import BatchTab
from siamese.studio.tabs.collection import CollectionTab
from siamese.studio.tabs.draw import DrawPanel
from siamese.studio.tabs.gallery import ResultPanel
from siamese.studio.tabs.history import HistoryStrip
from siamese.studio.tabs.settings import SettingsPanel
from siamese.studio.visitors import cookie
from tests.studio.collected import Clock
from tests.studio.stand_in_model import StandIn
from tests.studio.window import Window


@pytest.fixture(scope="module")
def studio(tmp_path_factory) -> Iterator[Studio]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("temporary")))
        patch.setattr(cookie, "MAX_NEW", 10_000)
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


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[gr.Blocks, StandIn, Path, dict[type, Any]]]:
    """The page, which takes seconds to build, and its panels by their types."""
    folder, found, worker = tmp_path_factory.mktemp("studio"), {}, StandIn()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder / "served"))
        for kind in (DrawPanel, SettingsPanel, ResultPanel, HistoryStrip, CollectionTab, BatchTab):

            def remember(
                self: Any, *values: Any, init: Any = kind.__init__, kind: type = kind, **named: Any
            ) -> None:
                init(self, *values, **named)
                found[kind] = self

            patch.setattr(kind, "__init__", remember)
        yield build_page(worker, folder), worker, folder, found


@pytest.fixture
def window(built: tuple[gr.Blocks, StandIn, Path, dict[type, Any]]) -> Iterator[Window]:
    with cookie.serving(cookie.Visitor(secrets.token_urlsafe(32))):
        yield Window(*built)
