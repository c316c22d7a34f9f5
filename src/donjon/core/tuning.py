"""Settings of the process for work that moves gigabytes."""

from __future__ import annotations

import ctypes
import os
import sys
import threading

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
_SWITCH_S = 0.02


def prepare_for_bulk_work() -> None:
    """Keep freed memory for reuse, and let threads work longer between two turns.

    Frames of a megabyte and more come and go. By default glibc maps and unmaps each of them, and a first
    version spent half of its time in the page faults that follow; one arena that is never trimmed keeps
    them. Threads that release the interpreter's lock often lose more by taking turns every 5 ms than by
    waiting: 20 ms took a quarter off the time of 116,000 small files.
    """
    sys.setswitchinterval(_SWITCH_S)
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 1 << 30)
        mallopt(_M_ARENA_MAX, 1)


def worker_count() -> int:
    """One thread a core and one more, which waits for the disk while the others go on; at most 8."""
    return min((os.cpu_count() or 2) + 1, 8)


def small_file_turns() -> threading.Semaphore:
    """How many threads may read or write small files at once; the others compress, open or wait.

    A small file is a handful of short system calls, each of which gives up the interpreter. Threads that do
    so at once spend a sixth of the processor on waking each other, and wait for the same directories.
    """
    return threading.Semaphore(max(1, (os.cpu_count() or 2) // 2))
