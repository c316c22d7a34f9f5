"""What is asked of Compute Engine for snapshots, the permissions it takes, and what refusals mean.

Permissions: https://docs.cloud.google.com/compute/docs/access/iam-permissions
Statuses: https://docs.cloud.google.com/compute/docs/troubleshooting/troubleshooting-api-errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from donjon.clouds.google import credentials
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    PermissionMissing,
    Refused,
    SnapshotFailed,
    UsageError,
)
from donjon.core.operations import Operation

DISK: Final = Operation("get", "look at", ("compute.disks.get",))
DISKS: Final = Operation("list", "list the disks of", ("compute.disks.list",))
SNAPSHOT: Final = Operation("get", "look at", ("compute.snapshots.get",))
SNAPSHOTS: Final = Operation("list", "list the snapshots of", ("compute.snapshots.list",))
CREATE: Final = Operation(
    "insert_unary",
    "take a snapshot of",
    ("compute.snapshots.create", "compute.disks.createSnapshot", "compute.snapshots.setLabels"),
)
OPERATION: Final = Operation("get", "follow the work on", ("compute.globalOperations.get",))
DELETE: Final = Operation("delete_unary", "delete", ("compute.snapshots.delete",))
GET_POLICY: Final = Operation("get_iam_policy", "read who may use", ("compute.snapshots.getIamPolicy",))
SET_POLICY: Final = Operation("set_iam_policy", "share", ("compute.snapshots.setIamPolicy",))

MAKE_DISK: Final = Operation(
    "insert_unary",
    "make a disk of",
    ("compute.disks.create", "compute.disks.setLabels", "compute.snapshots.useReadOnly"),
)
ATTACH: Final = Operation(
    "attach_disk_unary", "attach a disk to", ("compute.instances.attachDisk", "compute.disks.useReadOnly")
)
DETACH: Final = Operation("detach_disk_unary", "detach a disk from", ("compute.instances.detachDisk",))
DELETE_DISK: Final = Operation("delete_unary", "delete", ("compute.disks.delete",))
ZONE_OPERATION: Final = Operation("get", "follow the work on", ("compute.zoneOperations.get",))

#: What each method takes, for roles and their policies; "read" is of ``gce_attach``.
PERMISSIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "select": (DISK, DISKS),
    "create": (SNAPSHOT, CREATE, OPERATION, DELETE),
    "wait": (SNAPSHOT,),
    "share": (SNAPSHOT, GET_POLICY, SET_POLICY),
    "list": (SNAPSHOTS,),
    "delete": (SNAPSHOT, DELETE, OPERATION),
    "read": (DISK, DISKS, MAKE_DISK, ATTACH, DETACH, DELETE_DISK, ZONE_OPERATION),
}

_NAMED_PERMISSION: Final = re.compile(r"Required '([a-z][A-Za-z.]+)' permission")
_AGAIN: Final = {408, 429, 500, 502, 503, 504}
#: Codes of operations: https://docs.cloud.google.com/compute/docs/troubleshooting/troubleshooting-api-errors
_LATER: Final = {
    "RESOURCE_OPERATION_RATE_EXCEEDED", "QUOTA_EXCEEDED", "RATE_LIMIT_EXCEEDED", "RESOURCE_NOT_READY",
    "ZONE_RESOURCE_POOL_EXHAUSTED", "INTERNAL_ERROR", "BACKEND_ERROR",
}  # fmt: skip


class Missing(SnapshotFailed):
    """The disk or snapshot asked for does not exist."""


class Taken(SnapshotFailed):
    """There is a snapshot of this name already."""


class TryAgain(SnapshotFailed):
    """Compute Engine did not answer, or asked to slow down."""

    def __init__(self, message: str, *, hint: str = "Try again in a while.") -> None:
        super().__init__(message, hint=hint, retryable=True)


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of Google's SDK. ``operations`` are those of a project as a whole."""

    snapshots: Any
    disks: Any
    operations: Any
    instances: Any
    zone_operations: Any


