"""Transport: the process that holds the model, so that neither importing torch nor sampling ever delays a page.

``ModelProcess`` is the parent's end and ``answer_calls`` the child's. They exchange pickles over the child's standard streams, strictly in
turn: a call of an ``Engine`` method, the events of the run, the result. Only the command to stop may come in between. What a call does is
the engine's business, and which call is next is the queue's.

If the child dies (for lack of memory, say), one request fails and the next one starts another child. The same happens if it hangs. A
child that works on a request counts as alive while it sends events or does work: loading from a slow disk or from the hub, or one step of
a large model, may take minutes without an event, but uses the processor or moves bytes all the while. The parent measures that from
outside, because a stopped or deadlocked child cannot report itself; see ``heartbeat``.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from siamese.records.catalogue import ModelEntry
from siamese.studio.backend.engine import Engine
from siamese.studio.backend.heartbeat import Watch
from siamese.studio.backend.messages import (
    Cancelled,
    ModelInfo,
    ModelUnavailableError,
    OutOfMemoryError,
    Update,
)

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[3]
STOP = "stop"
UPDATE, ANSWERED, FAILED = "update", "answered", "failed"
PAUSE = 0.05
"""Seconds between two checks whether a request was cancelled."""
SILENCE = 60.0
"""Seconds without an event or a sign of work after which a process with a request is killed."""
FAREWELL = 10.0
"""Seconds to wait for a killed process to exit. One that waits for a dead disk takes longer, and is not waited for."""
HUNG = "The model did not respond for {:g} seconds, so its process was ended. Please try again; the next request starts a new process."
KILLED = "The model's process was ended by the system, most likely for lack of memory. Ask for fewer variants, then try again."


class ModelProcess:
    """The parent's end. Only one thread at a time may call ``ask``.

    Args:
        models: the models to choose from, the default first.
        silence: seconds; see ``SILENCE``.
    """

    def __init__(self, models: Sequence[ModelEntry], silence: float = SILENCE) -> None:
        self._models = list(models)
        self._silence = silence
        self._process: subprocess.Popen[bytes] | None = None
        self._commands: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._replies: queue.SimpleQueue[tuple[str, Any, ModelInfo | None] | None] = queue.SimpleQueue()
        self._closed = False
        self.loaded: ModelInfo | None = None
        """The model in the process's memory, as of its last reply."""

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process unless it runs, and return it. It reads a model with the first request."""
        if self._process is not None:
            return self._process
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        process = self._process = subprocess.Popen(
            [sys.executable, "-m", "siamese.studio.backend.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._commands, self._replies = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(
            target=_read, args=(process.stdout, self._replies.put), name="model replies", daemon=True
        ).start()
        # A thread of its own: a stopped process reads nothing, and writing to it blocks for ever.
        threading.Thread(
            target=_write, args=(process.stdin, self._commands.get), name="model commands", daemon=True
        ).start()
        self._send(self._models)
        return process

    def ask(
        self, call: str, *args: Any, on_update: Callable[[Update], None], is_cancelled: Callable[[], bool]
    ) -> Any:
        """Run the engine's method ``call`` in the process; returns what it returns and raises what it raises.

        Args:
            on_update: called with each event of the run.
            is_cancelled: checked every ``PAUSE`` seconds; the run stops if it returns True.

        Raises:
            OutOfMemoryError, ModelUnavailableError: also if the process died, or hung and was killed.
            Cancelled: also after ``close``.
        """
        if self._closed:
            raise Cancelled
        process = self.start()
        self._send((call, args))
        stopping, watch = False, Watch(process.pid, self._silence)
        while True:
            if not stopping and is_cancelled():
                stopping = True
                self._send(STOP)
            try:
                reply = self._replies.get(timeout=PAUSE)
            except queue.Empty:
                if not watch.alive():
                    raise self._ended(process) from None
                continue
            watch.heard()
            if reply is None:
                raise self._died(process)
            kind, value, loaded = reply
            if kind == UPDATE:
                on_update(value)
                continue
            self.loaded = loaded
            if kind == FAILED:
                raise value
            return value

    def close(self) -> None:
        """Kill the process, which holds no unsaved data. A waiting ``ask`` raises ``Cancelled``."""
        self._closed = True
        if (process := self._process) is not None:
            _kill(process)

    def _send(self, message: Any) -> None:
        self._commands.put(pickle.dumps(message))

    def _ended(self, process: subprocess.Popen[bytes]) -> Exception:
        self._forget()
        log.error("the model's process %d sent nothing for %g s and is killed", process.pid, self._silence)
        _kill(process)
        return Cancelled() if self._closed else ModelUnavailableError(HUNG.format(self._silence))

    def _forget(self) -> None:
        self._commands.put(None)  # this ends the writing thread; each thread closes its own stream
        self._process, self.loaded = None, None

    def _died(self, process: subprocess.Popen[bytes]) -> Exception:
        self._forget()
        code = process.wait()
        if self._closed:
            return Cancelled()
        log.error("the model's process ended with code %s", code)
        if code == -getattr(signal, "SIGKILL", 9):
            return OutOfMemoryError(KILLED)
        return ModelUnavailableError(
            f"The model's process ended unexpectedly (code {code}); the server's log may say why. Please try again."
        )


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the process: a stopped one does not react to any other signal."""
    process.kill()
    try:
        process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        log.error("the model's process %d is not gone yet", process.pid)


