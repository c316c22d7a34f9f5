"""Writers, custodians and auditors of a vault: certifying, listing and revoking them with the root key."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from donjon.app.setup import new_writer_credential, open_with_root, show_labels
from donjon.app.wiring import Workspace
from donjon.codec.sign import SigningKey
from donjon.core.errors import Refused, UsageError
from donjon.format.vault import Action, KeyringRecord, VaultSecret
from donjon.repository.credential import (
    AuditorCredential,
    CustodianCredential,
    SignerCredential,
    WriterCredential,
)
from donjon.repository.keyring import Keyring, Writer
from donjon.repository.records import (
    auditor_record,
    check_label,
    custodian_record,
    removal_record,
    writer_record,
)
from donjon.repository.vault import Vault

C = TypeVar("C", WriterCredential, CustodianCredential, AuditorCredential)


@dataclass(frozen=True, slots=True)
class Role(Generic[C]):
    """Those who sign: what they are called, how the keyring knows them and what they hold."""

    word: str
    signers: Callable[[Keyring], dict[bytes, Writer]]
    record: Callable[[bytes, str, VaultSecret, int, int, bytes], KeyringRecord]
    revocation: Action
    credential: Callable[[Vault, str, str], C]


S = TypeVar("S", bound=SignerCredential)


def _new(kind: type[S], vault: Vault, name: str, url: str) -> S:
    return kind(
        vault_id=vault.vault_id,
        url=url,
        name=name,
        root_public=vault.object.root_public,
        seed=SigningKey.generate().seed,
    )


WRITER = Role(
    "writer", lambda keyring: keyring.writers, writer_record, Action.REVOKE_WRITER, new_writer_credential
)
CUSTODIAN = Role(
    "custodian",
    lambda keyring: keyring.custodians,
    custodian_record,
    Action.REVOKE_CUSTODIAN,
    lambda vault, name, url: _new(CustodianCredential, vault, name, url),
)
AUDITOR = Role(
    "auditor",
    lambda keyring: keyring.auditors,
    auditor_record,
    Action.REVOKE_AUDITOR,
    lambda vault, name, url: _new(AuditorCredential, vault, name, url),
)


def add_signer(workspace: Workspace, role: Role[C], name: str, out: Path) -> C:
    """Certify one who signs, its credential in a file.

    The file is there first: who is certified without a credential would be of no use to anyone.
    """
    check_label(name)
    if os.path.lexists(out):
        msg = f"{out}: exists already"
        raise Refused(msg, hint="Name a file that does not exist yet.")
    vault, root = open_with_root(workspace)
    if any(signer.revoked_at is None and label == name for signer, label in _labelled(vault, role)):
        msg = f"there is a {role.word} {name!r} already"
        raise Refused(msg, hint="Choose another name, or revoke that one first.")
    credential = role.credential(vault, name, vault.store.url)
    credential.write(out)
    now, public = vault.store.now(), credential.signing_key.public
    try:
        vault.keyring.add(
            vault.store,
            root,
            lambda number, previous: role.record(public, name, vault.secret, now, number, previous),
            vault.lock_end(),
        )
    except BaseException:
        out.unlink()
        raise
    workspace.home.keep_pin(vault.keyring)
    return credential


def list_signers(workspace: Workspace, role: Role[C]) -> list[tuple[Writer, str]]:
    """All of them with their names, which are hidden from those without any key."""
    vault = workspace.open()
    show_labels(workspace, vault)
    return _labelled(vault, role)


@dataclass(frozen=True, slots=True)
class ListedWriter:
    """A writer, its name, and the number of its present key with the time since when it signs."""

    writer: Writer
    label: str
    key: int
    key_since: int


def list_writers(workspace: Workspace) -> list[ListedWriter]:
    """All writers with their names, as ``list_signers``, and their keys."""
    vault = workspace.open()
    show_labels(workspace, vault)
    vault.read_successions()
    found = []
    for writer, label in _labelled(vault, WRITER):
        chain = vault.keyring.successions.of(writer.writer_id)
        since = (chain[-1].since or chain[-1].created_at) if chain else writer.created_at
        found.append(ListedWriter(writer, label, len(chain), since))
    return found


def revoke_signer(workspace: Workspace, role: Role[C], wanted: str) -> tuple[Writer, str]:
    """Revoke the one with this name or start of its id; what it signed before stays.

    Raises ``UsageError`` if none or several fit.
    """
    vault, root = open_with_root(workspace)
    signer, label = find_signer(vault, role, wanted)
    now = vault.store.now()
    vault.keyring.add(
        vault.store,
        root,
        lambda number, previous: removal_record(role.revocation, signer.writer_id, now, number, previous),
        vault.lock_end(),
    )
    workspace.home.keep_pin(vault.keyring)
    return role.signers(vault.keyring)[signer.writer_id], label


def find_signer(vault: Vault, role: Role[C], wanted: str) -> tuple[Writer, str]:
    """The one with this name or start of its id that is not revoked, and its name.

    Raises ``UsageError`` if none or several fit.
    """
    fitting = [
        (signer, label)
        for signer, label in _labelled(vault, role)
        if label == wanted or (len(wanted) >= 4 and signer.writer_id.hex().startswith(wanted))
    ]
    active = [pair for pair in fitting if pair[0].revoked_at is None]
    if len(active) != 1:
        msg = f"{wanted!r} fits {len(active) or 'no'} {role.word}s that are not revoked"
        raise UsageError(msg, hint=f"See `donjon {role.word} list`, and give a name or the start of an id.")
    return active[0]


def _labelled(vault: Vault, role: Role[C]) -> list[tuple[Writer, str]]:
    return [
        (signer, vault.secret.read_label(signer.label, "keyring") if vault.has_secret else "")
        for signer in role.signers(vault.keyring).values()
    ]
