"""The line before the model, without a model: turns, places, limits, a process that hangs."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from siamese.records.catalogue import describe
from siamese.records.prompts import POLYP
from siamese.records.sampling_settings import SamplingSettings
from siamese.studio.backend import queue as workers
from siamese.studio.backend.messages import BusyError, Cancelled, ModelInfo, Request, Waiting
from siamese.studio.backend.queue import ModelWorker
from siamese.studio.backend.runs import RunRegistry
from siamese.studio.backend.turns import Job, Line, Share
from siamese.studio.components.canvas import canvas_value
from siamese.studio.components.default_mask import example_mask
from siamese.studio.tabs.generate import Failed, Form, generate
from tests.stand_in_process import HeldProcess

REQUEST = Request((np.zeros((4, 4), np.uint8),), POLYP, (0,))


def join(line: Line, *visitors: str, limited: bool = True) -> list[Job]:
    jobs = [Job(lambda job: None, visitor) for visitor in visitors]
    for job in jobs:
        line.join(job, limited)
    return jobs


def served(line: Line) -> list[Job]:
    """All that wait, in the order in which they run."""
    order = []
    while any(line._waiting.values()):
        order.append(line.take())
        line.done()
    return order


def places_reported(job: Job) -> list[int]:
    places = []
    while not job.updates.empty():
        places.append(job.updates.get().ahead)
    return places


class TestLine:
    def test_visitors_take_turns(self):
        line = Line()
        a1, a2, a3, b1, b2, c1 = join(line, *"aaabbc")
        assert served(line) == [a1, b1, c1, a2, b2, a3]

    def test_who_comes_while_another_runs_is_before_that_ones_next(self):
        line = Line()
        running, waits = join(line, "a", "a")
        assert line.take() is running
        first, second = join(line, "b", "b")
        assert [places_reported(j) for j in (waits, first, second)] == [[1, 2], [1], [3]]
        line.done()
        assert served(line) == [first, waits, second]

    def test_nobody_is_passed_over_for_ever(self):
        line = Line()
        running, waits = join(line, "a", "a")
        assert line.take() is running
        join(line, "new 0")
        line.done()
        for number in range(1, 5):  # a new visitor comes during each turn
            if line.take() is waits:
                break
            join(line, f"new {number}")
            line.done()
        assert number == 2

    def test_places_are_true_from_the_first_moment(self):
        line = Line(each=100)
        line_of = join(line, *("a" * 20), *("b" * 20), "c")
        truth = {id(job): place for place, job in enumerate(served_copy(line))}
        assert [j.ahead for j in line_of] == [truth[id(j)] for j in line_of]
        line.take()
        assert [j.ahead for j in line_of] == [
            truth[id(j)] for j in line_of
        ]  # one runs now, as many are before
        line.leave(line_of[-1])
        assert line_of[1].ahead == 2

    def test_one_waits_for_at_most_one_of_each_other(self):
        line = Line()
        join(line, *"aaaa", *"bbbb", *"cccc")
        (late,) = join(line, "d")
        assert late.ahead == 3

    def test_four_of_a_visitor_wait_and_the_message_says_what_to_do(self):
        line = Line()
        join(line, *"aaaaa")  # the first runs at once
        with pytest.raises(
            BusyError, match=r"4 requests waiting already. Wait until one of them is done, or cancel one"
        ):
            join(line, "a")
        join(line, "b")
        assert line.take().visitor == "a"
        with pytest.raises(BusyError):
            join(line, "a")
        line.leave(line._waiting["a"][-1])
        join(line, "a")

    def test_there_is_a_limit_over_all_but_not_for_the_studio(self):
        line = Line(each=2, over_all=3)
        join(line, *"abcd")
        with pytest.raises(BusyError, match=r"3 requests are waiting for the model.*few minutes"):
            join(line, "e")
        join(line, "the studio", limited=False)

    def test_closing_ends_those_who_wait(self):
        line = Line()
        running, waits = join(line, *"ab")
        assert line.take() is running
        line.close()
        assert line.take() is None
        assert running.cancelled.is_set()
        with pytest.raises(Cancelled):
            waits.result.result(0)
        with pytest.raises(Cancelled):
            join(line, "c")

    def test_shares(self):
        share = Share(1, 2, "only {}", "all {}")
        with share.held("a"), share.held("b"):
            for visitor, message in (("a", "only 1"), ("c", "all 2")):
                with pytest.raises(BusyError, match=message), share.held(visitor):
                    pass
        with share.held("a"), pytest.raises(ZeroDivisionError), share.held("b"):
            raise ZeroDivisionError
        with share.held("b"), share.held("c"):
            pass


def served_copy(line: Line) -> list[Job]:
    """The order in which all would run, by running them in another line of the same."""
    other = Line(each=100)
    for visitor, jobs in line._waiting.items():
        other._waiting[visitor] = list(jobs)
    before = {id(j): j.ahead for jobs in line._waiting.values() for j in jobs}
    order = served(other)
    for job in order:
        job.ahead = before[id(job)]
    return order


@pytest.fixture
def held():
    """A worker whose process answers only once it is let."""
    worker = ModelWorker([describe("nowhere")])
    worker._process = HeldProcess()
    yield worker
    worker.close()


def start(worker: ModelWorker, visitor: str, **options):
    """A request that runs or waits, in a thread of its own; the list of its updates, and the thread."""
    heard = []

    def follow() -> None:
        try:
            heard.extend(worker.sample(REQUEST, visitor=visitor, **options))
        except (BusyError, Cancelled) as error:
            heard.append(error)

    thread = threading.Thread(target=follow)
    thread.start()
    return heard, thread


def until(true) -> None:
    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class TestWorker:
    def test_cancel_works_at_once_while_the_process_hangs(self, held):
        runs = RunRegistry()
        name = runs.begin()
        running = threading.Thread(
            target=lambda: list(
                generate(held, Form(canvas_value(example_mask(0, 64)), POLYP), runs.event(name), "a")
            )
        )
        running.start()
        until(lambda: held._process.asked)
        waits, thread = start(held, "b")
        until(lambda: held._line._waiting)
        began = time.monotonic()
        runs.cancel(name)
        running.join(5)
        assert not running.is_alive()
        assert time.monotonic() - began < 2
        held._process.answer.set()
        thread.join(5)
        assert waits[-1] == "answer"

    def test_the_fifth_request_that_waits_is_a_message(self, held):
        threads = [start(held, "a")[1]]
        until(lambda: held._process.asked)
        threads += [start(held, "a")[1] for _ in range(4)]
        until(lambda: sum(map(len, held._line._waiting.values())) == 4)
        *_, failed = generate(held, Form(canvas_value(example_mask(0, 64)), POLYP), visitor="a")
        assert isinstance(failed, Failed)
        assert "4 requests waiting already" in failed.message
        with pytest.raises(BusyError):
            held.suggest(np.zeros((4, 4, 3), np.uint8), visitor="a")
        other = held.sample(REQUEST, visitor="b")
        assert next(other) == Waiting(1)
        other.close()
        held._process.answer.set()
        for thread in threads:
            thread.join(5)

    def test_a_place_is_sent_again_so_that_a_closed_page_is_noticed(self, held, monkeypatch):
        monkeypatch.setattr(workers, "REPEAT", 0)
        _, thread = start(held, "a")
        until(lambda: held._process.asked)
        waits = held.sample(REQUEST, visitor="b")
        assert [next(waits) for _ in range(3)] == [Waiting(1)] * 3
        waits.close()
        assert not held._line._waiting
        held._process.answer.set()
        thread.join(5)

    def test_all_who_ask_for_a_model_are_one_request(self, held):
        found = []
        threads = [
            threading.Thread(target=lambda v=v: found.append(held.info(visitor=f"visitor {v}")))
            for v in range(10)
        ]
        for thread in threads:
            thread.start()
        until(lambda: sum(held._asking._held.values()) == 10)
        assert len(held._process.asked) == 1
        assert not held._line._waiting
        stop = threading.Event()
        stop.set()
        with pytest.raises(Cancelled):
            held.info(cancelled=stop)
        for _ in range(3):
            threads.append(threading.Thread(target=lambda: found.append(held.info(visitor="visitor 0"))))
            threads[-1].start()
        until(lambda: sum(held._asking._held.values()) == 13)
        with pytest.raises(BusyError, match="load"):
            held.info(visitor="visitor 0")
        held._process.answer.set()
        for thread in threads:
            thread.join(5)
        assert found == ["answer"] * 13

    def test_a_turn_is_held_while_others_wait(self, held):
        held._process.answer.set()
        with held.turn("administrator"):
            heard, thread = start(held, "a")
            until(lambda: held._line._waiting)
            assert not held._process.asked
        thread.join(5)
        assert heard == [Waiting(1), "answer"]

    def test_closing_ends_a_turn(self, held):
        ended = threading.Event()

        def sample() -> None:
            with held.turn("administrator"):
                ended.wait(5)

        running = threading.Thread(target=sample)
        running.start()
        until(lambda: held._line._running)
        began = time.monotonic()
        held.close()
        assert time.monotonic() - began < 4
        ended.set()
        running.join(5)


def test_a_loaded_model_is_described_without_waiting(held):
    info = held._process.loaded = ModelInfo("nowhere", SamplingSettings(1, 1.0, "ddim"), 64, None, False)
    start_of_another, thread = start(held, "a")
    assert held.info() is info
    held._process.answer.set()
    thread.join(5)
    assert start_of_another[-1] == "answer"
