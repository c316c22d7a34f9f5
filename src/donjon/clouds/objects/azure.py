"""Objects in a container of Azure Blob Storage."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import threading
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import msgspec

from donjon.clouds.azure_blobs import blob_service
from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.answers import error_for, in_pages, newest_first
from donjon.clouds.objects.base import (
    PROBE,
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
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    ObjectNotFound,
    PermissionMissing,
    StoreError,
    StoreUnavailable,
)
from donjon.core.pace import Pace
from donjon.core.units import MIB

T = TypeVar("T")

_SINGLE_BYTES: Final = 256 * MIB
_PART_BYTES: Final = 8 * MIB
#: https://learn.microsoft.com/rest/api/storageservices/put-block
_MAX_BLOCKS: Final = 50_000
_NS: Final = 1_000_000_000
#: https://learn.microsoft.com/azure/storage/blobs/storage-manage-find-blobs, "Setting blob index tags"
_TAG_SIGNS: Final = re.compile(r"[A-Za-z0-9 +./:=_-]*")
#: https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources
_RULES: Final = Rules(
    "Azure",
    user_bytes=8192,
    tags=10,
    tag_signs=_TAG_SIGNS,
    expires=False,
    names="identifier",
    storage_classes={name: name for name in ("Hot", "Cool", "Cold")},
)
_BLOBS: Final = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
_READ: Final = f"{_BLOBS}/read"
_TAGS: Final = f"{_BLOBS}/tags/read"
_WRITE: Final = f"{_BLOBS}/write"
_DELETE: Final = f"{_BLOBS}/delete"
_DELETE_VERSION: Final = f"{_BLOBS}/deleteBlobVersion/action"


class AzureObjects:
    """See the port."""

    provider = "azure"
    marks_deletions = False

    def __init__(
        self,
        address: BucketAddress,
        pace: Pace | None = None,
        *,
        client_id: str | None = None,
        connection_string: str | None = None,
    ) -> None:
        """``client_id`` is that of a managed identity. Raises ``UsageError`` for what cannot be used."""
        self.url, self.prefix = address.url, address.prefix
        self._pace = pace or Pace()
        self._service: Any = blob_service(
            address.account, connection_string, client_id=client_id, max_single_put_size=_SINGLE_BYTES
        )
        self._container = self._service.get_container_client(address.bucket)

    def pages(self, *, versions: bool = False) -> Iterator[list[Listed]]:
        include = ["versions"] if versions else []
        blobs = self._turn(
            lambda: self._container.list_blobs(name_starts_with=self.prefix or None, include=include)
        )
        rows = (self._listed(blob, versions=versions) for blob in blobs)
        return in_pages(newest_first(rows) if versions else rows)

    def read(
        self,
        listed: Listed,
        *,
        offset: int = 0,
        length: int | None = None,
        tags: bool = True,
        most_bytes: int = WHOLE_LIMIT_BYTES,
    ) -> Got:
        blob = self._blob(listed.key)
        options: dict[str, Any] = {"decompress": False}  # what is stored, though it may be packed
        if listed.version:
            options["version_id"] = listed.version
        if length is not None:
            options |= {"offset": offset, "length": length, **_if_match(listed.etag)}

        tagged: list[bool] = []

        def ask() -> Got:
            stream = blob.download_blob(**options)
            properties = stream.properties
            if length is None and properties.size > most_bytes:
                raise ObjectChanged(f"{listed.key}: has {properties.size} bytes, more than expected")
            data = stream.readall()
            md5 = properties.content_settings.content_md5
            if length is None and md5 and hashlib.md5(data, usedforsecurity=False).digest() != bytes(md5):
                msg = f"{listed.key}: the bytes that arrive are not those of its MD5"
                raise StoreUnavailable(msg, hint="Look for a proxy or a disk that damages them.")
            found = self._found(listed.key, properties)
            tagged.append(bool(properties.tag_count))
            if length is not None:  # the size is then that of the range
                total = int(properties.content_range.rpartition("/")[2])
                found = msgspec.structs.replace(found, size_bytes=total)
            return Got(found, _metadata(properties), data)

        got = self._ask(ask, listed.key, _READ)
        if not tags or not tagged[-1]:
            return got
        metadata = msgspec.structs.replace(got.metadata, tags=self._tags(blob, listed))
        return Got(got.listed, metadata, got.data)

    def look(self, key: str) -> tuple[Listed, Metadata] | None:
        blob = self._blob(key)
        try:
            properties = self._ask(blob.get_blob_properties, key, _READ)
        except ObjectNotFound:
            return None
        return self._found(key, properties), _metadata(properties)

    def put(self, key: str, data: Buffer, metadata: Metadata, *, replace: bool) -> bool:
        blob = self._blob(key)
        content = bytes(data)

        def ask() -> None:
            blob.upload_blob(
                content,
                length=len(content),
                overwrite=replace,
                validate_content=True,
                **_settings(metadata),
            )

        try:
            self._ask(ask, key, _WRITE)
        except ObjectChanged:
            return False
        return True

    def start(self, key: str, size_bytes: int, metadata: Metadata, *, replace: bool) -> Upload:
        part_bytes = max(_PART_BYTES, -(-size_bytes // _MAX_BLOCKS))
        blob = self._blob(key)
        return _Blocks(
            lambda request: self._ask(request, key, _WRITE), blob, metadata, part_bytes, replace=replace
        )

    def hide(self, key: str) -> None:
        self._ask(self._blob(key).delete_blob, key, _DELETE)

    def keeps_versions(self) -> bool:
        """Azure tells it to the owner of the account alone; anybody else by the answer to a put."""
        probe = f"{self.prefix}{PROBE}{secrets.token_hex(8)}"
        blob = self._blob(probe)
        version = self._ask(lambda: blob.upload_blob(b"", overwrite=True), probe, _WRITE).get("version_id")
        self._ask(blob.delete_blob, probe, _DELETE)
        if version:
            with contextlib.suppress(StoreError, PermissionMissing):  # it is empty, and in nobody's way
                self._ask(lambda: blob.delete_blob(version_id=version), probe, _DELETE_VERSION)
        return bool(version)

    def fitting(self, metadata: Metadata) -> tuple[Metadata, list[str]]:
        return fit(metadata, _RULES)

    def close(self) -> None:
        self._service.close()

    def _blob(self, key: str) -> Any:
        """Raises ``StoreError`` for a key that would mean another one.

        Every client takes dots out of addresses (RFC 3986, section 5.2.4), and with ``..`` that may lead into
        another container.
        """
        if any(part in (".", "..") for part in key.split("/")):
            msg = f"{self.url}: {key}: Azure has no blobs with '.' or '..' between slashes"
            raise StoreError(msg, hint="Give it another name, or restore it elsewhere.")
        return self._container.get_blob_client(key)

    def _turn(self, start: Callable[[], Any]) -> Iterator[Any]:
        """What is on all pages; one that fails is asked for again."""
        token: str | None = None
        while True:

            def ask(token: str | None = token) -> tuple[list[Any], str | None]:
                pages = start().by_page(continuation_token=token)
                return list(next(pages)), pages.continuation_token

            page, token = self._ask(ask, "", _READ)
            yield from page
            if not token:
                return

    def _tags(self, blob: Any, listed: Listed) -> dict[str, str]:
        """The tags, which an answer to a read only counts, and to who may read them."""
        options = {"version_id": listed.version} if listed.version else {}
        kept: dict[str, str] = self._ask(lambda: blob.get_blob_tags(**options), listed.key, _TAGS)
        return kept

    def _listed(self, blob: Any, *, versions: bool) -> Listed:
        return Listed(
            blob.name,
            blob.size,
            _ns(blob.last_modified),
            (blob.etag or "").strip('"'),
            (blob.version_id or "") if versions else "",
            str(blob.blob_tier or ""),
            not versions or blob.version_id is None or bool(blob.is_current_version),
        )

    def _found(self, key: str, properties: Any) -> Listed:
        return Listed(
            key,
            properties.size,
            _ns(properties.last_modified),
            (properties.etag or "").strip('"'),
            properties.version_id or "",
            str(properties.blob_tier or ""),
        )

    def _ask(self, request: Callable[[], T], key: str, needed: str) -> T:
        def ask() -> T:
            try:
                return request()
            except Exception as error:
                raise self._translated(error, key, needed) from error

        return self._pace.carry_out(ask)

    def _translated(self, error: Exception, key: str, needed: str) -> DonjonError:
        from azure.core import exceptions as sdk

        what = f"{self.url}: {key}" if key else self.url
        text = " ".join(str(error).split())[:300]
        if isinstance(error, DonjonError):
            return error
        if isinstance(error, sdk.ClientAuthenticationError) and "AuthorizationPermissionMismatch" not in text:
            return CredentialsRejected(
                f"{what}: {text}", hint="Run `az login`, or look at the connection string."
            )
        if isinstance(error, sdk.HttpResponseError) and error.status_code is not None:
            return error_for(error.status_code, what, needed, text, of_object=bool(key))
        if isinstance(error, (sdk.AzureError, OSError)):
            return StoreUnavailable(f"{what}: {text}", hint="Look at the network, then try again.")
        raise error


class _Blocks:
    """See ``Upload``."""

    ordered = False

    def __init__(
        self,
        ask: Callable[[Callable[[], object]], object],
        blob: Any,
        metadata: Metadata,
        part_bytes: int,
        *,
        replace: bool,
    ) -> None:
        self.part_bytes = part_bytes
        self._ask, self._blob, self._metadata, self._replace = ask, blob, metadata, replace
        self._mark = os.urandom(8).hex()
        self._mutex = threading.Lock()

    def part(self, number: int, data: Buffer) -> None:
        content = bytes(data)
        self._ask(
            lambda: self._blob.stage_block(
                self._name(number), content, length=len(content), validate_content=True
            )
        )

    def complete(self, parts: int) -> bool:
        from azure.core import MatchConditions
        from azure.storage.blob import BlobBlock

        blocks = [BlobBlock(self._name(number)) for number in range(parts)]
        options = _settings(self._metadata)
        if not self._replace:
            options["match_condition"] = MatchConditions.IfMissing
        try:
            self._ask(lambda: self._blob.commit_block_list(blocks, **options))
        except ObjectChanged:
            return False
        return True

    def abort(self) -> None:
        """Nothing: Azure drops blocks without a list after a week."""

    def _name(self, number: int) -> str:
        return base64.b64encode(f"{self._mark}{number:08d}".encode()).decode()


def _if_match(etag: str) -> dict[str, Any]:
    from azure.core import MatchConditions

    return {"etag": f'"{etag}"', "match_condition": MatchConditions.IfNotModified}


def _ns(moment: Any) -> int:
    return int(moment.timestamp()) * _NS


def _metadata(properties: Any) -> Metadata:
    settings = properties.content_settings
    return Metadata(
        content_type=settings.content_type or "",
        content_encoding=settings.content_encoding or "",
        content_language=settings.content_language or "",
        content_disposition=settings.content_disposition or "",
        cache_control=settings.cache_control or "",
        user=dict(properties.metadata or {}),
        storage_class=str(properties.blob_tier or ""),
    )


def _settings(metadata: Metadata) -> dict[str, Any]:
    from azure.storage.blob import ContentSettings, StandardBlobTier

    told: dict[str, Any] = {
        "content_settings": ContentSettings(
            content_type=metadata.content_type or None,
            content_encoding=metadata.content_encoding or None,
            content_language=metadata.content_language or None,
            content_disposition=metadata.content_disposition or None,
            cache_control=metadata.cache_control or None,
        )
    }
    if metadata.user:
        told["metadata"] = metadata.user
    if metadata.tags:
        told["tags"] = metadata.tags
    if metadata.storage_class:
        told["standard_blob_tier"] = StandardBlobTier(metadata.storage_class)
    return told
