"""Policies of OpenBao and HashiCorp Vault for those who use a key of the Transit engine.

Source: https://openbao.org/docs/concepts/policies/
"""

from __future__ import annotations

from donjon.roles.account import Account
from donjon.roles.model import ROLES
from donjon.roles.permissions import key_permissions

MOUNT = "transit"


def policies(account: Account) -> dict[str, str]:
    """The text of the policy of each role that uses a key, by its name."""
    return {
        f"{account.name}-{role.name}": "".join(_rule(account, p) for p in key_permissions("openbao", role))
        for role in ROLES
        if role.keys
    }


def _rule(account: Account, permission: str) -> str:
    """The adapter says ``CAPABILITY PATH``, with places for the engine and the key."""
    capability, path = permission.format(mount=MOUNT, key=account.bucket).split(" ")
    return f'path "{path}" {{\n  capabilities = ["{capability}"]\n}}\n'


def render(account: Account) -> str:
    """All of them, each under its name; the key is called as the vault's bucket."""
    return "\n".join(f"# {name}\n{text}" for name, text in policies(account).items())
