"""What approval requests say, for people: from the bytes that are signed, and from the vault."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from donjon.app.approvals.approvers import Approvers, NamedApprover, named, named_members
from donjon.app.queries import writer_names
from donjon.app.verdicts.marks import ShownMark, mark_by_digest
from donjon.codec.digest import short_id
from donjon.core.clock import iso
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, ObjectNotFound
from donjon.format.approval import (
    DoomedPoint,
    KeyringChange,
    PlanChange,
    PointDeletion,
    SuspectUse,
    WriterKey,
    approval_message,
)
from donjon.format.approvers import decode_approvers
from donjon.format.manifest import PointBody
from donjon.format.vault import Action
from donjon.repository.approvals import Request, approver_name, require_approvers
from donjon.repository.approving import State, state_of
from donjon.repository.points import Point, list_points, open_point
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class Doomed:
    """A point that is to go. ``point`` is None if it is not there, ``body`` if no key at hand opens it.

    ``locked_until`` is in Unix seconds, 0 if nothing holds it.
    """

    point_id: bytes
    point: Point | None = None
    body: PointBody | None = None
    writer: str = ""
    locked_until: int = 0


@dataclass(frozen=True, slots=True)
class Deletion:
    """Points that are to go before retention lets them. ``enforcement`` is that of the locks."""

    points: tuple[Doomed, ...]
    enforcement: str

    @property
    def locked_until(self) -> int:
        """When the last lock of its points ends, in Unix seconds, 0 if nothing holds them."""
        return max((doomed.locked_until for doomed in self.points), default=0)


@dataclass(frozen=True, slots=True)
class Change:
    """Who is to approve from now on: so many of these; ``before`` are those of now."""

    before: Approvers
    needed: int
    members: tuple[NamedApprover, ...]

    @property
    def gone(self) -> list[NamedApprover]:
        """Who approves no more."""
        staying = {member.approver_id for member in self.members}
        return [member for member in self.before.members if member.approver_id not in staying]

    def is_new(self, member: NamedApprover) -> bool:
        """Whether that one does not approve now."""
        return member.approver_id not in {old.approver_id for old in self.before.members}


@dataclass(frozen=True, slots=True)
class Removal:
    """A key that is to open no further backup; kind and name are empty if it is not there (any more)."""

    recipient_id: bytes
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class NewPlan:
    """The digests of the plan in force and of the one that is to be."""

    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to sign for a writer, as its number ``number``; ``key_id`` tells it from others.

    ``last`` is the last point that counts of what earlier keys signed, None if none does.
    """

    writer_id: bytes
    writer: str
    number: int
    key_id: bytes
    last: Doomed | None


@dataclass(frozen=True, slots=True)
class Suspect:
    """A suspect point that is to be given out, and what makes it suspect."""

    point: Doomed
    marks: tuple[ShownMark, ...]


