"""What becomes of approval requests: how far each has come, and carrying out what enough approvers signed.

See ``docs/format.md``, "Approvals". What lets points go is a certificate, in ``certificates``.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping

from donjon.codec.sign import SigningKey
from donjon.core.clock import iso
from donjon.core.errors import NotApproved, Refused, UsageError
from donjon.format.approval import (
    Approval,
    ApprovalRequest,
    KeyringChange,
    PlanChange,
    SuspectUse,
    WriterKey,
    approval_message,
)
from donjon.format.vault import Action, KeyringRecord
from donjon.repository.approvals import Request, approver_name, may_ask, require_approvers
from donjon.repository.approvers import ApproverSet, approved_record
from donjon.repository.vault import Vault

#: How far the time at which a request was made may be ahead of what the store tells now.
MOST_SKEW_S = 300

_ANEW = "Ask anew: what was signed for this request serves for no other."


class State(enum.Enum):
    """How far a request has come."""

    OPEN = "open"  #: approvers can sign it
    APPROVED = "approved"  #: enough of them have; it can be carried out
    DONE = "done"  #: it was carried out
    EXPIRED = "expired"  #: it is too late, by the store's clock
    VOID = "void"  #: what it would change has changed since, or who asked may not ask any more


def check_time(vault: Vault, content: ApprovalRequest) -> None:
    """Raises ``NotApproved`` unless the request is open by the store's clock."""
    now = vault.store.now()
    if now > content.expires_at:
        msg = f"the request expired at {iso(content.expires_at)}, and at the store it is {iso(now)}"
        raise NotApproved(msg, hint=_ANEW)
    if content.created_at > now + MOST_SKEW_S:
        msg = f"the request was made at {iso(content.created_at)}, and at the store it is only {iso(now)}"
        raise NotApproved(
            msg, hint="Look at the clocks, then ask anew: a request counts by the store's clock."
        )


def enough_signers(
    vault: Vault, approvers: ApproverSet, payload: bytes, signatures: Mapping[bytes, bytes]
) -> list[bytes]:
    """The ids of the approvers who signed a request.

    Raises ``NotApproved`` that names those who did not, if they are too few; ``IntegrityFailure`` for a
    signature that is wrong.
    """
    message = approval_message(vault.vault_id, payload)
    signers = approvers.signers(message, signatures, "the request")
    if len(signers) < approvers.needed:
        missing = [who for who in approvers.members if who not in signers]
        shown = ", ".join(approver_name(vault, approvers, who) for who in missing)
        msg = f"{len(signers)} of the {approvers.needed} approvers that are needed have signed"
        raise NotApproved(msg, hint=f"Missing are signatures of {shown}: `donjon approve sign`.")
    return signers


def check_open(vault: Vault, request: Request) -> None:
    """Raises ``NotApproved`` unless the request could still be carried out, if enough signed."""
    check_time(vault, request.content)
    if _is_void(vault, request):
        msg = "what was asked for was done, or what it would change has changed since, so it never can be"
        if not may_ask(vault, request.content.asked_by):
            msg = "who asked was revoked or replaced since, so it never can be carried out"
        raise NotApproved(f"request {request.request_id.hex()[:12]}: {msg}", hint=_ANEW)


def state_of(vault: Vault, request: Request, signed: int, done: Collection[bytes]) -> State:
    """How far a request has come, if so many approvers signed; ``done`` has digests of what was done."""
    if request.digest in done or request.digest in vault.keyring.carried_out:
        return State.DONE
    if _named_key(vault, request):
        return State.DONE
    if _is_void(vault, request):
        return State.VOID
    try:
        check_time(vault, request.content)
    except NotApproved:
        return State.EXPIRED
    return State.APPROVED if signed >= require_approvers(vault).needed else State.OPEN


def _is_void(vault: Vault, request: Request) -> bool:
    asked = request.parameters
    if isinstance(asked, WriterKey) and not _can_be_named(vault, asked):
        return True
    if isinstance(asked, KeyringChange) and vault.keyring.begun_by(asked.action, asked.subject) != asked.ends:
        return True
    return not may_ask(vault, request.content.asked_by)


def _can_be_named(vault: Vault, asked: WriterKey) -> bool:
    writer = vault.keyring.writers.get(asked.writer)
    if writer is None or writer.revoked_at is not None:
        return False
    vault.keyring.successions.read_on(vault.store, asked.writer, writer.public)
    return require_approvers(vault).record == asked.approvers and vault.keyring.successions.follows(
        asked.writer, asked.number, asked.previous
    )


