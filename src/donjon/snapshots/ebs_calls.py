"""What is asked of EC2 for snapshots, the permissions that it takes, and what its refusals mean.

Permissions: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html
Codes: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from donjon.clouds import aws
from donjon.core.errors import DonjonError, ObjectLocked, PermissionMissing, Refused, SnapshotFailed
from donjon.core.operations import Operation

VOLUMES: Final = Operation("describe_volumes", "look at", ("ec2:DescribeVolumes",))
INSTANCES: Final = Operation("describe_instances", "look at", ("ec2:DescribeInstances",))
SNAPSHOTS: Final = Operation("describe_snapshots", "list the snapshots of", ("ec2:DescribeSnapshots",))
LOCKED: Final = Operation(
    "describe_locked_snapshots", "read the locks of the snapshots of", ("ec2:DescribeLockedSnapshots",)
)
CREATE: Final = Operation("create_snapshot", "take a snapshot of", ("ec2:CreateSnapshot", "ec2:CreateTags"))
CREATE_SET: Final = Operation(
    "create_snapshots", "take snapshots of all volumes of", ("ec2:CreateSnapshots", "ec2:CreateTags")
)
#: With a key the service asks KMS in the name of the caller:
#: https://docs.aws.amazon.com/ebs/latest/userguide/ebs-encryption-requirements.html
COPY: Final = Operation("copy_snapshot", "copy", ("ec2:CopySnapshot", "ec2:CreateTags"), (
    "kms:CreateGrant", "kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncrypt*",
))  # fmt: skip
SHARE: Final = Operation("modify_snapshot_attribute", "share", ("ec2:ModifySnapshotAttribute",))
LOCK: Final = Operation("lock_snapshot", "lock", ("ec2:LockSnapshot",))
DELETE: Final = Operation("delete_snapshot", "delete", ("ec2:DeleteSnapshot",))

#: What each method takes, for roles and their policies.
PERMISSIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "select": (INSTANCES, VOLUMES),
    "create": (VOLUMES, INSTANCES, SNAPSHOTS, LOCKED, CREATE, CREATE_SET),
    "wait": (SNAPSHOTS, LOCKED),
    "copy": (SNAPSHOTS, LOCKED, COPY),
    "share": (SNAPSHOTS, LOCKED, SHARE),
    "lock": (SNAPSHOTS, LOCKED, LOCK),
    "list": (SNAPSHOTS, LOCKED),
    "delete": (SNAPSHOTS, LOCKED, DELETE),
}

_NAMED_PERMISSION: Final = re.compile(r"to perform: ([a-z0-9]+:\w+)")
_DENIED: Final = {
    "UnauthorizedOperation",
    "AccessDenied",
    "AccessDeniedException",
    "OptInRequired",
    "Blocked",
}
_AGAIN: Final = {
    *aws.THROTTLED, "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout",
    "ClientRequestLimitExceeded", "RequestThrottled",
}  # fmt: skip
#: Quotas that free themselves when other snapshots are complete, but not within a few seconds.
_LATER: Final = {
    "ConcurrentSnapshotLimitExceeded", "SnapshotCreationPerVolumeRateExceeded", "SnapshotLimitExceeded",
    "ResourceLimitExceeded", "PendingSnapshotLimitExceeded", "ConcurrentTagAccess",
}  # fmt: skip
_MISSING_SNAPSHOT: Final = {"InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed"}
_MISSING: Final = {
    "InvalidVolume.NotFound", "InvalidVolumeID.Malformed", "InvalidInstanceID.NotFound",
    "InvalidInstanceID.Malformed", "InvalidVolumeID.NotFound", *_MISSING_SNAPSHOT,
}  # fmt: skip
_IN_USE: Final = {"InvalidSnapshot.InUse"}
_BAD_STATE: Final = {"IncorrectState", "IncorrectInstanceState", "IncorrectVolumeState", "VolumeInUse"}
_NOT_PERMITTED: Final = {"OperationNotPermitted", "SnapshotLocked"}


class Missing(SnapshotFailed):
    """The volume, instance or snapshot asked for does not exist."""


class TryAgain(SnapshotFailed):
    """EC2 did not answer, or asked to slow down."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = True) -> None:
        super().__init__(message, hint=hint, retryable=retryable)


def translated(error: Exception, operation: Operation, what: str, region: str) -> DonjonError:
    """Our error for one that botocore raised while ``operation`` was asked of ``what``."""
    from botocore import exceptions as sdk

    reason = f"{what}: cannot {operation.action} it: {aws.one_line(error)}"
    if isinstance(error, sdk.ClientError):
        return _refusal(error.response, operation, what, reason)
    if fault := aws.common_fault(error, f"EC2 in {region}"):
        return fault
    if not isinstance(error, (sdk.BotoCoreError, OSError)):
        raise error
    return TryAgain(reason, hint="Look at the region, the network and the state of EC2, then try again.")


def _refusal(response: Mapping[str, Any], operation: Operation, what: str, reason: str) -> DonjonError:
    details = response.get("Error", {})
    code, message = str(details.get("Code", "")), str(details.get("Message", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    found: DonjonError
    if code in _DENIED:
        found = _denied(operation, what, message)
    elif code in aws.EXPIRED_CREDENTIALS:
        found = aws.expired(what, reason)
    elif code in aws.BAD_CREDENTIALS or code == "AuthFailure":
        found = aws.not_accepted(what, reason)
    elif code in _MISSING:
        kind = "snapshot" if code in _MISSING_SNAPSHOT else "volume or instance"
        hint = "Look at the region and the account, and correct the plan if it was deleted on purpose."
        found = Missing(f"{what}: there is no such {kind}", hint=hint)
    elif code in _IN_USE:
        hint = "Deregister the image that uses it, or disable its fast restore, if it shall go."
        found = Refused(f"{what}: is in use: {message}", hint=hint)
    elif code in _NOT_PERMITTED:
        found = _not_permitted(operation, what, message)
    elif code in _AGAIN or status in {500, 502, 503, 504}:
        found = TryAgain(reason, hint="Try again in a while.")
    elif code in _LATER:
        hint = "Let other snapshots become complete, or ask AWS for a higher quota."
        found = SnapshotFailed(reason, hint=hint, retryable=True)
    elif code in _BAD_STATE:
        found = SnapshotFailed(reason, hint="Look at the state of the volume, then run it again.")
    else:
        found = SnapshotFailed(reason, hint="Look at what EC2 says, and at the volume and its key.")
    return found


def _denied(operation: Operation, what: str, message: str) -> PermissionMissing:
    named = _NAMED_PERMISSION.search(message)
    permissions = named[1] if named else " and ".join(operation.permissions)
    return PermissionMissing(
        f"{what}: cannot {operation.action} it: no permission {permissions}",
        hint=f"Allow {permissions} for this credential, and look for a Deny of the organization.",
    )


def _not_permitted(operation: Operation, what: str, message: str) -> DonjonError:
    """Of a locked snapshot EC2 deletes nothing; which code it answers is not documented."""
    if operation is DELETE:
        hint = "Wait until its lock has ended; nobody can shorten it."
        return ObjectLocked(f"{what}: is locked: {message}", retain_until=0, hint=hint)
    if operation is SHARE:
        hint = (
            "Snapshots under the key aws/ebs cannot be shared: copy it with a key of your own, and share the "
            "copy and that key. See docs/workloads/snapshots.md."
        )
        return Refused(f"{what}: cannot be shared: {message}", hint=hint)
    return Refused(f"{what}: cannot {operation.action} it: {message}", hint="A lock is only ever extended.")
