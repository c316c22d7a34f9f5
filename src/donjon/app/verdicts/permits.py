"""What it takes to use a suspect point: m of n approvers, or somebody who says so where there are none.

Everything that gives out contents to be used goes through ``check_permit``: restoring, dumping, mounting.
It keeps people from a mistake, and one person with a key of the vault from deciding alone with Donjon. It is
no cryptography: who has such a key and other tools can read the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from donjon.app.approvals.requests import Asking, ask, signed_requests, unfinished
from donjon.app.approvals.views import Asked
from donjon.app.setup import show_labels
from donjon.app.verdicts.marks import ShownMark, Verdicts, look_up, warn_of_doubts
from donjon.app.wiring import Workspace
from donjon.core.clock import iso
from donjon.core.errors import DonjonError, IntegrityFailure, NotApproved, Refused
from donjon.format.approval import Parameters, SuspectUse
from donjon.repository.approvals import require_approvers
from donjon.repository.approving import check_suspect_use
from donjon.repository.points import OpenPoint, find_point, is_point_id, list_points, open_point, point_by_id
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class Permit:
    """What lets a suspect point be used: requests that went round as files, and signed ones in the vault.

    ``although`` says that it is meant, which counts in vaults without approvers alone.
    """

    although: bool = False
    files: tuple[Path, ...] = ()


NO_PERMIT = Permit()


def check_permit(workspace: Workspace, vault: Vault, point: OpenPoint, permit: Permit) -> None:
    """Let a point be used that is not suspect, or that the permit is for.

    Raises ``NotApproved`` if too few approvers allowed it, ``Refused`` if there are none and it is not meant.
    """
    verdicts = look_up(workspace, vault)
    warn_of_doubts(workspace, verdicts)
    marks = verdicts.of(point.point_id)
    if not marks:
        return
    what = _what(point, marks)
    if vault.keyring.approvers is None:
        if not permit.although:
            hint = "To use this one knowingly, repeat with --although-suspect."
            raise Refused(what, hint=f"{_other(vault, verdicts, point)} {hint}")
        workspace.tell(f"warning: {what}")
        return
    try:
        request = _approved(vault, point, [mark.digest for mark in marks], permit.files)
    except NotApproved as error:
        hint = f"{_other(vault, verdicts, point)} For this one, {error.message}: {error.hint}"
        raise NotApproved(what, hint=hint) from error
    workspace.tell(f"warning: {what}; the approvers allowed its use with the request {request[:12]}")


def ask_for_use(workspace: Workspace, name: str, asking: Asking) -> tuple[Asked, bool]:
    """Ask the approvers to let a suspect point be used, and whether that is a new request.

    Names of points other than ids need a key. Raises ``Refused`` if the point is not suspect, or the vault
    has no approvers.
    """
    vault = workspace.open()
    require_approvers(vault)
    show_labels(workspace, vault)
    points = list_points(vault, [])
    point = point_by_id(vault, points, name) if is_point_id(name) else find_point(vault, points, name).point
    marks = look_up(workspace, vault).marks.get(point.point_id, ())
    if not marks:
        msg = f"point {point.point_id.hex()[:12]}: is not suspect, so nobody needs to be asked"
        raise Refused(msg, hint="See `donjon verdict list`.")
    digests = tuple(mark.digest for mark in marks)
    parameters = SuspectUse(point.manifest.writer, point.manifest.sequence, point.point_id, digests)
    if asking.file is None and (there := unfinished(vault, lambda asked: asked == parameters)) is not None:
        return there, False
    return ask(workspace, vault, parameters, asking), True


def usable(
    workspace: Workspace, vault: Vault, points: Sequence[OpenPoint]
) -> tuple[list[OpenPoint], list[OpenPoint]]:
    """Those of several points that may be used, and those that are suspect."""
    verdicts = look_up(workspace, vault)
    warn_of_doubts(workspace, verdicts)
    marked = [point for point in points if point.point_id in verdicts.marks]
    return [point for point in points if point.point_id not in verdicts.marks], marked


def _what(point: OpenPoint, marks: Sequence[ShownMark]) -> str:
    first = marks[0]
    why = f": {first.reason}" if first.reason else ""
    more = f" (and {len(marks) - 1} more)" if len(marks) > 1 else ""
    marked = f"{first.who} marked it at {iso(first.signed_at)}{why}{more}"
    return f"point {point.point_id.hex()[:12]} of {point.body.workload} is suspect; {marked}"


def _covers(point_id: bytes, marks: Sequence[bytes], asked: Parameters) -> bool:
    return isinstance(asked, SuspectUse) and asked.point_id == point_id and set(marks) <= set(asked.marks)


def _approved(vault: Vault, point: OpenPoint, marks: Sequence[bytes], files: Sequence[Path]) -> str:
    """The id of a request that enough approvers signed and that is open.

    Raises ``NotApproved`` if there is none: how far the one in the files has come, else the newest.
    """
    failure: DonjonError | None = None
    for request, signatures in signed_requests(
        vault, files, lambda asked: _covers(point.point_id, marks, asked)
    ):
        try:
            check_suspect_use(vault, request, signatures, point.point_id, marks)
        except (IntegrityFailure, NotApproved) as error:  # another one may do
            failure = failure or error
        else:
            return request.request_id.hex()
    if failure is not None:
        raise NotApproved(failure.message, hint=failure.hint) from failure
    needed, name = require_approvers(vault).needed, point.point_id.hex()[:12]
    what = "the files are about other points or marks" if files else "nobody has asked the approvers"
    raise NotApproved(what, hint=f"{needed} of them have to allow it: `donjon verdict request {name}`.")


def _other(vault: Vault, verdicts: Verdicts, point: OpenPoint) -> str:
    """The newest point of the same workload that nobody marked, for the hint."""
    for other in reversed(list_points(vault, [])):
        if other.point_id in verdicts.marks:
            continue
        try:
            body = open_point(vault, other).body
        except DonjonError:  # sealed to others, or damaged
            continue
        if body.workload == point.body.workload:
            name, time = other.point_id.hex()[:12], iso(other.time)
            return f"The newest point of it that is not marked is {name} of {time}."
    return "No other point of it is free of marks."
