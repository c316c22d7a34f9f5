"""A rule of Azure Policy that denies what would weaken a vault, to whoever may write to its resource group.

Each property has an alias that a built-in definition of Microsoft uses, whose id stands beside it
(https://learn.microsoft.com/azure/governance/policy/samples/built-in-policies).
"""

from __future__ import annotations

from typing import Any

_STORAGE = "Microsoft.Storage/storageAccounts"
_KEYS = "Microsoft.KeyVault/vaults"
#: Property, and the value that it has to keep.
_KEPT: dict[str, tuple[tuple[str, str], ...]] = {
    _STORAGE: (
        ("allowSharedKeyAccess", "false"),  # 8c6a50c6-9ffd-4ae7-986f-5fa6111f9a54
        ("allowBlobPublicAccess", "false"),  # 4fa4b6c0-31ca-4c0d-b10d-24b96f62a751
        ("supportsHttpsTrafficOnly", "true"),  # 404c3081-a854-4457-ae30-26a93ef643f9
        ("networkAcls.defaultAction", "Deny"),  # 34c877ad-507e-4c82-993e-3452a6e0ad3c
    ),
    _KEYS: (
        ("enableSoftDelete", "true"),  # 0b60c0b2-2dc2-4e1c-b5c9-abbed971de53
        ("enablePurgeProtection", "true"),  # the same
        ("enableRbacAuthorization", "true"),  # 12d4fa5e-1f9f-4c21-97a9-b99b3c6611b5
    ),
}


def rule() -> dict[str, Any]:
    """The rule, as JSON has it."""
    weakened = [
        {
            "allOf": [
                {"field": "type", "equals": kind},
                {"anyOf": [{"field": f"{kind}/{name}", "notEquals": value} for name, value in kept]},
            ]
        }
        for kind, kept in _KEPT.items()
    ]
    return {"if": {"anyOf": weakened}, "then": {"effect": "deny"}}
