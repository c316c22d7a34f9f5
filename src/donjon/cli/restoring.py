"""What restores of all kinds have in common: how they are asked for, and timing them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.cli.output import Output, shown
from donjon.core.errors import UsageError
from donjon.targets.base import Overwrite

if TYPE_CHECKING:
    from donjon.app.backups import Opened
    from donjon.app.timed_restores import Stopwatch
    from donjon.app.verdicts.permits import Permit
    from donjon.app.wiring import Workspace
    from donjon.format.segments import Problem

_INTEGRITY = 12
_UNREADABLE = 3


@dataclass(frozen=True, slots=True)
class How:
    """The options of a restore, whatever it restores to."""

    overwrite: Overwrite
    verify: bool
    keep_going: bool
    dry_run: bool
    record: bool
    sign: Path | None
    permit: Permit


def start_timing(space: Workspace, opened: Opened, how: How, watch: Stopwatch, *, whole: bool) -> None:
    """Find who will sign how long it takes, if asked for. Raises ``UsageError`` for a part of a point."""
    if not how.record:
        return
    if not whole:
        msg = "only the restore of a whole point tells how long recovery takes"
        raise UsageError(msg, hint="Leave out --record, or what restores only a part of it.")
    watch.prepare(space, opened, how.sign, os.environ)


def end_timing(
    out: Output, space: Workspace, opened: Opened, watch: Stopwatch, size_bytes: int, *, sound: bool
) -> str | None:
    """Sign and remember how long a whole point took; the digest of the evidence, if that was asked for."""
    recorded = watch.record(opened, size_bytes, whole=sound)
    if fault := watch.remember(space.home, os.environ, opened, size_bytes, whole=sound):
        out.warn(fault)
    return recorded.signed.digest.hex() if recorded is not None else None


def problem_rows(problems: list[Problem]) -> list[dict[str, str]]:
    """What went wrong with items, as JSON."""
    return [{"path": shown(problem.path), "reason": problem.reason} for problem in problems]


def restore_code(problems: list[Problem], damage: list[Problem]) -> int:
    """The exit code of a restore that came to its end."""
    if damage:
        return _INTEGRITY
    return _UNREADABLE if problems else 0
