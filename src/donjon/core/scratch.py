"""A database for what does not fit into memory while one command runs."""

from __future__ import annotations

import sqlite3
from typing import Final

_CACHE_KIB: Final = 32 * 1024


def open_scratch(*, threads: bool = False) -> sqlite3.Connection:
    """A database of SQLite without a name: it is on disk, and gone with the process however that ends.

    With ``threads`` any thread may use it, one at a time.
    """
    opened = sqlite3.connect("", isolation_level=None, check_same_thread=not threads)
    for setting in (f"cache_size=-{_CACHE_KIB}", "journal_mode=OFF", "synchronous=OFF"):
        opened.execute(f"PRAGMA {setting}")
    return opened
