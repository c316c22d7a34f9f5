"""Restores are timed: remembered in the catalog, and signed as evidence, by which an RTO is judged."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from donjon.app.backups import Opened
from donjon.app.catalog.opening import CATALOG_VARIABLE, SHORT_PATIENCE_S, open_catalog
from donjon.app.config import Home
from donjon.app.evidence import Recorded, Recorder
from donjon.app.evidence_rows import RESTORE, restore_row
from donjon.app.wiring import Workspace
from donjon.catalog import facts
from donjon.clouds.objects.base import Objects
from donjon.core.clock import Clock, system_clock
from donjon.core.errors import DonjonError, UsageError


class Stopwatch:
    """Times a restore from the moment at which it is made: finding and opening the point belongs to it."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self._started_at = clock()
        self._began = time.monotonic()
        self._recorder: Recorder | None = None

    def prepare(
        self, workspace: Workspace, opened: Opened, sign: Path | None, environment: Mapping[str, str]
    ) -> None:
        """Find who signs, before anything is restored. Raises what ``Recorder`` raises."""
        self._recorder = Recorder(workspace, opened.vault, credential=sign, environment=environment, out=None)

    def record(self, opened: Opened, size_bytes: int, *, whole: bool) -> Recorded | None:
        """Stop, and sign if that was prepared. Raises what stores raise."""
        if self._recorder is None:
            return None
        row = restore_row(opened.point.point_id, self._seconds(), size_bytes, whole=whole)
        return self._recorder.record(RESTORE, opened.vault.store.url, [row])

    def remember(
        self, home: Home, environment: Mapping[str, str], opened: Opened, size_bytes: int, *, whole: bool
    ) -> str | None:
        """Write it down if this host has a catalog; why that failed, for a restore never fails with it."""
        if not environment.get(CATALOG_VARIABLE) and not (home.folder / "catalog.db").exists():
            return None
        row = facts.Restore(
            uuid4().hex,
            opened.point.point_id.hex(),
            opened.point.body.workload,
            opened.vault.store.url,
            "restore",
            self._started_at,
            self._seconds(),
            size_bytes,
            whole,
        )
        try:
            facts.put_restore(open_catalog(home, environment, patience_s=SHORT_PATIENCE_S), row)
        except DonjonError as error:
            return f"how long this took is not remembered: {error.message}"
        return None

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def check_new_folder(folder: Path) -> None:
    """Raises ``UsageError`` for a target that holds something already."""
    if folder.exists() and any(folder.iterdir()):
        raise _holds_something(str(folder), "into a new folder")


def check_new_bucket(objects: Objects) -> None:
    """Raises ``UsageError`` for a prefix below which there is something already."""
    if any(objects.pages()):
        raise _holds_something(objects.url, "to another prefix")


def _holds_something(where: str, better: str) -> UsageError:
    msg = f"{where}: holds something, and what is there already takes no time to restore"
    return UsageError(msg, hint=f"Restore {better}, or leave out --record.")
