"""Options of commands that give out a point, which may be suspect, and how marks look."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from donjon.cli.output import one_line
from donjon.core.clock import iso

if TYPE_CHECKING:
    from donjon.app.verdicts.marks import ShownMark
    from donjon.app.verdicts.permits import Permit

ApprovalOption = Annotated[
    list[Path] | None,
    typer.Option(
        "--approval",
        metavar="FILE",
        help="For a suspect point: a signed request that went round as a file; repeatable.",
    ),
]
AlthoughOption = Annotated[
    bool,
    typer.Option("--although-suspect", help="Although the point is suspect, where nobody has to approve."),
]


def permit(files: list[Path] | None, *, although: bool) -> Permit:
    """What these options allow."""
    from donjon.app.verdicts.permits import Permit

    return Permit(although, tuple(files or ()))


def mark_line(mark: ShownMark) -> str:
    """A mark on a line."""
    short = mark.digest.hex()[:12]
    if not mark.signed_at:
        return f"verdict {short} is not in the vault"
    why = {"": "", None: ": (hidden)"}.get(mark.reason, f": {one_line(mark.reason or '')}")
    return f"verdict {short} of {iso(mark.signed_at)} by {one_line(mark.who)}{why}"


def mark_data(mark: ShownMark) -> dict[str, object]:
    """The same as JSON."""
    return {
        "verdict": mark.digest.hex(),
        "signed": iso(mark.signed_at) if mark.signed_at else None,
        "signer": mark.signer.hex() or None,
        "role": mark.role or None,
        "name": mark.name or None,
        "reason": mark.reason,
    }
