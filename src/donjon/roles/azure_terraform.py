"""A resource group for a vault, as a configuration of Terraform.

Source: https://registry.terraform.io/providers/hashicorp/azurerm/latest/docs
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from donjon.roles import azure_policies as policies
from donjon.roles.account import Account
from donjon.roles.azure_commands import HSM_KEY_BITS, HSM_KEY_TYPE
from donjon.roles.azure_deny import rule
from donjon.roles.azure_resources import default_state, has_key_vault, is_public, key_vault_name
from donjon.roles.hcl import Block, Json, Raw, block, write

_GROUP = "data.azurerm_resource_group.vault"
_STORAGE = "azurerm_storage_account.vault"
_CONTAINER = "azurerm_storage_container.vault"
_HSM = "data.azurerm_key_vault_managed_hardware_security_module.vault"


def render(account: Account) -> str:
    """The configuration."""
    policies.check(account)
    head = f"Donjon: the vault in {account.bucket}. Made by donjon roles render."
    return write(head, _blocks(account))


def _blocks(account: Account) -> Iterator[Block]:
    providers = (("azurerm", {"source": "hashicorp/azurerm", "version": "~> 4.42"}),)
    yield block(
        "terraform", required_version=">= 1.5", required_providers=Block("required_providers", (), providers)
    )
    yield block(
        "provider",
        "azurerm",
        subscription_id=account.owner,
        storage_use_azuread=True,
        features=block("features"),
    )
    yield block("data", "azurerm_client_config", "here")
    yield block("data", "azurerm_resource_group", "vault", name=account.resource_group or "donjon-vault")
    yield from _storage(account)
    if has_key_vault(account):
        yield from _key(account)
    if account.managed_hsm:
        yield from _hsm_key(account)
    yield from _logs(account)
    yield from _roles(account)
    yield from _deny(account)
    yield from _endpoints(account)


def _here(account: Account) -> dict[str, Any]:
    location: Any = account.region or Raw(f"{_GROUP}.location")
    return {"resource_group_name": Raw(f"{_GROUP}.name"), "location": location}


def _storage(account: Account) -> Iterator[Block]:
    days = block("delete_retention_policy", days=account.min_retention)
    containers = block("container_delete_retention_policy", days=account.min_retention)
    skips = ["CKV2_AZURE_1", "CKV_AZURE_33"]
    if not account.private_network:
        skips.append("CKV2_AZURE_33")
    if is_public(account):
        skips.append("CKV_AZURE_59")
    yield block(
        "resource",
        "azurerm_storage_account",
        "vault",
        skips=skips,
        name=account.storage_account,
        **_here(account),
        account_kind="StorageV2",
        account_tier="Standard",
        account_replication_type="GZRS",
        allow_nested_items_to_be_public=False,
        allowed_copy_scope="AAD",
        cross_tenant_replication_enabled=False,
        default_to_oauth_authentication=True,
        https_traffic_only_enabled=True,
        infrastructure_encryption_enabled=True,
        local_user_enabled=False,
        min_tls_version="TLS1_2",
        public_network_access_enabled=is_public(account),
        shared_access_key_enabled=False,
        blob_properties=block(
            "blob_properties",
            change_feed_enabled=True,
            versioning_enabled=True,
            delete=days,
            containers=containers,
        ),
        immutability_policy=block(
            "immutability_policy",
            allow_protected_append_writes=False,
            period_since_creation_in_days=account.min_retention,
            state=default_state(account),
        ),
        network_rules=_network("network_rules", account),
        lifecycle=block("lifecycle", prevent_destroy=True),
    )
    yield block(
        "resource",
        "azurerm_storage_container",
        "vault",
        skips=["CKV2_AZURE_21"],
        name=account.bucket,
        storage_account_id=Raw(f"{_STORAGE}.id"),
        container_access_type="private",
    )
    yield _lock("storage", f"{_STORAGE}.id")


def _network(kind: str, account: Account) -> Block:
    return block(kind, bypass=_bypass(kind), default_action="Deny", ip_rules=list(account.allow_ip))


def _bypass(kind: str) -> object:
    return ["AzureServices"] if kind == "network_rules" else "AzureServices"


def _lock(name: str, scope: str) -> Block:
    notes = "It holds a vault. Take this lock away only when no lock of an object holds any more."
    return block(
        "resource",
        "azurerm_management_lock",
        name,
        name="donjon",
        scope=Raw(scope),
        lock_level="CanNotDelete",
        notes=notes,
    )


def _key(account: Account) -> Iterator[Block]:
    skips = [] if account.private_network else ["CKV2_AZURE_32"]
    if is_public(account):
        skips.append("CKV_AZURE_189")
    yield block(
        "resource",
        "azurerm_key_vault",
        "vault",
        skips=skips,
        name=key_vault_name(account),
        **_here(account),
        tenant_id=Raw("data.azurerm_client_config.here.tenant_id"),
        sku_name="premium",
        public_network_access_enabled=is_public(account),
        purge_protection_enabled=True,
        rbac_authorization_enabled=True,
        soft_delete_retention_days=90,
        network_acls=_network("network_acls", account),
    )
    yield block(
        "resource",
        "azurerm_key_vault_key",
        "vault",
        skips=["CKV_AZURE_40"],
        name=account.name,
        key_vault_id=Raw("azurerm_key_vault.vault.id"),
        key_type="RSA-HSM",
        key_size=3072,
        key_opts=["wrapKey", "unwrapKey"],
        lifecycle=block("lifecycle", prevent_destroy=True),
    )
    yield _lock("keys", "azurerm_key_vault.vault.id")


def _hsm_key(account: Account) -> Iterator[Block]:
    """The key in a Managed HSM that is there, and its roles on that key, which are the HSM's own."""
    kind = "azurerm_key_vault_managed_hardware_security_module"
    here = Raw(f"{_HSM}.id")
    group = Raw(f"{_GROUP}.name")
    yield block("data", kind, "vault", name=account.managed_hsm, resource_group_name=group)
    yield block(
        "resource",
        f"{kind}_key",
        "vault",
        name=account.name,
        managed_hsm_id=here,
        key_type=HSM_KEY_TYPE,
        key_size=HSM_KEY_BITS,
        key_opts=["wrapKey", "unwrapKey"],
        lifecycle=block("lifecycle", prevent_destroy=True),
    )
    for role in policies.hsm_definitions(account):
        yield block(
            "resource",
            f"{kind}_role_definition",
            role.symbol,
            name=role.key,
            managed_hsm_id=here,
            role_name=role.name,
            description=role.description,
            permission=block("permission", data_actions=list(role.data_actions)),
        )
    for assignment in policies.assignments(account):
        if assignment.on_key:
            role_id = f"{kind}_role_definition.{assignment.role}Role.resource_manager_id"
            yield block(
                "resource",
                f"{kind}_role_assignment",
                assignment.symbol,
                name=assignment.key,
                managed_hsm_id=here,
                scope=f"/keys/{account.name}",
                role_definition_id=Raw(role_id),
                principal_id=assignment.principal,
                depends_on=[Raw(f"{kind}_key.vault")],
            )


