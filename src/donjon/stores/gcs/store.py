"""A store in a bucket of Google Cloud Storage, locked with object retention.

Every object is put in one upload that creates it only if the name is free (``ifGenerationMatch=0``),
carries its lock (``retention``, mode Locked) and its CRC32C, so that the provider refuses what it did not
receive whole. A Locked retention can grow and never shrink, whoever asks:
https://docs.cloud.google.com/storage/docs/object-lock

In a bucket with versioning a delete without a generation, or an overwrite, only makes the live generation
noncurrent: it stays, under its lock. A name without a live generation is therefore read from its oldest
one, which is the one that a writer created.

Credentials are Google's Application Default Credentials. ``STORAGE_EMULATOR_HOST`` is obeyed, as by all of
Google's clients.
"""

from __future__ import annotations

import base64
import contextlib
import io
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

from donjon.clouds.google import need_storage_sdk, storage_client
from donjon.core.addresses import split_address
from donjon.core.errors import PermissionMissing, StoreError, UsageError
from donjon.core.operations import Operation
from donjon.stores.base import (
    BucketFault,
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    Write,
    locks_unsupported,
    not_found,
    still_locked,
    validate_name,
    validate_prefix,
)
from donjon.stores.gcs import operations as ask
from donjon.stores.gcs.bucket import bucket_faults, make_bucket
from donjon.stores.gcs.errors import api_error, translating
from donjon.stores.newest_first import newest_first
from donjon.stores.server_clock import ServerClock
from donjon.stores.sink import Sink

if TYPE_CHECKING:
    import requests

T = TypeVar("T")

#: Longest silence of the provider, connecting and answering.
_TIMEOUT_S = 60.0
_REFUSED_EXTENSION = {400, 403, 409, 412}


