"""A resource group for a vault, as an ARM template in JSON."""

from __future__ import annotations

import json
from typing import Any

from donjon.roles.account import Account
from donjon.roles.azure_commands import commands
from donjon.roles.azure_resources import Expression, Id, Resource, resources
from donjon.roles.skips import SKIPPED

_SCHEMA = "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#"


def render(account: Account) -> str:
    """The template."""
    made = {resource.symbol: resource for resource in resources(account)}
    template = {
        "$schema": _SCHEMA,
        "contentVersion": "1.0.0.0",
        "metadata": {
            "description": f"Donjon: the vault in {account.bucket}. Made by donjon roles render.",
            "commands": commands(account),
        },
        "resources": [_resource(resource, made) for resource in made.values()],
    }
    return json.dumps(template, indent=2) + "\n"


def _resource(resource: Resource, all_of_them: dict[str, Resource]) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": resource.kind,
        "apiVersion": resource.api,
        "name": _full_name(resource, all_of_them),
    }
    if resource.skips:
        made["metadata"] = {"checkov": [f"{rule}:{SKIPPED[rule]}" for rule in resource.skips]}
    if resource.scope:
        made["scope"] = _id(resource.scope, all_of_them)
    needs = {*_symbols(resource.properties), *resource.after, resource.parent, resource.scope} - {""}
    if needs:
        made["dependsOn"] = [_id(symbol, all_of_them) for symbol in sorted(needs)]
    made |= _value(resource.fields, all_of_them)
    made["properties"] = _value(resource.properties, all_of_them)
    return made


def _full_name(resource: Resource, all_of_them: dict[str, Resource]) -> str:
    if not resource.parent:
        return resource.name
    return f"{_full_name(all_of_them[resource.parent], all_of_them)}/{resource.name}"


def _id(symbol: str, all_of_them: dict[str, Resource]) -> str:
    resource = all_of_them[symbol]
    parts = ", ".join(f"'{part}'" for part in _full_name(resource, all_of_them).split("/"))
    return f"[resourceId('{resource.kind}', {parts})]"


def _symbols(value: object) -> set[str]:
    if isinstance(value, Id):
        return {value.symbol}
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {symbol for item in inner for symbol in _symbols(item)}


def _value(value: Any, all_of_them: dict[str, Resource]) -> Any:
    if isinstance(value, Id):
        return _id(value.symbol, all_of_them)
    if isinstance(value, Expression):
        return f"[{value.text}]"
    if isinstance(value, dict):
        return {key: _value(item, all_of_them) for key, item in value.items()}
    if isinstance(value, list):
        return [_value(item, all_of_them) for item in value]
    return f"[{value}" if isinstance(value, str) and value.startswith("[") else value
