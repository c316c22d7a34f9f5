"""Evidence in a vault and in files: signing it, reading it, and whether it counts.

See ``docs/format.md``, "Evidence".
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from donjon.codec.digest import digest, short_id
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, ObjectExists, ObjectNotFound
from donjon.format import names
from donjon.format.evidence import (
    MAX_PROGRAM_BYTES,
    MAX_TEXT_BYTES,
    Evidence,
    EvidenceRow,
    fitting,
)
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import Action, KeyringRecord
from donjon.repository.fetch import fetch_object
from donjon.repository.keyring import put_after_revocation, vault_id_of
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each

#: Who may sign it: everybody whom the root key certified to sign anything.
_CERTIFYING = (Action.ADD_WRITER, Action.ADD_CUSTODIAN, Action.ADD_AUDITOR)
LATE = "was signed by a key that is revoked, and nothing proves that this was before"
LATE_REMEDY = "It proves nothing. Repeat the check, and sign with a key that is not revoked."


class Standing(enum.Enum):
    """Whether evidence counts, as far as that can be told."""

    COUNTS = "counts"  #: its signer is not revoked, or the vault had it before the revocation
    LATE = "late"  #: its signer is revoked, and nothing proves that the evidence is older
    ALONE = "alone"  #: its signer was certified; without the vault nobody knows of revocations


@dataclass(frozen=True, slots=True)
class SignedEvidence:
    """Evidence whose signature is right. ``where`` is its name or file, for people.

    ``stored_at`` is when the vault's store received it, in Unix seconds; None if the vault does not have it.
    """

    evidence: Evidence
    data: bytes
    digest: bytes
    where: str
    standing: Standing
    stored_at: int | None = None

    @property
    def signed_at(self) -> int:
        """When it was signed: what it says, and never after the store received it."""
        created = self.evidence.created_at
        return created if self.stored_at is None else min(created, self.stored_at)


def sign_evidence(
    vault: Vault, key: SigningKey, *, kind: str, program: str, subject: str, rows: Sequence[EvidenceRow]
) -> SignedEvidence:
    """Sign what was seen, dated by the store's clock. Nothing is put yet.

    Raises ``KeyNotAvailable`` unless ``key`` is that of a certified signer who is not revoked.
    """
    vault.keyring.read_on(vault.store)
    signer = vault.keyring.signers.get(short_id(key.public))
    if signer is None or signer.revoked_at is not None:
        msg = f"{vault.store.url}: does not accept evidence of {key.public.hex()[:16]}, or not any more"
        raise KeyNotAvailable(msg, hint="Make a credential with `donjon auditor add NAME --out FILE`.")
    evidence = Evidence(
        signer.writer_id,
        vault.object.root_public,
        fetch_object(vault.store, names.keyring(signer.record), ObjectKind.KEYRING),
        vault.store.now(),
        kind,
        fitting(program, MAX_PROGRAM_BYTES),
        fitting(subject, MAX_TEXT_BYTES),
        tuple(rows),
    )
    data = pack_object(ObjectKind.EVIDENCE, evidence, vault.vault_id, key)
    return parse_evidence(vault, data, names.evidence(digest(data)))


def put_evidence(vault: Vault, signed: SignedEvidence) -> str:
    """Put evidence into the vault, locked like everything else; its name. The same once more changes nothing.

    Raises ``IntegrityFailure`` if something else has its name, which is the digest of its bytes.
    """
    name = names.evidence(signed.digest)
    try:
        vault.store.put(name, signed.data, retain_until=vault.lock_end())
    except ObjectExists:
        if fetch_object(vault.store, name, ObjectKind.EVIDENCE) != signed.data:
            msg = f"{name}: is taken by something else"
            raise IntegrityFailure(msg, hint="Find out who put it there with `donjon verify`.") from None
    return name


def parse_evidence(vault: Vault, data: bytes, where: str, stored_at: int | None = None) -> SignedEvidence:
    """Evidence from its bytes, as far as this vault can tell. Raises ``IntegrityFailure``."""
    evidence = parse_alone(data, where, vault.vault_id).evidence
    if evidence.signer not in vault.keyring.signers:
        vault.keyring.read_on(vault.store)  # it may have grown since this vault was opened
    signer = vault.keyring.signers.get(evidence.signer)
    if signer is None:
        msg = f"{where}: was signed by {evidence.signer.hex()[:16]}, which no keyring record certifies"
        hint = "The store hides the record that certifies this signer. Do not trust this store."
        raise IntegrityFailure(msg, hint=hint)
    late = signer.revoked_at is not None and (stored_at is None or put_after_revocation(stored_at, signer))
    standing = Standing.LATE if late else Standing.COUNTS
    return SignedEvidence(evidence, data, digest(data), where, standing, stored_at)


def parse_alone(data: bytes, where: str, vault_id: bytes) -> SignedEvidence:
    """Evidence from its bytes, by those who know nothing but the vault's id, which names its root key.

    Raises ``IntegrityFailure`` unless the root key certified who signed it.
    """
    evidence = parse_object(data, ObjectKind.EVIDENCE, Evidence, where)
    if vault_id_of(evidence.root_public) != vault_id:
        msg = f"{where}: is evidence of another vault ({vault_id_of(evidence.root_public).hex()})"
        raise IntegrityFailure(msg, hint="Check the id or the address of the vault.")
    certifies = f"{where}: its certification"
    record = parse_object(evidence.certification, ObjectKind.KEYRING, KeyringRecord, certifies)
    verify_object(evidence.certification, vault_id, evidence.root_public, certifies)
    is_its = record.action in _CERTIFYING and record.subject == evidence.signer == short_id(record.public)
    if not is_its:
        msg = f"{where}: its certification is not that of its signer"
        raise IntegrityFailure(msg, hint="It proves nothing.")
    verify_object(data, vault_id, record.public, where)
    return SignedEvidence(evidence, data, digest(data), where, Standing.ALONE)


def read_evidence(vault: Vault, info: ObjectInfo) -> SignedEvidence:
    """Evidence that the store lists. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    data = fetch_object(vault.store, info.name, ObjectKind.EVIDENCE)
    if info.name != names.evidence(digest(data)):
        msg = f"{info.name}: holds another object"
        raise IntegrityFailure(msg, hint="Objects were swapped or damaged. Do not trust this store.")
    return parse_evidence(vault, data, info.name, info.stored_at)


