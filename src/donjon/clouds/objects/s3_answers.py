"""What S3 answers: lists, headers, refusals.

The lists: https://docs.aws.amazon.com/AmazonS3/latest/API/API_ListObjectsV2.html and
.../API_ListObjectVersions.html; the codes: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html.
"""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Final
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from donjon.clouds import aws
from donjon.clouds.objects.base import Listed, Metadata, ObjectChanged
from donjon.core.errors import (
    DonjonError,
    ObjectNotFound,
    PermissionMissing,
    StoreError,
    StoreUnavailable,
    UsageError,
)

_NS: Final = 1_000_000_000
_PERMISSION: Final = re.compile(r"to perform: (s3:\w+)")
_FIELDS: Final = {
    "content_type": "content-type",
    "content_encoding": "content-encoding",
    "content_language": "content-language",
    "content_disposition": "content-disposition",
    "cache_control": "cache-control",
    "expires": "expires",
}
_MONTHS: Final = "JanFebMarAprMayJunJulAugSepOctNovDec"
_USER: Final = "x-amz-meta-"

_MISSING: Final = {"NoSuchKey", "NoSuchVersion"}
_AGAIN: Final = {
    *aws.THROTTLED, "ServiceUnavailable", "InternalError", "InternalServerError", "RequestTimeout",
    "ConditionalRequestConflict", "OperationAborted", "BadDigest", "IncompleteBody",
    "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch",
}  # fmt: skip
_DENIED: Final = {"AccessDenied", "Forbidden", "AllAccessDisabled", "AccountProblem"}
_CREDENTIALS: Final = {*aws.EXPIRED_CREDENTIALS, *aws.BAD_CREDENTIALS}
_ELSEWHERE: Final = {"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"}


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list, and the query of the next one; None after the last."""

    rows: list[Listed]
    following: dict[str, str] | None


def parse_page(body: bytes, *, versions: bool) -> Page:
    """A page of a list. Raises ``StoreUnavailable`` for one that cannot be read."""
    try:
        return _page(ElementTree.fromstring(body), versions=versions)  # noqa: S314  (as botocore reads it)
    except (ElementTree.ParseError, ValueError, KeyError, TypeError) as error:
        msg = f"a page of the list cannot be read: {error}"
        raise StoreUnavailable(msg, hint="Look for a proxy that changes answers.") from error


def _page(root: ElementTree.Element, *, versions: bool) -> Page:
    space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
    cut = len(space)
    coded = root.findtext(f"{space}EncodingType") == "url"
    rows = []
    for element in root:
        name = element.tag[cut:]
        if name not in ("Contents", "Version", "DeleteMarker"):
            continue
        told = {child.tag[cut:]: child.text or "" for child in element}
        key = unquote_plus(told["Key"], errors="strict") if coded else told["Key"]
        rows.append(
            Listed(
                key,
                int(told.get("Size") or 0),
                time_ns(told["LastModified"]),
                told.get("ETag", "").strip('"'),
                told.get("VersionId", ""),
                told.get("StorageClass", ""),
                told.get("IsLatest", "true") == "true",
                name == "DeleteMarker",
            )
        )
    if root.findtext(f"{space}IsTruncated") != "true":
        return Page(rows, None)
    if not versions:
        return Page(rows, {"continuation-token": root.findtext(f"{space}NextContinuationToken") or ""})
    marker = root.findtext(f"{space}NextKeyMarker") or ""
    following = {"key-marker": unquote_plus(marker) if coded else marker}
    if version := root.findtext(f"{space}NextVersionIdMarker"):
        following["version-id-marker"] = version
    return Page(rows, following)


def time_ns(text: str) -> int:
    """Unix nanoseconds of ``2026-01-02T03:04:05.678Z``."""
    if text[-1:] == "Z" and text[10:11] == "T":  # an order of magnitude faster than what parses all forms
        date = (int(text[:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]))
        fraction = text[20:-1]
        second = calendar.timegm((*date, int(text[17:19]), 0, 0, 0))
        return second * _NS + (int(fraction.ljust(9, "0")[:9]) if fraction else 0)
    return round(datetime.fromisoformat(text).timestamp()) * _NS


def _http_time_s(text: str) -> int:
    """Unix seconds of ``Fri, 02 Jan 2026 03:04:05 GMT`` (RFC 9110, section 5.6.7)."""
    month = _MONTHS.find(text[8:11])
    if month < 0 or text[25:] != " GMT":
        return int(parsedate_to_datetime(text).timestamp())
    clock = (int(text[17:19]), int(text[20:22]), int(text[23:25]))
    return calendar.timegm((int(text[12:16]), month // 3 + 1, int(text[5:7]), *clock, 0, 0, 0))


def parse_object(key: str, headers: Mapping[str, str], size_bytes: int) -> tuple[Listed, Metadata]:
    """What the headers of a GET or HEAD tell of an object. Raises ``StoreUnavailable`` without a time."""
    try:
        modified_s = _http_time_s(headers["last-modified"])
    except (KeyError, ValueError) as error:
        msg = f"{key}: the answer does not tell when the object was stored"
        raise StoreUnavailable(msg, hint="Look for a proxy that leaves out headers.") from error
    listed = Listed(
        key,
        size_bytes,
        modified_s * _NS,
        headers.get("etag", "").strip('"'),
        headers.get("x-amz-version-id", "") or "",
        headers.get("x-amz-storage-class", "STANDARD"),
    )
    told: dict[str, Any] = {field: headers[name] for field, name in _FIELDS.items() if headers.get(name)}
    user = {name[len(_USER) :]: value for name, value in headers.items() if name.startswith(_USER)}
    return listed, Metadata(**told, user=user, storage_class=headers.get("x-amz-storage-class", ""))


def refusal(
    status: int, body: bytes, what: str, permissions: tuple[str, ...], *, of_object: bool
) -> DonjonError:
    """Our error for an answer that is one, read from its body."""
    code, message, region = "", "", ""
    try:
        root = ElementTree.fromstring(body)  # noqa: S314  (as botocore reads it)
        told = {child.tag.rpartition("}")[2]: child.text or "" for child in root}
        code, message, region = told.get("Code", ""), told.get("Message", ""), told.get("Region", "")
    except ElementTree.ParseError:
        pass
    return error_for(status, code, message, what, permissions, of_object=of_object, region=region)


def error_for(
    status: int,
    code: str,
    message: str,
    what: str,
    permissions: tuple[str, ...],
    *,
    of_object: bool,
    region: str = "",
) -> DonjonError:
    """Our error for a code of S3; a HEAD has no body, so its code is empty or the status."""
    told = message or code or f"status {status}"
    if code in _DENIED or (status in {401, 403} and code not in _CREDENTIALS):
        named = _PERMISSION.search(message)
        return _denied(what, named[1] if named else " and ".join(permissions), told)
    if code in _MISSING or (status == 404 and of_object and code != "NoSuchBucket"):
        return ObjectNotFound(f"{what}: is not there")
    if code in _AGAIN or status in {429, 500, 502, 503, 504}:
        return StoreUnavailable(f"{what}: {told}", hint="Look at the state of the service, then try again.")
    if code == "PreconditionFailed" or status == 412:
        return ObjectChanged(f"{what}: has changed")
    return _other(status, code, what, told, region)


def _denied(what: str, needed: str, told: str) -> DonjonError:
    return PermissionMissing(
        f"{what}: S3 refused it (needs {needed}): {told}",
        hint=f"Allow {needed} to the user or role that is used here.",
    )


def _other(status: int, code: str, what: str, told: str, region: str) -> DonjonError:
    """For what concerns more than one object."""
    if code in aws.EXPIRED_CREDENTIALS:
        return aws.expired(what, told)
    if code in aws.BAD_CREDENTIALS:
        return aws.not_accepted(what, told)
    if code == "NoSuchBucket":
        return StoreError(f"{what}: there is no such bucket", hint="Correct the address.")
    if code in _ELSEWHERE or status in {301, 307}:
        return UsageError(
            f"{what}: the bucket is in {region or 'another region'}",
            hint="Put ?region=NAME behind the address, or set AWS_DEFAULT_REGION.",
        )
    hint = "Look at the bucket and the server's log."
    if code == "InvalidObjectState":
        told, hint = "is in an archive", "Restore it there first: aws s3api restore-object."
    return StoreError(f"{what}: {told}", hint=hint)


def sdk_error(error: Exception, what: str, permissions: tuple[str, ...], *, of_object: bool) -> DonjonError:
    """Our error for one of the SDK. What no rule of the SDK foresees is raised as it is."""
    from botocore import exceptions as sdk

    if isinstance(error, DonjonError):
        return error
    if isinstance(error, sdk.ClientError):
        told: dict[str, Any] = error.response
        details, answer = told.get("Error", {}), told["ResponseMetadata"]
        code = str(details.get("Code", ""))
        return error_for(
            int(answer["HTTPStatusCode"]),
            "" if code.isdigit() else code,
            str(details.get("Message", "")),
            what,
            permissions,
            of_object=of_object,
            region=str(details.get("Region", "")),
        )
    if fault := aws.common_fault(error, what):
        return fault
    if isinstance(error, (sdk.BotoCoreError, OSError)):
        return StoreUnavailable(
            f"{what}: {aws.one_line(error)}", hint="Look at the endpoint and the network."
        )
    raise error
