"""Turns what S3 and its SDK raise into Donjon's errors.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. An answer to HEAD has no body, so
the SDK gives the status in place of the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from donjon.clouds import aws
from donjon.core.errors import (
    DonjonError,
    LocksUnsupported,
    ObjectHidden,
    PermissionMissing,
    Refused,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
    VaultNotFound,
)
from donjon.core.operations import Operation
from donjon.stores.base import already_exists, not_found
from donjon.stores.s3.operations import DELETE, EXTEND, PUT_LOCKED

_NAMED_PERMISSION = re.compile(r"to perform: (s3:\w+)")
_NO_LOCK = re.compile(r"object ?lock", re.IGNORECASE)

_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_EXISTS = {"PreconditionFailed", "412"}
_AGAIN = {
    *aws.THROTTLED, "ServiceUnavailable", "InternalError", "InternalServerError", "RequestTimeout",
    # Somebody else is creating or deleting the same name:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    "ConditionalRequestConflict", "OperationAborted", "409",
    # The bytes did not arrive as they were sent.
    "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody",
}  # fmt: skip
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed"}
_ELSEWHERE = {
    "PermanentRedirect", "TemporaryRedirect", "301", "307", "IllegalLocationConstraintException",
    "AuthorizationHeaderMalformed",
}  # fmt: skip
_FULL = {"QuotaExceeded", "QuotaExceededException", "InsufficientStorage", "507", "XMinioStorageFull"}


class OutOfRange(StoreError):
    """A range starts at or beyond the end of an object of ``size_bytes``."""

    def __init__(self, message: str, size_bytes: int) -> None:
        super().__init__(message, hint="Run `donjon verify`.")
        self.size_bytes = size_bytes


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that failed: what was asked, of which object of which place."""

    operation: Operation
    name: str
    place: str
    version: str | None = None

    @property
    def what(self) -> str:
        """What the request was about, for messages."""
        return self.name or self.place


def translated(error: Exception, asked: Asked) -> DonjonError:
    """Our error for one that botocore raised."""
    from botocore import exceptions as sdk

    reason = f"{asked.what}: cannot {asked.operation.action} it: {aws.one_line(error)}"
    if isinstance(error, sdk.ClientError):
        return _refusal(error.response, asked, reason)
    if fault := aws.common_fault(error, asked.place):
        return fault
    if isinstance(error, sdk.SSLError):
        return StoreError(reason, hint="Set AWS_CA_BUNDLE to the certificates of this server's authority.")
    return StoreUnavailable(
        reason, hint="Look at the endpoint, the network and the state of the service, then try again."
    )


def _refusal(response: dict[str, Any], asked: Asked, reason: str) -> DonjonError:
    details = response.get("Error", {})
    code, status = str(details.get("Code", "")), response["ResponseMetadata"]["HTTPStatusCode"]
    headers = response["ResponseMetadata"].get("HTTPHeaders", {})
    if headers.get("x-amz-delete-marker") == "true" and status != 403:
        return hidden(asked.name)
    for codes, make in _BY_CODE:
        if code in codes:
            return make(asked, details, reason)
    if status == 400 and asked.version is not None and "version" in reason.lower():
        return not_found(asked.name, asked.version)  # no version has an id of this form
    about_locks = asked.operation in {PUT_LOCKED, EXTEND} and code == "InvalidRequest"
    if about_locks or (_NO_LOCK.search(str(details.get("Message", ""))) and status in {400, 404, 409}):
        return LocksUnsupported(reason, hint="Object Lock must be on in the bucket; `donjon init` says how.")
    if status in {429, 500, 502, 503, 504}:
        return StoreUnavailable(reason, hint="Look at the state of the service, then try again.")
    return StoreError(reason, hint="Look at the bucket and the server's log.")


def hidden(name: str) -> ObjectHidden:
    """The error for a name whose newest version is a delete marker."""
    return ObjectHidden(
        f"{name}: is hidden by a delete marker",
        hint="Somebody deleted it; its bytes are still there. `donjon verify` tells how to bring it back.",
    )


