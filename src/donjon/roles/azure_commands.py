"""What a template of Azure cannot say: the commands that belong to it, for people to run.

Nobody can make a deny assignment of his own
(https://learn.microsoft.com/azure/role-based-access-control/deny-assignments); a deployment stack makes
them, from its deny settings
(https://learn.microsoft.com/azure/azure-resource-manager/bicep/deployment-stacks). Symmetric keys and the
roles of a Managed HSM are its own, and no template makes them
(https://learn.microsoft.com/azure/key-vault/managed-hsm/access-control).
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from donjon.roles import azure_policies as policies
from donjon.roles.account import Account

#: What Donjon takes in a Managed HSM; see ``keys.azure_keyvault``.
HSM_KEY_TYPE = "oct-HSM"
HSM_KEY_BITS = 256


def commands(account: Account) -> list[str]:
    """One a line; those that come after the template come after it."""
    return [_stack(account), *_hsm(account)]


def _stack(account: Account) -> str:
    spared = f" --deny-settings-excluded-principals {account.break_glass}" if account.break_glass else ""
    group = account.resource_group or "donjon-vault"
    return (
        f"az stack group create --name {account.name} --resource-group {group} --template-file FILE "
        "--deny-settings-mode denyWriteAndDelete --deny-settings-apply-to-child-scopes"
        f"{spared} --action-on-unmanage detachAll"
    )


def _hsm(account: Account) -> Iterator[str]:
    if not account.managed_hsm:
        return
    there = f"--hsm-name {account.managed_hsm}"
    yield (
        f"az keyvault key create {there} --name {account.name} --kty {HSM_KEY_TYPE} "
        f"--size {HSM_KEY_BITS} --ops wrapKey unwrapKey"
    )
    for role in policies.hsm_definitions(account):
        told = {
            "id": f"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/{role.key}",
            "roleName": role.name,
            "description": role.description,
            "dataActions": list(role.data_actions),
        }
        yield f"az keyvault role definition create {there} --role-definition '{json.dumps(told)}'"
    roles = {role.symbol: role for role in policies.hsm_definitions(account)}
    for assignment in policies.assignments(account):
        if assignment.on_key:
            role = roles[f"{assignment.role}Role"]
            yield (
                f"az keyvault role assignment create {there} --scope /keys/{account.name} "
                f"--assignee-object-id {assignment.principal} --role '{role.name}'"
            )
