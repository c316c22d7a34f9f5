"""Checkpoints in a vault: reading them, and which of them to believe. See ``docs/format.md``, section 20."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from donjon.codec.digest import digest
from donjon.core.errors import IntegrityFailure, ObjectNotFound
from donjon.format import names
from donjon.format.checkpoint import Checkpoint
from donjon.format.objects import ObjectKind, parse_object, verify_object
from donjon.repository.fetch import fetch_object
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint with its bytes and their digest. ``where`` is its name or file, for people.

    ``stored_at`` is when the vault's store received it, in Unix seconds; None if it comes from elsewhere.
    """

    checkpoint: Checkpoint
    data: bytes
    digest: bytes
    where: str
    stored_at: int | None = None

    @property
    def number(self) -> int:
        """Its number, from 1."""
        return self.checkpoint.number

    def times(self) -> dict[bytes, int]:
        """The provider's time of every point, by the point's id."""
        return {row.point_id: row.time for chain in self.checkpoint.chains for row in chain.rows()}


def parse_checkpoint(vault: Vault, data: bytes, where: str, stored_at: int | None = None) -> Signed:
    """Check the signature, and that the keyring still is what the custodian saw or has grown from it.

    Raises ``IntegrityFailure``.
    """
    checkpoint = parse_object(data, ObjectKind.CHECKPOINT, Checkpoint, where)
    keyring = vault.keyring
    if checkpoint.custodian not in keyring.custodians or checkpoint.keyring_number > keyring.number:
        keyring.read_on(vault.store)  # it may have grown since this vault was opened
    public = keyring.custodian(checkpoint.custodian, where).public
    verify_object(data, vault.vault_id, public, where)
    try:
        keyring.require(checkpoint.keyring_number, checkpoint.head)
    except IntegrityFailure as error:
        msg = f"{where}: contradicts the keyring: {error.message}"
        raise IntegrityFailure(msg, hint=error.hint) from error
    return Signed(checkpoint, data, digest(data), where, stored_at)


def read_checkpoint(vault: Vault, info: ObjectInfo) -> Signed:
    """A checkpoint in the vault itself. Raises ``IntegrityFailure``, ``ObjectNotFound``."""
    data = fetch_object(vault.store, info.name, ObjectKind.CHECKPOINT)
    signed = parse_checkpoint(vault, data, info.name, info.stored_at)
    if info.name != names.checkpoint(signed.number):
        msg = f"{info.name}: holds another checkpoint"
        raise IntegrityFailure(msg, hint="Objects were swapped. Do not trust this store.")
    return signed


def checkpoint_infos(vault: Vault) -> list[ObjectInfo]:
    """What the store lists of its checkpoints, newest first."""
    return list(first_of_each(vault.store.list(names.CHECKPOINTS)))[::-1]


def from_newest(vault: Vault) -> Iterator[Signed]:
    """The checkpoints of the vault, newest first, read one by one. Raises ``IntegrityFailure``."""
    for info in checkpoint_infos(vault):
        try:
            yield read_checkpoint(vault, info)
        except ObjectNotFound:  # removed since it was listed
            continue


def is_revoked(vault: Vault, signed: Signed) -> bool:
    """Whether its custodian may have been a thief: it was revoked, and nothing proves that this is older."""
    revoked_at = vault.keyring.custodians[signed.checkpoint.custodian].revoked_at
    return revoked_at is not None and (signed.stored_at is None or signed.stored_at > revoked_at)


def newest_trusted(vault: Vault) -> Signed | None:
    """The newest checkpoint in the vault that counts, None if there is none. Raises ``IntegrityFailure``."""
    return next((signed for signed in from_newest(vault) if not is_revoked(vault, signed)), None)
