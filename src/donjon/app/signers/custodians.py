"""Opens a vault as its custodian: with a credential that signs, and without any key that opens backups."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from donjon.app.wiring import Workspace
from donjon.core.errors import KeyNotAvailable
from donjon.repository.credential import CustodianCredential
from donjon.repository.vault import Vault


def open_as_custodian(workspace: Workspace, file: Path) -> tuple[Vault, CustodianCredential]:
    """The vault of the settings, else the one that the credential names.

    Raises ``KeyNotAvailable`` for a credential that the vault does not accept.
    """
    credential = CustodianCredential.read(file)
    if workspace.settings.vault is None:
        workspace.settings = replace(workspace.settings, vault=credential.url)
    vault = workspace.open()
    custodian = vault.keyring.custodians.get(credential.custodian_id)
    if (credential.vault_id, credential.root_public) != (vault.vault_id, vault.object.root_public):
        msg = f"{file}: is a credential for another vault ({credential.url})"
        raise KeyNotAvailable(msg, hint=f"Use one that was made for {vault.store.url}.")
    if custodian is None or custodian.revoked_at is not None:
        msg = f"{file}: {vault.store.url} does not accept this custodian, or not any more"
        raise KeyNotAvailable(msg, hint="Make a new one with `donjon custodian add NAME --out FILE`.")
    return vault, credential
