"""What is asked of Azure for snapshots of managed disks, the permissions it takes, and what refusals mean.

Permissions: https://learn.microsoft.com/azure/role-based-access-control/permissions/compute
Codes: https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    ObjectLocked,
    PermissionMissing,
    Refused,
    SnapshotFailed,
    UsageError,
)
from donjon.core.operations import Operation

DISK: Final = Operation("get", "look at", ("Microsoft.Compute/disks/read",))
DISKS: Final = Operation("list_by_resource_group", "list the disks of", ("Microsoft.Compute/disks/read",))
SNAPSHOT: Final = Operation("get", "look at", ("Microsoft.Compute/snapshots/read",))
SNAPSHOTS: Final = Operation(
    "list_by_resource_group", "list the snapshots of", ("Microsoft.Compute/snapshots/read",)
)
CREATE: Final = Operation(
    "begin_create_or_update",
    "take a snapshot of",
    ("Microsoft.Compute/snapshots/write", "Microsoft.Compute/disks/beginGetAccess/action"),
)
COPY: Final = Operation(
    "begin_create_or_update",
    "copy",
    ("Microsoft.Compute/snapshots/write", "Microsoft.Compute/snapshots/beginGetAccess/action"),
    ("Microsoft.Compute/diskEncryptionSets/read",),
)
DELETE: Final = Operation("begin_delete", "delete", ("Microsoft.Compute/snapshots/delete",))
PROTECT: Final = Operation(
    "begin_update_immutability_policy",
    "set a lock on",
    ("Microsoft.Compute/snapshots/updateImmutabilityPolicy/action",),
)
LOCK: Final = Operation(
    "begin_update_immutability_policy_lock",
    "lock",
    ("Microsoft.Compute/snapshots/updateImmutabilityPolicyLock/action",),
)

#: What each method takes, for roles and their policies.
PERMISSIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "select": (DISK, DISKS),
    "create": (DISK, SNAPSHOT, CREATE),
    "wait": (SNAPSHOT,),
    "copy": (SNAPSHOT, COPY),
    "share": (),
    "lock": (SNAPSHOT, PROTECT, LOCK),
    "list": (SNAPSHOTS,),
    "delete": (SNAPSHOT, DELETE),
}

_NAMED_PERMISSION: Final = re.compile(r"perform action '([A-Za-z0-9./]+)'")
_ABOUT_LOCKS: Final = re.compile(r"immutab|\block", re.IGNORECASE)
_AGAIN: Final = {408, 429, 500, 502, 503, 504}


class Missing(SnapshotFailed):
    """The disk, snapshot or group asked for does not exist."""


class TryAgain(SnapshotFailed):
    """Azure did not answer, or asked to slow down."""

    def __init__(self, message: str, *, hint: str = "Try again in a while.") -> None:
        super().__init__(message, hint=hint, retryable=True)


def translated(error: Exception, operation: Operation, what: str) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from azure.core import exceptions as sdk

    said = " ".join(str(getattr(error, "message", "") or error).split())
    reason = f"{what}: cannot {operation.action} it: {said or type(error).__name__}"
    response = getattr(error, "response", None)
    if isinstance(error, sdk.HttpResponseError) and response is not None:
        return _refusal(error, int(response.status_code), operation, what, reason)
    if isinstance(error, sdk.ClientAuthenticationError):
        return CredentialsRejected(
            f"{what}: no valid Azure credentials: {said.partition('. ')[0]}",
            hint="Run `az login`, or set what azure-identity's DefaultAzureCredential reads.",
        )
    if not isinstance(error, (sdk.AzureError, OSError)):
        raise error
    return TryAgain(reason, hint="Look at the network and the state of Azure, then try again.")


def _refusal(error: Any, status: int, operation: Operation, what: str, reason: str) -> DonjonError:
    code = str(getattr(getattr(error, "error", None), "code", "") or "")
    found: DonjonError
    if status == 401:
        hint = "Renew the credentials, then run the command again."
        found = CredentialsRejected(f"{what}: the credentials are not accepted", hint=hint)
    elif status == 403:
        named = _NAMED_PERMISSION.search(reason)
        permissions = named[1] if named else " and ".join(operation.permissions)
        found = PermissionMissing(
            f"{what}: cannot {operation.action} it: no permission {permissions}",
            hint=f"Allow {permissions} by a role on the resource group.",
        )
    elif status == 404:
        hint = "Look at the subscription and the resource group, and correct the plan if it was deleted."
        found = Missing(f"{what}: is not there", hint=hint)
    elif status in _AGAIN:
        found = TryAgain(reason)
    elif status == 409 and operation in {DELETE, LOCK, PROTECT} and _ABOUT_LOCKS.search(f"{code} {reason}"):
        hint = "Wait until its lock has ended; a management lock has to be removed by its owner."
        found = ObjectLocked(reason, retain_until=0, hint=hint)
    elif status == 409 and operation is DELETE:
        found = Refused(reason, hint="Look at what uses it; it may be the source of a copy.")
    elif status == 409:
        hint = "Another operation may be under way, or a limit of Azure be reached; run it again later."
        found = SnapshotFailed(reason, hint=hint, retryable=True)
    else:
        found = SnapshotFailed(reason, hint="Look at what Azure says, and at the disk.")
    return found


def connect(subscription: str, *, client_id: str | None = None) -> Any:
    """A client of Azure's compute service, which tries everything once.

    ``client_id`` is that of a managed identity, by default what azure-identity finds. Raises ``UsageError``
    if the SDK is not installed.
    """
    try:
        from azure.identity import DefaultAzureCredential  # here, for they take long to load
        from azure.mgmt.compute import ComputeManagementClient
    except ImportError as error:
        msg = "managed disks of Azure need packages that are not installed"
        raise UsageError(msg, hint="Run: pip install 'donjon[azure]'") from error
    credential = DefaultAzureCredential(managed_identity_client_id=client_id)
    return ComputeManagementClient(
        credential, subscription, retry_total=0, connection_timeout=20, read_timeout=60
    )
