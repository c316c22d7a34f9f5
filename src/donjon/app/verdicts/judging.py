"""Saying of points that they are suspect, or clean after all, as signed evidence in the vault."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from donjon.app.evidence import Recorded, Recorder
from donjon.app.queries import PointFilter
from donjon.app.setup import show_labels
from donjon.app.verdicts.marks import ShownMark, Verdicts, look_up, shown_mark
from donjon.app.wiring import Workspace
from donjon.core.errors import KeyNotAvailable, Refused, UsageError
from donjon.format.approval import hide_reason
from donjon.format.evidence import MAX_ROWS, EvidenceRow
from donjon.format.verdict import KIND, NONCE_BYTES, lift_row, mark_row
from donjon.repository.evidence import Standing, is_trusted
from donjon.repository.points import Point, find_point, is_point_id, list_points, open_point, point_by_id
from donjon.repository.vault import Vault
from donjon.repository.verdicts import statements


@dataclass(frozen=True, slots=True)
class Judging:
    """Which points are meant, by their names and by ``filter``, why, and the credential that signs.

    Without this file those that ``environment`` names are used.
    """

    names: tuple[str, ...]
    filter: PointFilter | None
    reason: str | None
    sign: Path | None
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Judged:
    """What was signed, and of which points."""

    recorded: Recorded
    points: tuple[Point, ...]


def mark(workspace: Workspace, judging: Judging) -> Judged:
    """Say that points are suspect. One that is already gets another mark.

    Raises ``KeyNotAvailable`` if no auditor or custodian signs, or no key is at hand that hides the reason;
    ``PointNotFound``.
    """
    vault, recorder = _prepare(workspace, judging)
    points, reason = _points(workspace, vault, judging), _hidden(vault, judging.reason)
    rows = [mark_row(point.point_id, os.urandom(NONCE_BYTES), reason) for point in points]
    return _record(workspace, vault, recorder, f"{_count(points)} suspect", rows, points)


def lift(workspace: Workspace, judging: Judging) -> Judged:
    """Say that points are clean after all: lift every mark of theirs. Raises as ``mark``.

    ``Refused`` if one of them is not suspect.
    """
    vault, recorder = _prepare(workspace, judging)
    points, reason = _points(workspace, vault, judging), _hidden(vault, judging.reason)
    marks = look_up(workspace, vault).marks
    for point in points:
        if point.point_id not in marks:
            msg = f"point {point.point_id.hex()[:12]}: is not suspect, so there is no mark to lift"
            raise Refused(msg, hint="See `donjon verdict list`.")
    rows = [lift_row(point.point_id, one.digest, reason) for point in points for one in marks[point.point_id]]
    return _record(workspace, vault, recorder, f"{_count(points)} clean", rows, points)


class Stand(Enum):
    """What has become of a mark."""

    STANDS = "stands"  #: its point is suspect
    LIFTED = "lifted"
    UNCOUNTED = "uncounted"  #: a writer signed it, or somebody who was revoked before


@dataclass(frozen=True, slots=True)
class Listed:
    """A mark and what has become of it. ``is_shown`` is false if only this host remembers it."""

    point_id: bytes
    mark: ShownMark
    stand: Stand
    is_shown: bool


def list_marks(workspace: Workspace) -> tuple[list[Listed], Verdicts]:
    """All marks by the time at which they were signed, and all verdicts. Needs no key."""
    vault = workspace.open()
    show_labels(workspace, vault)
    found = look_up(workspace, vault)
    hidden = {one.digest for one in found.hidden}
    rows = []
    for signed in sorted(found.all, key=lambda one: (one.signed_at, one.digest)):
        counts = signed.standing is Standing.COUNTS and is_trusted(vault, signed.evidence.signer)
        for one in statements(signed):
            if one.lifts is not None:
                continue
            standing = signed.digest in {mark.digest for mark in found.marks.get(one.point_id, ())}
            stand = Stand.STANDS if standing else Stand.LIFTED if counts else Stand.UNCOUNTED
            shown = shown_mark(vault, signed, one.reason)
            rows.append(Listed(one.point_id, shown, stand, signed.digest not in hidden))
    return rows, found


def _prepare(workspace: Workspace, judging: Judging) -> tuple[Vault, Recorder]:
    vault = workspace.open()
    recorder = Recorder(workspace, vault, credential=judging.sign, environment=judging.environment, out=None)
    if not is_trusted(vault, recorder.signer):
        msg = "a writer's key is where production is, so what it says of points counts for nothing"
        hint = "Sign with an auditor's or a custodian's credential: --sign FILE or DONJON_AUDITOR; "
        raise KeyNotAvailable(msg, hint=f"{hint}`donjon auditor add NAME --out FILE` makes one.")
    show_labels(workspace, vault)
    return vault, recorder


def _points(workspace: Workspace, vault: Vault, judging: Judging) -> tuple[Point, ...]:
    if not judging.names and judging.filter is None:
        msg = "which points?"
        raise UsageError(msg, hint="Name them, or give --workload or --since.")
    opens = judging.filter is not None and judging.filter.needs_key
    if not vault.openers and (opens or not all(map(is_point_id, judging.names))):
        workspace.unlock(vault)
    listed = list_points(vault, [])
    found = [
        point_by_id(vault, listed, name) if is_point_id(name) else find_point(vault, listed, name).point
        for name in judging.names
    ]
    if (wanted := judging.filter) is not None:
        fitting = (point for point in listed if wanted.takes_time(point.time))
        found += [p for p in fitting if not opens or wanted.takes_body(open_point(vault, p).body)]
    points = tuple({point.point_id: point for point in found}.values())
    if not points:
        raise Refused("no point fits", hint="See `donjon points`.")
    return points


def _hidden(vault: Vault, reason: str | None) -> bytes:
    if reason is None:
        return b""
    if not vault.has_secret:
        msg = "no key is at hand that hides the reason, and everybody who reads the store reads evidence"
        raise KeyNotAvailable(msg, hint="Leave out --reason, or give --kit FILE or --passphrase-file FILE.")
    return hide_reason(vault.secret, reason)


def _count(points: Sequence[Point]) -> str:
    return "1 point is" if len(points) == 1 else f"{len(points)} points are"


def _record(
    workspace: Workspace,
    vault: Vault,
    recorder: Recorder,
    subject: str,
    rows: list[EvidenceRow],
    points: tuple[Point, ...],
) -> Judged:
    if len(rows) > MAX_ROWS:
        msg = f"{len(rows)} verdicts are more than one piece of evidence holds"
        raise UsageError(msg, hint=f"Judge at most {MAX_ROWS} points at once.")
    recorded = recorder.record(KIND, subject, rows)
    look_up(workspace, vault)  # so that this host remembers it
    return Judged(recorded, points)
