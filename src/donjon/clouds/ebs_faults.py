"""What the EBS direct APIs are asked, the permissions that it takes, and what their refusals mean.

Permissions: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapi-permissions.html
Codes and reasons: botocore's model of the service, 2019-11-02.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from donjon.clouds import aws
from donjon.core.errors import DonjonError, PermissionMissing, SourceFailed, TargetFailed
from donjon.core.operations import Operation

#: Data of an encrypted snapshot comes and goes in the clear, and EBS asks KMS in the name of the caller:
#: https://docs.aws.amazon.com/ebs/latest/userguide/ebsapis-using-encryption.html
_TO_READ: Final = ("kms:Decrypt",)
_TO_WRITE: Final = (
    "kms:CreateGrant", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*",
)  # fmt: skip
LIST: Final = Operation("list_snapshot_blocks", "list the blocks of", ("ebs:ListSnapshotBlocks",))
LIST_CHANGED: Final = Operation("list_changed_blocks", "list what has changed in", ("ebs:ListChangedBlocks",))
GET: Final = Operation("get_snapshot_block", "read a block of", ("ebs:GetSnapshotBlock",), _TO_READ)
START: Final = Operation("start_snapshot", "start", ("ebs:StartSnapshot",), _TO_WRITE)
PUT: Final = Operation("put_snapshot_block", "write a block of", ("ebs:PutSnapshotBlock",), _TO_WRITE)
COMPLETE: Final = Operation("complete_snapshot", "complete", ("ebs:CompleteSnapshot",))
FIND: Final = Operation("describe_snapshots", "look at", ("ec2:DescribeSnapshots",))
DELETE: Final = Operation("delete_snapshot", "delete", ("ec2:DeleteSnapshot",))

#: What reading and writing take, for roles and their policies.
PERMISSIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "read": (LIST, LIST_CHANGED, GET, FIND),
    "write": (START, PUT, COMPLETE, LIST, GET, FIND, DELETE),
}

_WRITES: Final = {START, PUT, COMPLETE, DELETE}
_DENIED: Final = {"AccessDeniedException", "AccessDenied", "UnauthorizedOperation"}
_AGAIN: Final = {
    *aws.THROTTLED, "RequestThrottledException", "InternalServerException", "InternalFailure",
    "InternalError", "ServiceUnavailable", "ConcurrentLimitExceededException",
}  # fmt: skip
#: Reasons of the codes above that waiting does not help with, or of others that it does.
_AGAIN_REASONS: Final = {"CONFLICTING_BLOCK_UPDATE"}
_HINTS: Final = {
    "SNAPSHOT_NOT_FOUND": (
        "Look at the account and the region. Public snapshots and those on an Outpost cannot be read so."
    ),
    "InvalidSnapshot.NotFound": "Look at the account and the region.",
    "UNRELATED_SNAPSHOTS": "Both must be of one volume.",
    "INVALID_CUSTOMER_KEY": "Give the ARN of a symmetric key of KMS of that region, which is enabled.",
    "WRITE_REQUEST_TIMEOUT": "Restore it again.",
}


def failed(
    operation: Operation, what: str, reason: str, *, hint: str = "", retryable: bool = False
) -> DonjonError:
    """The error for an operation that failed."""
    msg = f"{what}: cannot {operation.action} it: {reason}"
    if operation not in _WRITES:
        return SourceFailed(msg, hint=hint, retryable=retryable)
    error = TargetFailed(msg, hint=hint)
    error.retryable = retryable
    return error


def translated(error: Exception, operation: Operation, what: str) -> DonjonError:
    """Our error for one that the SDK raised."""
    from botocore import exceptions as sdk
    from botocore.parsers import ResponseParserError

    if isinstance(error, sdk.ClientError):
        return _refusal(error.response, operation, what)
    if fault := aws.common_fault(error, what):
        return fault
    transport = (sdk.BotoCoreError, sdk.HTTPClientError, ResponseParserError, OSError)
    if not isinstance(error, transport) and type(error).__module__.split(".")[0] != "urllib3":
        raise error
    hint = "Look at the region, the network and the state of EBS, then try again."
    return failed(operation, what, aws.one_line(error), hint=hint, retryable=True)


def _refusal(response: Mapping[str, Any], operation: Operation, what: str) -> DonjonError:
    details = response.get("Error", {})
    code, message = str(details.get("Code", "")), " ".join(str(details.get("Message", "")).split())
    reason = str(response.get("Reason", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    said = ": ".join(filter(None, (reason or code, message)))
    if code in _DENIED:
        return _denied(operation, what, reason, message)
    if code in aws.EXPIRED_CREDENTIALS:
        return aws.expired(what, said)
    if code in aws.BAD_CREDENTIALS:
        return aws.not_accepted(what, said)
    # Just after it was started, a snapshot may not be known everywhere.
    young = reason == "SNAPSHOT_NOT_FOUND" and operation in (PUT, COMPLETE)
    young |= code == "InvalidSnapshot.NotFound" and operation is FIND
    again = code in _AGAIN or reason in _AGAIN_REASONS or status >= 500 or young
    hint = _HINTS.get(reason or code, "Try again in a while." if again else "Look at what EBS says.")
    if code == "ServiceQuotaExceededException":
        hint = "Let other snapshots become complete, or ask AWS for a higher quota."
    return failed(operation, what, said, hint=hint, retryable=again)


def _denied(operation: Operation, what: str, reason: str, message: str) -> PermissionMissing:
    if reason == "DEPENDENCY_ACCESS_DENIED":
        permissions = " and ".join(operation.optional or _TO_WRITE)
        where = "the key that encrypts it"
    else:
        permissions, where = " and ".join(operation.permissions), "this credential"
    return PermissionMissing(
        f"{what}: cannot {operation.action} it: no permission {permissions}: {message}",
        hint=f"Allow {permissions} for {where}, and look for a Deny of the organization.",
    )
