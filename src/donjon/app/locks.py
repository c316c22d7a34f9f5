"""How strong the locks of a vault are, for people and scripts."""

from __future__ import annotations

from donjon.core.errors import DonjonError
from donjon.repository.vault import Vault

#: What holds less than a lock promises, in words.
WEAKNESS = {
    "advisory": "Donjon alone keeps the locks; whoever has access to the files can delete them",
    "governance": "the bucket's default retention is in GOVERNANCE mode, which can be lifted",
}


def lock_enforcement(vault: Vault) -> str | None:
    """The value of ``LockEnforcement``; "none" for a vault without locks, None where nobody tells."""
    if not vault.object.lock_s:
        return "none"
    try:
        return vault.store.lock_enforcement.value
    except DonjonError:  # this credential may not look at the bucket
        return None
