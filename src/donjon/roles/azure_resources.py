"""The resources of an Azure resource group for a vault; ARM and Bicep are two ways to write them down.

Source: "Azure resource reference", https://learn.microsoft.com/azure/templates/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from donjon.roles import azure_policies as policies
from donjon.roles.account import Account

_YEAR_DAYS = 365


@dataclass(frozen=True, slots=True)
class Id:
    """The id of another resource, by its symbol."""

    symbol: str


@dataclass(frozen=True, slots=True)
class Expression:
    """What the deployment fills in; ARM and Bicep write these alike."""

    text: str


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. ``name`` is its last part; ``parent`` and ``scope`` are symbols of others.

    ``fields`` are members beside ``properties``. ``skips`` are ids of rules of checkov.
    """

    symbol: str
    kind: str
    api: str
    name: str
    properties: dict[str, Any]
    fields: dict[str, Any] = field(default_factory=dict)
    parent: str = ""
    scope: str = ""
    after: tuple[str, ...] = ()
    skips: tuple[str, ...] = ()


def resources(account: Account) -> list[Resource]:
    """All of them; what others need comes first."""
    policies.check(account)
    made = [*_storage(account), *_logs(account)]
    if has_key_vault(account):
        made += _key(account)
    made += [*_roles(account), *_assignments(account)]
    return made + list(_private_endpoints(account))


def default_state(account: Account) -> str:
    """Of the default retention: Azure makes it unlocked, and locks it for good in a later deployment.

    The first rendering has no writers yet. Source: ``AccountImmutabilityPolicyState`` in
    https://learn.microsoft.com/azure/templates/microsoft.storage/storageaccounts
    """
    return "Locked" if account.writers else "Unlocked"


def location(account: Account) -> Expression | str:
    """Where everything is: in the region of the resource group, unless told otherwise."""
    return account.region or Expression("resourceGroup().location")


def is_public(account: Account) -> bool:
    """Whether the named addresses of the internet may reach it, and no private network does."""
    return bool(account.allow_ip) and not account.private_network


def has_key_vault(account: Account) -> bool:
    """Whether the key is in a Key Vault of its own, which is made here."""
    return account.key and not account.managed_hsm


def key_vault_name(account: Account) -> str:
    """The name of the key vault."""
    return f"{account.storage_account}-kv"


def network_rules(account: Account) -> dict[str, Any]:
    """Nobody but the named addresses; private endpoints are beyond these rules."""
    rules = [{"action": "Allow", "value": address} for address in account.allow_ip]
    return {"bypass": "AzureServices", "defaultAction": "Deny", "ipRules": rules, "virtualNetworkRules": []}


def _storage(account: Account) -> Iterator[Resource]:
    period = {
        "immutabilityPeriodSinceCreationInDays": account.min_retention,
        "state": default_state(account),
        "allowProtectedAppendWrites": False,
    }
    properties = {
        "allowBlobPublicAccess": False,
        "allowCrossTenantReplication": False,
        "allowSharedKeyAccess": False,
        "allowedCopyScope": "AAD",
        "defaultToOAuthAuthentication": True,
        "encryption": {
            "keySource": "Microsoft.Storage",
            "requireInfrastructureEncryption": True,
            "services": {"blob": {"enabled": True, "keyType": "Account"}},
        },
        "immutableStorageWithVersioning": {"enabled": True, "immutabilityPolicy": period},
        "isHnsEnabled": False,
        "isLocalUserEnabled": False,
        "isSftpEnabled": False,
        "minimumTlsVersion": "TLS1_2",
        "networkAcls": network_rules(account),
        "publicNetworkAccess": "Enabled" if is_public(account) else "Disabled",
        "supportsHttpsTrafficOnly": True,
    }
    yield Resource(
        "storage",
        "Microsoft.Storage/storageAccounts",
        "2024-01-01",
        account.storage_account,
        properties,
        {"location": location(account), "kind": "StorageV2", "sku": {"name": "Standard_GZRS"}},
        skips=("CKV_AZURE_59",) if is_public(account) else (),
    )
    yield Resource(
        "blobs",
        "Microsoft.Storage/storageAccounts/blobServices",
        "2024-01-01",
        "default",
        {
            "changeFeed": {"enabled": True},
            "containerDeleteRetentionPolicy": {"enabled": True, "days": account.min_retention},
            "deleteRetentionPolicy": {"enabled": True, "days": account.min_retention},
            "isVersioningEnabled": True,
        },
        parent="storage",
    )
    yield Resource(
        "vault",
        "Microsoft.Storage/storageAccounts/blobServices/containers",
        "2024-01-01",
        account.bucket,
        {"immutableStorageWithVersioning": {"enabled": True}, "publicAccess": "None"},
        parent="blobs",
    )
    yield _lock("storageLock", "storage")


