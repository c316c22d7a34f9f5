"""Keeps the C library from giving freed memory back at once.

Frames of a megabyte and more come and go. By default glibc maps and unmaps each of them, and a first
version spent half of its time in the page faults that follow.
"""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_KEEP_BYTES = 64 << 20


def keep_freed_memory() -> None:
    """Ask glibc to reuse freed blocks up to 32 MiB; elsewhere this does nothing."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_ARENA_MAX, 2)
