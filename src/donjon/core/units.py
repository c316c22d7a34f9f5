"""Sizes and durations as people write them."""

from __future__ import annotations

import re

from donjon.core.errors import UsageError

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGTP]?)(i?)B?\s*$", re.IGNORECASE)
_DURATION = re.compile(r"^\s*(\d+)\s*(s|m|h|d|w|y)\s*$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800, "y": 31_557_600}
_POWERS = " KMGTP"


def parse_size(text: str) -> int:
    """Bytes for ``1500``, ``64KiB``, ``1.5G``. All units are powers of 1024.

    Raises ``UsageError`` when the text is no size.
    """
    match = _SIZE.match(text)
    if not match:
        raise UsageError(f"{text!r} is not a size", hint="Write a number with K, M, G or T, such as 64M.")
    return int(float(match[1]) * 1024 ** _POWERS.index(match[2].upper() or " "))


def parse_duration(text: str) -> int:
    """Seconds for ``90s``, ``15m``, ``12h``, ``30d``, ``8w``, ``7y`` (a year is 365.25 days).

    Raises ``UsageError`` when the text is no duration.
    """
    match = _DURATION.match(text)
    if not match:
        raise UsageError(
            f"{text!r} is not a duration", hint="Write a number with s, m, h, d, w or y, such as 30d."
        )
    return int(match[1]) * _SECONDS[match[2]]


def format_size(size_bytes: float) -> str:
    """``1.5 GiB`` for a number of bytes."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} PiB"


def format_duration(seconds: float) -> str:
    """``30 d``, ``1 h 05 m``, ``2 m 07 s`` or ``3.2 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes} m {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} m"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
