"""The process that holds the model, so that neither importing torch nor sampling ever holds up a page.

Parent and child talk in pickles over the child's standard streams, strictly in turn: a request, what happens meanwhile, the answer.
Only the word to stop may come in between. A child that dies (for lack of memory, say) costs one request; the next starts another.

So does one that hangs. While it has something to do, a child lives if it says something (each step does) or works: loading from a slow
disk or the hub, or one step of a large model, may take minutes without a word, and uses the processor or moves bytes all the while.
Parents see that from outside, where neither a stopped nor a deadlocked child can pretend; see ``signs``.
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
TOLD, ANSWERED, FAILED = "told", "answered", "failed"
PAUSE = 0.05
"""Seconds between two looks at whether a request was cancelled."""
SILENCE = 60.0
"""Seconds without a word or a sign of work after which a process that was asked something is ended."""
FAREWELL = 10.0
"""Seconds that a killed process may take to be gone; one that waits for a dead disk stays longer, and nobody waits for it."""
HUNG = "The model did not answer for {:g} seconds, so its process was ended. Please try again; a new one starts with the next request."
KILLED = "The model's process was ended by the system, most likely for lack of memory. Ask for fewer variants, then try again."


class ModelProcess:
    """The parent's end. One thread asks at a time.

    Args:
        models: what can be chosen, the default first.
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
        """The model in the process's memory, as of its last answer."""

    def start(self) -> None:
        """Start the process where none runs. It reads no model before it is asked for one."""
        if self._process is not None:
            return
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "siamese.studio.backend.process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._commands, self._replies = queue.SimpleQueue(), queue.SimpleQueue()
        threading.Thread(
            target=_read, args=(self._process.stdout, self._replies.put), name="model replies", daemon=True
        ).start()
        # A thread of its own: a stopped process takes nothing, and who writes to it waits for ever.
        threading.Thread(
            target=_write, args=(self._process.stdin, self._commands.get), name="model commands", daemon=True
        ).start()
        self._send(self._models)

    def ask(
        self, call: str, *args: Any, tell: Callable[[Update], None], asked_to_stop: Callable[[], bool]
    ) -> Any:
        """Have the engine's method ``call`` run in the process, and return what it returns or raise what it raises.

        Raises:
            OutOfMemoryError, ModelUnavailableError: also where the process died, or hung and was ended.
            Cancelled: also after ``close``.
        """
        if self._closed:
            raise Cancelled
        self.start()
        self._send((call, args))
        stopping, watch = False, Watch(self._process.pid, self._silence)
        while True:
            if not stopping and asked_to_stop():
                stopping = True
                self._send(STOP)
            try:
                reply = self._replies.get(timeout=PAUSE)
            except queue.Empty:
                if not watch.alive():
                    raise self._ended() from None
                continue
            watch.heard()
            if reply is None:
                raise self._died()
            kind, value, loaded = reply
            if kind == TOLD:
                tell(value)
                continue
            self.loaded = loaded
            if kind == FAILED:
                raise value
            return value

    def close(self) -> None:
        """End the process, which has nothing to lose. Whoever waits for an answer gets ``Cancelled``."""
        self._closed = True
        if (process := self._process) is not None:
            _kill(process)

    def _send(self, message: Any) -> None:
        self._commands.put(pickle.dumps(message))

    def _ended(self) -> Exception:
        process = self._process
        self._forget()
        log.error("the model's process %d said nothing for %g s and is ended", process.pid, self._silence)
        _kill(process)
        return Cancelled() if self._closed else ModelUnavailableError(HUNG.format(self._silence))

    def _forget(self) -> None:
        self._commands.put(None)  # the thread that writes ends; each thread closes its own stream
        self._process, self.loaded = None, None

    def _died(self) -> Exception:
        process = self._process
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
    """End that process: a stopped one heeds no other signal."""
    process.kill()
    try:
        process.wait(FAREWELL)
    except subprocess.TimeoutExpired:
        log.error("the model's process %d could not be ended yet", process.pid)


def _read(stream: BinaryIO, put: Callable[[Any], None]) -> None:
    """Pass on each pickle of ``stream``, and None at its end."""
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
    """Write each pickle to ``stream``, until there is None."""
    try:
        with stream:
            while (message := get()) is not None:
                stream.write(message)
                stream.flush()
    except OSError:  # its reader has died; the end of the replies says so
        pass


def serve(
    commands: BinaryIO, replies: BinaryIO, build: Callable[[Sequence[ModelEntry]], Engine] = Engine
) -> None:
    """The child's end: obey until ``commands`` end."""
    waiting: queue.SimpleQueue[Any] = queue.SimpleQueue()
    stop = threading.Event()

    def sort(message: Any) -> None:
        if message == STOP:
            stop.set()
            return
        if message is None:  # nobody is left to answer
            stop.set()
        else:
            stop.clear()  # what came before was for the request before
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
            reply(ANSWERED, getattr(engine, call)(lambda update: reply(TOLD, update), stop.is_set, *args))
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
    """Obey the process that started this one; its Ctrl-C is not ours, it closes our standard input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    commands, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    try:
        serve(commands, replies)
    except BrokenPipeError:  # who asked is gone
        pass


if __name__ == "__main__":
    main()