def list_evidence(vault: Vault, damaged: list[IntegrityFailure]) -> list[SignedEvidence]:
    """All evidence in the vault, oldest first by the store's time; what is wrong is added to ``damaged``."""
    vault.keyring.read_on(vault.store)
    found = []
    for info in first_of_each(vault.store.list(names.EVIDENCE)):
        try:
            found.append(read_evidence(vault, info))
        except ObjectNotFound:  # its lock ended, and somebody removed it since it was listed
            continue
        except IntegrityFailure as error:
            damaged.append(error)
    return sorted(found, key=lambda one: (one.stored_at or 0, one.digest))


def is_trusted(vault: Vault, signer: bytes) -> bool:
    """Whether this signer is not on the side of production: an auditor or a custodian.

    A writer's key is where production is, so whoever takes over production could sign with it.
    """
    return signer in vault.keyring.auditors or signer in vault.keyring.custodians


def judge_file(vault: Vault, data: bytes, where: str) -> SignedEvidence:
    """Evidence in a file, judged with the vault: if the vault has the same bytes, their time there counts.

    Raises ``IntegrityFailure``.
    """
    signed = parse_evidence(vault, data, where)
    try:
        info = vault.store.head(names.evidence(signed.digest))
        same = fetch_object(vault.store, info.name, ObjectKind.EVIDENCE) == data
    except ObjectNotFound:
        return signed
    return parse_evidence(vault, data, where, info.stored_at) if same else signed
