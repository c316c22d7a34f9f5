"""The policies alone, for those who make accounts in another way; and for any server that speaks S3."""

from __future__ import annotations

import json
from typing import Any

from donjon.roles import aws_policies as policies
from donjon.roles.account import Account
from donjon.roles.model import ROLES, WRITER


def render(account: Account) -> str:
    """{"roles": {name: {"trust", "policy"}}, "bucket", "log_bucket", "key", "organization"}."""
    policies.check(account)
    made: dict[str, Any] = {
        "roles": {
            name: {
                "trust": policies.trust_policy(account, role),
                "policy": policies.identity_policy(account, role, writer),
            }
            for name, role, writer in policies.role_names(account)
        },
        "bucket": policies.bucket_policy(account),
        "log_bucket": policies.log_bucket_policy(account),
        "organization": policies.organization_policy(account),
    }
    if account.key:
        made["key"] = policies.key_policy(account)
    return json.dumps(made, indent=2) + "\n"


#: What servers other than AWS know of; they differ in the rest, so a policy of a bucket holds no more.
_EVERYWHERE = ("NoLongerLocks", "OnlyTls")


def render_s3(account: Account) -> str:
    """{"users": {name: policy}, "bucket": policy}: one user for each role, and one for each writer."""
    users = {
        f"{account.name}-{role.name}": policies.identity_policy(account, role)
        for role in ROLES
        if role is not WRITER
    }
    for writer in account.writers:
        users[f"{account.name}-writer-{writer[:12]}"] = policies.identity_policy(account, WRITER, writer)
    cap, *others = (
        statement
        for statement in policies.bucket_policy(account)["Statement"]
        if statement["Sid"] in _EVERYWHERE
    )
    bucket = {"Version": "2012-10-17", "Statement": [cap, _no_bypass(account), *others]}
    return json.dumps({"users": users, "bucket": bucket}, indent=2) + "\n"


def _no_bypass(account: Account) -> dict[str, Any]:
    return {
        "Sid": "NobodyLiftsLocks",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:BypassGovernanceRetention",
        "Resource": f"arn:aws:s3:::{account.bucket}/*",
    }
