"""Memory that goes back to the system once it is not used any more."""

from __future__ import annotations

import ctypes

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""Names of mallopt's parameters in glibc's malloc.h."""
LARGE, ARENAS = 2**20, 2
"""Bytes from which a piece of memory is the system's own, and pools for smaller ones."""


def give_memory_back() -> None:
    """Have images' memory returned when they go.

    glibc has a pool for each of many threads, and after the first large image serves others from the pools, too, which keep what they had at
    most: forty threads that each looked at one photo hold forty photos' memory. Other systems' C libraries are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_MMAP_THRESHOLD, LARGE)
    mallopt(_ARENA_MAX, ARENAS)
