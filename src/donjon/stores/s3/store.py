"""The objects of a vault in a bucket.

An object goes up in one PUT, however large: a pack has 64 MiB at most and S3 takes 5 GiB. So it appears
whole or not at all, locked from its first moment and under ``If-None-Match: *``. Uploads in parts would
leave parts behind that are invisible and cost money, and several servers check neither locks nor conditions
when an upload in parts is completed.

Checksums are SHA-256, which every server knows; S3 refuses a body that has another one
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from donjon.core.clock import Clock, iso, system_clock
from donjon.core.errors import (
    CredentialsRejected,
    DonjonError,
    IntegrityFailure,
    LocksUnsupported,
    ObjectNotFound,
    PermissionMissing,
    Refused,
)
from donjon.core.units import MIB
from donjon.stores.base import (
    BucketFault,
    Buffer,
    LockEnforcement,
    ObjectInfo,
    ObjectStore,
    Write,
    still_locked,
    truncated,
    validate_name,
    validate_prefix,
)
from donjon.stores.s3 import operations as ask
from donjon.stores.s3.address import S3Address
from donjon.stores.s3.body import Body
from donjon.stores.s3.bucket import check_bucket, make_bucket
from donjon.stores.s3.client import S3Client
from donjon.stores.s3.errors import OutOfRange, told
from donjon.stores.s3.listing import list_versions

#: AWS itself refuses requests that are 15 minutes off; a host that is 5 minutes off has a problem.
_MOST_SKEW_S = 300
_PIECE_BYTES = MIB
#: What S3 calls the only version of an object in a bucket without versions.
_ONLY_VERSION = "null"


class S3Store(ObjectStore):
    """The objects under one prefix of a bucket that exists.

    Locks are in COMPLIANCE mode, which nobody lifts, the account's root user included
    (https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html). Reads and ``head`` without a
    version are of the newest one, as S3 has it; ``FirstVersions`` makes the oldest count.
    """

    makes_buckets = True
    parallel = 8
    lists_locks = False  #: ListObjectVersions does not tell them

    def __init__(
        self, address: S3Address | str, client: S3Client | None = None, clock: Clock = system_clock
    ) -> None:
        """Nothing is connected yet. ``clock`` is this host's; it is only looked at for being wrong."""
        self.address = S3Address.parse(address) if isinstance(address, str) else address
        self.url = self.address.url
        self.client = client or S3Client(self.address)
        self._clock = clock
        self._enforcement: LockEnforcement | None = None
        self._may_list: bool | None = None
        self._clock_checked = False

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """PROVIDER if the bucket has Object Lock, else NONE. Raises ``PermissionMissing``.

        GOVERNANCE if that is the mode of the bucket's default retention. What Donjon puts and locks itself is
        in COMPLIANCE mode all the same; what others put, and a put that asks for no lock, is not.
        """
        if self._enforcement is None:
            try:
                found = self.client.call(ask.GET_LOCKS).get("ObjectLockConfiguration", {})
            except (LocksUnsupported, ObjectNotFound):
                found = {}
            mode = found.get("Rule", {}).get("DefaultRetention", {}).get("Mode")
            strong = LockEnforcement.GOVERNANCE if mode == "GOVERNANCE" else LockEnforcement.PROVIDER
            enabled = found.get("ObjectLockEnabled") == "Enabled"
            self._enforcement = strong if enabled else LockEnforcement.NONE
        return self._enforcement

    def now(self) -> int:
        """The provider's time, by the ``Date`` of its answers: late by a moment, never ahead.

        Locks that are asked for are shorter by as much, and others look longer; margins are days.
        """
        return self.client.clock.now()

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Create an object; see the port.

        Raises ``Refused`` for a lock that would end in the past, and on a host whose clock is over 5 minutes
        off. ``stored_at`` is the time of the answer, a moment after the one that S3 stamps.
        """
        validate_name(name)
        self._check_clock()
        operation, lock = ask.PUT, {}
        if retain_until is not None:
            if retain_until <= self.now():
                raise _past(name, retain_until)
            operation, lock = ask.PUT_LOCKED, _lock(retain_until)
        body = Body(data)
        checksum = body.sha256()
        answer = self.client.call(
            operation, name, Body=body, ChecksumSHA256=checksum, IfNoneMatch="*", **lock
        )
        if answer.get("ChecksumSHA256", checksum) != checksum:
            msg = f"{name}: the server stored other bytes than were sent"
            raise IntegrityFailure(
                msg, hint="Run `donjon verify`, and look at what is between here and there."
            )
        return ObjectInfo(name, len(body), self.now(), retain_until, _version(answer))

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """A range of the object's bytes; see the port."""
        validate_name(name)
        if length == 0:
            self.head(name, version=version)
            return b""
        try:
            with self._reading(name, version, offset, length) as body:
                return b"".join(_pieces(body, length))
        except OutOfRange:
            return b""

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        """Hand on the bytes as they arrive; see the port."""
        validate_name(name)
        if not size_bytes:
            self.head(name, version=version)
            return
        piece, done = memoryview(bytearray(_PIECE_BYTES)), 0
        try:
            with self._reading(name, version, 0, size_bytes) as body:
                while done < size_bytes:
                    count = body.readinto(piece[: size_bytes - done])
                    if not count:
                        raise truncated(name, size_bytes, done)
                    write(done, piece[:count])
                    done += count
        except OutOfRange as error:
            raise truncated(name, size_bytes, error.size_bytes) from error

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """What S3 knows about an object; see the port.

        The lock is missing from the answer if the credential lacks s3:GetObjectRetention.
        """
        return self._head(name, version)[0]

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Every version and delete marker, those of one name newest first; see the port.

        ``retain_until`` is None always, as S3 does not list it. Keys that no vault has are ignored.
        """
        return list_versions(self.client, validate_prefix(prefix))

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Move the end of a lock into the future; see the port.

        One request, unless it is refused; without a version a HEAD before that. A lock keeps its mode: what
        the bucket's default locked in GOVERNANCE mode becomes COMPLIANCE only with the permission to lift it.
        """
        validate_name(name)
        if version is not None and retain_until > self.now():
            with contextlib.suppress(PermissionMissing):  # what stands against it is told by the lock itself
                self._set_lock(name, version, "COMPLIANCE", retain_until)
                return
        info, mode = self._head(name, version)
        self._check_longer(info, retain_until)
        if info.retain_until == retain_until:
            return
        if retain_until <= self.now():
            raise _past(name, retain_until)
        try:
            self._set_lock(name, info.version, mode or "COMPLIANCE", retain_until)
        except PermissionMissing:  # or somebody else was faster with a later end
            self._check_longer(self.head(name, version=info.version), retain_until)
            raise

    def _set_lock(self, name: str, version: str | None, mode: str, retain_until: int) -> None:
        retention = {"Mode": mode, "RetainUntilDate": _date(retain_until)}
        self.client.call(ask.EXTEND, name, version=version, Retention=retention)

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Delete one version, or one delete marker by its version; see the port.

        Asks for the lock first, as S3 answers alike whether a version was deleted or never was. Never
        leaves a delete marker.
        """
        try:
            info = self.head(name, version=version)
        except ObjectNotFound:
            if version is None or not self._is_marker(name, version):
                raise
            self.client.call(ask.DELETE, name, version=version)  # no lock holds a marker
            return
        if info.retain_until is not None and info.retain_until > self.now():
            raise still_locked(name, "delete", info.retain_until)
        self.client.call(ask.DELETE, name, version=info.version or _ONLY_VERSION)

    def check_bucket(self, lock_s: int) -> Sequence[BucketFault]:
        """See the port."""
        return check_bucket(self.client, lock_s)

    def make_bucket(self, lock_s: int) -> None:
        """See the port. What is there already is kept and mended."""
        make_bucket(self.client, lock_s)
        self._enforcement = None

    def close(self) -> None:
        """Give back the connections; the next request opens others."""
        self.client.close()

    def _head(self, name: str, version: str | None) -> tuple[ObjectInfo, str | None]:
        """What S3 knows about an object, and the mode of its lock."""
        validate_name(name)
        operation = ask.HEAD if version is None else ask.HEAD_VERSION
        try:
            answer = self.client.call(operation, name, version=version)
        except PermissionMissing as error:
            raise self._missing_or_denied(name, error) from error
        until = answer.get("ObjectLockRetainUntilDate")
        retain_until = None if until is None else _seconds(until)
        # A proxy may leave the length out of an answer to HEAD (RFC 9110, 8.6), but not out of a range.
        size_bytes = answer["ContentLength"] if "ContentLength" in answer else self._size(name, version)
        stored_at = _seconds(told(answer, "LastModified", name))
        mode = answer.get("ObjectLockMode")
        weak = retain_until is not None and mode != "COMPLIANCE"
        version = _version(answer)
        return ObjectInfo(name, size_bytes, stored_at, retain_until, version, is_weakly_locked=weak), mode

    def _size(self, name: str, version: str | None) -> int:
        """The size of an object, by the answer to a range of it (RFC 9110, 14.4)."""
        operation = ask.GET if version is None else ask.GET_VERSION
        try:
            answer = self.client.call(operation, name, version=version, Range="bytes=0-0")
        except OutOfRange:
            return 0
        answer["Body"].close()
        size = str(told(answer, "ContentRange", name)).rpartition("/")[2]
        return int(size) if size.isdecimal() else int(told({}, "ContentRange", name))

    def _is_marker(self, name: str, version: str) -> bool:
        return any(i.delete_marker for i in self.list(name) if (i.name, i.version) == (name, version))

    @contextlib.contextmanager
    def _reading(self, name: str, version: str | None, offset: int, length: int | None) -> Iterator[Any]:
        """The body of a range as it arrives; what goes wrong on the way comes as our errors."""
        operation = ask.GET if version is None else ask.GET_VERSION
        wanted = _range(offset, length)
        try:
            answer = self.client.call(
                operation, name, version=version, **({} if wanted is None else {"Range": wanted})
            )
        except PermissionMissing as error:
            raise self._missing_or_denied(name, error) from error
        with contextlib.closing(answer["Body"]) as body:
            try:
                yield body
            except DonjonError:
                raise
            except Exception as error:
                raise self.client.translated(error, operation, name, version) from error

    def _missing_or_denied(self, name: str, error: PermissionMissing) -> PermissionMissing | ObjectNotFound:
        """What a refused read means.

        "If you don't have the s3:ListBucket permission, Amazon S3 returns 403" for an object that is not
        there, too (https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html), and a writer has no
        such permission. Taking the object for missing is safe: a put of the same name creates or fails.
        """
        if isinstance(error, CredentialsRejected):
            return error
        if self._may_list is None:
            try:
                self.client.call(ask.MAY_LIST)
                self._may_list = True
            except PermissionMissing:
                self._may_list = False
        if self._may_list:
            return error
        return ObjectNotFound(
            f"{name}: no such object, or no permission s3:GetObject",
            hint="S3 tells these apart only for those who have s3:ListBucket as well.",
        )

    def _check_clock(self) -> None:
        if self._clock_checked:
            return
        skew_s = self._clock() - self.now()
        if abs(skew_s) > _MOST_SKEW_S:
            way = "ahead of" if skew_s > 0 else "behind"
            msg = f"{self.url}: the clock of this host is {way} the server's by {abs(skew_s)} s"
            raise Refused(msg, hint="Set it (timedatectl set-ntp true), then run the command again.")
        self._clock_checked = True

    def _check_longer(self, info: ObjectInfo, retain_until: int) -> None:
        if info.retain_until is not None and info.retain_until > retain_until:
            raise still_locked(info.name, "shorten its lock", info.retain_until)


def _range(offset: int, length: int | None) -> str | None:
    """The header, RFC 9110, 14.1.2; a range from the end has no length."""
    if offset < 0:
        return f"bytes={offset}"
    if length is not None:
        return f"bytes={offset}-{offset + length - 1}"
    return f"bytes={offset}-" if offset else None


def _pieces(body: Any, length: int | None) -> Iterator[bytes]:
    """The bytes that arrive, at most ``length`` of them."""
    left = length
    while left is None or left > 0:
        piece = body.read(_PIECE_BYTES if left is None else min(left, _PIECE_BYTES))
        if not piece:
            return
        if left is not None:
            left -= len(piece)
        yield piece


def _lock(retain_until: int) -> dict[str, Any]:
    return {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": _date(retain_until)}


def _date(unix_seconds: int) -> datetime:
    return datetime.fromtimestamp(unix_seconds, UTC)


def _seconds(date: datetime) -> int:
    return int(date.timestamp())


def _version(answer: dict[str, Any]) -> str | None:
    version: str | None = answer.get("VersionId")
    return None if version == _ONLY_VERSION else version


def _past(name: str, retain_until: int) -> Refused:
    return Refused(
        f"{name}: cannot be locked until {iso(retain_until)}, which is past by the provider's clock",
        hint="Ask for a later end; if a clock is wrong, set it.",
    )
