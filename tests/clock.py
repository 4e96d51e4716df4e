"""Another time for one module."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import pytest


def set_clock(monkeypatch: pytest.MonkeyPatch, module: ModuleType, **functions: Callable[[], float]) -> None:
    """Let ``module`` see ``functions`` (``monotonic=...``, ``time=...``) in the place of the time module's.

    The time module itself must stay as it is: the event loops of servers that other tests have running read it, and one wrong
    reading makes them sleep for as long as the clock was ahead.
    """
    own = {name: getattr(time, name) for name in dir(time) if not name.startswith("_")}
    monkeypatch.setattr(module, "time", SimpleNamespace(**own | functions))
