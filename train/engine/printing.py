"""Lines that are printed once."""

from __future__ import annotations

import os

_said: set[str] = set()


def print_once(line: str) -> None:
    """Print ``line``, if this process has not done so before: stages read the same data several times, and evaluate often.

    Of several processes of one run only the first speaks.
    """
    if line not in _said and os.environ.get("RANK", "0") == "0":
        _said.add(line)
        print(line, flush=True)
