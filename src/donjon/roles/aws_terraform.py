"""A dedicated AWS account for a vault, as a configuration of Terraform."""

from __future__ import annotations

from collections.abc import Iterator

from donjon.roles import aws_policies as policies
from donjon.roles.account import Account
from donjon.roles.hcl import Block, Json, Raw, block, write
from donjon.roles.model import WRITER

_VAULT_SKIPS = ("CKV_AWS_144", "CKV_AWS_145", "CKV2_AWS_61", "CKV2_AWS_62")
_LOG_SKIPS = ("CKV_AWS_18", *_VAULT_SKIPS)
_HOUR_S = 3600
_SETTINGS = (
    "aws_s3_bucket_logging",
    "aws_s3_bucket_object_lock_configuration",
    "aws_s3_bucket_ownership_controls",
    "aws_s3_bucket_public_access_block",
    "aws_s3_bucket_server_side_encryption_configuration",
    "aws_s3_bucket_versioning",
)


def render(account: Account) -> str:
    """The configuration."""
    policies.check(account)
    head = f"Donjon: the account of the vault in {account.bucket}. Made by donjon roles render."
    return write(head, _blocks(account))


def _blocks(account: Account) -> Iterator[Block]:
    providers = (("aws", {"source": "hashicorp/aws", "version": "~> 6.0"}),)
    yield block(
        "terraform", required_version=">= 1.5", required_providers=Block("required_providers", (), providers)
    )
    region = {"region": account.region} if account.region else {}
    yield block("provider", "aws", allowed_account_ids=[account.owner], **region)
    yield from _bucket("logs", account.logs, _LOG_SKIPS)
    yield _policy("logs", policies.log_bucket_policy(account))
    yield from _bucket("vault", account.bucket, _VAULT_SKIPS, object_lock_enabled=True)
    retention = block("default_retention", mode="COMPLIANCE", days=account.min_retention)
    yield block(
        "resource",
        "aws_s3_bucket_object_lock_configuration",
        "vault",
        bucket=Raw("aws_s3_bucket.vault.id"),
        rule=block("rule", default_retention=retention),
    )
    yield block(
        "resource",
        "aws_s3_bucket_logging",
        "vault",
        bucket=Raw("aws_s3_bucket.vault.id"),
        target_bucket=Raw("aws_s3_bucket.logs.id"),
        target_prefix=f"{account.bucket}/",
    )
    roles = []
    for name, role, writer in policies.role_names(account):
        symbol = name.replace("-", "_")
        roles.append(Raw(f"aws_iam_role.{symbol}"))
        yield block(
            "resource",
            "aws_iam_role",
            symbol,
            skips=("CKV_AWS_61",),
            name=name,
            description=f"Donjon: {role.does}.",
            max_session_duration=(12 if role is WRITER else 1) * _HOUR_S,
            assume_role_policy=Json(policies.trust_policy(account, role)),
        )
        yield block(
            "resource",
            "aws_iam_role_policy",
            symbol,
            name="vault",
            role=Raw(f"aws_iam_role.{symbol}.id"),
            policy=Json(policies.identity_policy(account, role, writer)),
        )
    # The policy lets nobody set these any more, so it comes last.
    settings = [Raw(f"{kind}.vault") for kind in _SETTINGS]
    yield _policy("vault", policies.bucket_policy(account), [*settings, *roles])
    if account.key:
        yield from _key(account, roles)


def _bucket(name: str, bucket: str, skips: tuple[str, ...], **further: object) -> Iterator[Block]:
    yield block(
        "resource",
        "aws_s3_bucket",
        name,
        skips=skips,
        bucket=bucket,
        **further,
        lifecycle=block("lifecycle", prevent_destroy=True),
    )
    here = {"bucket": Raw(f"aws_s3_bucket.{name}.id")}
    enabled = block("versioning_configuration", status="Enabled")
    yield block("resource", "aws_s3_bucket_versioning", name, **here, versioning_configuration=enabled)
    default = block("apply_server_side_encryption_by_default", sse_algorithm="AES256")
    yield block(
        "resource",
        "aws_s3_bucket_server_side_encryption_configuration",
        name,
        **here,
        rule=block("rule", apply=default),
    )
    blocks = ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    yield block("resource", "aws_s3_bucket_public_access_block", name, **here, **dict.fromkeys(blocks, True))
    owner = block("rule", object_ownership="BucketOwnerEnforced")
    yield block("resource", "aws_s3_bucket_ownership_controls", name, **here, rule=owner)


def _policy(name: str, policy: policies.Policy, after: list[Raw] | None = None) -> Block:
    needs = {"depends_on": after} if after else {}
    bucket = Raw(f"aws_s3_bucket.{name}.id")
    return block("resource", "aws_s3_bucket_policy", name, bucket=bucket, policy=Json(policy), **needs)


def _key(account: Account, roles: list[Raw]) -> Iterator[Block]:
    yield block(
        "resource",
        "aws_kms_key",
        "vault",
        description=f"Donjon: seals the session keys of the vault in {account.bucket}.",
        enable_key_rotation=True,
        multi_region=True,
        deletion_window_in_days=30,
        policy=Json(policies.key_policy(account)),
        depends_on=roles,
        lifecycle=block("lifecycle", prevent_destroy=True),
    )
    yield block(
        "resource",
        "aws_kms_alias",
        "vault",
        name=f"alias/{account.alias}",
        target_key_id=Raw("aws_kms_key.vault.key_id"),
    )
    yield block("output", "key", value=Raw("aws_kms_key.vault.arn"))