def translated(error: Exception, operation: Operation, what: str) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from google.api_core.exceptions import GoogleAPICallError
    from google.auth.exceptions import GoogleAuthError, TransportError

    said = " ".join(str(getattr(error, "message", error)).split())
    reason = f"{what}: cannot {operation.action} it: {said}"
    if isinstance(error, GoogleAPICallError):
        return _refusal(int(error.code or 0), _reasons(error), operation, what, reason)
    if isinstance(error, GoogleAuthError) and not isinstance(error, TransportError):
        return CredentialsRejected(
            f"{what}: no valid Google credentials: {said}",
            hint="Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS.",
        )
    if not isinstance(error, (OSError, TransportError)):
        raise error
    return TryAgain(reason, hint="Look at the network and the state of Google Cloud, then try again.")


def _refusal(status: int, reasons: set[str], operation: Operation, what: str, reason: str) -> DonjonError:
    found: DonjonError
    if status == 401:
        hint = "Renew the credentials, then run the command again."
        found = CredentialsRejected(f"{what}: the credentials are not accepted", hint=hint)
    elif status in _AGAIN or reasons & {"rateLimitExceeded", "userRateLimitExceeded"}:
        found = TryAgain(reason)
    elif reasons & {"quotaExceeded"}:
        found = SnapshotFailed(reason, hint="Ask Google for a higher quota.", retryable=True)
    elif status == 403:
        named = _NAMED_PERMISSION.search(reason)
        permissions = named[1] if named else " and ".join(operation.permissions)
        found = PermissionMissing(
            f"{what}: cannot {operation.action} it: no permission {permissions}",
            hint=f"Allow {permissions} by a role on the project.",
        )
    elif status == 404:
        hint = "Look at the project and the zone, and correct the plan if it was deleted on purpose."
        found = Missing(f"{what}: is not there", hint=hint)
    elif status == 409:
        found = Taken(reason, hint="Look at who made it.")
    elif "resourceInUseByAnotherResource" in reasons:
        found = Refused(reason, hint="Look at what uses it.")
    elif status == 412:
        found = TryAgain(reason)  # somebody else changed the policy in between
    else:
        found = SnapshotFailed(reason, hint="Look at what Google says, and at the disk.")
    return found


def check_operation(operation: Any, what: str, work: str) -> None:
    """Raises ``SnapshotFailed`` if work that has ended has failed; ``work`` says what was not done."""
    errors = list(getattr(getattr(operation, "error", None), "errors", []) or [])
    if errors:
        code, said = str(errors[0].code), " ".join(str(errors[0].message).split())
        raise SnapshotFailed(
            f"{what}: {work}: {code}: {said}",
            hint="Look at the disk and at what Google says, then run it again.",
            retryable=code in _LATER,
        )


def _reasons(error: Any) -> set[str]:
    """The short reasons of an answer, such as ``rateLimitExceeded``."""
    return {
        str(one["reason"])
        for one in getattr(error, "errors", [])
        if isinstance(one, dict) and "reason" in one
    }


def connect(*, impersonate: str | None = None) -> Clients:
    """Clients with the credential that Google's chain finds, or with that of an account it impersonates.

    Raises ``UsageError`` if the SDK is not installed, and ``CredentialsRejected`` without a credential.
    """
    try:
        from google.cloud import compute_v1  # here, for it takes long to load
    except ImportError as error:
        msg = "disks of Compute Engine need packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[gcp]'") from error
    try:
        credential, _ = credentials(impersonate)
    except Exception as error:
        raise translated(error, SNAPSHOTS, "Compute Engine") from error
    return Clients(
        compute_v1.SnapshotsClient(credentials=credential),
        compute_v1.DisksClient(credentials=credential),
        compute_v1.GlobalOperationsClient(credentials=credential),
        compute_v1.InstancesClient(credentials=credential),
        compute_v1.ZoneOperationsClient(credentials=credential),
    )