def told(answer: dict[str, Any], field: str, name: str) -> Any:
    """What an answer says of an object. Raises ``StoreUnavailable`` if it leaves that out."""
    try:
        return answer[field]
    except KeyError as error:
        msg = f"{name}: the answer of the server lacks {field}"
        raise StoreUnavailable(msg, hint="Look for a proxy or a server that leaves out headers.") from error


def _missing(asked: Asked, _details: dict[str, Any], _reason: str) -> DonjonError:
    return not_found(asked.name, asked.version) if asked.name else _no_bucket(asked, _details, _reason)


def _no_bucket(asked: Asked, _details: dict[str, Any], _reason: str) -> DonjonError:
    return VaultNotFound(
        f"{asked.place}: there is no such bucket",
        hint="Correct the address or the endpoint, or make the bucket: `donjon init --create` does.",
    )


def denied(asked: Asked, message: str = "") -> PermissionMissing:
    """The error for a permission that is missing; ``message`` is what S3 says, which may name it."""
    named = _NAMED_PERMISSION.search(message)
    permissions = named[1] if named else " and ".join(asked.operation.permissions) or "access"
    return PermissionMissing(
        f"{asked.what}: cannot {asked.operation.action} it: no permission {permissions}",
        hint=f"Allow {permissions} for this credential in {asked.place}, and look for a Deny: a policy may "
        "cap how long objects can be locked.",
    )


def _denied(asked: Asked, details: dict[str, Any], _reason: str) -> DonjonError:
    message = str(details.get("Message", ""))
    if asked.operation is DELETE and _NO_LOCK.search(message):
        return Refused(
            f"{asked.what}: cannot delete it: a lock or a legal hold protects it",
            hint="Its lock may end this very second; `aws s3api get-object-legal-hold` shows a hold.",
        )
    return denied(asked, message)


def _skewed(asked: Asked, details: dict[str, Any], _reason: str) -> DonjonError:
    server_time = details.get("ServerTime", "another time")
    return StoreError(
        f"{asked.place}: the clock of this host is wrong: the server's shows {server_time}",
        hint="Set the clock of this host (timedatectl set-ntp true), then try again.",
    )


def _elsewhere(asked: Asked, details: dict[str, Any], _reason: str) -> DonjonError:
    region = details.get("Region") or details.get("Endpoint") or "another region"
    return UsageError(
        f"{asked.place}: the bucket is in {region}",
        hint="Put ?region=NAME behind the address, or set AWS_DEFAULT_REGION.",
    )


def _last_part(reason: str) -> str:
    return reason.rpartition(": ")[2]


_Make = Callable[[Asked, dict[str, Any], str], DonjonError]
_BY_CODE: tuple[tuple[set[str], _Make], ...] = (
    ({"NoSuchBucket"}, _no_bucket),
    (_MISSING, _missing),
    (_EXISTS, lambda asked, _details, _reason: already_exists(asked.name)),
    (_AGAIN, lambda _asked, _details, reason: StoreUnavailable(reason, hint="Try again in a while.")),
    (_DENIED, _denied),
    (
        aws.EXPIRED_CREDENTIALS,
        lambda asked, _details, reason: aws.expired(asked.place, _last_part(reason)),
    ),
    (
        aws.BAD_CREDENTIALS,
        lambda asked, _details, reason: aws.not_accepted(asked.place, _last_part(reason)),
    ),
    ({"RequestTimeTooSkewed"}, _skewed),
    (_ELSEWHERE, _elsewhere),
    (
        {"InvalidRange", "416"},
        lambda _asked, details, reason: OutOfRange(reason, int(details.get("ActualObjectSize", 0))),
    ),
    (_FULL, lambda _asked, _details, reason: StoreFull(reason, hint="Raise the quota, or free some room.")),
    (
        {"InvalidObjectState"},
        lambda _asked, _details, reason: StoreError(
            reason, hint="It was moved to an archive: restore it there first (aws s3api restore-object)."
        ),
    ),
)