def _named_key(vault: Vault, request: Request) -> bool:
    """Whether a request was for a key of a writer, and a succession carried it out."""
    asked = request.parameters
    if not isinstance(asked, WriterKey) or asked.writer not in vault.keyring.writers:
        return False
    successions = vault.keyring.successions
    successions.read_on(vault.store, asked.writer, vault.keyring.writers[asked.writer].public)
    return request.digest in {one.request for one in successions.of(asked.writer)}


def keyring_change(vault: Vault, action: Action, subject: bytes, approvers: bytes = b"") -> KeyringChange:
    """The change to ask for, as the keyring is now. Raises ``Refused`` if there is nothing to change."""
    ends = vault.keyring.begun_by(action, subject)
    if ends is None:
        msg = f"{subject.hex()[:12]}: is not in the keyring, or not any more"
        raise Refused(msg, hint="See `donjon keys list`.")
    return KeyringChange(ends, action, subject, approvers)


def change_keyring(
    vault: Vault, root: SigningKey, request: Request, signatures: Mapping[bytes, bytes]
) -> bool:
    """Carry out a change of the keyring that enough approvers signed; false if that was done before.

    Raises ``NotApproved`` if too few signed, naming those who did not, or if the request is not open
    any more; ``Refused`` for the last recipient; ``IntegrityFailure`` for a signature that is wrong.
    """
    change = request.parameters
    if not isinstance(change, KeyringChange):
        msg = f"request {request.request_id.hex()[:12]}: asks for no change of the keyring"
        raise UsageError(msg, hint="See `donjon approve show`.")
    keyring = vault.keyring

    def still_approved(number: int, previous: bytes) -> KeyringRecord:
        check_open(vault, request)
        if change.action == Action.REMOVE_RECIPIENT and len(keyring.members) == 1:
            msg = f"{change.subject.hex()[:12]}: is the last key; without it nobody could open the vault"
            raise Refused(msg, hint="Add another one first: `donjon keys add kit --out FILE --name NAME`.")
        signers = enough_signers(vault, require_approvers(vault), request.payload, signatures)
        approval = Approval.of(request.payload, {who: signatures[who] for who in signers})
        now = max(vault.store.now(), keyring.latest)  # no record is earlier than those before it
        return approved_record(change, approval, now, number, previous)

    keyring.read_on(vault.store)
    try:
        if request.digest in keyring.carried_out:
            return False
        keyring.add(vault.store, root, still_approved, vault.lock_end())
    except NotApproved:
        if request.digest not in keyring.carried_out:  # else somebody else was first
            raise
        return False
    return True


def check_plan_change(
    vault: Vault, request: Request, signatures: Mapping[bytes, bytes], before: bytes, after: bytes
) -> list[bytes]:
    """The approvers who allowed a plan file to be replaced, by the digests of both files.

    Whoever keeps the plan must take a request once. Raises ``NotApproved`` if the request is about other
    plans, not open any more, or too few signed; ``IntegrityFailure`` for a signature that is wrong.
    """
    vault.keyring.read_on(vault.store)
    if request.parameters != PlanChange(before, after):
        msg = f"request {request.request_id.hex()[:12]}: is not about these plans"
        raise NotApproved(msg, hint=_ANEW)
    check_open(vault, request)
    return enough_signers(vault, require_approvers(vault), request.payload, signatures)


def check_suspect_use(
    vault: Vault,
    request: Request,
    signatures: Mapping[bytes, bytes],
    point_id: bytes,
    marks: Collection[bytes],
) -> list[bytes]:
    """The approvers who allowed a suspect point to be used in spite of these marks, as long as it is open.

    Raises ``NotApproved`` if the request is about another point, or knows less marks, is not open any more,
    or too few signed; ``IntegrityFailure`` for a signature that is wrong.
    """
    vault.keyring.read_on(vault.store)
    asked = request.parameters
    if not isinstance(asked, SuspectUse) or asked.point_id != point_id or not set(marks) <= set(asked.marks):
        msg = f"request {request.request_id.hex()[:12]}: is not about this point with these marks"
        raise NotApproved(msg, hint=_ANEW)
    check_open(vault, request)
    return enough_signers(vault, require_approvers(vault), request.payload, signatures)
