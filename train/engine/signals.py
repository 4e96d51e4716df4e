"""Stopping a run: Ctrl-C and SIGTERM, and the agreement of several processes on the same last update."""

from __future__ import annotations

import signal
from typing import Any

import torch
import torch.distributed


class StopSignals:
    """Within, Ctrl-C or SIGTERM requests a stop after the current update; a second Ctrl-C stops at once."""

    _latest = False

    def __enter__(self) -> StopSignals:
        self.received = False
        self._handlers = {s: signal.signal(s, self._receive) for s in (signal.SIGINT, signal.SIGTERM)}
        return self

    def _receive(self, number: int, frame: Any) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = True

    def __exit__(self, *_: Any) -> None:
        StopSignals._latest = self.received
        for number, handler in self._handlers.items():
            signal.signal(number, handler)


def interrupted() -> bool:
    """Whether Ctrl-C or SIGTERM came during the latest run, even after its last update: a caller with more to do stops too."""
    return StopSignals._latest


class StopAgreement:
    """All of ``processes`` stop after the same update. The hosts exchange one flag; the devices do not wait for it."""

    def __init__(self, processes: int) -> None:
        self._group = torch.distributed.new_group(backend="gloo") if processes > 1 else None

    def any_process(self, stop: bool) -> bool:
        """Whether ``stop`` is true in at least one process."""
        if self._group is None:
            return stop
        flag = torch.tensor([int(stop)])
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX, self._group)
        return bool(flag.item())
