"""Deletion certificates: m approvers let points go early. See ``docs/format.md``, "Deletion certificates"."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from donjon.core.errors import IntegrityFailure
from donjon.format.approval import ApprovalRequest, PointDeletion, decode_request
from donjon.format.approvers import MAX_APPROVERS, Signature, check_signatures
from donjon.format.limits import check_id, require
from donjon.format.objects import SIGNATURE_BYTES, ObjectKind, parse_object, unsigned_object


class CertificatePayload(msgspec.Struct, array_like=True, frozen=True):
    """``request`` as it was signed; the signature of the approver ``first`` ends the object."""

    request: bytes
    first: bytes
    others: tuple[Signature, ...]

    def __post_init__(self) -> None:
        check_id(self.first)
        check_signatures(self.others, after=self.first)
        require(len(self.others) < MAX_APPROVERS, "number of signatures")


def decode_deletion(request: bytes, what: str) -> tuple[ApprovalRequest, PointDeletion]:
    """What a request to delete points says. Raises ``IntegrityFailure`` that names ``what``."""
    content, parameters = decode_request(request, what)
    if not isinstance(parameters, PointDeletion):
        msg = f"{what}: is no request to delete points"
        raise IntegrityFailure(msg)
    return content, parameters


def pack_certificate(request: bytes, signatures: Mapping[bytes, bytes]) -> bytes:
    """The bytes of a certificate with these signatures, by the ids of their approvers."""
    (first, last), *others = sorted(signatures.items())
    payload = CertificatePayload(request, first, tuple(Signature(*other) for other in others))
    return unsigned_object(ObjectKind.CERTIFICATE, payload) + last


def parse_certificate(data: bytes, what: str) -> tuple[bytes, dict[bytes, bytes]]:
    """The bytes of the request, and the signatures, **not yet verified**, by their ids.

    Raises ``IntegrityFailure``, ``UnsupportedVersion``.
    """
    payload = parse_object(data, ObjectKind.CERTIFICATE, CertificatePayload, what)
    signatures = {payload.first: data[-SIGNATURE_BYTES:]}
    signatures |= {other.approver: other.signature for other in payload.others}
    return payload.request, signatures