def _lock(symbol: str, scope: str) -> Resource:
    notes = "It holds a vault. Take this lock away only when no lock of an object holds any more."
    return Resource(
        symbol,
        "Microsoft.Authorization/locks",
        "2020-05-01",
        "donjon",
        {"level": "CanNotDelete", "notes": notes},
        scope=scope,
    )


def _logs(account: Account) -> Iterator[Resource]:
    yield Resource(
        "logs",
        "Microsoft.OperationalInsights/workspaces",
        "2023-09-01",
        f"{account.storage_account}-logs",
        {"retentionInDays": _YEAR_DAYS, "sku": {"name": "PerGB2018"}},
        {"location": location(account)},
    )
    yield _diagnostics("storageLogs", "blobs", ("StorageRead", "StorageWrite", "StorageDelete"))
    if has_key_vault(account):
        yield _diagnostics("keyLogs", "keys", ("AuditEvent",))


def _diagnostics(symbol: str, scope: str, categories: tuple[str, ...]) -> Resource:
    logs = [{"category": category, "enabled": True} for category in categories]
    return Resource(
        symbol,
        "Microsoft.Insights/diagnosticSettings",
        "2021-05-01-preview",
        "donjon",
        {"workspaceId": Id("logs"), "logs": logs},
        scope=scope,
    )


def _key(account: Account) -> Iterator[Resource]:
    yield Resource(
        "keys",
        "Microsoft.KeyVault/vaults",
        "2023-07-01",
        key_vault_name(account),
        {
            "enablePurgeProtection": True,
            "enableRbacAuthorization": True,
            "enableSoftDelete": True,
            "networkAcls": network_rules(account),
            "publicNetworkAccess": "Enabled" if is_public(account) else "Disabled",
            "sku": {"family": "A", "name": "premium"},
            "softDeleteRetentionInDays": 90,
            "tenantId": Expression("subscription().tenantId"),
        },
        {"location": location(account)},
    )
    yield Resource(
        "sealKey",
        "Microsoft.KeyVault/vaults/keys",
        "2023-07-01",
        account.name,
        {"keyOps": ["wrapKey", "unwrapKey"], "keySize": 3072, "kty": "RSA-HSM"},
        parent="keys",
        skips=("CKV_AZURE_40",),
    )
    yield _lock("keyLock", "keys")


def _roles(account: Account) -> Iterator[Resource]:
    for role in policies.definitions(account):
        permissions = {
            "actions": list(role.actions),
            "dataActions": list(role.data_actions),
            "notActions": [],
            "notDataActions": [],
        }
        yield Resource(
            role.symbol,
            "Microsoft.Authorization/roleDefinitions",
            "2022-04-01",
            role.key,
            {
                "assignableScopes": [Expression("resourceGroup().id")],
                "description": role.description,
                "permissions": [permissions],
                "roleName": role.name,
                "type": "CustomRole",
            },
        )


def _assignments(account: Account) -> Iterator[Resource]:
    for assignment in policies.assignments(account):
        if assignment.on_key and account.managed_hsm:
            continue  # its roles are not of Resource Manager; see ``azure_hsm``
        properties: dict[str, Any] = {
            "principalId": assignment.principal,
            "roleDefinitionId": Id(f"{assignment.role}Role"),
        }
        if assignment.condition:
            properties |= {"condition": assignment.condition, "conditionVersion": "2.0"}
        yield Resource(
            f"{assignment.symbol}Assignment",
            "Microsoft.Authorization/roleAssignments",
            "2022-04-01",
            assignment.key,
            properties,
            scope="sealKey" if assignment.on_key else "vault",
        )


def _private_endpoints(account: Account) -> Iterator[Resource]:
    served = [("storage", "blob"), *([("keys", "vault")] if has_key_vault(account) else [])]
    for number, subnet in enumerate(account.private_network, 1):
        for service, group in served:
            connection = {
                "name": group,
                "properties": {"privateLinkServiceId": Id(service), "groupIds": [group]},
            }
            yield Resource(
                f"{service}Endpoint{number}",
                "Microsoft.Network/privateEndpoints",
                "2024-01-01",
                f"{account.storage_account}-{group}-{number}",
                {"subnet": {"id": subnet}, "privateLinkServiceConnections": [connection]},
                {"location": location(account)},
            )
