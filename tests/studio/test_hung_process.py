"""A model process that hangs is ended; one that only takes long is not. Without a model: the process answers that there is none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from siamese.records.catalogue import describe
from siamese.studio.backend import heartbeat
from siamese.studio.backend import process as model_process
from siamese.studio.backend.heartbeat import Watch
from siamese.studio.backend.messages import ModelUnavailableError
from siamese.studio.backend.process import SILENCE, ModelProcess
from siamese.studio.backend.queue import ModelWorker

WORK = {
    "computes": "while True: pass",
    "reads": "import os\nwhile True: open(os.__file__, 'rb').read(); __import__('time').sleep(0.01)",
}
HANGS = {
    "waits for itself": "import threading; lock = threading.Lock(); lock.acquire(); print(flush=True); lock.acquire()",
    "has threads that wait": "import threading as t\nfor _ in range(8): t.Thread(target=t.Event().wait).start()\nprint(flush=True)",
}


def child(code: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)


def watched(pid: int, silence: float, seconds: float) -> bool:
    """Whether it counts as alive after ``seconds``."""
    watch, end = Watch(pid, silence), time.monotonic() + seconds
    while time.monotonic() < end:
        if not watch.alive():
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("code", HANGS.values(), ids=HANGS)
def test_a_deadlocked_process_gives_no_sign(code):
    process = child(code)
    try:
        process.stdout.readline()  # it has started
        assert not watched(process.pid, 0.5, 10)
    finally:
        process.kill()
        process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("code", WORK.values(), ids=WORK)
def test_one_that_works_lives_without_a_word_until_it_is_stopped(code, monkeypatch):
    monkeypatch.setattr(heartbeat, "CPU_SECONDS", 0.01)  # of a machine that does much else
    process = child(code)
    try:
        assert watched(process.pid, 1.0, 2.5)
        process.send_signal(signal.SIGSTOP)
        assert not watched(process.pid, 0.5, 10)
    finally:
        process.kill()
        process.communicate()


def test_time_in_which_nobody_looked_does_not_count():
    process = child(HANGS["waits for itself"])
    try:
        watch = Watch(process.pid, 2.0)
        watch._last -= 1000  # as after the machine slept
        assert watch.alive()
        watch._last -= 1000
        watch.heard()
        assert watch.alive()
        assert watch._quiet < 1
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def process():
    process = ModelProcess([describe("nowhere")], silence=1.0)
    yield process
    process.close()


def ask(process: ModelProcess, *call):
    return process.ask(*call, on_update=lambda update: None, is_cancelled=lambda: False)


@pytest.mark.slow
def test_a_stopped_process_costs_one_request_and_the_next_starts_another(process, caplog):
    process.start()
    stopped = psutil.Process(process._process.pid)
    stopped.suspend()
    began = time.monotonic()
    with pytest.raises(
        ModelUnavailableError,
        match=r"did not respond for 1 seconds, so its process was ended. Please try again",
    ):
        ask(process, "suggest", np.zeros((1024, 1024, 3), np.uint8), "gone")  # more than a pipe takes
    assert time.monotonic() - began < 10
    assert not stopped.is_running()
    assert process.loaded is None
    assert "sent nothing" in caplog.text
    process._silence = 60
    with pytest.raises(ModelUnavailableError, match="choose another one"):  # an answer
        ask(process, "info", "gone")
    assert process._process.pid != stopped.pid


def test_a_stopped_process_does_not_hold_up_the_end(process):
    process.start()
    os.kill(process._process.pid, signal.SIGSTOP)
    began = time.monotonic()
    process.close()
    assert time.monotonic() - began < model_process.FAREWELL


def test_visitors_are_informed_and_the_limit_is_a_minute():
    assert SILENCE == 60
    worker = ModelWorker([describe("nowhere")], silence=0.5)
    try:
        worker.start()
        os.kill(worker._process._process.pid, signal.SIGSTOP)
        with pytest.raises(ModelUnavailableError, match="did not respond"):
            worker.info()
    finally:
        worker.close()
