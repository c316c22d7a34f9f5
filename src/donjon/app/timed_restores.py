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
from donjon.core.clock import Clock, system_clock
from donjon.core.errors import DonjonError, UsageError
from donjon.recovery.restore import Restored


class Stopwatch:
    """Times a restore from the moment at which it is made: finding and opening the point belongs to it."""

    def __init__(self, clock: Clock = system_clock) -> None:
        self._started_at = clock()
        self._began = time.monotonic()
        self._recorder: Recorder | None = None

    def prepare(
        self,
        workspace: Workspace,
        opened: Opened,
        sign: Path | None,
        environment: Mapping[str, str],
        target: Path,
    ) -> None:
        """Find who signs, before anything is restored.

        Raises what ``Recorder`` raises, and ``UsageError`` for a target that holds something already.
        """
        if target.exists() and any(target.iterdir()):
            msg = f"{target}: holds something, and what is there already takes no time to restore"
            raise UsageError(msg, hint="Restore into a new folder, or leave out --record.")
        self._recorder = Recorder(workspace, opened.vault, credential=sign, environment=environment, out=None)

    def record(self, opened: Opened, done: Restored) -> Recorded | None:
        """Stop, and sign if that was prepared. Raises what stores raise."""
        if self._recorder is None:
            return None
        row = restore_row(opened.point.point_id, self._seconds(), done.size_bytes, whole=_is_sound(done))
        return self._recorder.record(RESTORE, opened.vault.store.url, [row])

    def remember(
        self, home: Home, environment: Mapping[str, str], opened: Opened, done: Restored
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
            done.size_bytes,
            _is_sound(done),
        )
        try:
            facts.put_restore(open_catalog(home, environment, patience_s=SHORT_PATIENCE_S), row)
        except DonjonError as error:
            return f"how long this took is not remembered: {error.message}"
        return None

    def _seconds(self) -> float:
        return time.monotonic() - self._began


def _is_sound(done: Restored) -> bool:
    return not (done.problems or done.damage)
