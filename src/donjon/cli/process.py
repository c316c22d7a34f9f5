"""Keeps the memory of this process to itself, since keys are in it."""

from __future__ import annotations

import contextlib
import sys

_PR_SET_DUMPABLE = 4  # linux/prctl.h


def protect_memory() -> None:
    """From now on the process leaves no core dump, and no other process of its user can look into it.

    ``RLIMIT_CORE`` of 0 stops core files; a crash handler that the kernel pipes cores to ignores it, and is
    stopped by ``PR_SET_DUMPABLE`` (prctl(2), core(5)). That also keeps ``ptrace``, ``/proc/PID/mem`` and
    ``/proc/PID/environ`` from whoever is not root. Programs that this process starts are dumpable again, as
    execve(2) says, but have the limit, and none of them is handed a key. Where the system knows neither, the
    process runs without.
    """
    import resource

    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
