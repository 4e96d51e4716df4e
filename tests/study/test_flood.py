"""A visitor's flood and a model that hangs: raters are served, direct calls are refused, the page says who is before whom."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from siamese.records.catalogue import find_models
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend.messages import ModelInfo, Waiting
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.turns import WAITING_EACH
from siamese.studio.server import Studio
from siamese.studio.visitors.event_limit import EACH, TOO_MANY
from tests.stand_in_process import HeldProcess
from tests.studio_model import EMBEDDED
from tests.study.phantom_study import make_study
from tests.tools.flood import CALLS, JOINS, LOAD, MORE, SUGGEST, Visitor, Waits, rate


@pytest.fixture
def hanging(tmp_path):
    """A studio whose model's process hangs, and a rater's link."""
    (tmp_path / "studies").mkdir()
    store, study = make_study(tmp_path / "studies")
    path = store.invite(study.config.id, ["Dr A"])[0].path
    store.database.close()
    worker = ModelWorker(find_models(str(EMBEDDED), None))
    worker._process = HeldProcess()
    studio = Studio(worker, tmp_path, "127.0.0.1")
    yield studio, path
    studio.close()


def events_with(heard: list[str], text: str) -> set[str]:
    """Events whose page received ``text``."""
    return {json.loads(message).get("event_id") for message in heard if text in message}


@pytest.mark.slow
def test_raters_are_served_whatever_a_visitor_sends(hanging):
    studio, path = hanging
    visitor, stop, heard = Visitor(studio.address, "flood"), threading.Event(), []
    with ThreadPoolExecutor(CALLS) as pool:
        try:
            assert visitor.join(MORE).status_code == 200
            listening = pool.submit(visitor.listen, heard, stop)
            calls = [pool.submit(visitor.call, name) for name in (SUGGEST, LOAD) for _ in range(CALLS)]
            joined = [visitor.join(MORE) for _ in range(JOINS)]
            waits = Waits.of(rate(studio.address, path, 2))
            assert waits.p95 < 3000, waits  # 300 ms on an idle machine: ``python -m tests.tools.flood``
            assert studio.worker._process.asked == ["sample"]
            assert [len(jobs) for jobs in studio.worker._line._waiting.values()] == [WAITING_EACH]
            assert {reply.status_code for reply in joined} <= {200, 429}
            assert {reply.json()["detail"] for reply in joined if reply.status_code == 429} <= {TOO_MANY}
            replies = {
                (reply.status_code, reply.json()["detail"]) for reply in (call.result() for call in calls)
            }
            assert {status for status, _ in replies} <= {404, 429}
            assert all("join the queue" in text or text == TOO_MANY for _, text in replies)
            other = studio.worker.sample(None, visitor="another")
            assert next(other) == Waiting(1)  # before the four of the flood
            other.close()
        finally:
            studio.worker._process.close()  # what waits ends
            stop.set()
        listening.result(30)
    accepted = sum(reply.status_code == 200 for reply in joined)
    assert (
        len(events_with(heard, f"You have {WAITING_EACH} requests waiting already"))
        == accepted - WAITING_EACH
    )
    assert all(events_with(heard, f"{ahead} before you.") for ahead in range(1, WAITING_EACH + 1))


@pytest.mark.slow
def test_more_than_a_page_needs_is_refused_before_it_is_an_event(hanging):
    studio, _ = hanging
    visitor = Visitor(studio.address, "flood")
    studio.worker._asking._each = 2 * EACH  # so that all of them wait
    try:
        assert [visitor.join(LOAD).status_code for _ in range(EACH + 1)] == [200] * EACH + [429]
    finally:
        studio.worker._process.close()


@pytest.mark.slow
def test_an_administrator_is_served_too(hanging):
    studio, _ = hanging
    visitor = Visitor(studio.address, "flood")
    with ThreadPoolExecutor(CALLS) as pool:
        try:
            for _ in range(CALLS):
                pool.submit(visitor.join, LOAD)
            end = time.monotonic() + 10
            while not studio.worker._process.asked and time.monotonic() < end:
                time.sleep(0.05)
            began = time.monotonic()
            assert httpx.get(f"{studio.address}/study/admin/login", timeout=30).status_code == 200
            assert time.monotonic() - began < 3
        finally:
            studio.worker._process.close()


@pytest.mark.slow
def test_functions_that_do_not_wait_are_called_directly(hanging):
    studio, _ = hanging
    studio.worker._process.loaded = ModelInfo("x", SamplingSettings(1, 1.0, "ddim"), 64, None, False)
    visitor = Visitor(studio.address, "page")
    assert visitor.call("begin", "run").status_code == 200
    assert visitor.call(MORE, "run").status_code == 404
    assert visitor.call("begin", "api").status_code == 404, "a way that the page does not go"
