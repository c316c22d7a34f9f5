"""A vault in memory with approvers, and what they sign; the keys of strangers are made the same way."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from donjon.codec.digest import short_id
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.format.approval import (
    Approval,
    DoomedPoint,
    KeyringChange,
    Parameters,
    PointDeletion,
    approval_message,
    encode_request,
)
from donjon.format.approvers import ApproverList
from donjon.format.vault import Action, KeyringRecord
from donjon.keys.base import Recipient
from donjon.keys.recovery import RecoveryKit
from donjon.repository.approvals import Request, make_request
from donjon.repository.approver_keys import ApproverCredential, choose_approvers
from donjon.repository.approvers import approved_record
from donjon.repository.approving import change_keyring, keyring_change
from donjon.repository.creation import create_vault
from donjon.repository.keyring import vault_id_of
from donjon.repository.vault import Vault, add_recipient, open_vault
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock


def approver(name: str) -> ApproverCredential:
    """A new one."""
    return ApproverCredential(name, SigningKey.generate().seed)


def doomed(number: int) -> DoomedPoint:
    """A point that is in no vault."""
    return DoomedPoint(bytes([number]) * 16, number, bytes([number]) * 32)


@dataclass
class Council:
    """A vault that is governed by some approvers, ``needed`` of them together."""

    store: MemoryStore
    clock: ManualClock
    root: SigningKey
    kit: RecoveryKit
    members: list[ApproverCredential] = field(default_factory=list)
    needed: int = 2

    @classmethod
    def make(cls, count: int = 3, needed: int = 2, *, lock_s: int = 0) -> Council:
        """A vault with so many approvers; 0 makes one without."""
        clock, root = ManualClock(), SigningKey.generate()
        store = MemoryStore(clock)
        kit = RecoveryKit.generate(
            vault_id=vault_id_of(root.public),
            vault_name="v",
            vault_url="memory:",
            created_at=1,
            with_root=False,
        )
        members = [approver(f"approver {number}") for number in range(count)]
        keys = [member.public for member in members]
        create_vault(
            store,
            kit.vault_id,
            root,
            [kit.recipient("kit")],
            lock_s=lock_s,
            approvers=(lambda secret: choose_approvers(needed, keys, secret)) if count else None,
        )
        return cls(store, clock, root, kit, members, needed)

    def open(self, store: ObjectStore | None = None) -> Vault:
        """The vault, opened with the kit."""
        vault = open_vault(store or self.store)
        vault.use_opener(self.kit.opener())
        return vault

    def chosen(self, members: Sequence[ApproverCredential], needed: int) -> ApproverList:
        """The list of new approvers."""
        return choose_approvers(needed, [member.public for member in members], self.open().secret)

    def change(self, members: Sequence[ApproverCredential], needed: int) -> KeyringChange:
        """What to ask for, so that they approve from now on."""
        chosen = self.chosen(members, needed)
        return keyring_change(self.open(), Action.SET_APPROVERS, chosen.subject, chosen.encode())

    def removal(self, recipient_id: bytes) -> KeyringChange:
        """What to ask for, so that a recipient goes."""
        return keyring_change(self.open(), Action.REMOVE_RECIPIENT, recipient_id)

    def add_kit(self, name: str = "second") -> Recipient:
        """One more recipient."""
        kit = RecoveryKit.generate(
            vault_id=self.kit.vault_id, vault_name="v", vault_url="memory:", created_at=1, with_root=False
        )
        add_recipient(self.open(), self.root, kit.recipient(name))
        return kit.recipient(name)

    def ask(self, parameters: Parameters, life_s: int = 7 * SECONDS_PER_DAY) -> Request:
        """A request of the root key, not put."""
        return make_request(self.open(), parameters, self.root, life_s, os.urandom(16))

    def record(self, request: Request, *signers: ApproverCredential, created_at: int = 0) -> KeyringRecord:
        """The record that carries out a change, with these signatures, whether they are enough or not."""
        change, keyring = request.parameters, self.open().keyring
        assert isinstance(change, KeyringChange)
        approval = Approval.of(request.payload, self.signed(request.payload, *signers))
        now = created_at or self.clock()
        return approved_record(change, approval, now, keyring.number + 1, keyring.head)

    def replace(self, members: Sequence[ApproverCredential], needed: int = 2) -> None:
        """Let others approve, which all of the present ones sign."""
        request = self.ask(self.change(members, needed))
        assert change_keyring(self.open(), self.root, request, self.signed(request.payload, *self.members))
        self.members, self.needed = list(members), needed

    def signed(
        self, payload: bytes, *signers: ApproverCredential, vault_id: bytes | None = None
    ) -> dict[bytes, bytes]:
        """Signatures of a request by their ids."""
        message = approval_message(vault_id or self.kit.vault_id, payload)
        return {one.approver_id: one.signing_key.sign(message) for one in signers}


def request_for(*points: DoomedPoint, reason: bytes = b"", created_at: int = 1_800_000_000) -> bytes:
    """The bytes of a request to delete points, open for a week."""
    expires_at = created_at + 7 * SECONDS_PER_DAY
    parameters = PointDeletion(tuple(sorted(points)))
    content = encode_request(parameters, bytes(16), created_at, expires_at, bytes(16), reason)
    return msgspec.msgpack.encode(content)


def key_id(key: SigningKey) -> bytes:
    """The id under which a key would approve."""
    return short_id(key.public)
