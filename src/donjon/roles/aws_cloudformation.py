"""A dedicated AWS account for a vault, as a template of CloudFormation."""

from __future__ import annotations

import json
from typing import Any

from donjon.roles.account import Account
from donjon.roles.aws_policies import role_arn, role_names
from donjon.roles.aws_resources import Resource, resources
from donjon.roles.skips import SKIPPED

_SKIPS = {"LogBucket": ("CKV_AWS_18",)}


def render(account: Account) -> str:
    """The template, as JSON."""
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": f"Donjon: the account of the vault in {account.bucket}. Made by donjon roles render.",
        "Resources": {resource.name: _resource(resource) for resource in resources(account)},
        "Outputs": _outputs(account),
    }
    return json.dumps(template, indent=2) + "\n"


def _resource(resource: Resource) -> dict[str, Any]:
    made: dict[str, Any] = {"Type": resource.kind}
    if resource.after:
        made["DependsOn"] = list(resource.after)
    if resource.is_kept:
        made |= {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    if resource.name in _SKIPS:
        skips = [{"id": rule, "comment": SKIPPED[rule]} for rule in _SKIPS[resource.name]]
        made["Metadata"] = {"checkov": {"skip": skips}}
    made["Properties"] = resource.properties
    return made


def _outputs(account: Account) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"Role{number}": {"Description": f"Assume this as {role.name}.", "Value": role_arn(account, name)}
        for number, (name, role, _) in enumerate(role_names(account), 1)
    }
    if account.key:
        value = {"Fn::GetAtt": ["VaultKey", "Arn"]}
        found["Key"] = {"Description": "The key that seals session keys.", "Value": value}
    return found
