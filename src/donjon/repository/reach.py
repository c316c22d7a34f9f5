"""What a recipient can open of what is in a vault already: that cannot be taken back from it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from donjon.core.errors import DonjonError
from donjon.format import names
from donjon.repository.points import list_points
from donjon.repository.sealing import SessionName, list_sessions, side_by_side
from donjon.repository.vault import Vault

_SEAL = re.compile(rf"{names.SEALS}[0-9a-f]{{32}}/([0-9a-f]{{32}})/([0-9]{{8}})")


@dataclass(frozen=True, slots=True)
class Reach:
    """What was sealed to one recipient: ``sessions`` of ``all_sessions``, and the points that they made.

    ``first`` and ``last`` are the times of the oldest and newest of these points in Unix seconds, None if
    there are none. ``unknown`` sessions are damaged, so nobody can tell to whom they were sealed.
    """

    sessions: int
    all_sessions: int
    points: int
    first: int | None
    last: int | None
    unknown: int


def reach(vault: Vault, recipient: bytes) -> Reach:
    """What the holder of this recipient's key can open for as long as he can read the store."""
    later = {
        (bytes.fromhex(match[1]), int(match[2]))
        for info in vault.store.list(f"{names.SEALS}{recipient.hex()}/")
        if (match := _SEAL.fullmatch(info.name))
    }
    sessions = list_sessions(vault)
    sealed: set[SessionName] = set()
    unknown = 0
    for session, outcome in side_by_side(sessions, lambda session: vault.read_session(*session).seals):
        if isinstance(outcome, DonjonError):
            unknown += 1
        elif recipient in dict(outcome) or session in later:
            sealed.add(session)
    times = [
        point.time
        for point in list_points(vault, [])
        if (point.manifest.writer, point.manifest.session) in sealed
    ]
    return Reach(
        len(sealed), len(sessions), len(times), min(times, default=None), max(times, default=None), unknown
    )
