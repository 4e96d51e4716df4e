"""Whether another process works, seen from outside: from what the system counts of it, whatever it says or cannot say."""

from __future__ import annotations

import time

import psutil

CPU_SECONDS = 0.1
"""Processor time that counts as work. Threads that only wait take less in minutes."""
BYTES = 2**16
"""Read or written: the same. What is downloaded is written."""
PAUSE = 0.5
"""Seconds between two looks; each reads two small files of the system."""


class Watch:
    """Counts how long a process gives no sign: no word, as ``heard`` says, and no work.

    One that is stopped or deadlocked gives none. One that computes, pages, reads a file or downloads does, however long it is silent.
    One that runs in a circle for ever cannot be told from one that computes, and counts as working.

    Args:
        pid: the process.
        silence: seconds without a sign after which it counts as dead.
    """

    def __init__(self, pid: int, silence: float) -> None:
        self._process = _find(pid)
        self._silence = silence
        self._quiet = 0.0
        self._seen = (0.0, 0)
        self._seen = self._done()
        self._last = self._looked = time.monotonic()

    def heard(self) -> None:
        """It said something."""
        self._quiet, self._last = 0.0, time.monotonic()

    def alive(self) -> bool:
        """False once it has given no sign for too long; to be asked once a second or more often."""
        now = time.monotonic()
        # Only time in which somebody asked counts: a machine or a parent that slept knows nothing of the time between.
        self._quiet += min(now - self._last, 1.0)
        self._last = now
        if now - self._looked >= min(PAUSE, self._silence / 4):
            self._looked = now
            done = self._done()
            if done[0] - self._seen[0] >= CPU_SECONDS or done[1] - self._seen[1] >= BYTES:
                self._seen, self._quiet = done, 0.0
        return self._quiet < self._silence

    def _done(self) -> tuple[float, int]:
        """Processor seconds and bytes so far; zero of what this system does not tell."""
        if self._process is None:
            return 0.0, 0
        try:
            times = self._process.cpu_times()
            seconds = times.user + times.system
        except (psutil.Error, OSError):  # gone: the end of its replies says so
            return self._seen
        try:
            moved = self._process.io_counters()  # not on a Mac
        except (AttributeError, psutil.Error, OSError):
            return seconds, 0
        return seconds, moved.read_bytes + moved.write_bytes + getattr(moved, "read_chars", 0) + getattr(
            moved, "write_chars", 0
        )


def _find(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None
