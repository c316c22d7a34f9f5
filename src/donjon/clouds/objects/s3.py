"""Objects in a bucket of S3, or of a server that speaks its language."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Final
from urllib.parse import quote, urlencode
from xml.etree import ElementTree

import msgspec

from donjon.clouds import aws
from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.base import (
    WHOLE_LIMIT_BYTES,
    Buffer,
    Got,
    Listed,
    Metadata,
    ObjectChanged,
    Rules,
    Upload,
    fit,
)
from donjon.clouds.objects.s3_answers import parse_object, parse_page, refusal, sdk_error
from donjon.clouds.signed_gets import SignedGets, TooLong
from donjon.core.errors import DonjonError, ObjectNotFound, PermissionMissing, StoreUnavailable, UsageError
from donjon.core.pace import Pace
from donjon.core.units import MIB

_CONNECTIONS: Final = 32
#: Of a page of a list, or the tags of an object.
_MOST_BYTES: Final = 64 * MIB
_MAX_PARTS: Final = 10_000
_PART_BYTES: Final = 8 * MIB
#: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html, .../object-tagging.html
_RULES: Final = Rules(
    "S3",
    user_bytes=2048,
    tags=10,
    lower_names=True,
    storage_classes={
        name: name for name in ("STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR")
    },
)
_LIST: Final = ("s3:ListBucket",)
_LIST_VERSIONS: Final = ("s3:ListBucketVersions",)
_GET: Final = ("s3:GetObject",)
_GET_VERSION: Final = ("s3:GetObjectVersion",)
_PUT: Final = ("s3:PutObject",)
_DELETE: Final = ("s3:DeleteObject",)
_LOOK_AT_VERSIONING: Final = ("s3:GetBucketVersioning",)
_ARGUMENTS: Final = {
    "content_type": "ContentType",
    "content_encoding": "ContentEncoding",
    "content_language": "ContentLanguage",
    "content_disposition": "ContentDisposition",
    "cache_control": "CacheControl",
    "expires": "Expires",
    "storage_class": "StorageClass",
}


class S3Objects:
    """See the port. Credentials, roles and regions come from the SDK's standard chain, or from a profile."""

    provider = "s3"
    marks_deletions = True

    def __init__(
        self, address: BucketAddress, pace: Pace | None = None, *, profile: str | None = None
    ) -> None:
        """Raises ``UsageError`` if the SDK is not installed or there is no such profile."""
        if address.bucket.endswith("--x-s3"):
            msg = f"{address.url}: directory buckets are not supported"
            raise UsageError(msg, hint="Copy it to a general purpose bucket first.")
        self.url, self.prefix = address.url, address.prefix
        self._bucket = address.bucket
        self._pace = pace or Pace()
        try:
            self._client, self._gets = _connect(address, profile)
        except Exception as error:
            raise sdk_error(error, address.url, (), of_object=False) from error
        self._md5_etags = True
        # Servers other than AWS may ignore conditions, and would replace what must stay.
        self._looks_first = address.endpoint is not None

    def pages(self, *, versions: bool = False) -> Iterator[list[Listed]]:
        permissions = _LIST_VERSIONS if versions else _LIST
        query = {"versions": ""} if versions else {"list-type": "2"}
        query |= {"encoding-type": "url", "prefix": self.prefix}
        following: dict[str, str] | None = {}
        while following is not None:

            def ask(more: dict[str, str] = following) -> bytes:
                return self._get("", query | more, {}, permissions)[1]

            page = parse_page(self._pace.carry_out(ask), versions=versions)
            following = page.following
            yield page.rows

    def read(
        self,
        listed: Listed,
        *,
        offset: int = 0,
        length: int | None = None,
        tags: bool = True,
        most_bytes: int = WHOLE_LIMIT_BYTES,
    ) -> Got:
        query = {"versionId": listed.version} if listed.version else {}
        headers = {}
        if length is not None:
            headers = {"range": f"bytes={offset}-{offset + length - 1}", "if-match": f'"{listed.etag}"'}
        permissions = _GET_VERSION if listed.version else _GET

        def ask() -> tuple[dict[str, str], bytes]:
            told, body = self._get(listed.key, query, headers, permissions, length or most_bytes)
            if len(body) != int(told.get("content-length", len(body))):
                msg = f"{listed.key}: the answer ended early"
                raise StoreUnavailable(msg, hint="Look at the network.")
            return told, body

        told, body = self._pace.carry_out(ask)
        if length is None:
            body = self._checked(told, body, ask)
        total = told.get("content-range", "").rpartition("/")[2] or len(body)
        found, metadata = parse_object(listed.key, told, int(total))
        if tags and int(told.get("x-amz-tagging-count", "0")):
            query = {"tagging": ""} | query
            tag_body = self._pace.carry_out(
                partial(self._get, listed.key, query, {}, ("s3:GetObjectTagging",))
            )[1]
            metadata = msgspec.structs.replace(metadata, tags=_parse_tags(tag_body))
        return Got(found, metadata, body)

    def look(self, key: str) -> tuple[Listed, Metadata] | None:
        try:
            told = self._call("head_object", key, _GET)
        except ObjectNotFound:
            return None
        headers = told["ResponseMetadata"]["HTTPHeaders"]
        return parse_object(key, headers, int(headers["content-length"]))

    def put(self, key: str, data: Buffer, metadata: Metadata, *, replace: bool) -> bool:
        condition = {} if replace else {"IfNoneMatch": "*"}
        if not replace and self._looks_first and self.look(key) is not None:
            return False
        try:
            self._call("put_object", key, _PUT, Body=bytes(data), **_arguments(metadata), **condition)
        except ObjectChanged:
            return False
        return True

    def start(self, key: str, size_bytes: int, metadata: Metadata, *, replace: bool) -> Upload:
        told = self._call("create_multipart_upload", key, _PUT, **_arguments(metadata))
        part_bytes = max(_PART_BYTES, -(-size_bytes // _MAX_PARTS))
        return _Multipart(self._call, key, told["UploadId"], part_bytes, replace=replace)

    def hide(self, key: str) -> None:
        self._call("delete_object", key, _DELETE)

    def keeps_versions(self) -> bool:
        def ask() -> dict[str, Any]:
            try:
                answer: dict[str, Any] = self._client.get_bucket_versioning(Bucket=self._bucket)
            except Exception as error:
                raise sdk_error(error, self.url, _LOOK_AT_VERSIONING, of_object=False) from error
            return answer

        return self._pace.carry_out(ask).get("Status") == "Enabled"

    def fitting(self, metadata: Metadata) -> tuple[Metadata, list[str]]:
        return fit(metadata, _RULES)

    def close(self) -> None:
        self._gets.close()
        self._client.close()

    def _checked(
        self, told: dict[str, str], body: bytes, again: Callable[[], tuple[dict[str, str], bytes]]
    ) -> bytes:
        """The bytes of a whole object, compared with its ETag where that is their MD5.

        It is unless it was put in parts or encrypted with a key of KMS or of its owner
        (https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html); some servers make up others.
        """
        etag = told.get("etag", "").strip('"')
        encryption = told.get("x-amz-server-side-encryption", "")
        own_key = "x-amz-server-side-encryption-customer-algorithm" in told
        if not self._md5_etags or len(etag) != 32 or encryption.startswith("aws:kms") or own_key:
            return body
        if hashlib.md5(body, usedforsecurity=False).hexdigest() == etag:
            return body
        retold, second = self._pace.carry_out(again)
        if hashlib.md5(second, usedforsecurity=False).hexdigest() == retold.get("etag", "").strip('"'):
            told.clear()
            told.update(retold)
            return second
        if second == body:  # the same bytes twice: this server's ETags are something else
            self._md5_etags = False
            return body
        msg = "the bytes that arrive are not those of its ETag"
        raise StoreUnavailable(msg, hint="Look for a proxy or a disk that damages them.")

    def _get(
        self,
        key: str,
        query: dict[str, str],
        headers: dict[str, str],
        permissions: tuple[str, ...],
        most_bytes: int = _MOST_BYTES,
    ) -> tuple[dict[str, str], bytes]:
        what = f"{self.url}: {key}" if key else self.url
        try:
            path = f"/{quote(key.encode('utf-8', 'surrogateescape'), safe='/~')}"
            status, told, body = self._gets.get(path, query, headers, most_bytes)
        except TooLong as error:
            raise ObjectChanged(f"{what}: {error.message}") from error
        except DonjonError:
            raise
        except Exception as error:
            raise sdk_error(error, what, permissions, of_object=bool(key)) from error
        if status not in (200, 206):
            raise refusal(status, body, what, permissions, of_object=bool(key))
        return told, body

    def _call(self, method: str, key: str, permissions: tuple[str, ...], **arguments: Any) -> dict[str, Any]:
        request = getattr(self._client, method)

        def ask() -> dict[str, Any]:
            try:
                answer: dict[str, Any] = request(Bucket=self._bucket, Key=key, **arguments)
            except Exception as error:
                raise sdk_error(error, f"{self.url}: {key}", permissions, of_object=True) from error
            return answer

        return self._pace.carry_out(ask)


def _connect(address: BucketAddress, profile: str | None) -> tuple[Any, SignedGets]:
    """A client of the SDK, and what reads without it. Raises what the SDK raises, and ``UsageError``."""
    what = "a bucket of S3"
    client = aws.client(
        "s3",
        what,
        region=address.region,
        endpoint=address.endpoint,
        profile=profile,
        connect_timeout=20,
        read_timeout=60,
        max_pool_connections=_CONNECTIONS,
        s3={"addressing_style": "path" if address.endpoint else "auto"},
        response_checksum_validation="when_required",
    )
    # The rules for the host of a bucket are many, and the SDK knows them.
    told: str = client.generate_presigned_url("list_objects_v2", Params={"Bucket": address.bucket})
    credentials = aws.credentials(what, profile=profile)
    return client, SignedGets(told.partition("?")[0], "s3", client.meta.region_name, credentials)


class _Multipart:
    """See ``Upload``."""

    ordered = False

    def __init__(
        self, call: Callable[..., dict[str, Any]], key: str, upload: str, part_bytes: int, *, replace: bool
    ) -> None:
        self.part_bytes = part_bytes
        self._call, self._key, self._upload, self._replace = call, key, upload, replace
        self._etags: dict[int, str] = {}
        self._mutex = threading.Lock()

    def part(self, number: int, data: Buffer) -> None:
        told = self._call(
            "upload_part", self._key, _PUT, UploadId=self._upload, PartNumber=number + 1, Body=bytes(data)
        )
        with self._mutex:
            self._etags[number] = told["ETag"]

    def complete(self, parts: int) -> bool:
        rows = [{"PartNumber": number + 1, "ETag": self._etags[number]} for number in range(parts)]
        condition = {} if self._replace else {"IfNoneMatch": "*"}
        try:
            self._call(
                "complete_multipart_upload",
                self._key,
                _PUT,
                UploadId=self._upload,
                MultipartUpload={"Parts": rows},
                **condition,
            )
        except ObjectChanged:
            self.abort()
            return False
        return True

    def abort(self) -> None:
        try:
            self._call(
                "abort_multipart_upload", self._key, ("s3:AbortMultipartUpload",), UploadId=self._upload
            )
        except (DonjonError, PermissionMissing):
            return  # the bucket's lifecycle rule for unfinished uploads takes it away


def _arguments(metadata: Metadata) -> dict[str, Any]:
    told: dict[str, Any] = {
        name: value for field, name in _ARGUMENTS.items() if (value := getattr(metadata, field))
    }
    if metadata.user:
        told["Metadata"] = metadata.user
    if metadata.tags:
        told["Tagging"] = urlencode(metadata.tags)
    return told


def _parse_tags(body: bytes) -> dict[str, str]:
    tags = {}
    for element in ElementTree.fromstring(body).iter():  # noqa: S314  (as botocore reads it)
        if element.tag.rpartition("}")[2] == "Tag":
            told = {child.tag.rpartition("}")[2]: child.text or "" for child in element}
            tags[told["Key"]] = told["Value"]
    return tags
