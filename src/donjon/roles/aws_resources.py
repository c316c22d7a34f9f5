"""The resources of an AWS account for a vault, as CloudFormation describes them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from donjon.roles import aws_policies as policies
from donjon.roles.account import Account
from donjon.roles.model import WRITER

_HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource. ``is_kept`` means that no template may delete it; ``after`` are those that it needs."""

    name: str
    kind: str
    properties: dict[str, Any]
    is_kept: bool = False
    after: tuple[str, ...] = field(default=())


def resources(account: Account) -> list[Resource]:
    """All of them, those that others need first."""
    policies.check(account)
    roles = [
        Resource(
            _symbol(name),
            "AWS::IAM::Role",
            {
                "RoleName": name,
                "Description": f"Donjon: {role.does}.",
                "MaxSessionDuration": (12 if role is WRITER else 1) * _HOUR_S,
                "AssumeRolePolicyDocument": policies.trust_policy(account, role),
                "Policies": [
                    {
                        "PolicyName": "vault",
                        "PolicyDocument": policies.identity_policy(account, role, writer),
                    }
                ],
            },
        )
        for name, role, writer in policies.role_names(account)
    ]
    names = tuple(resource.name for resource in roles)
    made = [
        _bucket("LogBucket", account.logs, {}),
        Resource(
            "LogBucketPolicy",
            "AWS::S3::BucketPolicy",
            {"Bucket": account.logs, "PolicyDocument": policies.log_bucket_policy(account)},
            after=("LogBucket",),
        ),
        _bucket("VaultBucket", account.bucket, _vault_properties(account), ("LogBucketPolicy",)),
        *roles,
        Resource(
            "VaultBucketPolicy",
            "AWS::S3::BucketPolicy",
            {"Bucket": account.bucket, "PolicyDocument": policies.bucket_policy(account)},
            after=("VaultBucket", *names),
        ),
    ]
    if account.key:
        made += _key(account, names)
    return made


def _vault_properties(account: Account) -> dict[str, Any]:
    retention = {"Mode": "COMPLIANCE", "Days": account.min_retention}
    return {
        "ObjectLockEnabled": True,
        "ObjectLockConfiguration": {
            "ObjectLockEnabled": "Enabled",
            "Rule": {"DefaultRetention": retention},
        },
        "LoggingConfiguration": {
            "DestinationBucketName": account.logs,
            "LogFilePrefix": f"{account.bucket}/",
        },
    }


def _bucket(name: str, bucket: str, further: dict[str, Any], after: tuple[str, ...] = ()) -> Resource:
    blocks = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
    rule = {"ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": False}
    properties = {
        "BucketName": bucket,
        "VersioningConfiguration": {"Status": "Enabled"},
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [rule]},
        "PublicAccessBlockConfiguration": dict.fromkeys(blocks, True),
        "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
        **further,
    }
    return Resource(name, "AWS::S3::Bucket", properties, is_kept=True, after=after)


def _key(account: Account, roles: tuple[str, ...]) -> list[Resource]:
    key = {
        "Description": f"Donjon: seals the session keys of the vault in {account.bucket}.",
        "EnableKeyRotation": True,
        "MultiRegion": True,
        "PendingWindowInDays": 30,
        "KeyPolicy": policies.key_policy(account),
    }
    alias = {"AliasName": f"alias/{account.alias}", "TargetKeyId": {"Ref": "VaultKey"}}
    return [
        Resource("VaultKey", "AWS::KMS::Key", key, is_kept=True, after=roles),
        Resource("VaultKeyAlias", "AWS::KMS::Alias", alias),
    ]


def _symbol(name: str) -> str:
    """A name for a template: letters and digits."""
    return "".join(part.capitalize() for part in name.split("-")) + "Role"
