"""Turns what S3 and its SDK raise into Donjon's errors.

Codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html. An answer to HEAD has no body, so
the SDK gives the status in place of the code.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from donjon.core.errors import (
    DonjonError,
    LocksUnsupported,
    ObjectHidden,
    PermissionMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
    UsageError,
    VaultNotFound,
)
from donjon.stores.base import already_exists, not_found
from donjon.stores.s3.operations import EXTEND, PUT_LOCKED, Operation

_NAMED_PERMISSION = re.compile(r"to perform: (s3:\w+)")
_NO_LOCK = re.compile(r"object ?lock", re.IGNORECASE)

_MISSING = {"NoSuchKey", "NoSuchVersion", "404", "NotFound"}
_EXISTS = {"PreconditionFailed", "412"}
_AGAIN = {
    "SlowDown", "ServiceUnavailable", "InternalError", "InternalServerError", "RequestTimeout", "Throttling",
    "ThrottlingException", "RequestLimitExceeded", "TooManyRequests", "BandwidthLimitExceeded",
    # Somebody else is creating or deleting the same name:
    # https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    "ConditionalRequestConflict", "OperationAborted", "409",
    # The bytes did not arrive as they were sent.
    "BadDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch", "IncompleteBody",
}  # fmt: skip
_DENIED = {"AccessDenied", "403", "Forbidden", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed"}
_BAD_KEYS = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "401", "Unauthorized"}
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
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

    reason = f"{asked.what}: cannot {asked.operation.action} it: {_one_line(error)}"
    if isinstance(error, sdk.ClientError):
        return _refusal(error.response, asked, reason)
    if isinstance(error, _credential_errors(sdk)):
        return PermissionMissing(
            f"{asked.place}: no usable credentials: {_one_line(error)}",
            hint="Set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; `aws sso login` renews a "
            "session.",
        )
    if isinstance(
        error, (sdk.ProfileNotFound, sdk.ConfigParseError, sdk.NoRegionError, sdk.InvalidRegionError)
    ):
        return UsageError(
            f"{asked.place}: {_one_line(error)}", hint="Look at AWS_PROFILE, AWS_REGION and ~/.aws/config."
        )
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


def _missing(asked: Asked, _details: dict[str, Any], _reason: str) -> DonjonError:
    return not_found(asked.name, asked.version) if asked.name else _no_bucket(asked, _details, _reason)


def _no_bucket(asked: Asked, _details: dict[str, Any], _reason: str) -> DonjonError:
    return VaultNotFound(
        f"{asked.place}: there is no such bucket",
        hint="Correct the address or the endpoint, or make the bucket first.",
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
        hint="Put ?region=NAME behind the address, or set AWS_REGION.",
    )


def _credentials(what: str, hint: str) -> Callable[[Asked, dict[str, Any], str], DonjonError]:
    return lambda asked, _details, reason: PermissionMissing(
        f"{asked.place}: {what}: {reason.rpartition(': ')[2]}", hint=hint
    )


_Make = Callable[[Asked, dict[str, Any], str], DonjonError]
_BY_CODE: tuple[tuple[set[str], _Make], ...] = (
    ({"NoSuchBucket"}, _no_bucket),
    (_MISSING, _missing),
    (_EXISTS, lambda asked, _details, _reason: already_exists(asked.name)),
    (_AGAIN, lambda _asked, _details, reason: StoreUnavailable(reason, hint="Try again in a while.")),
    (_DENIED, lambda asked, details, _reason: denied(asked, str(details.get("Message", "")))),
    (_EXPIRED, _credentials("the credentials have expired", "Renew them, then run the command again.")),
    (_BAD_KEYS, _credentials("the credentials are not accepted", "Look at AWS_PROFILE and the access key.")),
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


def _credential_errors(sdk: Any) -> tuple[type[Exception], ...]:
    return (
        sdk.NoCredentialsError,
        sdk.PartialCredentialsError,
        sdk.CredentialRetrievalError,
        sdk.TokenRetrievalError,
        sdk.NoAuthTokenError,
        sdk.SSOError,
    )


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text.replace(" (reached max retries: 0)", "")
