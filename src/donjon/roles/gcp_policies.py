"""The custom roles of Google Cloud for the five roles, their bindings, and what is denied to everybody.

Sources: https://docs.cloud.google.com/storage/docs/access-control/iam-json,
https://docs.cloud.google.com/iam/docs/conditions-overview (``resource.name`` of objects),
https://docs.cloud.google.com/iam/docs/deny-overview
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from donjon.core.errors import UsageError
from donjon.roles.account import Account, need
from donjon.roles.holders import check_holders, holders
from donjon.roles.model import READER, ROLES, WRITER, Role
from donjon.roles.permissions import Grant, key_permissions, store_grants

_PROJECT = r"[a-z][a-z0-9-]{4,28}[a-z0-9]"
_MEMBER = r"(?:serviceAccount|group|user|principal|principalSet):.+"
#: How an administrator would get round locks or take the key away.
DENIED = (
    "cloudkms.googleapis.com/cryptoKeyVersions.destroy",
    "cloudkms.googleapis.com/cryptoKeyVersions.update",
    "cloudkms.googleapis.com/cryptoKeys.setIamPolicy",
    "cloudkms.googleapis.com/cryptoKeys.update",
    "storage.googleapis.com/buckets.delete",
    "storage.googleapis.com/buckets.setIamPolicy",
    "storage.googleapis.com/buckets.update",
    "storage.googleapis.com/objects.overrideUnlockedRetention",
    "storage.googleapis.com/objects.setIamPolicy",
)


@dataclass(frozen=True, slots=True)
class CustomRole:
    """A custom role of the project."""

    role_id: str
    title: str
    permissions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Binding:
    """A custom role for a member: on the bucket, or on the key; ``condition`` is CEL, empty for none."""

    symbol: str
    role_id: str
    member: str
    condition: str = ""
    on_key: bool = False


def check(account: Account) -> None:
    """Raises ``UsageError`` if something is missing that Google Cloud cannot do without."""
    need(account.owner, "--account", "the id of the project that holds the vault", _PROJECT)
    need(
        account.break_glass, "--break-glass", "who may change policies, as principal://…", r"principal.*://.+"
    )
    check_holders(account, "a member such as serviceAccount:… or group:…", _MEMBER)
    for policy in account.private_network:
        need(
            policy, "--private-network", "an access policy such as accessPolicies/123", r"accessPolicies/\d+"
        )
    if account.allow_ip and not account.private_network:
        msg = "--allow-ip means nothing for --cloud gcp without --private-network"
        raise UsageError(msg, hint="It says who comes into a perimeter; see docs/roles.md.")


def custom_roles(account: Account) -> Iterator[CustomRole]:
    """One for each set of objects that a role has permissions on, and two for the key."""
    for role in ROLES:
        for number, grant in enumerate(store_grants("gcp", role), 1):
            yield CustomRole(_role_id(account, role, number), f"Donjon {role.name}", grant.permissions)
    if account.key:
        for name, holder in (("sealer", WRITER), ("opener", READER)):
            found = key_permissions("gcp", holder)
            yield CustomRole(f"{_start(account)}{name.capitalize()}", f"Donjon {name}", found)


def bindings(account: Account) -> Iterator[Binding]:
    """Who gets which role, and on which objects."""
    for role, writer, member in holders(account):
        symbol = f"{role.name}{writer[:12]}"
        for number, grant in enumerate(store_grants("gcp", role, writer), 1):
            condition = condition_of(account, grant)
            yield Binding(f"{symbol}_{number}", _role_id(account, role, number), member, condition)
        if account.key and role.keys:
            kind = {"seal": "Sealer", "open": "Opener"}[role.keys[0]]
            yield Binding(f"{symbol}_key", f"{_start(account)}{kind}", member, on_key=True)


def condition_of(account: Account, grant: Grant) -> str:
    """On which objects a binding holds, in CEL. A listing is of the bucket and knows no objects."""
    place = f"projects/_/buckets/{account.bucket}/objects/"
    paths = [account.path(name) for name in grant.objects]
    if paths == ["*"] or not paths:
        return ""
    return " || ".join(
        f'resource.name.startsWith("{place}{path[:-1]}")'
        if path.endswith("*")
        else f'resource.name == "{place}{path}"'
        for path in paths
    )


def deny_policy(account: Account) -> dict[str, Any]:
    """What nobody may do in the project but who is named for emergencies."""
    rule = {
        "deniedPrincipals": ["principalSet://goog/public:all"],
        "exceptionPrincipals": [account.break_glass],
        "deniedPermissions": list(DENIED),
    }
    return {"displayName": "Donjon: locks and keys stay", "rules": [{"denyRule": rule}]}


def _role_id(account: Account, role: Role, number: int) -> str:
    return f"{_start(account)}{role.name.capitalize()}{number}"


def _start(account: Account) -> str:
    return account.name.replace("-", "_")
