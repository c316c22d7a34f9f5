"""The plan that a service carries out: read anew when its file changes, and kept if that is wrong."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from donjon.app.config import Home
from donjon.app.plans.files import plan_in_force, read_plan
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.keys.private import create_private, private_folder
from donjon.plan.model import Plan
from donjon.scheduling.loop import Journal

#: Files of plans that runs may still be reading.
_KEPT = 3
_Stamp = tuple[int, int, int]


class PlanWatch:
    """Watches a plan file. ``plan`` is what is in force, ``file`` holds exactly that, for other processes."""

    def __init__(self, home: Home, path: Path, journal: Journal) -> None:
        """Raises what ``plan_in_force`` raises, if there is no plan from before to go on with."""
        self.path = path
        self._home = home
        self._journal = journal
        self._folder = home.folder / "plan" / "running"
        self._stamp = _stamp(path)
        try:
            self.plan, self.file = self._load()
        except DonjonError as error:
            last = self._last()
            if last is None:
                raise
            self._tell(error)
            self.plan, self.file = read_plan(last).plan, last

    def look(self, *, again: bool = False) -> Plan:
        """The plan in force, after a look at the file; ``again`` reads it even if it seems unchanged."""
        stamp = _stamp(self.path)
        if stamp != self._stamp or again:
            self._stamp = stamp
            try:
                self.plan, self.file = self._load()
            except DonjonError as error:
                self._tell(error)
            else:
                self._journal("plan", file=str(self.path), digest=self.file.stem)
        return self.plan

    def _tell(self, error: DonjonError) -> None:
        self._journal("plan-refused", file=str(self.path), message=error.message, hint=error.hint)

    def _load(self) -> tuple[Plan, Path]:
        plan, digest = plan_in_force(self._home, self.path)
        file = read_plan(self.path)
        if file.digest != digest:  # it was replaced in between; the next look finds that
            msg = f"{self.path}: changed while it was read"
            raise IntegrityFailure(msg, hint="It is read again soon.")
        kept = private_folder(self._folder) / f"{digest.hex()}.yaml"
        if not kept.exists():
            create_private(kept, file.data)
        os.utime(kept)
        for old in self._by_age()[_KEPT:]:
            with contextlib.suppress(OSError):
                old.unlink()
        return plan, kept

    def _last(self) -> Path | None:
        return next(iter(self._by_age()), None)

    def _by_age(self) -> list[Path]:
        """The newest first."""
        return sorted(self._folder.glob("*.yaml"), key=lambda path: path.stat().st_mtime_ns, reverse=True)


def _stamp(path: Path) -> _Stamp | None:
    """What changes when the file does."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
