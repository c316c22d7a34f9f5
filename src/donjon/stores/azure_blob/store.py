"""A store in a container of Azure Blob Storage, locked with version-level immutability policies.

Every object is one Put Blob that creates it only if the name is free (``If-None-Match: *``), carries its
lock (mode Locked) and its MD5, so that the provider refuses what it did not receive whole. A Locked policy
can be extended and never shortened or removed, whoever asks:
https://learn.microsoft.com/azure/storage/blobs/immutable-version-level-worm-policies

Such a container keeps versions: a delete without a version, or an overwrite, makes the current version a
previous one, which stays under its lock. A name without a current version is therefore read from its oldest
version, which is the one that a writer created.

An account key is above all roles: switch it off where a vault is kept
(``allowSharedKeyAccess``).
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

from donjon.clouds.azure_blobs import blob_service, need_sdk
from donjon.core.addresses import split_address
from donjon.core.errors import IntegrityFailure, PermissionMissing, StoreError, UsageError
from donjon.core.operations import Operation
from donjon.core.units import MIB
from donjon.stores.azure_blob import operations as ask
from donjon.stores.azure_blob.errors import error_code, translating
from donjon.stores.base import (
    BucketFault,
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    Write,
    byte_range,
    locks_unsupported,
    not_found,
    still_locked,
    validate_name,
    validate_prefix,
)
from donjon.stores.newest_first import newest_first
from donjon.stores.server_clock import ServerClock
from donjon.stores.sink import Sink

if TYPE_CHECKING:
    from azure.storage.blob import BlobClient, BlobProperties, BlobServiceClient, ContainerClient

T = TypeVar("T")

#: One Put Blob takes up to 5000 MiB (https://learn.microsoft.com/rest/api/storageservices/put-blob); one
#: request for a whole pack needs ``add`` alone, while blocks need ``write``, which may overwrite.
_SINGLE_PUT_BYTES = 1024 * MIB
_NO_POLICIES = "its container has no version-level immutability"


class AzureBlobStore(ObjectStore):
    """The objects below a prefix of a container: ``azure://account/container/prefix``."""

    parallel = 8

    def __init__(
        self, url: str, connection_string: str | None = None, *, client_id: str | None = None
    ) -> None:
        """Nothing is connected yet. Raises ``UsageError`` if ``url`` is not ``azure://account/container``.

        Without a ``connection_string`` the environment tells how to connect; ``client_id`` is that of a
        managed identity.
        """
        parts = split_address(url)
        container, _, prefix = parts.path.strip("/").partition("/")
        if parts.scheme != "azure" or not parts.netloc or not container or parts.query or parts.fragment:
            msg = f"{url}: is no address of a container of Azure Blob Storage"
            raise UsageError(msg, hint="Write azure://account/container/prefix.")
        need_sdk()
        self.url = url.rstrip("/")
        self._account = parts.netloc
        self._container_name = container
        self._prefix = f"{prefix}/" if prefix else ""
        self._connection_string, self._client_id = connection_string, client_id
        self._service: BlobServiceClient | None = None
        self._enforcement: LockEnforcement | None = None
        self._clock = ServerClock(self._ask_the_time)

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """PROVIDER if the container has version-level immutability, else NONE.

        Who may not look at the container gets PROVIDER: without that support Azure refuses locked puts.
        """
        if self._enforcement is None:
            try:
                with self._translating(ask.LOOK, ""):
                    properties = self._container().get_container_properties()
                enabled = bool(properties.immutable_storage_with_versioning_enabled)
            except PermissionMissing:
                enabled = True
            self._enforcement = LockEnforcement.PROVIDER if enabled else LockEnforcement.NONE
        return self._enforcement

    def now(self) -> int:
        """Azure's clock, in Unix seconds."""
        return self._clock.now()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object with one request; see the port."""
        blob = self._blob(name)
        options: dict[str, Any] = {}
        if retain_until is not None:
            self._need_locks(name)
            options["immutability_policy"] = _locked_until(retain_until)
        content = bytes(data)
        with self._translating(ask.PUT if retain_until is None else ask.PUT_LOCKED, name):
            told = blob.upload_blob(
                content, length=len(content), overwrite=False, validate_content=True, **options
            )
        kept, sent = told.get("content_md5"), hashlib.md5(content, usedforsecurity=False).digest()
        if kept is not None and bytes(kept) != sent:
            msg = f"{name}: Azure says that it stored other bytes than were sent"
            raise IntegrityFailure(msg, hint="Look for a proxy that changes what is uploaded.")
        version = told.get("version_id")
        return ObjectInfo(
            name, len(content), _stored_at(version, told["last_modified"]), retain_until, version
        )

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port. From the end takes a request more."""
        validate_name(name)
        if offset < 0 or length == 0:
            offset, length = byte_range(self.head(name, version=version).size_bytes, offset, length)
            if not length:
                return b""

        def download(blob: BlobClient, which: str | None) -> bytes:
            part: dict[str, Any] = {}
            if offset or length is not None:
                part = {"offset": offset, "length": length}
            with _beyond_the_end_is_nothing():
                return bytes(blob.download_blob(**part, version_id=which, max_concurrency=1).readall())
            return b""

        return self._on_version(ask.GET, name, version, download)

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Hand on the bytes as they come; see the port."""
        validate_name(name)
        if not size_bytes:
            self.head(name, version=version)
            return

        def download(blob: BlobClient, which: str | None) -> None:
            sink = Sink(name, size_bytes, write)
            with _beyond_the_end_is_nothing():
                part = blob.download_blob(offset=0, length=size_bytes, version_id=which, max_concurrency=1)
                part.readinto(cast("IO[bytes]", sink))
            sink.finish()

        self._on_version(ask.GET, name, version, download)

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What Azure knows about an object; see the port."""

        def look(blob: BlobClient, which: str | None) -> ObjectInfo:
            return self._info(blob.get_blob_properties(version_id=which))

        return self._on_version(ask.HEAD, name, version, look)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every version, a page of 5000 at a time; see the port."""
        validate_prefix(prefix)
        with self._translating(ask.LIST, ""):
            blobs = self._container().list_blobs(
                name_starts_with=self._prefix + prefix, include=["versions", "immutabilitypolicy"]
            )
            yield from newest_first(map(self._info, blobs))

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future; see the port.

        One write, unless it is refused; without a version a listing before that.
        """
        from azure.core.exceptions import HttpResponseError

        validate_name(name)
        if version is not None:
            with contextlib.suppress(HttpResponseError):  # what stands against it is told by the lock itself
                self._set_lock(name, version, retain_until)
                return
        info = self._listed(name, version)
        if info.retain_until is not None and info.retain_until > retain_until:
            raise still_locked(name, "shorten its lock", info.retain_until)
        if info.retain_until == retain_until:
            return
        self._need_locks(name)
        which = info.version
        with self._translating(ask.EXTEND, name, which):
            try:
                self._set_lock(name, which, retain_until)
            except HttpResponseError as error:
                if error.status_code in {400, 409, 412}:  # somebody else may have been faster
                    end = self._listed(name, which).retain_until
                    if end is not None and end > retain_until:
                        raise still_locked(name, "shorten its lock", end) from error
                raise

    def _set_lock(self, name: str, version: str | None, retain_until: int) -> None:
        self._blob(name).set_immutability_policy(_locked_until(retain_until), version_id=version)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete one version; see the port. Azure itself refuses it under a lock.

        The current version cannot be deleted by its id (403 OperationNotAllowedOnRootBlob, see
        https://github.com/Azure/azure-sdk-for-java/pull/48716): it is made a previous one first.
        """
        from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

        info = self._listed(name, version)
        if info.retain_until is not None and info.retain_until > self.now():
            raise still_locked(name, "delete", info.retain_until)
        blob = self._blob(name)
        if info.is_latest:
            hiding = self._translating(ask.HIDE, name, info.version)
            with hiding, contextlib.suppress(ResourceNotFoundError):  # hidden in this very moment
                blob.delete_blob()
        if info.version is None:
            return
        with self._translating(ask.DELETE, name, info.version):
            try:
                blob.delete_blob(version_id=info.version)
            except HttpResponseError as error:
                if error_code(error) == "BlobImmutableDueToPolicy":
                    end = self._listed(name, info.version).retain_until
                    if end is not None:
                        raise still_locked(name, "delete", end) from error
                raise

    def check_bucket(self, lock_s: int) -> tuple[BucketFault, ...]:
        """What must change before the container can hold a vault, each with its mending command.

        ``lock_s`` is the length of the vault's locks, 0 for none. Raises ``PermissionMissing``.
        """
        with self._translating(ask.LOOK, ""):
            properties = self._container().get_container_properties()
        account, name = self._account, self._container_name
        faults = []
        if lock_s and not properties.immutable_storage_with_versioning_enabled:
            fault = "version-level immutability is off, so nothing can be locked"
            versioning = "az storage account blob-service-properties update --enable-versioning true"
            migrate = f"az storage container-rm migrate-vlw --storage-account {account} --name {name}"
            faults.append(BucketFault(fault, f"{versioning} --account-name {account} && {migrate}"))
        if properties.public_access:
            fault = f"the public may read it (access level {properties.public_access})"
            fix = f"az storage container set-permission --account-name {account} --name {name}"
            faults.append(BucketFault(fault, f"{fix} --public-access off"))
        return tuple(faults)

    def close(self) -> None:
        """Close the connections; the next call opens others."""
        service, self._service = self._service, None
        if service is not None:
            service.close()

    @property
    def client(self) -> ContainerClient:
        """The SDK's own client of the container, for what the port has no word for."""
        return self._container()

    # Reaching one version

    def _on_version(
        self, asked: Operation, name: str, version: str | None, act: Callable[[BlobClient, str | None], T]
    ) -> T:
        """``act`` on the version that is meant: by id, or current, or else the oldest there is."""
        from azure.core.exceptions import ResourceNotFoundError

        blob = self._blob(name)
        with self._translating(asked, name, version):
            try:
                return act(blob, version)
            except ResourceNotFoundError as error:
                if version is not None or error_code(error) == "ContainerNotFound":
                    raise
            try:
                hidden = self._listed(name, None).version
            except PermissionMissing:
                raise not_found(name) from None
            return act(blob, hidden)

    def _listed(self, name: str, version: str | None) -> ObjectInfo:
        """What a listing tells about one version: by id, or current, or else the oldest there is.

        Custodians and reapers may list, but read no content. Raises ``ObjectNotFound``.
        """
        validate_name(name)
        oldest = None
        # Sorted by name, and the newest first.
        for info in itertools.takewhile(lambda info: info.name == name, self.list(name)):
            if version == info.version or (version is None and info.is_latest):
                return info
            oldest = info
        if version is not None or oldest is None:
            raise not_found(name, version)
        return oldest

    def _info(self, properties: BlobProperties) -> ObjectInfo:
        policy = properties.immutability_policy
        # An Unlocked policy can be removed by who set it, so it is no lock.
        locked = str(getattr(policy.policy_mode, "value", policy.policy_mode)).lower() == "locked"
        version = properties.version_id
        return ObjectInfo(
            properties.name.removeprefix(self._prefix),
            properties.size,
            _stored_at(version, properties.last_modified),
            int(policy.expiry_time.timestamp()) if locked and policy.expiry_time else None,
            version,
            is_latest=version is None or bool(properties.is_current_version),
        )

    def _need_locks(self, name: str) -> None:
        if self.lock_enforcement is LockEnforcement.NONE:
            raise locks_unsupported(name, self.url, _NO_POLICIES)

    # The connection

    def _blob(self, name: str) -> BlobClient:
        key = self._prefix + validate_name(name)
        with self._translating(ask.GET, name):
            return self._container().get_blob_client(key)

    def _container(self) -> ContainerClient:
        if self._service is None:
            self._service = self._connect()
        return self._service.get_container_client(self._container_name)

    def _connect(self) -> BlobServiceClient:
        return blob_service(
            self._account,
            self._connection_string,
            client_id=self._client_id,
            max_single_put_size=_SINGLE_PUT_BYTES,
            raw_response_hook=self._hear,
        )

    def _hear(self, answer: Any) -> None:
        self._clock.saw(answer.http_response.headers.get("Date"))

    def _ask_the_time(self) -> None:
        """Any answer does, a refusal too, for every one carries the time."""
        with contextlib.suppress(PermissionMissing, StoreError), self._translating(ask.ASK_TIME, ""):
            self._container().get_container_properties()

    def _translating(
        self, asked: Operation, name: str, version: str | None = None
    ) -> contextlib.AbstractContextManager[None]:
        return translating(self.url, asked, name, version)


def _locked_until(retain_until: int) -> Any:
    from azure.storage.blob import ImmutabilityPolicy

    return ImmutabilityPolicy(expiry_time=datetime.fromtimestamp(retain_until, UTC), policy_mode="Locked")


def _stored_at(version: str | None, last_modified: datetime) -> int:
    """When a version came to be: its id is that time (AZB versioning-overview); policies do not touch it."""
    moment = last_modified if version is None else datetime.fromisoformat(version)
    return int(moment.timestamp())


@contextlib.contextmanager
def _beyond_the_end_is_nothing() -> Iterator[None]:
    """End the body silently for a range that begins beyond the end (416 InvalidRange)."""
    from azure.core.exceptions import HttpResponseError

    try:
        yield
    except HttpResponseError as error:
        if error.status_code != 416:
            raise
