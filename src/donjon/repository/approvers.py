"""The approvers of a vault: who they are by the keyring, and what enough of them signed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from donjon.codec.digest import digest, short_id
from donjon.codec.sign import verify
from donjon.core.errors import IntegrityFailure
from donjon.format.approval import (
    Approval,
    KeyringChange,
    WriterKey,
    approval_message,
    decode_approval,
    decode_request,
)
from donjon.format.approvers import ApproverList, decode_approvers
from donjon.format.succession import AllowedSuccession
from donjon.format.vault import Action, KeyringRecord, VaultObject

_NOT_ENOUGH = "The root key alone can do no such thing. Find out who has used it."
_FORGED_KEY = "It counts for nothing. Find out who may put into the vault."
_DOES = {Action.SET_APPROVERS: "changes the approvers", Action.REMOVE_RECIPIENT: "removes a recipient"}


@dataclass(frozen=True, slots=True)
class Approver:
    """One of them; the name is hidden until the vault secret is known."""

    approver_id: bytes
    public: bytes
    label: bytes


@dataclass(frozen=True, slots=True)
class ApproverSet:
    """Those who approve from one keyring record on.

    ``record`` is the digest of that record, ``number`` its number, and ``created_at`` its time in Unix
    seconds.
    """

    needed: int
    members: Mapping[bytes, Approver]
    created_at: int
    record: bytes
    number: int

    def signers(self, message: bytes, signatures: Mapping[bytes, bytes], what: str) -> list[bytes]:
        """The ids of the approvers of this set who signed; other ids count for nothing.

        Raises ``IntegrityFailure`` for a signature under the id of an approver that is not his.
        """
        found = []
        for approver_id, signature in signatures.items():
            if (approver := self.members.get(approver_id)) is None:
                continue
            try:
                verify(approver.public, message, signature)
            except IntegrityFailure as error:
                msg = f"{what}: its signature of the approver {approver_id.hex()[:12]} is wrong"
                raise IntegrityFailure(
                    msg, hint="It was changed, or signed for something else or by somebody else."
                ) from error
            found.append(approver_id)
        return found


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a keyring record that needs approval comes: who approves, and what the record ends.

    ``ends`` is the digest of the record that began it, and ``latest`` the latest time of any record before.
    ``approvers`` are None in a vault that was made without.
    """

    vault: VaultObject
    approvers: ApproverSet | None
    ends: bytes | None
    latest: int


def read_change(record: KeyringRecord, at: Standing, name: str) -> ApproverList | None:
    """Check a record that removes a recipient or sets approvers; the approvers to come, if it sets any.

    See ``docs/format.md``, "Keyring". Raises ``IntegrityFailure`` that names the record.
    """
    chooses = record.action == Action.SET_APPROVERS
    if at.approvers is not None:
        change = _approved(record, at, at.approvers, name)
        listed = change.approvers
    elif chooses and record.number != 1:
        msg = f"{name}: sets approvers in a vault that was made without any"
        raise IntegrityFailure(msg, hint=_NOT_ENOUGH)
    else:
        listed = record.extra
    if not chooses:
        if listed:
            raise _impossible(name)
        return None
    chosen = decode_approvers(listed, name)
    if chosen.subject != record.subject or at.vault.root_public in chosen.keys:
        raise _impossible(name)
    return chosen


def _impossible(name: str) -> IntegrityFailure:
    msg = f"{name}: says something that no keyring record can say"
    return IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")


def _approved(record: KeyringRecord, at: Standing, approvers: ApproverSet, name: str) -> KeyringChange:
    """What enough approvers allowed, if it is this record."""
    does = _DOES[Action(record.action)]
    if not record.extra:
        msg = f"{name}: {does}, and none of the {approvers.needed} approvers that are needed signed that"
        raise IntegrityFailure(msg, hint=_NOT_ENOUGH)
    approval = decode_approval(record.extra, name)
    request, change = decode_request(approval.request, name)
    if not isinstance(change, KeyringChange) or (change.action, change.subject, change.ends) != (
        record.action,
        record.subject,
        at.ends,
    ):
        msg = f"{name}: {does}, with an approval of something else"
        raise IntegrityFailure(msg, hint=_NOT_ENOUGH)
    message = approval_message(at.vault.vault_id, approval.request)
    signed = approvers.signers(message, approval.by_id, name)
    if len(signed) < max(approvers.needed, len(approval.signatures)):
        msg = f"{name}: {does}, and {len(signed)} of the {approvers.needed} needed signed that"
        raise IntegrityFailure(msg, hint=_NOT_ENOUGH)
    if not at.latest <= record.created_at <= request.expires_at:
        msg = f"{name}: {does}, with an approval that had expired, or a time before that of earlier records"
        raise IntegrityFailure(msg, hint=_NOT_ENOUGH)
    return change


def read_writer_key(
    succession: AllowedSuccession, sets: Sequence[ApproverSet], vault_id: bytes, name: str
) -> tuple[WriterKey, bytes, int]:
    """What enough approvers allowed, if it is this succession; the digest of the request; and which of the
    ``sets`` allowed it, by its place.

    Whether it came before that set was replaced is not looked at. Raises ``IntegrityFailure``.
    """
    approval = decode_approval(succession.approval, name)
    request, allowed = decode_request(approval.request, name)
    s = succession
    wanted = (s.writer, s.number, s.previous, s.public)
    if not isinstance(allowed, WriterKey) or wanted != (
        allowed.writer, allowed.number, allowed.previous, allowed.public,
    ):  # fmt: skip
        msg = f"{name}: names a key of a writer, with an approval of something else"
        raise IntegrityFailure(msg, hint=_FORGED_KEY)
    place = next((i for i, one in enumerate(sets) if one.record == allowed.approvers), None)
    if place is None:
        msg = f"{name}: names a key that approvers are said to allow whom no keyring record sets"
        raise IntegrityFailure(msg, hint=_FORGED_KEY)
    message = approval_message(vault_id, approval.request)
    signed = sets[place].signers(message, approval.by_id, name)
    if len(signed) < max(sets[place].needed, len(approval.signatures)):
        msg = f"{name}: names a key, and {len(signed)} of the {sets[place].needed} needed signed that"
        raise IntegrityFailure(msg, hint=_FORGED_KEY)
    if not request.created_at <= s.created_at <= request.expires_at:
        msg = f"{name}: names a key with an approval that had expired"
        raise IntegrityFailure(msg, hint=_FORGED_KEY)
    return allowed, digest(approval.request), place


def approver_set(chosen: ApproverList, created_at: int, record: bytes, number: int) -> ApproverSet:
    """Those of a list, from the record with this time, digest and number on."""
    members = [
        Approver(short_id(key), key, label) for key, label in zip(chosen.keys, chosen.labels, strict=True)
    ]
    return ApproverSet(
        chosen.needed, {approver.approver_id: approver for approver in members}, created_at, record, number
    )


def first_record(approvers: ApproverList, created_at: int, number: int, previous: bytes) -> KeyringRecord:
    """The record that chooses approvers in a vault that is being made; readers take it as record 1 only."""
    extra = approvers.encode()
    return KeyringRecord(number, previous, created_at, Action.SET_APPROVERS, approvers.subject, extra=extra)


def approved_record(
    change: KeyringChange, approval: Approval, created_at: int, number: int, previous: bytes
) -> KeyringRecord:
    """The record that carries out a change of the keyring which approvers allowed."""
    extra = approval.encode()
    return KeyringRecord(number, previous, created_at, change.action, change.subject, extra=extra)
