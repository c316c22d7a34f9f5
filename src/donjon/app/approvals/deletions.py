"""Deleting points early, as every interface offers it: asking the approvers, and what they let go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from donjon.app.approvals.requests import Asking, ask, same_points, unfinished
from donjon.app.approvals.views import Asked, Deletion, Views
from donjon.app.setup import show_labels
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, UsageError
from donjon.format.approval import MAX_POINTS, DoomedPoint, PointDeletion
from donjon.repository.approvals import approver_name, require_approvers
from donjon.repository.certificates import Certificate, list_certificates
from donjon.repository.points import find_point, is_point_id, list_points, point_by_id


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate with what it lets go. ``reason`` is None if it is hidden from us."""

    certificate: Certificate
    deletion: Deletion
    signers: tuple[str, ...]
    reason: str | None


@dataclass(slots=True)
class Listed:
    """The certificates in a vault with what they let go, and those that are wrong."""

    certificates: list[Certified] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)


def request_deletion(workspace: Workspace, wanted: Sequence[str], asking: Asking) -> tuple[Asked, bool]:
    """Ask the approvers to let these points go before retention does, and whether that is a new request.

    Names of points other than ids need a key. If the same is asked in the vault already, that
    request is given.
    """
    vault = workspace.open()
    require_approvers(vault)
    show_labels(workspace, vault)
    points = list_points(vault, [])
    found = [
        point_by_id(vault, points, name) if is_point_id(name) else find_point(vault, points, name).point
        for name in wanted
    ]
    doomed = {DoomedPoint(p.manifest.writer, p.manifest.sequence, p.point_id) for p in found}
    if len(doomed) > MAX_POINTS:
        msg = f"{len(doomed)} points are more than one request can name"
        raise UsageError(msg, hint=f"Ask for at most {MAX_POINTS} at once.")
    parameters = PointDeletion(tuple(sorted(doomed)))
    if asking.file is None and (there := unfinished(vault, same_points(parameters))) is not None:
        return there, False
    return ask(workspace, vault, parameters, asking), True


def list_deletions(workspace: Workspace) -> Listed:
    """All certificates, by the time at which they came; needs no key, but shows names only with one."""
    vault = workspace.open()
    show_labels(workspace, vault)
    listed = Listed()
    views = Views(vault)
    for certificate in sorted(list_certificates(vault, listed.damaged), key=lambda c: c.stored_at):
        names = tuple(approver_name(vault, certificate.approvers, who) for who in certificate.signers)
        try:
            reason = views.reason(certificate.request.reason)
        except IntegrityFailure:  # approvers signed it all the same
            reason = None
        row = Certified(certificate, views.deletion(certificate.points), names, reason)
        listed.certificates.append(row)
    return listed
