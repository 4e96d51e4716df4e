"""Batches of several visitors and windows, without a page."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from siamese.records.prompts import POLYP
from siamese.studio.backend.batch_runner import BATCHES_ALL, BatchOrder, BatchRunner
from siamese.studio.backend.messages import BatchProgress, BusyError, ModelInfo
from siamese.studio.storage.mask_zip import BatchError, NamedMask
from tests.phantoms import phantom
from tests.studio.stand_in_model import StandIn

MASK = phantom(1, 64, 64)[1]


class LoadingModel(StandIn):
    """A model whose description ``first``, a visitor, gets after ``loaded_event`` is set."""

    def __init__(self, first: str = "first") -> None:
        super().__init__()
        self.first, self.waits, self.loaded_event = first, threading.Event(), threading.Event()

    def info(self, model: str | None = None, cancelled: Any = None, visitor: str = "") -> ModelInfo:
        if visitor == self.first:
            self.waits.set()
            assert self.loaded_event.wait(20)
        return self.loaded


def order(count: int = 2, seed: int = 1) -> BatchOrder:
    return BatchOrder([NamedMask(f"m{i}", MASK) for i in range(count)], POLYP, seed, "stand-in")


def start(runner: BatchRunner, owner: str, what: BatchOrder | None = None) -> Iterator[Any]:
    return runner.start(owner, what or order(), threading.Event(), owner)


@pytest.fixture
def model() -> LoadingModel:
    return LoadingModel()


@pytest.fixture
def runner(model, tmp_path) -> BatchRunner:
    return BatchRunner(model, tmp_path / "batches")


@pytest.fixture
def waiting(model, runner) -> Iterator[threading.Thread]:
    """The first visitor's batch in a thread of its own, which waits for its model."""
    thread = threading.Thread(target=lambda: list(start(runner, "first", order(3, seed=7))))
    thread.start()
    assert model.waits.wait(20)
    yield thread
    model.loaded_event.set()
    thread.join(20)


def test_a_batch_that_waits_for_its_model_blocks_no_other_visitor(model, runner, waiting):
    *_, last = start(runner, "second")
    assert (last.done, last.total) == (2, 2)
    assert runner.is_running("first")
    assert not runner.is_running("second")
    assert runner.job("first") is None
    model.loaded_event.set()
    waiting.join(20)
    assert not runner.is_running("first")
    assert runner.job("first").done == 3


def test_two_windows_cannot_both_replace_the_folder(model, runner, waiting):
    for attempt in (start(runner, "first"), runner.resume("first", threading.Event(), "first")):
        with pytest.raises(BusyError, match="another window"):
            next(attempt)
    model.loaded_event.set()
    waiting.join(20)
    assert runner.job("first").settings.seed == 7
    *_, last = start(runner, "first", order(seed=8))
    assert last == BatchProgress(2, 2, 0.0)
    assert runner.job("first").settings.seed == 8, "a new batch replaces the one before"


@pytest.mark.parametrize("how", ["closed", "failed", "cancelled"])
def test_a_batch_that_stops_can_be_resumed(model, runner, how):
    cancelled = threading.Event()
    events = runner.start("second", order(6), cancelled, "second")
    assert next(events) == BatchProgress(0, 6)
    if how == "closed":
        events.close()
    elif how == "failed":
        model.fault = ValueError("a fault")
        with pytest.raises(ValueError, match="a fault"):
            list(events)
        model.fault = None
    else:
        cancelled.set()
        assert list(events) == []
    assert not runner.is_running("second")
    *_, last = runner.resume("second", threading.Event(), "second")
    assert last.done == 6


def test_limits_and_absent_batches(runner):
    running = [start(runner, f"visitor {i}") for i in range(BATCHES_ALL)]
    for events in running:
        next(events)
    with pytest.raises(BusyError, match="as many batches as it can"):
        next(start(runner, "another"))
    running.pop().close()
    next(start(runner, "another"))
    with pytest.raises(BatchError, match="expired"):
        next(runner.resume("nobody", threading.Event(), "nobody"))


def test_a_full_disk_is_a_message_and_frees_the_folder(runner, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", full)
        with pytest.raises(BatchError, match="could not store the masks"):
            next(start(runner, "second"))
    assert not runner.is_running("second")
    *_, last = start(runner, "second")
    assert last.done == 2
