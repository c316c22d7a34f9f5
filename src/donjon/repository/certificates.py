"""Deletion certificates in a vault: reading them, which of them count, and putting one.

See ``docs/format.md``, "Deletion certificates".
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound, Refused
from donjon.format import names
from donjon.format.approval import ApprovalRequest, DoomedPoint, approval_message
from donjon.format.certificate import decode_deletion, pack_certificate, parse_certificate
from donjon.format.objects import MAX_BYTES, ObjectKind
from donjon.repository.approvals import require_approvers
from donjon.repository.approvers import ApproverSet
from donjon.repository.approving import check_time, enough_signers
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each


class Standing(enum.Enum):
    """Whether a certificate counts."""

    COUNTS = "counts"  #: enough of the present approvers signed it
    OUTDATED = "outdated"  #: enough of earlier approvers did, and put it before they were replaced
    LATE = "late"  #: the same, but it was put after they were replaced: perhaps by who stole their keys
    EXPIRED = "expired"  #: enough of the present approvers signed, but it was put after the request expired


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that enough approvers signed, now or then.

    ``signers`` are the ids of those of ``approvers`` who did, who are the present ones or those of then.
    ``stored_at`` is when the store received it, in Unix seconds.
    """

    name: str
    request_bytes: bytes
    request: ApprovalRequest
    points: tuple[DoomedPoint, ...]
    approvers: ApproverSet
    signers: tuple[bytes, ...]
    standing: Standing
    stored_at: int

    @property
    def counts(self) -> bool:
        """Whether its points may go."""
        return self.standing is Standing.COUNTS


def deleted_points(vault: Vault, damaged: list[IntegrityFailure] | None = None) -> dict[bytes, Certificate]:
    """The points that may go before retention lets them, each with the certificate that counts for it.

    Needs no key. The keyring is read to its end first, so that the approvers are those of now. A certificate
    that is forged, that too few signed, or that was put after its approvers were replaced or after its
    request had expired counts for nothing; the reason is added to ``damaged``. Of several for a point the
    first by name is given. Whether a point is in the vault, and whether its locks have ended, is not
    looked at.
    """
    found: dict[bytes, Certificate] = {}
    for certificate in list_certificates(vault, damaged):
        if certificate.counts:
            for point in certificate.points:
                found.setdefault(point.point_id, certificate)
        elif certificate.standing in SUSPICIOUS and damaged is not None:
            what = SUSPICIOUS[certificate.standing]
            damaged.append(IntegrityFailure(f"{certificate.name}: {what}", hint=LATE_REMEDY))
    return found


#: What no honest program puts.
SUSPICIOUS = {
    Standing.LATE: "was put after those who signed it had been replaced, perhaps by a thief of their keys",
    Standing.EXPIRED: "was put after the request that it carries out had expired",
}
LATE_REMEDY = "It does not count. Find out who may put into the vault."


def list_certificates(vault: Vault, damaged: list[IntegrityFailure] | None = None) -> list[Certificate]:
    """All that enough approvers signed, by name; those that are wrong are added to ``damaged``."""
    vault.keyring.read_on(vault.store)
    found = []
    for info in first_of_each(vault.store.list(names.CERTIFICATES)):
        try:
            found.append(read_certificate(vault, info))
        except ObjectNotFound:  # its lock ended, and somebody removed it since it was listed
            continue
        except IntegrityFailure as error:
            if damaged is not None:
                damaged.append(error)
    return found


def read_certificate(vault: Vault, info: ObjectInfo) -> Certificate:
    """A certificate that the store lists. Raises ``IntegrityFailure`` with the reason, ``ObjectNotFound``.

    The approvers are those of the keyring as far as it was read.
    """
    data = fetch_object(vault.store, info.name, ObjectKind.CERTIFICATE)
    if info.name != names.certificate(digest(data)):
        msg = f"{info.name}: holds another object"
        raise IntegrityFailure(msg, hint="Objects were swapped or damaged. Do not trust this store.")
    return _judge(vault, data, info.name, info.stored_at)