def _read(stream: BinaryIO, put: Callable[[Any], None]) -> None:
    """Call ``put`` with each object pickled in ``stream``, and with None at its end."""
    with stream:
        while True:
            try:
                put(pickle.load(stream))
            except (
                EOFError,
                OSError,
                ValueError,
                pickle.UnpicklingError,
            ):  # ended, perhaps in the middle of a message
                put(None)
                return


def _write(stream: BinaryIO, get: Callable[[], bytes | None]) -> None:
    """Write each pickle from ``get`` to ``stream``, until it returns None."""
    try:
        with stream:
            while (message := get()) is not None:
                stream.write(message)
                stream.flush()
    except OSError:  # the child has died; ``ask`` sees that at the end of the replies
        pass


def answer_calls(
    commands: BinaryIO, replies: BinaryIO, build: Callable[[Sequence[ModelEntry]], Engine] = Engine
) -> None:
    """The child's end: execute calls until ``commands`` ends."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def sort(message: Any) -> None:
        if message == STOP:
            stop.set()
            return
        if message is None:  # the parent is gone
            stop.set()
        else:
            stop.clear()  # a stop before this belonged to the request before
        waiting.put(message)

    def reply(kind: str, value: Any) -> None:
        pickle.dump((kind, value, engine.loaded), replies)
        replies.flush()

    threading.Thread(target=_read, args=(commands, sort), name="commands", daemon=True).start()
    models = waiting.get()
    if models is None:
        return
    engine = build(models)
    while (message := waiting.get()) is not None:
        call, args = message
        try:
            reply(ANSWERED, getattr(engine, call)(lambda update: reply(UPDATE, update), stop.is_set, *args))
        except (Cancelled, ModelUnavailableError, OutOfMemoryError) as error:
            reply(FAILED, type(error)(*error.args))
        except ValueError as error:
            reply(FAILED, ValueError(str(error)))
        except BrokenPipeError:
            raise
        except (
            Exception
        ) as error:  # the outermost layer: logged here with its traceback, and the process lives on
            log.exception("%s failed", call)
            reply(FAILED, RuntimeError(f"{type(error).__name__}: {error}"))


def main() -> None:
    """Serve the process that started this one. Ctrl-C is handled there: it then closes our standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # libraries' output must not mix with the replies
    with suppress(BrokenPipeError):  # the parent is gone
        answer_calls(commands, replies)


if __name__ == "__main__":
    main()
