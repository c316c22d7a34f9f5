"""The custom roles of Azure for the five roles, and the conditions under which they are assigned.

Sources: "Actions and attributes for Azure role assignment conditions",
https://learn.microsoft.com/azure/storage/blobs/storage-auth-abac-attributes, and "Azure custom roles",
https://learn.microsoft.com/azure/role-based-access-control/custom-roles
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from donjon.core.errors import UsageError
from donjon.roles.account import Account, need
from donjon.roles.holders import check_holders, holders
from donjon.roles.model import READER, ROLES, WRITER
from donjon.roles.permissions import MANAGED_HSM, Grant, key_permissions, store_grants
from donjon.stores.azure_blob.operations import IMMUTABLE, READ, READ_CONTAINER

_GUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PATH = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:path]"
_PREFIX = "@Request[Microsoft.Storage/storageAccounts/blobServices/containers/blobs:prefix]"
#: Actions of the control plane; all others here are data actions.
_CONTROL = {READ_CONTAINER}
#: Microsoft names no path among the attributes that this action knows, so it cannot be confined to one.
_EVERYWHERE = {IMMUTABLE}


@dataclass(frozen=True, slots=True)
class Definition:
    """A custom role. ``key`` is the same in every rendering, so that a template finds it again."""

    symbol: str
    key: str
    name: str
    description: str
    actions: tuple[str, ...]
    data_actions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A custom role for an identity: on the container, or on the key. ``condition`` is empty for none."""

    symbol: str
    key: str
    role: str
    principal: str
    on_key: bool = False
    condition: str = ""


def check(account: Account) -> None:
    """Raises ``UsageError`` if something is missing that Azure cannot do without."""
    need(account.owner, "--account", "the id of the subscription that holds the vault", _GUID)
    words = "a name of 3 to 63 lowercase letters, digits and hyphens, without dots"
    need(account.bucket, "--bucket", words, r"[a-z0-9](?:-?[a-z0-9]){2,62}")
    rule = "the name of the storage account, of 3 to 21 lowercase letters and digits"
    need(account.storage_account, "--storage-account", rule, r"[a-z0-9]{3,21}")
    check_holders(account, "the object id of an identity", _GUID)
    if account.break_glass:
        need(account.break_glass, "--break-glass", "the object id of an identity", _GUID)
    if account.managed_hsm:
        rule = "the name of a Managed HSM that is there and activated, of 3 to 24 letters, digits and hyphens"
        need(account.managed_hsm, "--managed-hsm", rule, r"[A-Za-z][A-Za-z0-9-]{2,23}")
        if not account.key:
            msg = "--managed-hsm and --no-kms contradict each other"
            raise UsageError(msg, hint="Leave one of them out.")


def definitions(account: Account) -> Iterator[Definition]:
    """The five roles on the container, and the two on the key in a Key Vault."""
    for role in ROLES:
        found = {p for grant in store_grants("azure", role) for p in grant.permissions}
        yield _definition(account, role.name, role.does, found)
    if account.key and not account.managed_hsm:
        yield from _key_definitions(account, "azure")


def hsm_definitions(account: Account) -> Iterator[Definition]:
    """The two roles on the key in a Managed HSM, which keeps its own.

    Source: https://learn.microsoft.com/azure/key-vault/managed-hsm/access-control
    """
    if account.managed_hsm:
        yield from _key_definitions(account, MANAGED_HSM)


def _key_definitions(account: Account, service: str) -> Iterator[Definition]:
    yield _definition(account, "sealer", "seals session keys", set(key_permissions(service, WRITER)))
    yield _definition(account, "opener", "opens session keys", set(key_permissions(service, READER)))


def assignments(account: Account) -> Iterator[Assignment]:
    """Who gets which role, and on which objects."""
    for role, writer, principal in holders(account):
        name = f"{role.name}{writer[:12]}"
        condition = condition_of(account, store_grants("azure", role, writer))
        yield Assignment(
            name, _key(account, f"{name} {principal}"), role.name, principal, condition=condition
        )
        if account.key and role.keys:
            kind = {"seal": "sealer", "open": "opener"}[role.keys[0]]
            key = _key(account, f"{name} {kind} {principal}")
            yield Assignment(f"{name}Key", key, kind, principal, on_key=True)


def condition_of(account: Account, grants: list[Grant]) -> str:
    """On which paths the data actions hold, in the language of role assignment conditions."""
    clauses = []
    lists = any(READ in grant.permissions and not grant.objects for grant in grants)
    for grant in grants:
        paths = [account.path(name) for name in grant.objects]
        if not paths or paths == ["*"]:
            continue
        found = " OR ".join(_matches(path) for path in paths)
        for action in grant.permissions:
            if action in _EVERYWHERE:
                continue
            matched = f"ActionMatches{{'{action}'}}"
            if action == READ and lists:  # a listing has no path
                matched += " AND NOT SubOperationMatches{'Blob.List'}"
            clauses.append(f"((!({matched})) OR ({found}))")
    if lists and account.prefix:
        listing = f"ActionMatches{{'{READ}'}} AND SubOperationMatches{{'Blob.List'}}"
        clauses.append(f"((!({listing})) OR ({_PREFIX} StringStartsWith '{account.prefix}/'))")
    return " AND ".join(clauses)


def _matches(path: str) -> str:
    return f"{_PATH} {'StringLike' if path.endswith('*') else 'StringEquals'} '{path}'"


def _definition(account: Account, name: str, does: str, found: set[str]) -> Definition:
    actions = tuple(sorted(found & _CONTROL))
    data = tuple(sorted(found - _CONTROL))
    title = f"{account.name} {name} of {account.bucket}"
    return Definition(f"{name}Role", _key(account, name), title, f"Donjon: {does}.", actions, data)


def _key(account: Account, what: str) -> str:
    place = f"{account.owner}/{account.storage_account}/{account.bucket}/{account.prefix}"
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"donjon:{place}:{what}"))
