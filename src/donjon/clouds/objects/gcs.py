"""Objects in a bucket of Google Cloud Storage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

from donjon.clouds.google import storage_client
from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.answers import error_for, in_pages, newest_first
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
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    ObjectNotFound,
    StoreUnavailable,
)
from donjon.core.pace import Pace
from donjon.core.units import MIB

T = TypeVar("T")

_TIMEOUT_S: Final = 60.0
_PART_BYTES: Final = 8 * MIB
_NS: Final = 1_000_000_000
#: https://docs.cloud.google.com/storage/docs/metadata
_RULES: Final = Rules(
    "Google",
    user_bytes=8192,
    tags=0,
    expires=False,
    storage_classes={name: name for name in ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")},
)
_LIST: Final = "storage.objects.list"
_GET: Final = "storage.objects.get"
_CREATE: Final = "storage.objects.create"
_DELETE: Final = "storage.objects.delete"
_LOOK: Final = "storage.buckets.get"
_FIELDS: Final = (
    "content_type", "content_encoding", "content_language", "content_disposition", "cache_control",
)  # fmt: skip


class GcsObjects:
    """See the port. ETags here are the generation, which counts contents, and that of the metadata."""

    provider = "gs"
    marks_deletions = False

    def __init__(
        self,
        address: BucketAddress,
        pace: Pace | None = None,
        *,
        account: str | None = None,
        client: Any = None,
    ) -> None:
        """``account`` is a service account to impersonate. ``client`` is one of Google's, for tests."""
        self.url, self.prefix = address.url, address.prefix
        self._pace = pace or Pace()
        self._name = address.bucket
        self._client = client or self._ask(lambda: storage_client(account), "", _LIST)
        self._bucket = self._client.bucket(address.bucket)

    def pages(self, *, versions: bool = False) -> Iterator[list[Listed]]:
        rows = (self._listed(blob, versions=versions) for blob in self._turn(versions=versions))
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
        generation = int(listed.version) if listed.version else None

        def ask() -> Got:
            blob = self._bucket.get_blob(listed.key, generation=generation, retry=None, timeout=_TIMEOUT_S)
            if blob is None:
                raise ObjectNotFound(f"{listed.key}: is not there")
            if length is None and blob.size > most_bytes:
                raise ObjectChanged(f"{listed.key}: has {blob.size} bytes, more than expected")
            if length is not None and str(blob.generation) != listed.etag.partition("-")[0]:
                raise ObjectChanged(f"{listed.key}: has changed")
            found = self._listed(blob, versions=True)
            metadata = _metadata(blob)
            if not blob.size:
                return Got(found, metadata, b"")
            data = blob.download_as_bytes(
                start=offset if length is not None else None,
                end=offset + length - 1 if length is not None else None,
                raw_download=True,  # what is stored, though it may be packed
                if_generation_match=blob.generation,
                retry=None,
                timeout=_TIMEOUT_S,
            )
            return Got(found, metadata, data)

        return self._ask(ask, listed.key, _GET)

    def look(self, key: str) -> tuple[Listed, Metadata] | None:
        blob = self._ask(lambda: self._bucket.get_blob(key, retry=None, timeout=_TIMEOUT_S), key, _GET)
        return None if blob is None else (self._listed(blob, versions=True), _metadata(blob))

    def put(self, key: str, data: Buffer, metadata: Metadata, *, replace: bool) -> bool:
        def ask() -> None:
            self._blob(key, metadata).upload_from_string(
                bytes(data),
                content_type=metadata.content_type or None,
                checksum="crc32c",
                retry=None,
                timeout=_TIMEOUT_S,
                **_condition(replace=replace),
            )

        try:
            self._ask(ask, key, _CREATE)
        except ObjectChanged:
            return False
        return True

    def start(self, key: str, size_bytes: int, metadata: Metadata, *, replace: bool) -> Upload:
        writer = self._blob(key, metadata).open(
            "wb",
            chunk_size=_PART_BYTES,
            content_type=metadata.content_type or None,
            retry=None,
            timeout=_TIMEOUT_S,
            **_condition(replace=replace),
        )
        return _Resumable(lambda request: self._ask_once(request, key, _CREATE), writer)

    def hide(self, key: str) -> None:
        self._ask(lambda: self._bucket.blob(key).delete(retry=None, timeout=_TIMEOUT_S), key, _DELETE)

    def keeps_versions(self) -> bool:
        self._ask(lambda: self._bucket.reload(retry=None, timeout=_TIMEOUT_S), "", _LOOK)
        return bool(self._bucket.versioning_enabled)

    def fitting(self, metadata: Metadata) -> tuple[Metadata, list[str]]:
        return fit(metadata, _RULES)

    def close(self) -> None:
        self._client.close()

    def _blob(self, key: str, metadata: Metadata) -> Any:
        blob = self._bucket.blob(key)
        for name in _FIELDS:
            if value := getattr(metadata, name):
                setattr(blob, name, value)
        if metadata.user:
            blob.metadata = metadata.user
        if metadata.storage_class:
            blob.storage_class = metadata.storage_class
        return blob

    def _turn(self, *, versions: bool) -> Iterator[Any]:
        """What is on all pages; one that fails is asked for again.

        Each is an iterator of its own: one of the SDK that has failed says at the next call that it is done.
        """
        token: str | None = None
        while True:

            def ask(token: str | None = token) -> tuple[list[Any], str | None]:
                blobs = self._client.list_blobs(
                    self._name,
                    prefix=self.prefix or None,
                    versions=versions,
                    page_token=token,
                    retry=None,
                    timeout=_TIMEOUT_S,
                )
                return list(next(blobs.pages, ())), blobs.next_page_token

            page, token = self._ask(ask, "", _LIST)
            yield from page
            if not token:
                return

    def _listed(self, blob: Any, *, versions: bool) -> Listed:
        return Listed(
            blob.name,
            blob.size or 0,
            _ns(blob.updated or blob.time_created),
            f"{blob.generation}-{blob.metageneration}",
            str(blob.generation) if versions else "",
            blob.storage_class or "",
            not versions or blob.time_deleted is None,
        )

    def _ask(self, request: Callable[[], T], key: str, needed: str) -> T:
        return self._pace.carry_out(lambda: self._translating(request, key, needed))

    def _ask_once(self, request: Callable[[], T], key: str, needed: str) -> T:
        self._pace.wait()
        return self._translating(request, key, needed)

    def _translating(self, request: Callable[[], T], key: str, needed: str) -> T:
        try:
            return request()
        except Exception as error:
            raise self._translated(error, key, needed) from error

    def _translated(self, error: Exception, key: str, needed: str) -> DonjonError:
        import requests
        from google.api_core.exceptions import GoogleAPICallError
        from google.auth.exceptions import GoogleAuthError, TransportError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        what = f"{self.url}: {key}" if key else self.url
        text = " ".join(str(error).split())[:300]
        if isinstance(error, DonjonError):
            return error
        if isinstance(error, GoogleAPICallError) and error.code is not None:
            return error_for(int(error.code), what, needed, text, of_object=bool(key))
        if isinstance(error, InvalidResponse):
            return error_for(error.response.status_code, what, needed, text, of_object=bool(key))
        unreachable = (requests.exceptions.RequestException, TransportError, DataCorruption, OSError)
        if isinstance(error, unreachable):
            return StoreUnavailable(f"{what}: {text}", hint="Look at the network, then try again.")
        if isinstance(error, GoogleAuthError):
            hint = "Run `gcloud auth application-default login`, or set GOOGLE_APPLICATION_CREDENTIALS."
            return CredentialsRejected(f"{what}: {text}", hint=hint)
        raise error


class _Resumable:
    """See ``Upload``."""

    ordered = True
    part_bytes = _PART_BYTES

    def __init__(self, ask: Callable[[Callable[[], object]], object], writer: Any) -> None:
        self._ask, self._writer = ask, writer

    def part(self, number: int, data: Buffer) -> None:
        self._ask(lambda: self._writer.write(bytes(data)))

    def complete(self, parts: int) -> bool:
        try:
            self._ask(self._writer.close)
        except ObjectChanged:
            return False
        return True

    def abort(self) -> None:
        try:
            self._ask(self._writer.terminate)
        except DonjonError:
            return  # Google drops unfinished uploads after a week


def _condition(*, replace: bool) -> dict[str, int]:
    return {} if replace else {"if_generation_match": 0}


def _ns(moment: Any) -> int:
    return int(moment.timestamp()) * _NS + int(moment.microsecond) * 1000


def _metadata(blob: Any) -> Metadata:
    told: dict[str, Any] = {name: value for name in _FIELDS if (value := getattr(blob, name))}
    return Metadata(**told, user=dict(blob.metadata or {}), storage_class=blob.storage_class or "")
