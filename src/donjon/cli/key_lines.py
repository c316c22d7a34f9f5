"""How `donjon keys` shows keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.app.keys.members import KeyInfo
    from donjon.repository.reach import Reach
    from donjon.repository.sealing import Resealed


SingleOption = Annotated[
    bool, typer.Option("--single-recipient", help="Also if one key alone is left that opens the vault.")
]


def worst(done: Resealed) -> int:
    """The exit code of what could not be sealed, 0 if all was."""
    return max((error.exit_code for error in done.failures), default=0)


def resealed_data(done: Resealed) -> dict[str, object]:
    """What was sealed, for ``--json``."""
    failed = [error.message for error in done.failures]
    return {"sessions": done.sessions, "sealed": done.sealed, "failed": failed}


def key_data(key: KeyInfo) -> dict[str, object]:
    """A key, for ``--json``."""
    return {
        "id": key.recipient_id.hex(),
        "kind": key.kind,
        "name": key.name or None,
        "created": iso(key.created_at),
        "uri": key.uri or None,
    }


def key_line(key: KeyInfo) -> str:
    """A key, for people."""
    name, where = key.name or "(name hidden)", f"  {key.uri}" if key.uri else ""
    return f"{key.recipient_id.hex()[:12]}  {key.kind:<10}  {iso(key.created_at)}  {name}{where}"


def reach_data(found: Reach) -> dict[str, object]:
    """What a revoked key still opens, for ``--json``."""
    return {
        "sessions": found.sessions,
        "of": found.all_sessions,
        "points": found.points,
        "first": iso(found.first) if found.first is not None else None,
        "last": iso(found.last) if found.last is not None else None,
        "unknown": found.unknown,
    }


def still_open(found: Reach) -> str:
    """What a revoked key still opens, for people."""
    unknown = f"\n{found.unknown} sessions are damaged; it may open them as well." if found.unknown else ""
    if not found.sessions:
        return f"No backup was ever sealed to it.{unknown}"
    times = ""
    if found.first is not None and found.last is not None:
        times = f", {found.points} points from {iso(found.first)} to {iso(found.last)}"
    share = f"{found.sessions} of {found.all_sessions} sessions"
    return f"""Whoever has a copy of it and can read the storage can still open {share}{times}.
That cannot be recalled. Of later ones it can tell ids and sizes of chunks, but open nothing.
If it was stolen, see docs/guide-keys.md.{unknown}"""