def _judge(vault: Vault, data: bytes, name: str, stored_at: int) -> Certificate:
    request_bytes, signatures = parse_certificate(data, name)
    request, parameters = decode_deletion(request_bytes, name)
    if (present := vault.keyring.approvers) is None:
        msg = f"{name}: this vault was made without approvers, so nothing in it goes early"
        raise IntegrityFailure(msg, hint="It does not count. Find out who put it there.")

    def judged(approvers: ApproverSet, signers: list[bytes], standing: Standing) -> Certificate:
        points = parameters.points
        return Certificate(
            name, request_bytes, request, points, approvers, tuple(signers), standing, stored_at
        )

    message = approval_message(vault.vault_id, request_bytes)
    signers = present.signers(message, signatures, name)
    in_time = stored_at <= request.expires_at
    if len(signers) >= present.needed:
        return judged(present, signers, Standing.COUNTS if in_time else Standing.EXPIRED)
    replaced_at = present.created_at
    for earlier in reversed(vault.keyring.approver_sets[:-1]):
        before = _signers_of(earlier, message, signatures, name)
        if len(before) >= earlier.needed:
            honest = in_time and stored_at <= replaced_at
            return judged(earlier, before, Standing.OUTDATED if honest else Standing.LATE)
        replaced_at = earlier.created_at
    msg = f"{name}: {len(signers)} of the {present.needed} approvers that are needed signed it"
    raise IntegrityFailure(msg, hint="It does not count. See `donjon approver list`.")


def _signers_of(
    approvers: ApproverSet, message: bytes, signatures: Mapping[bytes, bytes], name: str
) -> list[bytes]:
    """Those of an earlier set who signed; a wrong signature of one who left says nothing by now."""
    found = []
    for signature in signatures.items():
        try:
            found += approvers.signers(message, dict([signature]), name)
        except IntegrityFailure:
            continue
    return found


def put_certificate(
    vault: Vault, request: bytes, signatures: Mapping[bytes, bytes]
) -> tuple[Certificate, bool]:
    """Put the certificate with these signatures, locked for the vault's lock, and whether it is new.

    What is put is what ``deleted_points`` then finds; the same once more changes nothing.

    Raises ``NotApproved`` if too few approvers signed, naming those who did not, or the request has expired;
    ``Refused`` if the vault has no approvers; ``IntegrityFailure`` for a signature that is wrong, or if
    another object has the name.
    """
    content, _ = decode_deletion(request, "the request")
    vault.keyring.read_on(vault.store)
    approvers = require_approvers(vault)
    signers = enough_signers(vault, approvers, request, signatures)
    data = pack_certificate(request, {signer: signatures[signer] for signer in signers})
    if len(data) > MAX_BYTES[ObjectKind.CERTIFICATE]:
        msg = "the request is too large for a certificate"
        raise Refused(msg, hint="Ask for fewer points at once.")
    name = names.certificate(digest(data))
    is_new = True
    if (done := _as_it_is(vault, name, data)) is not None:
        return done, False
    check_time(vault, content)
    try:
        stored_at = vault.store.put(name, data, retain_until=vault.lock_end()).stored_at
    except ObjectExists:
        if fetch_object(vault.store, name, ObjectKind.CERTIFICATE) != data:
            msg = f"{name}: is taken by something else"
            raise IntegrityFailure(msg, hint="Find out who put it there with `donjon verify`.") from None
        is_new, stored_at = False, vault.store.head(name).stored_at
    return _judge(vault, data, name, stored_at), is_new


def _as_it_is(vault: Vault, name: str, data: bytes) -> Certificate | None:
    """The certificate, if it is there already; what is there in its place is told by the put."""
    try:
        if fetch_object(vault.store, name, ObjectKind.CERTIFICATE) != data:
            return None
        return _judge(vault, data, name, vault.store.head(name).stored_at)
    except (ObjectNotFound, IntegrityFailure):
        return None
