"""Whether another process is alive, measured from outside by what the operating system counts of it."""

from __future__ import annotations

import time

import psutil

CPU_SECONDS = 0.1
"""Seconds of processor time that count as work. Threads that only wait need minutes for this much."""
BYTES = 2**16
"""Bytes read or written that count as work. A download is written, too."""
PAUSE = 0.5
"""Seconds between two measurements; each reads two small files of the system."""


class Watch:
    """Measures how long a process gives no sign of life: neither a message, see ``heard``, nor work.

    A stopped or deadlocked process gives none. One that computes, pages, reads a file or downloads does, however long it sends nothing.
    An endless loop cannot be distinguished from a computation, and counts as work.

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
        """Note that the process sent a message."""
        self._quiet, self._last = 0.0, time.monotonic()

    def alive(self) -> bool:
        """False if it gave no sign of life for ``silence`` seconds. Call this at least once a second."""
        now = time.monotonic()
        # Only time between two calls that are close together counts: the machine or this process may have slept.
        self._quiet += min(now - self._last, 1.0)
        self._last = now
        if now - self._looked >= min(PAUSE, self._silence / 4):
            self._looked = now
            done = self._done()
            if done[0] - self._seen[0] >= CPU_SECONDS or done[1] - self._seen[1] >= BYTES:
                self._seen, self._quiet = done, 0.0
        return self._quiet < self._silence

    def _done(self) -> tuple[float, int]:
        """Processor seconds and bytes so far; zero if this system does not count them."""
        if self._process is None:
            return 0.0, 0
        try:
            times = self._process.cpu_times()
            seconds = times.user + times.system
        except (psutil.Error, OSError):  # gone: ``ModelProcess`` sees that at the end of its replies
            return self._seen
        try:
            moved = self._process.io_counters()  # not available on a Mac
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
