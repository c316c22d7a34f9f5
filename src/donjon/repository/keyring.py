"""The keyring as it stands: recipients, writers and revocations, read from a chain of signed records."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from donjon.codec.digest import digest, short_id
from donjon.codec.hpke import OVERHEAD_BYTES
from donjon.codec.hpke import PUBLIC_BYTES as HPKE_BYTES
from donjon.codec.seal import KEY_BYTES
from donjon.codec.sign import PUBLIC_BYTES as SIGNER_BYTES
from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    IntegrityFailure,
    ObjectExists,
    ObjectHidden,
    ObjectNotFound,
    PermissionMissing,
    Refused,
)
from donjon.format import names
from donjon.format.approval import decode_approval
from donjon.format.approvers import ApproverList
from donjon.format.limits import EARLIEST, MAX_SEAL_BYTES
from donjon.format.manifest import Manifest
from donjon.format.objects import ObjectKind, pack_object, parse_object, verify_object
from donjon.format.vault import Action, KeyringRecord, VaultObject
from donjon.keys.base import KIT, PASSPHRASE, SERVICES, Recipient, recipient_id, service_id
from donjon.repository.approvers import ApproverSet, Standing, approver_set, read_change
from donjon.repository.fetch import fetch_object
from donjon.repository.records import MAX_LABEL_BYTES
from donjon.repository.successions import Successions
from donjon.stores.base import ObjectStore

#: Every session object holds a seal of 1.2 kB, or of up to 2 KiB, for each of them.
MAX_RECIPIENTS = 256

_ADDING = (Action.ADD_RECIPIENT, Action.ADD_WRITER, Action.ADD_CUSTODIAN, Action.ADD_AUDITOR)
#: What the root key alone cannot do in a vault with approvers.
_APPROVED = (Action.REMOVE_RECIPIENT, Action.SET_APPROVERS)
_SEALED_BYTES = KEY_BYTES + OVERHEAD_BYTES
_HIDDEN_LABEL_BYTES = 12 + MAX_LABEL_BYTES + 16
_MAX_EXTRA_BYTES = 1 << 10
_MAX_APPROVAL_BYTES = 8 << 10


@dataclass(frozen=True, slots=True)
class Member:
    """A recipient with the vault secret sealed for it; its name is hidden until the secret is known.

    ``record`` is the digest of the keyring record that added it.
    """

    recipient: Recipient
    label: bytes
    sealed_secret: bytes
    record: bytes


@dataclass(frozen=True, slots=True)
class Writer:
    """A certified writer, custodian or auditor. ``revoked_at`` is in Unix seconds, None while it may sign.

    ``record`` is the number of the keyring record that certifies it.
    """

    writer_id: bytes
    public: bytes
    label: bytes
    created_at: int
    revoked_at: int | None = None
    record: int = 0


def vault_id_of(root_public: bytes) -> bytes:
    """The id of the vault with this root key: the start of its BLAKE3 digest.

    So whatever names a vault by its id, such as a kit without the root key, names its root key too.
    """
    return short_id(root_public)


def put_after_revocation(stored_at: int, writer: Writer) -> bool:
    """Whether an object of this writer came to the store after the writer was revoked.

    ``stored_at`` is the time that the store stamped, so that no clock of a thief counts. What came in
    the second of the revocation itself counts as before: the record was put after that second began.
    """
    return writer.revoked_at is not None and stored_at > writer.revoked_at


@dataclass(slots=True)
class Keyring:
    """All records up to ``number``, applied; ``head`` is the digest of the last of them."""

    vault: VaultObject
    head: bytes
    number: int = 0
    members: dict[bytes, Member] = field(default_factory=dict)
    writers: dict[bytes, Writer] = field(default_factory=dict)
    custodians: dict[bytes, Writer] = field(default_factory=dict)
    auditors: dict[bytes, Writer] = field(default_factory=dict)
    #: All that there ever were; the last one counts.
    approver_sets: list[ApproverSet] = field(default_factory=list)
    #: The latest time that any record has, in Unix seconds.
    latest: int = EARLIEST
    #: Digests of the requests that approvers allowed and that a record carried out.
    carried_out: set[bytes] = field(default_factory=set)
    #: The keys of writers after their first ones, as far as they are known.
    successions: Successions = field(init=False, repr=False, compare=False)
    _heads: list[bytes] = field(default_factory=list, repr=False)
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._heads.append(self.head)
        self.successions = Successions(self.vault.vault_id, self.vault.longest_backup_s, self.approver_sets)

    @property
    def signers(self) -> dict[bytes, Writer]:
        """All who ever were certified to sign anything, by their ids; no id is in two roles."""
        return self.writers | self.custodians | self.auditors

    @property
    def approvers(self) -> ApproverSet | None:
        """Who approves now; None in a vault that was made without approvers, for ever."""
        return self.approver_sets[-1] if self.approver_sets else None

    def read_on(self, store: ObjectStore) -> None:
        """Read and check the records that are not known yet.

        Raises ``IntegrityFailure`` for a record that the root key did not sign or that breaks the chain.
        """
        with self._lock:
            listed = _listed(store)
            while True:
                name = names.keyring(self.number + 1)
                if listed is not None and name not in listed:
                    return
                try:
                    data = fetch_object(store, name, ObjectKind.KEYRING)
                except ObjectHidden:
                    raise  # it may be the record that revokes somebody
                except ObjectNotFound:
                    return
                self.apply(data, name)

    def apply(self, data: bytes, name: str) -> None:
        """Check one record and carry it out. Raises ``IntegrityFailure`` that names it."""
        record = parse_object(data, ObjectKind.KEYRING, KeyringRecord, name)
        verify_object(data, self.vault.vault_id, self.vault.root_public, name)
        if record.number != self.number + 1 or record.previous != self.head:
            msg = f"{name}: does not follow the record before it"
            raise IntegrityFailure(msg, hint="A record was swapped or replayed. Do not use this store.")
        chosen = self._check(record, name)
        self._carry_out(record, digest(data), chosen)
        self.number = record.number
        self.head = digest(data)
        self.latest = max(self.latest, record.created_at)
        self._heads.append(self.head)

    def require(self, number: int, head: bytes) -> None:
        """Check that this keyring still contains record ``number``, whose digest was ``head``.

        Raises ``IntegrityFailure`` if the store shows an older keyring or another history.
        """
        if self.number < number:
            msg = f"{names.keyring(self.number + 1)}: is missing: the keyring once went up to record {number}"
            hint = "Somebody hides a change, such as a revocation. Do not use this store before you know why."
            raise IntegrityFailure(msg, hint=hint)
        if self._heads[number] != head:
            msg = f"{names.keyring(number) if number else names.VAULT}: is another than the one seen before"
            raise IntegrityFailure(
                msg, hint="The keyring was forked, which takes the root key. Find out who did it."
            )

    def begun_by(self, action: int, subject: bytes) -> bytes | None:
        """The digest of the record that began what such a change would end; None if there is nothing."""
        if action == Action.SET_APPROVERS:
            return self.approvers.record if self.approvers else None
        member = self.members.get(subject)
        return member.record if member else None

    def _check(self, record: KeyringRecord, name: str) -> ApproverList | None:
        """The approvers that the record chooses, if it does.

        Raises ``IntegrityFailure`` unless the record can be carried out here.
        """
        subject = record.subject
        match record.action:
            case Action.ADD_RECIPIENT:
                good = (
                    _has_key(record)
                    and len(record.extra) <= _MAX_EXTRA_BYTES
                    and subject not in self.members
                    and len(self.members) < MAX_RECIPIENTS
                )
            case Action.ADD_WRITER | Action.ADD_CUSTODIAN | Action.ADD_AUDITOR:  # a revocation is for ever
                good = len(record.public) == SIGNER_BYTES and subject not in self.signers
            case Action.REMOVE_RECIPIENT:
                good = subject in self.members and len(self.members) > 1
            case Action.REVOKE_WRITER:
                good = subject in self.writers
            case Action.REVOKE_CUSTODIAN:
                good = subject in self.custodians
            case Action.REVOKE_AUDITOR:
                good = subject in self.auditors
            case Action.SET_APPROVERS:
                good = True
            case _:
                good = False
        good = good and len(record.extra) <= _MAX_APPROVAL_BYTES
        if record.action in _ADDING:
            fits = _named_by(record) == subject and len(record.label) == _HIDDEN_LABEL_BYTES
            good = good and fits
        if not good:
            msg = f"{name}: says something that no keyring record can say"
            raise IntegrityFailure(msg, hint="It may have been written by a newer Donjon.")
        if record.action not in _APPROVED:
            return None
        ends = self.begun_by(record.action, subject)
        return read_change(record, Standing(self.vault, self.approvers, ends, self.latest), name)

    def _carry_out(self, record: KeyringRecord, head: bytes, chosen: ApproverList | None) -> None:
        subject = record.subject
        if self.approvers and record.action in _APPROVED:
            self.carried_out.add(digest(decode_approval(record.extra, "keyring").request))
        match record.action:
            case Action.ADD_RECIPIENT:
                recipient = Recipient(
                    subject, record.kind, "", record.public, record.created_at, record.extra
                )
                self.members[subject] = Member(recipient, record.label, record.sealed_secret, head)
            case Action.REMOVE_RECIPIENT:
                del self.members[subject]
            case Action.ADD_WRITER:
                self.writers[subject] = _signer(record)
            case Action.REVOKE_WRITER:  # the first one counts: a later one must not whitewash anything
                _revoke(self.writers, record)
            case Action.ADD_CUSTODIAN:
                self.custodians[subject] = _signer(record)
            case Action.REVOKE_CUSTODIAN:
                _revoke(self.custodians, record)
            case Action.ADD_AUDITOR:
                self.auditors[subject] = _signer(record)
            case Action.REVOKE_AUDITOR:
                _revoke(self.auditors, record)
            case Action.SET_APPROVERS:
                assert chosen is not None  # noqa: S101  (``_check`` gave it)
                self.approver_sets.append(approver_set(chosen, record.created_at, head, record.number))

    def add(
        self,
        store: ObjectStore,
        root: SigningKey,
        make: Callable[[int, bytes], KeyringRecord],
        retain_until: int | None,
    ) -> KeyringRecord:
        """Append a record that ``make`` builds from its number and the digest of the one before it.

        ``make`` is called again when somebody else was first, so it can look at the keyring as it is by
        then. A record that readers would refuse is never put. Raises ``Refused`` if somebody else keeps
        appending at the same time.
        """
        for _ in range(8):
            self.read_on(store)
            record = make(self.number + 1, self.head)
            data = pack_object(ObjectKind.KEYRING, record, self.vault.vault_id, root)
            name = names.keyring(record.number)
            self._check(record, name)
            try:
                store.put(name, data, retain_until=retain_until)
            except ObjectExists:
                if (
                    fetch_object(store, name, ObjectKind.KEYRING) != data
                ):  # else only the reply to our put was lost
                    continue
            self.apply(data, name)
            return record
        msg = "keyring: somebody else is changing it at the same time"
        raise Refused(msg, hint="Wait a moment and run the command again.")

    def writer(self, writer_id: bytes, what: str) -> Writer:
        """The writer that made ``what``. Raises ``IntegrityFailure`` if no such writer was certified."""
        try:
            return self.writers[writer_id]
        except KeyError:
            msg = f"{what}: was made by {writer_id.hex()[:16]}, which no keyring record certifies"
            raise IntegrityFailure(msg) from None

    def came_late(self, manifest: Manifest, time: int, what: str, point_id: bytes) -> str:
        """Why a point that came at ``time`` by the store's clock does not count, empty if it does.

        ``point_id`` is the digest of the manifest object.

        Raises ``IntegrityFailure`` if no such writer was certified.
        """
        if put_after_revocation(time, self.writer(manifest.writer, what)):
            return "its writer was revoked"
        if self.successions.is_late(manifest, time):
            return "another key of its writer had taken over"
        if self.successions.is_cut_off(manifest, point_id):
            return "the last point that approvers left to its key"
        return ""

    def custodian(self, custodian_id: bytes, what: str) -> Writer:
        """The custodian that signed ``what``. Raises ``IntegrityFailure`` if there was never such a one."""
        try:
            return self.custodians[custodian_id]
        except KeyError:
            msg = f"{what}: was signed by {custodian_id.hex()[:16]}, which no keyring record certifies"
            hint = "It is forged, or the store hides the record that certifies this custodian."
            raise IntegrityFailure(msg, hint=hint) from None


def _has_key(record: KeyringRecord) -> bool:
    """Whether the record of a recipient has what its kind needs."""
    if record.kind in SERVICES:
        return not record.public and 1 <= len(record.sealed_secret) <= MAX_SEAL_BYTES
    known = record.kind in (KIT, PASSPHRASE)
    return known and len(record.public) == HPKE_BYTES and len(record.sealed_secret) == _SEALED_BYTES


def _named_by(record: KeyringRecord) -> bytes:
    """The id that whoever a record adds must have."""
    if record.action == Action.ADD_RECIPIENT and record.kind in SERVICES:
        return service_id(record.kind, record.extra)
    return recipient_id(record.public)


def _listed(store: ObjectStore) -> set[str] | None:
    """The names of all records, by one request; None where this credential may not list."""
    try:
        return {info.name for info in store.list(names.KEYRING)}
    except PermissionMissing:
        return None


def _signer(record: KeyringRecord) -> Writer:
    return Writer(record.subject, record.public, record.label, record.created_at, record=record.number)


def _revoke(signers: dict[bytes, Writer], record: KeyringRecord) -> None:
    if signers[record.subject].revoked_at is None:
        signers[record.subject] = replace(signers[record.subject], revoked_at=record.created_at)
