"""Letting this host write to a vault, with a credential that was made for it elsewhere."""

from __future__ import annotations

from pathlib import Path

from donjon.app.config import KnownVault
from donjon.app.setup import default_name, writer_path
from donjon.app.wiring import Workspace, open_vault_at
from donjon.core.errors import KeyNotAvailable, Refused
from donjon.keys.private import sync_folder
from donjon.repository.credential import WriterCredential
from donjon.repository.vault import Vault
from donjon.repository.writer_keys import draft_of, known_successors


def enrol(workspace: Workspace, file: Path, name: str | None) -> KnownVault:
    """Install a writer credential on this host, and check that the vault knows it."""
    credential = WriterCredential.read(file)
    path = workspace.home.writer_path(credential.vault_id)
    takes_over = path.exists() and _takes_over(credential, WriterCredential.read(path))
    if path.exists() and not takes_over:
        msg = f"this host is enrolled in {credential.url} already"
        raise Refused(msg, hint=f"Remove {path} first if it is to be replaced.")
    known = next((v for v in workspace.home.vaults() if v.vault_id == credential.vault_id.hex()), None)
    if known is not None and known.root_public != credential.root_public.hex():
        msg = f"{file}: names another root key for {known.name} than this host knows"
        raise KeyNotAvailable(msg, hint="Do not use it; find out who made it.")
    if known is None:
        vault_name = name or default_name(workspace, credential.url)
        workspace.home.check_name_is_free(vault_name)
    vault = open_vault_at(credential.url, root_public=credential.root_public)
    workspace.home.check_pin(vault.keyring)
    writer = vault.keyring.writers.get(credential.writer_id)
    if vault.vault_id != credential.vault_id or writer is None or writer.revoked_at is not None:
        msg = f"{file}: the vault {credential.url} does not accept this writer"
        raise KeyNotAvailable(msg, hint="Make a new credential with `donjon writer add NAME --out FILE`.")
    _check_newest(vault, credential, file)
    if takes_over:
        draft = draft_of(path)
        draft.unlink(missing_ok=True)  # of a rotation of the key that counts no more
        credential.write(draft)
        draft.replace(path)
        sync_folder(path.parent)
    else:
        credential.write(writer_path(workspace, credential.vault_id))
    if known is None:
        known = KnownVault(
            vault_name, credential.url, credential.vault_id.hex(), credential.root_public.hex()
        )
        try:
            workspace.home.remember(known)
        except BaseException:
            path.unlink()
            raise
    workspace.home.keep_pin(vault.keyring)
    return known


def _takes_over(credential: WriterCredential, present: WriterCredential) -> bool:
    """Whether a credential is a later key of the writer that this host is already."""
    return (credential.writer_id, credential.root_public) == (
        present.writer_id, present.root_public,
    ) and credential.key_number > present.key_number  # fmt: skip


def _check_newest(vault: Vault, credential: WriterCredential, file: Path) -> None:
    """Raises ``KeyNotAvailable`` unless the key of a credential is the one that signs for its writer."""
    chain = known_successors(vault, credential.writer_id, str(file))
    newest = chain[-1].public if chain else vault.keyring.writers[credential.writer_id].public
    if newest != credential.signing_key.public:
        msg = f"{file}: its key does not sign for this writer, or not yet, or not any more"
        hint = "If approvers were asked: `donjon approve apply REQUEST --credential FILE` comes first."
        raise KeyNotAvailable(msg, hint=hint)
