"""What is asked of Azure to read and write managed disks, what it takes, and what refusals mean.

Permissions: https://learn.microsoft.com/azure/role-based-access-control/permissions/compute
Codes of page blobs: https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    PermissionMissing,
    SourceFailed,
    TargetFailed,
)
from donjon.core.operations import Operation

_SNAPSHOTS: Final = "Microsoft.Compute/snapshots"
_DISKS: Final = "Microsoft.Compute/disks"

SNAPSHOT: Final = Operation("get", "look at", (f"{_SNAPSHOTS}/read",))
GRANT_SNAPSHOT: Final = Operation(
    "begin_grant_access", "get access to", (f"{_SNAPSHOTS}/beginGetAccess/action",)
)
REVOKE_SNAPSHOT: Final = Operation(
    "begin_revoke_access", "end the access to", (f"{_SNAPSHOTS}/endGetAccess/action",)
)
DISK: Final = Operation("get", "look at", (f"{_DISKS}/read",))
MAKE: Final = Operation("begin_create_or_update", "make", (f"{_DISKS}/write",))
GRANT_DISK: Final = Operation("begin_grant_access", "get access to", (f"{_DISKS}/beginGetAccess/action",))
REVOKE_DISK: Final = Operation("begin_revoke_access", "end the access to", (f"{_DISKS}/endGetAccess/action",))
DELETE: Final = Operation("begin_delete", "delete", (f"{_DISKS}/delete",))
#: With a signature that was granted, which is all that these take; but for disks that ask for Entra as well:
#: https://learn.microsoft.com/azure/virtual-machines/disks-secure-upload-download
RANGES: Final = Operation("list_page_ranges", "list the pages of", (), (f"{_SNAPSHOTS}/download/action",))
CHANGES: Final = Operation(
    "get_page_range_diff_for_managed_disk", "list what has changed in", (), (f"{_SNAPSHOTS}/download/action",)
)
READ: Final = Operation("download_blob", "read", (), (f"{_SNAPSHOTS}/download/action",))
WRITE: Final = Operation("upload_page", "write to", (), (f"{_DISKS}/upload/action",))

#: What reading and writing take, for roles and their policies.
PERMISSIONS: Final[Mapping[str, tuple[Operation, ...]]] = {
    "read": (SNAPSHOT, GRANT_SNAPSHOT, REVOKE_SNAPSHOT, RANGES, CHANGES, READ),
    "write": (DISK, MAKE, GRANT_DISK, REVOKE_DISK, DELETE, WRITE),
}

_WRITES: Final = {DISK, MAKE, GRANT_DISK, REVOKE_DISK, DELETE, WRITE}
_NAMED_PERMISSION: Final = re.compile(r"perform action '([A-Za-z0-9./]+)'")
#: A signature grants access by itself, so no message may have one.
_SIGNATURE: Final = re.compile(r"(?i)\bsig=[^&\s'\")]+")
_AGAIN: Final = {408, 429, 500, 502, 503, 504}
_HINTS: Final = {
    "AuthorizationFailure": "It may be allowed through a private endpoint alone: see networkAccessPolicy.",
    "PreviousSnapshotCannotBeNewer": "The snapshot of the previous point has to be the older one.",
}


class Missing(SourceFailed):
    """The snapshot or disk asked for does not exist."""


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


def is_signature_refused(error: Exception) -> bool:
    """Whether a page blob was asked with a signature that has ended, or was taken back.

    The service answers 403 for it (https://learn.microsoft.com/rest/api/storageservices/create-service-sas).
    """
    from azure.core.exceptions import HttpResponseError

    return isinstance(error, HttpResponseError) and error.status_code == 403


def translated(error: Exception, operation: Operation, what: str) -> DonjonError:
    """Our error for one of the SDK; what no rule of the SDK foresees comes out as it is."""
    from azure.core import exceptions as sdk

    text = _SIGNATURE.sub("sig=…", str(getattr(error, "message", "") or error))
    reason = " ".join(text.split()) or type(error).__name__
    response = getattr(error, "response", None)
    if isinstance(error, sdk.HttpResponseError) and response is not None:
        return _refusal(error, int(response.status_code), operation, what, reason)
    if isinstance(error, sdk.ClientAuthenticationError):
        return CredentialsRejected(
            f"{what}: no valid Azure credentials: {reason.partition('. ')[0]}",
            hint="Run `az login`, or set what azure-identity's DefaultAzureCredential reads.",
        )
    if not isinstance(error, (sdk.AzureError, OSError)):
        raise error
    hint = "Look at the network and the state of Azure, then try again."
    return failed(operation, what, reason, hint=hint, retryable=True)


def _refusal(error: Any, status: int, operation: Operation, what: str, reason: str) -> DonjonError:
    code = getattr(error, "error_code", "") or getattr(getattr(error, "error", None), "code", "") or ""
    code = str(getattr(code, "value", code))
    reason = reason if code in reason else f"{code}: {reason}"
    if status == 401:
        hint = "Renew the credentials, then run the command again."
        return CredentialsRejected(f"{what}: the credentials are not accepted", hint=hint)
    if status == 403:
        named = _NAMED_PERMISSION.search(reason)
        permissions = named[1] if named else " and ".join(operation.permissions or operation.optional)
        return PermissionMissing(
            f"{what}: cannot {operation.action} it: no permission {permissions}: {reason}",
            hint=_HINTS.get(code, f"Allow {permissions} by a role on the resource group."),
        )
    if status == 404 and operation not in {CHANGES, *_WRITES} - {DISK}:
        return Missing(f"{what}: is not there", hint="Look at the subscription and the resource group.")
    hint = _HINTS.get(code, "Try again in a while." if status in _AGAIN else "Look at what Azure says.")
    if status == 409 and operation in {GRANT_SNAPSHOT, GRANT_DISK}:
        hint = "At most 5 snapshots of a disk can be read at once: end the access to others."
    return failed(operation, what, reason, hint=hint, retryable=status in _AGAIN)
