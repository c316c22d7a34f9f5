"""Approval requests in a vault, and the signatures of approvers: making, putting and reading them.

See ``docs/format.md``, "Approvals".
"""

from __future__ import annotations

from dataclasses import dataclass

from donjon.codec.digest import digest
from donjon.codec.sign import Signer
from donjon.core.errors import (
    IntegrityFailure,
    KeyNotAvailable,
    ObjectExists,
    ObjectNotFound,
    Refused,
    UsageError,
)
from donjon.format import names
from donjon.format.approval import (
    MAX_LIFE_S,
    ApprovalRequest,
    Parameters,
    approval_message,
    encode_request,
    pack_request,
    pack_signature,
    parse_request,
    parse_signature,
)
from donjon.format.objects import MAX_BYTES, ObjectKind, verify_object
from donjon.repository.approvers import ApproverSet
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault
from donjon.stores.first_versions import first_of_each

_LAST = "/request"
_SHORTEST_ID = 6


@dataclass(frozen=True, slots=True)
class Request:
    """A request that somebody may ask. ``data`` is the whole object, ``payload`` what approvers sign."""

    request_id: bytes
    data: bytes
    payload: bytes
    content: ApprovalRequest
    parameters: Parameters

    @property
    def digest(self) -> bytes:
        """The digest of what is signed, by which the keyring knows what was carried out."""
        return digest(self.payload)


def make_request(
    vault: Vault, parameters: Parameters, asker: Signer, life_s: int, nonce: bytes, reason: bytes = b""
) -> Request:
    """A request for what the parameters say, open for ``life_s`` seconds by the store's clock.

    It is not put. Raises ``UsageError`` for a life that none can have, ``Refused`` if the vault has no
    approvers or there are too many points, ``KeyNotAvailable`` if the asker is not known to the vault.
    """
    vault.keyring.read_on(vault.store)
    require_approvers(vault)
    if not 0 < life_s <= MAX_LIFE_S:
        msg = f"a request cannot be open for {life_s} seconds"
        raise UsageError(msg, hint=f"Give it up to {MAX_LIFE_S // 86_400} days.")
    asked_by = _id_of(vault, asker.public)
    now = vault.store.now()
    content = encode_request(parameters, asked_by, now, now + life_s, nonce, reason)
    data = pack_request(content, vault.vault_id, asker)
    if len(data) > MAX_BYTES[ObjectKind.APPROVAL_REQUEST]:
        msg = "the request is too large"
        raise Refused(msg, hint="Ask for fewer points at once.")
    return parse(vault, data, "the request")


def put_request(vault: Vault, request: Request) -> None:
    """Put a request into the vault, locked for the vault's lock; the same once more changes nothing."""
    _put(vault, names.approval_request(request.request_id), request.data, ObjectKind.APPROVAL_REQUEST)


def parse(vault: Vault, data: bytes, what: str) -> Request:
    """A request from its bytes, once it is certain who asks.

    Raises ``IntegrityFailure`` if it is no request, or of somebody whom the vault never knew.
    """
    payload, content, parameters = parse_request(data, what)
    verify_object(data, vault.vault_id, _public_of(vault, content.asked_by, what), what)
    return Request(digest(data), data, payload, content, parameters)


def read_request(vault: Vault, name: str) -> Request:
    """The request of this name in the vault. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    data = fetch_object(vault.store, name, ObjectKind.APPROVAL_REQUEST)
    if name != names.approval_request(digest(data)):
        msg = f"{name}: holds another object"
        raise IntegrityFailure(msg, hint="Objects were swapped or damaged. Do not trust this store.")
    return parse(vault, data, name)


def find_request(vault: Vault, wanted: str) -> Request:
    """The request with this id, or the start of it: a whole id needs no permission to list.

    Raises ``Refused`` if there is none, ``UsageError`` if several fit or this is no id.
    """
    wanted = wanted.lower()
    if len(wanted) < _SHORTEST_ID or len(wanted) > 64 or not set(wanted) <= set("0123456789abcdef"):
        msg = f"{wanted[:70]!r} is no id of a request"
        raise UsageError(msg, hint=f"Give {_SHORTEST_ID} or more characters; see `donjon approve list`.")
    found = [names.approval_request(bytes.fromhex(wanted))] if len(wanted) == 64 else []
    if not found:
        listed = first_of_each(vault.store.list(f"{names.APPROVALS}{wanted}"))
        found = [info.name for info in listed if info.name.endswith(_LAST)]
    if len(found) > 1:
        msg = f"{wanted!r} fits {len(found)} requests"
        raise UsageError(msg, hint="Give more of the id; see `donjon approve list`.")
    try:
        if found:
            return read_request(vault, found[0])
    except ObjectNotFound:
        pass
    msg = f"{vault.store.url}: shows no request {wanted[:12]}"
    hint = "See `donjon approve list`. If it was there before, somebody hides it: ask for its file."
    raise Refused(msg, hint=hint)


def list_requests(vault: Vault, damaged: list[IntegrityFailure]) -> list[Request]:
    """All requests by the time at which they were made; those that are wrong are added to ``damaged``."""
    vault.keyring.read_on(vault.store)
    found = []
    for info in first_of_each(vault.store.list(names.APPROVALS)):
        if not info.name.endswith(_LAST):
            continue
        try:
            found.append(read_request(vault, info.name))
        except ObjectNotFound:  # its lock ended, and somebody removed it since it was listed
            continue
        except IntegrityFailure as error:
            damaged.append(error)
    return sorted(found, key=lambda request: (request.content.created_at, request.request_id))


# -- signatures --------------------------------------------------------------------------------------


def read_signatures(vault: Vault, request: Request, damaged: list[IntegrityFailure]) -> dict[bytes, bytes]:
    """What the present approvers signed in the vault, by their ids; what is wrong is added to ``damaged``.

    Each is asked for by its name, so a listing that leaves one out hides nothing.
    """
    found = {}
    for approver_id in require_approvers(vault).members:
        try:
            signature = _read_signature(vault, request, approver_id)
        except ObjectNotFound:
            continue
        except IntegrityFailure as error:
            damaged.append(error)
            continue
        found[approver_id] = signature
    return found


def _read_signature(vault: Vault, request: Request, approver_id: bytes) -> bytes:
    name = names.approver_signature(request.request_id, approver_id)
    payload, signature = parse_signature(fetch_object(vault.store, name, ObjectKind.APPROVER_SIGNATURE), name)
    if (payload.request_id, payload.approver) != (request.request_id, approver_id):
        raise IntegrityFailure(f"{name}: holds another object")
    message = approval_message(vault.vault_id, request.payload)
    for approvers in vault.keyring.approver_sets:
        if approver_id in approvers.members:
            approvers.signers(message, {approver_id: signature}, name)
            return signature
    msg = f"{name}: is the signature of somebody who never approved here"
    raise IntegrityFailure(msg)


def check_signature_object(vault: Vault, name: str) -> None:
    """Check one signature in the vault, with its request. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    request, _, approver = name.removeprefix(names.APPROVALS).partition("/")
    try:
        ids = bytes.fromhex(request), bytes.fromhex(approver)
    except ValueError:
        ids = b"", b""
    if name != names.approver_signature(*ids):
        raise IntegrityFailure(f"{name}: is no name of a signature")
    try:
        asked = read_request(vault, names.approval_request(ids[0]))
    except ObjectNotFound:
        msg = f"{name}: is a signature for a request that is not there"
        raise IntegrityFailure(msg) from None
    _read_signature(vault, asked, ids[1])


