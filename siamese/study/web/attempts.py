"""Guessing is slow: failed log-ins delay the next from their own address, and few passwords are hashed at once."""

from __future__ import annotations

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

FREE = 3
"""Failures of an address without delay; after that the next attempt waits 1, 2, 4, ... seconds."""
MAX_SECONDS = 900
FORGOTTEN_SECONDS = 24 * 3600
"""After so long without a failure all failures of an address are forgotten."""
MAX_ADDRESSES = 10_000
"""The addresses that failed longest ago are forgotten before more are kept."""
AT_ONCE, WAITING, PATIENCE_SECONDS = 2, 16, 5.0
"""Passwords that are hashed at once (32 MiB and a core each), those that wait for it, each in a thread, and for how long."""


class TooManyAttemptsError(RuntimeError):
    """The attempt was not looked at; ``seconds`` later it will be."""

    def __init__(self, message: str, seconds: int) -> None:
        super().__init__(message)
        self.seconds = seconds


@dataclass
class Failures:
    """Of one address."""

    count: int = 0
    last: float = -math.inf
    """By the monotonic clock, in seconds."""

    def wait(self, now: float) -> float:
        """Seconds until the next attempt is looked at; none if not positive."""
        return (
            self.last + min(2.0 ** min(self.count - FREE, 40), MAX_SECONDS) - now
            if self.count >= FREE
            else 0.0
        )


class Attempts:
    """Failed attempts to log in, of ``what``, by address. Safe to use from several threads.

    There is no limit over all addresses: nobody can keep the administrator out by failing from another address.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._failed: OrderedDict[str, Failures] = OrderedDict()  # the one that failed last is at the end
        self._lock = threading.Lock()

    def begin(self, address: str) -> None:
        """Count an attempt as failed until it is forgiven, so that parallel attempts are limited too.

        Raises:
            TooManyAttemptsError: the address has to wait.
        """
        now, key = time.monotonic(), whose(address)
        with self._lock:
            found = self._failed.get(key)
            if found is None or now - found.last > FORGOTTEN_SECONDS:
                found = Failures()
            wait = math.ceil(found.wait(now))
            if wait > 0:
                raise TooManyAttemptsError(
                    f"too many {self._what} from your address; wait {waiting_time(wait)}.", wait
                )
            self._failed[key] = Failures(found.count + 1, now)
            self._failed.move_to_end(key)
            while len(self._failed) > MAX_ADDRESSES:
                self._failed.popitem(last=False)

    def undo(self, address: str) -> None:
        """Take back an attempt that was not looked at after all."""
        with self._lock:
            found = self._failed.get(whose(address))
            if found is not None:
                found.count -= 1

    def forgive(self, address: str) -> None:
        """Forget the failures of an address, which has logged in."""
        with self._lock:
            self._failed.pop(whose(address), None)


def whose(address: str) -> str:
    """What is counted as one address: an IPv6 network of 64 bits is one customer's; IPv4 within IPv6 is IPv4."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:100]
    if found.version == 6:
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)


def waiting_time(seconds: int) -> str:
    """A time to wait."""
    whole = math.ceil(seconds / 60)
    return f"{seconds} second{'s' * (seconds != 1)}" if seconds < 90 else f"{whole} minutes"


class Turns:
    """Lets few work at once and few wait; the others are asked to try again."""

    def __init__(self) -> None:
        self._working, self._here = threading.Semaphore(AT_ONCE), threading.Semaphore(AT_ONCE + WAITING)

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A turn at work.

        Raises:
            TooManyAttemptsError: too many wait, or it took too long.
        """
        busy = TooManyAttemptsError("too many log in at this moment; try again in a second.", 1)
        if not self._here.acquire(blocking=False):
            raise busy
        try:
            if not self._working.acquire(timeout=PATIENCE_SECONDS):
                raise busy
            try:
                yield
            finally:
                self._working.release()
        finally:
            self._here.release()
