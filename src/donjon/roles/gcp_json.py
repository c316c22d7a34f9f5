"""Roles and policies of a Google Cloud project for a vault, in the shapes of its REST interfaces."""

from __future__ import annotations

import json
from typing import Any

from donjon.roles import gcp_policies as policies
from donjon.roles.account import Account


def render(account: Account) -> str:
    """{"roles": {id: role}, "bucket": policy, "key": policy, "deny": policy}."""
    policies.check(account)
    made: dict[str, Any] = {
        "roles": {
            role.role_id: {
                "title": role.title,
                "includedPermissions": list(role.permissions),
                "stage": "GA",
            }
            for role in policies.custom_roles(account)
        },
        "bucket": _policy(account, on_key=False),
    }
    if account.key:
        made["key"] = _policy(account, on_key=True)
    made["deny"] = policies.deny_policy(account)
    return json.dumps(made, indent=2) + "\n"


def _policy(account: Account, *, on_key: bool) -> dict[str, Any]:
    rows = []
    for binding in policies.bindings(account):
        if binding.on_key != on_key:
            continue
        row: dict[str, Any] = {
            "role": f"projects/{account.owner}/roles/{binding.role_id}",
            "members": [binding.member],
        }
        if binding.condition:
            row["condition"] = {"title": "objects", "expression": binding.condition}
        rows.append(row)
    return {"version": 3, "bindings": rows}
