"""Looks at a bucket before a vault goes into it, and makes it right.

What a server cannot do at all (most have no public access block) is no fault of the bucket.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import LocksUnsupported, PermissionMissing, StoreError, VaultNotFound
from donjon.core.operations import Operation
from donjon.stores.base import BucketFault
from donjon.stores.s3 import operations as ask
from donjon.stores.s3.client import S3Client

_BLOCKS = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
_CAP_CONDITION = "s3:object-lock-remaining-retention-days"
_OVER = ("NumericGreaterThan", "NumericGreaterThanEquals")


def check_bucket(client: S3Client, lock_s: int) -> list[BucketFault]:
    """What keeps the bucket from holding a vault whose objects are locked for ``lock_s`` seconds.

    Raises ``PermissionMissing`` where the credential may not look.
    """
    commands = _Commands(client)
    try:
        client.call(ask.MAY_LIST)
    except VaultNotFound:
        return [BucketFault("there is no such bucket", commands.create())]
    faults = []
    if client.call(ask.GET_VERSIONING).get("Status") != "Enabled":
        fault = "versioning is off, so that an overwrite would destroy"
        faults.append(BucketFault(fault, commands.versioning()))
    if lock_s:
        faults += _lock_faults(client, commands, lock_s)
    public = _read(client, ask.GET_PUBLIC_ACCESS, "NoSuchPublicAccessBlockConfiguration")
    if public is not None:
        blocks = public.get("PublicAccessBlockConfiguration", {})
        if not all(blocks.get(name) for name in _BLOCKS):
            faults.append(BucketFault("public access is not blocked", commands.public_access()))
    return faults


def make_bucket(client: S3Client, lock_s: int) -> None:
    """Make the bucket unless it exists, and mend what ``check_bucket`` would find, as far as one can."""
    try:
        client.call(ask.MAY_LIST)
    except VaultNotFound:
        _create(client)
    if client.call(ask.GET_VERSIONING).get("Status") != "Enabled":
        client.call(ask.PUT_VERSIONING, VersioningConfiguration={"Status": "Enabled"})
    if lock_s and _default_retention(client).get("Mode") != "COMPLIANCE":
        client.call(ask.PUT_LOCKS, ObjectLockConfiguration=_lock_configuration(lock_s))
    try:
        client.call(ask.PUT_PUBLIC_ACCESS, PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKS, True))
    except StoreError as error:
        if not _is_unsupported(error):
            raise


def _create(client: S3Client) -> None:
    region = client.region
    # https://docs.aws.amazon.com/AmazonS3/latest/API/API_CreateBucket.html: us-east-1 must not be named.
    place: dict[str, Any] = {}
    if region != "us-east-1" and client.address.endpoint is None:
        place["CreateBucketConfiguration"] = {"LocationConstraint": region}
    client.call(ask.CREATE_BUCKET, ObjectLockEnabledForBucket=True, **place)


def _lock_faults(client: S3Client, commands: _Commands, lock_s: int) -> Iterator[BucketFault]:
    default = _default_retention(client)
    fix = commands.locks(lock_s)
    if default.get("enabled") is None:
        yield BucketFault("Object Lock is off", fix)
    elif "Mode" not in default:
        yield BucketFault("there is no default retention, for what others put", fix, weak=True)
    elif default["Mode"] != "COMPLIANCE":
        yield BucketFault(
            f"the default retention is in {default['Mode']} mode, which can be lifted", fix, weak=True
        )
    days = lock_days(lock_s)
    cap = retention_cap_days(_policy(client))
    if cap is not None and cap < days:
        yield BucketFault(
            f"its policy allows locks of at most {cap} days, and this vault needs {days}",
            f"donjon init with --lock {cap - 1}d, or raise the cap in the policy of the bucket",
        )


def lock_days(lock_s: int) -> int:
    """The longest lock that a vault ever asks for, in days: ends fall on whole days."""
    return -(-lock_s // SECONDS_PER_DAY) + 1


def retention_cap_days(policy: dict[str, Any]) -> int | None:
    """How many days of lock a policy of a bucket allows; None if it sets no bound.

    It is set by a Deny of puts whose remaining retention is over a number of days
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock-managing.html).
    """
    caps = []
    for statement in _as_list(policy.get("Statement")):
        if statement.get("Effect") != "Deny":
            continue
        for over in _OVER:
            condition = {
                key.lower(): value for key, value in statement.get("Condition", {}).get(over, {}).items()
            }
            values = _as_list(condition.get(_CAP_CONDITION))
            caps += [int(value) - (over != _OVER[0]) for value in values]
    return min(caps, default=None)


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def _default_retention(client: S3Client) -> dict[str, Any]:
    """``DefaultRetention`` of the bucket, with ``enabled`` if it has Object Lock at all."""
    try:
        found = client.call(ask.GET_LOCKS).get("ObjectLockConfiguration", {})
    except LocksUnsupported:
        return {}
    if found.get("ObjectLockEnabled") != "Enabled":
        return {}
    return {"enabled": True, **found.get("Rule", {}).get("DefaultRetention", {})}


def _lock_configuration(lock_s: int) -> dict[str, Any]:
    retention = {"Mode": "COMPLIANCE", "Days": -(-lock_s // SECONDS_PER_DAY)}
    return {"ObjectLockEnabled": "Enabled", "Rule": {"DefaultRetention": retention}}


def _policy(client: S3Client) -> dict[str, Any]:
    answer = _read(client, ask.GET_POLICY, "NoSuchBucketPolicy")
    try:
        policy = json.loads((answer or {}).get("Policy", "{}"))
    except ValueError:
        return {}
    return policy if isinstance(policy, dict) else {}


def _read(client: S3Client, operation: Operation, unset: str) -> dict[str, Any] | None:
    """A setting of the bucket: empty if it is not set, None if the server has no such setting."""
    try:
        return client.call(operation)
    except PermissionMissing:
        raise
    except StoreError as error:
        if unset in error.message:
            return {}
        if _is_unsupported(error):
            return None
        raise


def _is_unsupported(error: StoreError) -> bool:
    return "(NotImplemented)" in error.message or "(501)" in error.message


class _Commands:
    """The commands of the AWS tools that mend a bucket."""

    def __init__(self, client: S3Client) -> None:
        address = client.address
        self._bucket = address.bucket
        self._place = f" --endpoint-url {shlex.quote(address.endpoint)}" if address.endpoint else ""

    def create(self) -> str:
        return self._command("create-bucket", "--object-lock-enabled-for-bucket")

    def versioning(self) -> str:
        return self._command("put-bucket-versioning", "--versioning-configuration Status=Enabled")

    def locks(self, lock_s: int) -> str:
        configuration = json.dumps(_lock_configuration(lock_s), separators=(",", ":"))
        return self._command(
            "put-object-lock-configuration", f"--object-lock-configuration {shlex.quote(configuration)}"
        )

    def public_access(self) -> str:
        blocks = ",".join(f"{name}=true" for name in _BLOCKS)
        return self._command("put-public-access-block", f"--public-access-block-configuration {blocks}")

    def _command(self, name: str, options: str) -> str:
        return f"aws s3api {name} --bucket {self._bucket} {options}{self._place}"
