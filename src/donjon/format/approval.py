"""Approval requests: what approvers are asked, and what they sign. See ``docs/format.md``, "Approvals"."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Mapping
from typing import Final, TypeVar

import msgspec

from donjon.codec.digest import DIGEST_BYTES, digest
from donjon.codec.seal import BOX_BYTES
from donjon.codec.sign import PUBLIC_BYTES, Signer
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, UsageError
from donjon.format.approvers import Signature, check_signatures
from donjon.format.limits import MAX_NUMBER, check_id, check_number, check_time, require
from donjon.format.objects import (
    MAX_BYTES,
    SIGNATURE_BYTES,
    ObjectKind,
    pack_object,
    parse_object,
    unsigned_object,
)
from donjon.format.succession import MAX_SUCCESSIONS
from donjon.format.vault import Action, VaultSecret

MAX_POINTS: Final = 10_000
MAX_MARKS: Final = 100
MAX_REASON_BYTES: Final = 200
MAX_LIFE_S: Final = 90 * SECONDS_PER_DAY
NONCE_BYTES: Final = 16

_DOMAIN: Final = b"donjon/v1/approval\0"
_HEADER_BYTES: Final = 12

T = TypeVar("T")


class Operation(enum.IntEnum):
    """What approvers are asked to allow."""

    DELETE_POINTS = 1
    CHANGE_KEYRING = 2
    CHANGE_PLAN = 3
    NAME_WRITER_KEY = 4
    USE_SUSPECT = 5


class ApprovalRequest(msgspec.Struct, array_like=True, frozen=True):
    """What approvers sign. Times are the store's, in Unix seconds; ``reason`` is sealed, or empty.

    ``parameters`` are one of the structs below, encoded, as the operation needs.
    """

    operation: int
    parameters: bytes
    asked_by: bytes
    created_at: int
    expires_at: int
    nonce: bytes
    reason: bytes

    def __post_init__(self) -> None:
        check_id(self.asked_by)
        check_time(self.created_at)
        check_time(self.expires_at)
        require(0 < self.expires_at - self.created_at <= MAX_LIFE_S, "end")
        require(len(self.nonce) == NONCE_BYTES, "nonce")
        require(len(self.reason) in {0, MAX_REASON_BYTES + BOX_BYTES}, "reason")


class DoomedPoint(msgspec.Struct, array_like=True, frozen=True, order=True):
    """A point that is to go: its writer and sequence, which tell its name, and its id."""

    writer: bytes
    sequence: int
    point_id: bytes

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.sequence)
        require(len(self.point_id) == DIGEST_BYTES, "point id")


class PointDeletion(msgspec.Struct, array_like=True, frozen=True):
    """The points that are to go before their time, ascending."""

    points: tuple[DoomedPoint, ...]

    def __post_init__(self) -> None:
        require(1 <= len(self.points) <= MAX_POINTS, "number of points")
        require(all(a < b for a, b in itertools.pairwise(self.points)), "order of the points")


class KeyringChange(msgspec.Struct, array_like=True, frozen=True):
    """The keyring record that is to come.

    ``ends`` is the digest of the record that began what this one ends, so that it can come once.
    ``approvers`` is the encoded list of those to come, empty if a recipient is removed.
    """

    ends: bytes
    action: int
    subject: bytes
    approvers: bytes

    def __post_init__(self) -> None:
        require(len(self.ends) == DIGEST_BYTES, "record")
        require(self.action in {Action.REMOVE_RECIPIENT, Action.SET_APPROVERS}, "action")
        require((self.action == Action.SET_APPROVERS) == bool(self.approvers), "list of approvers")
        check_id(self.subject)


class PlanChange(msgspec.Struct, array_like=True, frozen=True):
    """The digests of the plan file that is in force, and of the one that is to be."""

    before: bytes
    after: bytes

    def __post_init__(self) -> None:
        require(len(self.before) == len(self.after) == DIGEST_BYTES, "digest of a plan")


class WriterKey(msgspec.Struct, array_like=True, frozen=True):
    """The next key of a writer, which its present key does not name.

    ``approvers`` is the digest of the keyring record that set those who are asked. ``number`` and
    ``previous`` are those of the succession to come. ``last`` is the sequence of the last point that counts
    of what the keys until now signed, and ``last_point`` its id; 0 and zeros if none does.
    """

    approvers: bytes
    writer: bytes
    number: int
    previous: bytes
    public: bytes
    last: int
    last_point: bytes

    def __post_init__(self) -> None:
        digests = (self.approvers, self.previous, self.last_point)
        require(all(len(one) == DIGEST_BYTES for one in digests), "digest")
        check_id(self.writer)
        require(1 <= self.number <= MAX_SUCCESSIONS, "number")
        require(len(self.public) == PUBLIC_BYTES, "public key")
        require(0 <= self.last <= MAX_NUMBER, "sequence")
        require((self.last == 0) == (self.last_point == bytes(DIGEST_BYTES)), "last point")


class SuspectUse(msgspec.Struct, array_like=True, frozen=True):
    """A suspect point whose contents are to be given out, and the marks that approvers know of, ascending.

    A mark is named by the digest of its evidence, so an approval serves for no later mark.
    """

    writer: bytes
    sequence: int
    point_id: bytes
    marks: tuple[bytes, ...]

    def __post_init__(self) -> None:
        check_id(self.writer)
        check_number(self.sequence)
        require(all(len(one) == DIGEST_BYTES for one in (self.point_id, *self.marks)), "digest")
        require(1 <= len(self.marks) <= MAX_MARKS, "number of marks")
        require(all(a < b for a, b in itertools.pairwise(self.marks)), "order of the marks")


Parameters = PointDeletion | KeyringChange | PlanChange | WriterKey | SuspectUse

_PARAMETERS: Final[dict[int, type[Parameters]]] = {
    Operation.DELETE_POINTS: PointDeletion,
    Operation.CHANGE_KEYRING: KeyringChange,
    Operation.CHANGE_PLAN: PlanChange,
    Operation.NAME_WRITER_KEY: WriterKey,
    Operation.USE_SUSPECT: SuspectUse,
}


class Approval(msgspec.Struct, array_like=True, frozen=True):
    """A request as it was signed, and who signed it; a keyring record that needs approval carries one."""

    request: bytes
    signatures: tuple[Signature, ...]

    def __post_init__(self) -> None:
        check_signatures(self.signatures)

    @classmethod
    def of(cls, request: bytes, signatures: Mapping[bytes, bytes]) -> Approval:
        """From signatures by the ids of their approvers."""
        return cls(request, tuple(Signature(*row) for row in sorted(signatures.items())))

    @property
    def by_id(self) -> dict[bytes, bytes]:
        """The signatures by the ids of their approvers."""
        return {row.approver: row.signature for row in self.signatures}

    def encode(self) -> bytes:
        """The ``extra`` of a keyring record."""
        return msgspec.msgpack.encode(self)


class SignaturePayload(msgspec.Struct, array_like=True, frozen=True):
    """Whose signature for which request an object ends with."""

    request_id: bytes
    approver: bytes

    def __post_init__(self) -> None:
        require(len(self.request_id) == DIGEST_BYTES, "digest of a request")
        check_id(self.approver)


def approval_message(vault_id: bytes, request: bytes) -> bytes:
    """What an approver signs: these bytes of a request, for this vault alone."""
    return _DOMAIN + vault_id + request


def encode_request(
    parameters: Parameters, asked_by: bytes, created_at: int, expires_at: int, nonce: bytes, reason: bytes
) -> ApprovalRequest:
    """A request for what the parameters say. Raises ``ValueError`` for values that none can have."""
    operation = next(number for number, kind in _PARAMETERS.items() if isinstance(parameters, kind))
    encoded = msgspec.msgpack.encode(parameters)
    return ApprovalRequest(operation, encoded, asked_by, created_at, expires_at, nonce, reason)


def pack_request(request: ApprovalRequest, vault_id: bytes, asker: Signer) -> bytes:
    """The bytes of the object, whose digest is the id of the request."""
    return pack_object(ObjectKind.APPROVAL_REQUEST, request, vault_id, asker)


def parse_request(data: bytes, what: str) -> tuple[bytes, ApprovalRequest, Parameters]:
    """The bytes that approvers sign, and what they say; **who asks is not verified yet**.

    Raises ``IntegrityFailure``, ``UnsupportedVersion``.
    """
    parse_object(data, ObjectKind.APPROVAL_REQUEST, ApprovalRequest, what)
    payload = data[_HEADER_BYTES:-SIGNATURE_BYTES]
    return payload, *decode_request(payload, what)


def decode_request(request: bytes, what: str) -> tuple[ApprovalRequest, Parameters]:
    """Raises ``IntegrityFailure`` that names ``what``."""
    if len(request) > MAX_BYTES[ObjectKind.APPROVAL_REQUEST]:
        msg = f"{what}: is larger than any request"
        raise IntegrityFailure(msg)
    content = _decode(request, ApprovalRequest, what)
    if (kind := _PARAMETERS.get(content.operation)) is None:
        msg = f"{what}: asks for something that this Donjon does not know"
        raise IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")
    return content, _decode(content.parameters, kind, what)


def decode_approval(extra: bytes, what: str) -> Approval:
    """Raises ``IntegrityFailure`` that names ``what``."""
    return _decode(extra, Approval, what)


def pack_signature(request_id: bytes, approver: bytes, signature: bytes) -> bytes:
    """The bytes of the object that holds one approver's signature."""
    payload = SignaturePayload(request_id, approver)
    return unsigned_object(ObjectKind.APPROVER_SIGNATURE, payload) + signature


def parse_signature(data: bytes, what: str) -> tuple[SignaturePayload, bytes]:
    """Whose signature this is, and the signature, **not yet verified**.

    Raises ``IntegrityFailure``, ``UnsupportedVersion``.
    """
    payload = parse_object(data, ObjectKind.APPROVER_SIGNATURE, SignaturePayload, what)
    return payload, data[-SIGNATURE_BYTES:]


def request_id(data: bytes) -> bytes:
    """What a request object is named by, 32 bytes."""
    return digest(data)


def hide_reason(secret: VaultSecret, reason: str) -> bytes:
    """A reason that only holders of the vault secret can read. Raises ``UsageError`` for an odd one."""
    size = len(reason.encode(errors="replace"))
    if not reason.strip() or not reason.isprintable() or size > MAX_REASON_BYTES:
        msg = f"{reason[:40]!r} cannot be a reason"
        raise UsageError(msg, hint=f"Use 1 to {MAX_REASON_BYTES} bytes of printable text in one line.")
    return secret.hide_text(reason, MAX_REASON_BYTES)


def _decode(data: bytes, kind: type[T], what: str) -> T:
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        msg = f"{what}: is no request that approvers can be asked: {error}"
        raise IntegrityFailure(msg) from error