class GcsStore(ObjectStore):
    """The objects below a prefix of a bucket: ``gs://bucket/prefix``."""

    makes_buckets = True
    parallel = 8

    def __init__(self, url: str, client: Any = None, *, account: str | None = None) -> None:
        """Nothing is connected yet. Raises ``UsageError`` if ``url`` is not ``gs://bucket[/prefix]``.

        ``client`` is a ``google.cloud.storage.Client``, made from the environment if None; ``account`` is a
        service account that it impersonates.
        """
        parts = split_address(url)
        if parts.scheme != "gs" or not parts.netloc or parts.query or parts.fragment:
            msg = f"{url}: is no address of a bucket of Google Cloud Storage"
            raise UsageError(msg, hint="Write gs://bucket/prefix.")
        need_storage_sdk()
        self.url = url.rstrip("/")
        self._bucket_name = parts.netloc
        self._prefix = f"{path}/" if (path := parts.path.strip("/")) else ""
        self._given, self._account = client, account
        self._bucket: Any = None
        self._enforcement: LockEnforcement | None = None
        self._clock = ServerClock(self._ask_the_time)

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """PROVIDER if the bucket holds object retention, else NONE.

        Who may not look at the bucket gets PROVIDER: without object retention it refuses locked puts.
        """
        if self._enforcement is None:
            try:
                enabled = self._load_bucket().object_retention_mode == "Enabled"
            except PermissionMissing:
                enabled = True
            self._enforcement = LockEnforcement.PROVIDER if enabled else LockEnforcement.NONE
        return self._enforcement

    def now(self) -> int:
        """Google's clock, in Unix seconds."""
        return self._clock.now()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port. Up to 8 MiB it is one request, two above."""
        blob = self._blob(name)
        if retain_until is not None:
            if self.lock_enforcement is LockEnforcement.NONE:
                raise locks_unsupported(name, self.url, "the bucket has no object retention")
            blob.retention.mode = "Locked"
            blob.retention.retain_until_time = datetime.fromtimestamp(retain_until, UTC)
        content = bytes(data)
        with self._translating(ask.PUT if retain_until is None else ask.PUT_LOCKED, name):
            blob.upload_from_file(
                io.BytesIO(content),
                size=len(content),
                content_type="application/octet-stream",
                if_generation_match=0,
                checksum="crc32c",
                crc32c_checksum_value=_crc32c(content),
                timeout=_TIMEOUT_S,
                retry=None,
            )
        return self._info(blob)

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port. The checksum of a whole object is compared."""
        validate_name(name)
        if length == 0:
            self.head(name, version=version)
            return b""
        sink = io.BytesIO()
        end = None if length is None or offset < 0 else offset + length - 1
        self._read(name, version, sink, offset, end)
        data = sink.getvalue()
        return data if length is None else data[:length]

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Hand on the bytes as they come; see the port."""
        validate_name(name)
        if not size_bytes:
            self.head(name, version=version)
            return
        sink = Sink(name, size_bytes, write)
        self._read(name, version, sink, 0, size_bytes - 1)
        sink.finish()

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What Google knows about an object; see the port."""

        def load(blob: Any) -> ObjectInfo:
            blob.reload(retry=None, timeout=_TIMEOUT_S)
            return self._info(blob)

        return self._on_version(ask.HEAD, name, version, load)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every generation, a page of 1000 at a time; see the port."""
        validate_prefix(prefix)
        with self._translating(ask.LIST, ""):
            blobs = self._connected().list_blobs(
                prefix=self._prefix + prefix, versions=True, retry=None, timeout=_TIMEOUT_S
            )
            yield from newest_first(map(self._info, blobs))

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future, with one request; see the port."""

        def patch(blob: Any) -> None:
            blob.retention.mode = "Locked"
            blob.retention.retain_until_time = datetime.fromtimestamp(retain_until, UTC)
            try:
                blob.patch(retry=None, timeout=_TIMEOUT_S)
            except api_error() as error:
                if error.code in _REFUSED_EXTENSION:
                    present = self.head(name, version=version)
                    if present.retain_until is not None and present.retain_until > retain_until:
                        raise still_locked(name, "shorten its lock", present.retain_until) from error
                    if present.retain_until == retain_until:
                        return
                    if self.lock_enforcement is LockEnforcement.NONE:
                        why = "the bucket has no object retention"
                        raise locks_unsupported(name, self.url, why) from error
                raise

        self._on_version(ask.EXTEND, name, version, patch)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete one generation, for good; see the port. Google itself refuses it under a lock."""
        if version is None:
            version = self.head(name).version

        def delete(blob: Any) -> None:
            try:
                blob.delete(retry=None, timeout=_TIMEOUT_S)
            except api_error() as error:
                if any(reason.get("reason") == "retentionPolicyNotMet" for reason in error.errors):
                    end = self.head(name, version=version).retain_until
                    if end is not None:
                        raise still_locked(name, "delete", end) from error
                raise

        self._on_version(ask.DELETE, name, version, delete)

    def check_bucket(self, lock_s: int) -> Sequence[BucketFault]:
        """See the port."""
        return bucket_faults(self._load_bucket(), lock_s)

    def make_bucket(self, lock_s: int) -> None:
        """See the port. What is there already is kept and mended."""
        with self._translating(ask.MAKE_BUCKET, ""):
            make_bucket(self._connected(), lock_s)
        self._enforcement = None

    def close(self) -> None:
        """Close the connections that this store opened itself."""
        if self._bucket is not None and self._given is None:
            self._bucket.client.close()

    @property
    def client(self) -> Any:
        """The SDK's own bucket, for what the port has no word for."""
        return self._connected()

    # Reaching one version

    def _on_version(self, asked: Operation, name: str, version: str | None, act: Callable[[Any], T]) -> T:
        """``act`` on the generation that is meant: by number, or live, or else the oldest there is."""
        blob = self._blob(name, version)
        with self._translating(asked, name, version):
            try:
                return act(blob)
            except api_error() as error:
                if error.code != 404 or version is not None:
                    raise
                hidden = self._oldest(name)
            return act(self._blob(name, hidden))

    def _oldest(self, name: str) -> str:
        """The oldest generation of a name. Raises ``ObjectNotFound``; so it does who may not list."""
        oldest = None
        with contextlib.suppress(PermissionMissing):
            # Sorted by name, and the newest first.
            for info in itertools.takewhile(lambda info: info.name == name, self.list(name)):
                oldest = info.version
        if oldest is None:
            raise not_found(name)
        return oldest

    def _read(self, name: str, version: str | None, sink: Any, offset: int, end: int | None) -> None:
        """Write the bytes from ``offset`` to ``end`` (included) to ``sink``; fewer if there are fewer."""
        whole = offset == 0 and end is None

        def download(blob: Any) -> None:
            try:
                blob.download_to_file(
                    sink,
                    start=None if whole else offset,
                    end=end,
                    raw_download=True,
                    checksum="crc32c" if whole else None,
                    timeout=_TIMEOUT_S,
                    retry=None,
                )
            except api_error() as error:
                if error.code != 416:  # the range begins beyond the end
                    raise

        self._on_version(ask.GET, name, version, download)

    def _blob(self, name: str, version: str | None = None) -> Any:
        validate_name(name)
        if version is not None and not (version.isascii() and version.isdigit()):
            raise not_found(name, version)
        with self._translating(ask.GET, ""):
            generation = None if version is None else int(version)
            return self._connected().blob(self._prefix + name, generation=generation)

    def _info(self, blob: Any) -> ObjectInfo:
        return ObjectInfo(
            blob.name.removeprefix(self._prefix),
            blob.size,
            int(blob.time_created.timestamp()),
            _lock_end(blob),
            str(blob.generation),
            is_latest=blob.time_deleted is None,
        )

    # The connection

    def _connected(self) -> Any:
        """The bucket of a client whose answers tell the time."""
        if self._bucket is None:
            client = self._given or storage_client(self._account)
            # No public way leads to the headers of answers; the session is a documented argument of Client.
            session: requests.Session = client._http  # noqa: SLF001
            session.hooks["response"].append(lambda answer, **_: self._clock.saw(answer.headers.get("Date")))
            self._bucket = client.bucket(self._bucket_name)
        return self._bucket

    def _load_bucket(self, asked: Operation = ask.LOOK) -> Any:
        with self._translating(asked, ""):
            bucket = self._connected()
            bucket.reload(retry=None, timeout=_TIMEOUT_S)
            return bucket

    def _ask_the_time(self) -> None:
        """Any answer does, a refusal too, for every one carries the time."""
        with contextlib.suppress(PermissionMissing, StoreError):
            self._load_bucket(ask.ASK_TIME)

    def _translating(
        self, asked: Operation, name: str, version: str | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translating(self.url, asked, name, version)


def _crc32c(content: bytes) -> str:
    """As Google writes it: base64 of the big-endian bytes (RFC 4960, appendix B)."""
    import google_crc32c

    return base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()


def _lock_end(blob: Any) -> int | None:
    """The end that nobody can bring nearer: an Unlocked retention can be removed, so it is no lock."""
    if blob.retention.mode == "Unlocked":
        return None
    # Of a lock on the object and one on the bucket the later end holds, and this field says which.
    end = blob.retention_expiration_time or blob.retention.retain_until_time
    return None if end is None else int(end.timestamp())