def put_signature(vault: Vault, request: Request, approver_id: bytes, signature: bytes) -> None:
    """Put an approver's signature into the vault, together with the request if that is not there.

    Raises ``IntegrityFailure`` if something else has its name, or if the store hides what it has.
    """
    put_request(vault, request)
    name = names.approver_signature(request.request_id, approver_id)
    data = pack_signature(request.request_id, approver_id, signature)
    try:
        _put(vault, name, data, ObjectKind.APPROVER_SIGNATURE)
    except IntegrityFailure:
        try:
            _read_signature(vault, request, approver_id)  # a token may sign the same in other bytes
        except (IntegrityFailure, ObjectNotFound):
            pass
        else:
            return
        raise


def _put(vault: Vault, name: str, data: bytes, kind: ObjectKind) -> None:
    try:
        vault.store.put(name, data, retain_until=vault.lock_end())
    except ObjectExists:
        try:
            there = fetch_object(vault.store, name, kind)
        except ObjectNotFound:
            msg = f"{name}: the store says that it is there, and does not show it"
            raise IntegrityFailure(msg, hint="Do not trust this store; use a file: --file.") from None
        if there != data:
            msg = f"{name}: is taken by something else"
            hint = "Find out who may put into the vault. Ask anew, or let the approver sign a file: --file."
            raise IntegrityFailure(msg, hint=hint) from None


# -- who is asked, and who asks ------------------------------------------------------------


def require_approvers(vault: Vault) -> ApproverSet:
    """The approvers as the keyring last read has them. Raises ``Refused`` if the vault has none."""
    if (approvers := vault.keyring.approvers) is None:
        msg = f"{vault.store.url}: was made without approvers, so nobody can be asked, and nothing goes early"
        hint = "Points go when retention and their locks end. Only `donjon init --approver` sets approvers."
        raise Refused(msg, hint=hint)
    return approvers


def approver_name(vault: Vault, approvers: ApproverSet, approver_id: bytes) -> str:
    """An approver for people: the name as far as a key reveals it, and the start of the id."""
    short = approver_id.hex()[:12]
    if not vault.has_secret:
        return short
    return f"{vault.secret.read_label(approvers.members[approver_id].label, 'keyring')} ({short})"


def may_ask(vault: Vault, asked_by: bytes) -> bool:
    """Whether requests of this one count: of the root key, a writer or an approver, as of now."""
    keyring = vault.keyring
    writer = keyring.writers.get(asked_by)
    is_writer = writer is not None and writer.revoked_at is None
    return asked_by == vault.vault_id or is_writer or asked_by in require_approvers(vault).members


def _public_of(vault: Vault, asked_by: bytes, what: str) -> bytes:
    """The key of whoever asks, also of one who may not ask any more."""
    if asked_by == vault.vault_id:
        return vault.object.root_public
    if (writer := vault.keyring.writers.get(asked_by)) is not None:
        return writer.public
    for approvers in vault.keyring.approver_sets:
        if (approver := approvers.members.get(asked_by)) is not None:
            return approver.public
    msg = f"{what}: is asked by {asked_by.hex()[:12]}, whom no keyring record knows"
    raise IntegrityFailure(msg, hint="Find out who made it: only writers, approvers and the root key ask.")


def _id_of(vault: Vault, public: bytes) -> bytes:
    known = [vault.object.root_public, *(w.public for w in vault.keyring.writers.values())]
    known += [member.public for member in require_approvers(vault).members.values()]
    asked_by = digest(public)[:16]
    if public not in known or not may_ask(vault, asked_by):
        msg = f"{asked_by.hex()[:12]}: is neither the root key nor a writer or approver of {vault.store.url}"
        raise KeyNotAvailable(msg, hint="Ask with the kit, on an enrolled host, or with an approver's key.")
    return asked_by
