"""Returns unused memory to the operating system."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Names of mallopt's parameters in glibc's malloc.h."""
LARGE, ARENAS = 2**20, 2
"""Size in bytes from which each piece of memory is returned to the system when it is freed; number of pools for smaller pieces."""


def give_memory_back() -> None:
    """Make glibc return the memory of an image when it is freed.

    By default glibc has a pool for each of many threads. After the first large image it serves others from the pools, too, which keep their
    maximum size: forty threads that read one photo each hold the memory of forty photos. Other C libraries are not changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, LARGE)
    mallopt(_ARENA_MAX, ARENAS)