#: What a request asks for.
What = Deletion | Change | Removal | NewPlan | NewKey | Suspect


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as its bytes say, and how far it has come.

    ``signers`` are those of the present approvers who signed. ``reason`` is None if it is hidden from us.
    """

    request: Request
    state: State
    approvers: Approvers
    signers: tuple[NamedApprover, ...]
    asked_by: str
    reason: str | None
    what: What

    @property
    def missing(self) -> list[NamedApprover]:
        """The approvers who have not signed."""
        signed = {signer.approver_id for signer in self.signers}
        return [member for member in self.approvers.members if member.approver_id not in signed]


class Views:
    """Looks in a vault for what requests name. Points are listed when they are needed first."""

    def __init__(self, vault: Vault, done: Collection[bytes] = ()) -> None:
        """``done`` has the digests of requests that certificates carried out."""
        self._vault = vault
        self._done = done
        self._points: dict[bytes, Point] | None = None
        self._writers = writer_names(vault)

    def asked(self, request: Request, signatures: Mapping[bytes, bytes]) -> Asked:
        """A request with these signatures.

        Raises ``IntegrityFailure`` for a signature or a reason that is wrong.
        """
        approvers = require_approvers(self._vault)
        message = approval_message(self._vault.vault_id, request.payload)
        signed = set(approvers.signers(message, signatures, "the request"))
        shown = named(self._vault, approvers)
        return Asked(
            request,
            state_of(self._vault, request, len(signed), self._done),
            shown,
            tuple(member for member in shown.members if member.approver_id in signed),
            self._asker(request.content.asked_by),
            self.reason(request.content.reason),
            self._what(request),
        )

    def deletion(self, points: Sequence[DoomedPoint]) -> Deletion:
        """What these points are."""
        enforcement = self._vault.store.lock_enforcement.value
        return Deletion(tuple(map(self._look, points)), enforcement)

    def reason(self, hidden: bytes) -> str | None:
        """Why, as far as a key reveals it. Raises ``IntegrityFailure``."""
        if not hidden:
            return ""
        if not self._vault.has_secret:
            return None
        return self._vault.secret.read_label(hidden, "the reason of the request")

    def _what(self, request: Request) -> What:
        match request.parameters:
            case PointDeletion(points):
                return self.deletion(points)
            case PlanChange(before, after):
                return NewPlan(before, after)
            case KeyringChange(_, Action.SET_APPROVERS, _, encoded):
                chosen = decode_approvers(encoded, "the request")
                labels = dict(zip(chosen.keys, chosen.labels, strict=True))
                present = named(self._vault, require_approvers(self._vault))
                return Change(present, chosen.needed, named_members(self._vault, labels))
            case KeyringChange(_, _, subject, _):
                return self._removal(subject)
            case WriterKey() as asked:
                return self._new_key(asked)
            case SuspectUse(writer, sequence, point_id, marks):
                shown = tuple(mark_by_digest(self._vault, point_id, one) for one in marks)
                return Suspect(self._look(DoomedPoint(writer, sequence, point_id)), shown)

    def _removal(self, subject: bytes) -> Removal:
        member = self._vault.keyring.members.get(subject)
        if member is None:
            return Removal(subject, "", "")
        name = self._vault.secret.read_label(member.label, "keyring") if self._vault.has_secret else ""
        return Removal(subject, member.recipient.kind, name)

    def _new_key(self, asked: WriterKey) -> NewKey:
        last = DoomedPoint(asked.writer, asked.last, asked.last_point) if asked.last else None
        return NewKey(
            asked.writer,
            self._writers.get(asked.writer, ""),
            asked.number,
            short_id(asked.public),
            self._look(last) if last else None,
        )

    def _asker(self, asked_by: bytes) -> str:
        short = asked_by.hex()[:12]
        if asked_by == self._vault.vault_id:
            return "the root key"
        if asked_by in self._vault.keyring.writers:
            return f"the writer {self._writers.get(asked_by) or short}"
        for approvers in reversed(self._vault.keyring.approver_sets):
            if asked_by in approvers.members:
                return f"the approver {approver_name(self._vault, approvers, asked_by)}"
        return short

    def _look(self, doomed: DoomedPoint) -> Doomed:
        if self._points is None:
            self._points = {point.point_id: point for point in list_points(self._vault, [])}
        point = self._points.get(doomed.point_id)
        if point is None or (point.manifest.writer, point.manifest.sequence) != (
            doomed.writer,
            doomed.sequence,
        ):
            return Doomed(doomed.point_id)
        body = None
        if self._vault.openers:
            try:
                body = open_point(self._vault, point).body
            except (KeyNotAvailable, IntegrityFailure):
                body = None  # its id and time are shown all the same
        writer = self._writers.get(doomed.writer, "")
        return Doomed(doomed.point_id, point, body, writer, self._locked_until(point))

    def _locked_until(self, point: Point) -> int:
        """Custody extends a manifest last of all, so its lock is that of the point."""
        try:
            held = self._vault.store.head(point.name).retain_until or 0
        except ObjectNotFound:
            held = 0
        return max(held, point.manifest.protected_until)


def lines_for_files(asked: Asked) -> list[str]:
    """For people who open the file of a request: what the provider may know too."""
    until = iso(asked.request.content.expires_at)
    lines = [f"{asked.approvers.needed} approvers are needed before {until}, to"]
    match asked.what:
        case Deletion(points):
            lines[0] += " delete early:"
            lines += [f"{d.point_id.hex()} of {iso(d.point.time)}" for d in points if d.point]
        case Change(_, needed, members):
            lines[0] += f" let {needed} of these {len(members)} approve from now on:"
            lines += [member.approver_id.hex() for member in members]
        case Removal(recipient_id):
            lines += [f"remove the key {recipient_id.hex()}"]
        case NewKey(writer_id, _, _, key_id, last):
            lines += [f"let the key {key_id.hex()} sign for the writer {writer_id.hex()};"]
            lines += [f"of its points those up to {last.point_id.hex()} count" if last else "no point counts"]
        case Suspect(point, marks):
            lines += [f"give out the point {point.point_id.hex()}, which these verdicts call suspect:"]
            lines += [mark.digest.hex() for mark in marks]
        case NewPlan(before, after):
            lines += [f"replace the plan {before.hex()} by {after.hex()}"]
    return lines
