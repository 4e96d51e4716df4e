"""A studio on the real model and visitors in headless Chromium."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from siamese.records.catalogue import ModelEntry, find_models
from siamese.studio.backend.messages import Generated, Request, Update
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.server import Studio
from tests.studio_model import quick_model

ARGUMENTS = [
    "--no-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-quic",
    "--no-first-run",
]
PATIENCE = 60_000
"""Milliseconds; a machine whose other core runs other tests loads the model and samples within."""
expect.set_options(timeout=PATIENCE)
PHONE = {"width": 390, "height": 844, "touch": True, "ratio": 2}


class RecordingWorker(ModelWorker):
    """Keeps the requests that reach the model."""

    def __init__(self, models: list[ModelEntry]) -> None:
        super().__init__(models)
        self.requests: list[Request] = []

    def sample(self, request: Request, cancelled=None, visitor: str = "") -> Iterator[Update | Generated]:
        self.requests.append(request)
        return super().sample(request, cancelled, visitor)


@dataclass
class Serving:
    """A running studio."""

    worker: RecordingWorker
    address: str
    data: Path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        system = shutil.which("chromium")
        if system is None and not Path(playwright.chromium.executable_path).is_file():
            # A laptop may lack it; continuous integration installs it, and there a skip would hide a broken page.
            (pytest.fail if os.environ.get("CI") else pytest.skip)(
                "no Chromium; run: playwright install chromium"
            )
        browser = playwright.chromium.launch(executable_path=system, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def serve() -> Callable[..., Iterator[Serving]]:
    def start(models: list[ModelEntry], data: Path) -> Iterator[Serving]:
        worker = RecordingWorker(models)
        studio = Studio(worker, data, "127.0.0.1")
        yield Serving(worker, studio.address, data)
        studio.close()

    return start


@pytest.fixture(scope="session")
def studio(tmp_path_factory, browser, serve) -> Iterator[Serving]:
    yield from serve(
        find_models(str(quick_model(tmp_path_factory.mktemp("model"))), None), tmp_path_factory.mktemp("data")
    )


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page as a new visitor; fails the test if the page asks another host for anything, breaks its own policy or throws."""
    contexts, foreign, errors = [], [], []

    def open_page(
        address: str,
        width: int = 800,
        height: int = 900,
        ratio: float = 1,
        touch: bool = False,
        dark: bool = False,
    ) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=ratio,
            has_touch=touch,
            color_scheme="dark" if dark else "light",
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on(
            "request",
            lambda r: None if r.url.startswith((address, "data:", "blob:")) else foreign.append(r.url),
        )
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.on("console", lambda m: errors.append(m.text) if "Content Security Policy" in m.text else None)
        page.goto(address)
        ready(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not foreign
    assert not errors


def ready(page: Page) -> None:
    """Wait until one can draw."""
    page.wait_for_selector(".drawing[data-ready]")
