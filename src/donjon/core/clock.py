"""Time as an argument. Outside of this module nothing asks the operating system for the wall clock."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime

#: Returns the time in whole seconds since 1970-01-01T00:00:00Z.
Clock = Callable[[], int]

SECONDS_PER_DAY = 86_400


def system_clock() -> int:
    """The operating system's wall clock, in Unix seconds."""
    return int(time.time())


def iso(unix_seconds: int) -> str:
    """``2026-11-23T10:00:00Z`` for a time in Unix seconds; far times fall back to the number."""
    try:
        return datetime.fromtimestamp(unix_seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return f"@{unix_seconds}"
