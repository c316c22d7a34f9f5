"""The next key of a writer, allowed by approvers: when the present one is lost or not to be trusted.

See ``docs/format.md``, "Keys that succeed each other".
"""

from __future__ import annotations

from collections.abc import Mapping

from donjon.codec.digest import digest
from donjon.core.errors import KeyNotAvailable, ObjectExists, PermissionMissing, Refused, UsageError
from donjon.format import names
from donjon.format.approval import Approval, WriterKey
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.succession import MAX_SUCCESSIONS, AllowedSuccession
from donjon.repository.approvals import Request, require_approvers
from donjon.repository.approving import State, check_open, enough_signers, state_of
from donjon.repository.credential import WriterCredential
from donjon.repository.fetch import fetch_object
from donjon.repository.points import Point
from donjon.repository.successions import NO_SUCCESSION
from donjon.repository.vault import Vault
from donjon.repository.writer_keys import known_successors


def next_key(vault: Vault, writer_id: bytes, public: bytes, last: Point | None) -> WriterKey:
    """What to ask approvers for, so that ``public`` signs for a writer from now on.

    Of what its keys until now signed, what comes after ``last`` does not count; None lets nothing count.
    Raises ``PermissionMissing`` for a revoked writer, ``Refused`` without approvers or for too many keys,
    ``UsageError`` if ``last`` is of another writer.
    """
    writer = vault.keyring.writer(writer_id, writer_id.hex())
    approvers = require_approvers(vault)
    if writer.revoked_at is not None:
        msg = f"{writer_id.hex()[:12]}: this writer is revoked, and no key signs for it any more"
        raise PermissionMissing(msg, hint="Make a new one with `donjon writer add NAME --out FILE`.")
    if last is not None and last.manifest.writer != writer_id:
        msg = f"{last.point_id.hex()[:12]}: is a point of another writer"
        raise UsageError(msg, hint="Name the last good point of this writer; see `donjon points`.")
    chain = known_successors(vault, writer_id, writer_id.hex())
    if len(chain) >= MAX_SUCCESSIONS:
        msg = f"{writer_id.hex()}: has had {MAX_SUCCESSIONS} keys, which is the most"
        raise Refused(msg, hint="Make a new writer with `donjon writer add NAME --out FILE`.")
    previous = chain[-1].digest if chain else NO_SUCCESSION
    sequence, point_id = (last.manifest.sequence, last.point_id) if last else (0, bytes(32))
    return WriterKey(approvers.record, writer_id, len(chain) + 1, previous, public, sequence, point_id)


def name_key(
    vault: Vault, credential: WriterCredential, request: Request, signatures: Mapping[bytes, bytes]
) -> bool:
    """Let the key of ``credential`` take over, as enough approvers allowed; false if that was done before.

    Raises ``NotApproved`` if too few signed, naming those who did not, or if the request is not open any
    more; ``KeyNotAvailable`` if the request is about another key; ``Refused`` if another key was named
    meanwhile; ``IntegrityFailure`` for a signature that is wrong.
    """
    asked = request.parameters
    key = credential.signing_key
    if not isinstance(asked, WriterKey) or (asked.writer, asked.number, asked.public) != (
        credential.writer_id, credential.key_number, key.public,
    ):  # fmt: skip
        msg = f"request {request.request_id.hex()[:12]}: is not about the key of this credential"
        raise KeyNotAvailable(msg, hint="Give the file that `donjon writer rekey` made with this request.")
    vault.keyring.read_on(vault.store)
    if state_of(vault, request, 0, ()) is State.DONE:
        return False
    check_open(vault, request)
    signers = enough_signers(vault, require_approvers(vault), request.payload, signatures)
    approval = Approval.of(request.payload, {who: signatures[who] for who in signers})
    now = min(max(vault.store.now(), request.content.created_at), request.content.expires_at)
    content = AllowedSuccession(
        asked.writer, asked.number, asked.previous, now, asked.public, approval.encode()
    )
    data = pack_object(ObjectKind.ALLOWED_SUCCESSION, content, vault.vault_id, key)
    name = names.succession(asked.writer, asked.number)
    try:
        vault.store.put(name, data, retain_until=vault.lock_end())
    except ObjectExists:  # a reply was lost, another run does the same, or somebody was faster
        there = fetch_object(vault.store, name, ObjectKind.ALLOWED_SUCCESSION)
        if digest(there) == digest(data):
            return True
        if state_of(vault, request, 0, ()) is State.DONE:
            return False
        msg = f"{name}: names another key, put just now"
        hint = "Take the access of the old key's holder to the storage away, and ask anew."
        raise Refused(msg, hint=hint) from None
    return True