def _deny(account: Account) -> Iterator[Block]:
    """Deployment stacks, which deny everything, are not of Terraform; a policy denies what weakens."""
    yield block(
        "resource",
        "azurerm_policy_definition",
        "vault",
        name=f"{account.name}-{account.storage_account}",
        display_name="Donjon: the vault is not weakened",
        policy_type="Custom",
        mode="Indexed",
        policy_rule=Json(rule()),
    )
    yield block(
        "resource",
        "azurerm_resource_group_policy_assignment",
        "vault",
        name=f"{account.name}-{account.storage_account}",
        resource_group_id=Raw(f"{_GROUP}.id"),
        policy_definition_id=Raw("azurerm_policy_definition.vault.id"),
    )


def _logs(account: Account) -> Iterator[Block]:
    yield block(
        "resource",
        "azurerm_log_analytics_workspace",
        "vault",
        name=f"{account.storage_account}-logs",
        **_here(account),
        sku="PerGB2018",
        retention_in_days=365,
    )
    watched: list[tuple[str, Raw, tuple[str, ...], str]] = [
        ("storage", Raw(f'"${{{_STORAGE}.id}}/blobServices/default"'), ("Read", "Write", "Delete"), "Storage")
    ]
    if account.key:
        watched.append(
            (
                "keys",
                Raw(f"{_HSM if account.managed_hsm else 'azurerm_key_vault.vault'}.id"),
                ("Event",),
                "Audit",
            )
        )
    for name, target, kinds, start in watched:
        yield block(
            "resource",
            "azurerm_monitor_diagnostic_setting",
            name,
            name="donjon",
            target_resource_id=target,
            log_analytics_workspace_id=Raw("azurerm_log_analytics_workspace.vault.id"),
            enabled_log=[block("enabled_log", category=f"{start}{kind}") for kind in kinds],
        )


def _roles(account: Account) -> Iterator[Block]:
    for role in policies.definitions(account):
        yield block(
            "resource",
            "azurerm_role_definition",
            role.symbol,
            role_definition_id=role.key,
            name=role.name,
            description=role.description,
            scope=Raw(f"{_GROUP}.id"),
            assignable_scopes=[Raw(f"{_GROUP}.id")],
            permissions=block(
                "permissions", actions=list(role.actions), data_actions=list(role.data_actions)
            ),
        )
    for assignment in policies.assignments(account):
        if assignment.on_key and account.managed_hsm:
            continue
        scope = "azurerm_key_vault_key.vault.resource_versionless_id" if assignment.on_key else None
        condition = {"condition": assignment.condition, "condition_version": "2.0"}
        yield block(
            "resource",
            "azurerm_role_assignment",
            assignment.symbol,
            name=assignment.key,
            scope=Raw(scope or f"{_CONTAINER}.id"),
            role_definition_id=Raw(
                f"azurerm_role_definition.{assignment.role}Role.role_definition_resource_id"
            ),
            principal_id=assignment.principal,
            **(condition if assignment.condition else {}),
        )


def _endpoints(account: Account) -> Iterator[Block]:
    served = [
        ("blob", f"{_STORAGE}.id"),
        *([("vault", "azurerm_key_vault.vault.id")] if has_key_vault(account) else []),
    ]
    for number, subnet in enumerate(account.private_network, 1):
        for group, target in served:
            connection = block(
                "private_service_connection",
                name=group,
                is_manual_connection=False,
                private_connection_resource_id=Raw(target),
                subresource_names=[group],
            )
            yield block(
                "resource",
                "azurerm_private_endpoint",
                f"{group}{number}",
                name=f"{account.storage_account}-{group}-{number}",
                **_here(account),
                subnet_id=subnet,
                private_service_connection=connection,
            )
