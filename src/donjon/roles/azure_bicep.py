"""A resource group for a vault, in Bicep.

Source of the syntax: https://learn.microsoft.com/azure/azure-resource-manager/bicep/file
"""

from __future__ import annotations

import re
from typing import Any

from donjon.roles.account import Account
from donjon.roles.azure_commands import commands
from donjon.roles.azure_resources import Expression, Id, Resource, resources
from donjon.roles.skips import SKIPPED

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def render(account: Account) -> str:
    """The file."""
    told = [f"Donjon: the vault in {account.bucket}. Made by donjon roles render.", *commands(account)]
    head = "".join(f"// {line}\n" for line in told)
    parts = [head, "targetScope = 'resourceGroup'\n", *map(_resource, resources(account))]
    return "\n".join(parts)


def _resource(resource: Resource) -> str:
    lines = [f"resource {resource.symbol} '{resource.kind}@{resource.api}' = {{"]
    lines += [f"  // checkov:skip={rule}:{SKIPPED[rule]}" for rule in resource.skips]
    for name in ("parent", "scope"):
        if symbol := getattr(resource, name):
            lines.append(f"  {name}: {symbol}")
    lines.append(f"  name: {_value(resource.name, '  ')}")
    lines += [f"  {key}: {_value(value, '  ')}" for key, value in resource.fields.items()]
    lines.append(f"  properties: {_value(resource.properties, '  ')}")
    if resource.after:
        lines.append(f"  dependsOn: [{' '.join(resource.after)}]")
    return "\n".join([*lines, "}\n"])


def _value(value: Any, indent: str) -> str:
    inner = indent + "  "
    if isinstance(value, dict):
        rows = [f"{inner}{_key(key)}: {_value(item, inner)}\n" for key, item in value.items()]
        return "{\n" + "".join(rows) + indent + "}"
    if isinstance(value, list):
        rows = [f"{inner}{_value(item, inner)}\n" for item in value]
        return "[\n" + "".join(rows) + indent + "]" if rows else "[]"
    return _scalar(value)


def _scalar(value: object) -> str:
    if isinstance(value, Id):
        return f"{value.symbol}.id"
    if isinstance(value, Expression):
        return value.text
    if isinstance(value, (bool, int)):
        return str(value).lower()
    text = str(value).replace("\\", "\\\\").replace("'", "\\'").replace("${", "\\${")
    return f"'{text}'"


def _key(key: str) -> str:
    return key if _WORD.fullmatch(key) else f"'{key}'"
