"""A volume as a new snapshot of EBS, from which EC2 makes volumes."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from donjon.clouds.ebs import BLOCK_BYTES, PARALLEL, EbsDirect, Pacing
from donjon.clouds.ebs_blocks import SnapshotReader
from donjon.clouds.ebs_faults import COMPLETE, DELETE, FIND, failed, translated
from donjon.core.errors import DonjonError, Refused, TargetFailed, UsageError
from donjon.core.units import GIB, format_size
from donjon.targets.base import Buffer

#: Marks what a restore made; its value is the path in the point.
TAG = "donjon-restored"
#: The largest volume in GiB, as StartSnapshot takes it.
_MAX_GIB = 65_536
#: Minutes without a write after which EBS gives up a snapshot that nobody completes.
_GIVE_UP_MIN = 60
_POLL_S = 5.0
_POLLS = 720


@dataclass(frozen=True, slots=True)
class EbsAddress:
    """``ebs://PROFILE?region=R&encrypt=yes&kms=ARN``; every part may be left out.

    ``account`` is set if a number of twelve digits stands in place of the profile: then the snapshot must
    be made in that account.
    """

    profile: str | None = None
    account: str | None = None
    region: str | None = None
    encrypt: bool = False
    kms_key: str | None = None

    @classmethod
    def parse(cls, url: str) -> EbsAddress:
        """Raises ``UsageError``."""
        hint = "Write ebs://PROFILE?region=REGION&encrypt=yes&kms=ARN; all but ebs:// may be left out."
        try:
            parts = urlsplit(url)
            asked = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
            name = parts.netloc
        except ValueError as error:
            raise UsageError(f"{url}: {error}", hint=hint) from error
        unknown = asked.keys() - {"region", "encrypt", "kms"}
        if parts.scheme != "ebs" or parts.path.strip("/") or unknown or asked.get("encrypt", "yes") != "yes":
            raise UsageError(f"{url}: is no address of EBS", hint=hint)
        is_account = len(name) == 12 and name.isdigit()
        return cls(
            None if is_account or not name else name,
            name if is_account else None,
            asked.get("region"),
            "encrypt" in asked or "kms" in asked,
            asked.get("kms"),
        )


class EbsTarget:
    """Starts a snapshot, writes its blocks and completes it. ``ec2`` is a client of the SDK.

    ``name`` is what it is of. A snapshot that fails is deleted; where that is not allowed, EBS gives it up
    after an hour.
    """

    unit_bytes = BLOCK_BYTES
    parallel = PARALLEL

    def __init__(
        self, direct: EbsDirect, ec2: Any, address: EbsAddress, name: str, pacing: Pacing | None = None
    ) -> None:
        self._direct = direct
        self._ec2 = ec2
        self._address = address
        self._name = name
        self._pacing = pacing or Pacing()
        self._snapshot = ""
        self._reader: SnapshotReader | None = None
        self._digests: dict[int, bytes] = {}
        self._lock = threading.Lock()
        self._size = 0

    def begin(self, size: int) -> None:
        """Start the snapshot. Raises ``Refused`` for a volume that is too large, and for another account."""
        self._size = size
        size_gib = max(-(-size // GIB), 1)
        if size_gib > _MAX_GIB:
            msg = f"{self._name}: has {format_size(size)}, more than a volume of EBS may have"
            raise Refused(msg, hint="Restore it to a device or an image file.")
        asked: dict[str, Any] = {
            "ClientToken": secrets.token_hex(16),
            "Description": f"Donjon: restored from {self._name}"[:255],
            "Tags": [{"Key": TAG, "Value": self._name[-255:]}],
            "Timeout": _GIVE_UP_MIN,
        }
        if self._address.encrypt:
            asked["Encrypted"] = True
        if self._address.kms_key:
            asked["KmsKeyArn"] = self._address.kms_key
        answer = self._direct.start(size_gib, f"a snapshot of {self._name}", **asked)
        self._snapshot = str(answer["SnapshotId"])
        owner, block_bytes = str(answer.get("OwnerId", "")), answer.get("BlockSize", BLOCK_BYTES)
        if self._address.account and owner != self._address.account:
            self.abort()
            msg = f"the credential is of account {owner}, not {self._address.account}"
            raise Refused(msg, hint="Set AWS_PROFILE, or write ebs://PROFILE.")
        if block_bytes != BLOCK_BYTES:
            self.abort()
            raise TargetFailed(f"EBS wants blocks of {block_bytes} bytes", hint="Use a newer Donjon.")

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write blocks; what is zero in a new snapshot needs no writing."""
        view = memoryview(data)
        for start in range(0, len(view), BLOCK_BYTES):
            block = bytes(view[start : start + BLOCK_BYTES])
            block += bytes(BLOCK_BYTES - len(block))
            if block == _ZEROS:
                continue
            index = (offset + start) // BLOCK_BYTES
            digest = self._direct.put_block(self._snapshot, index, block)
            with self._lock:
                self._digests[index] = digest

    def clear(self, offset: int, length: int) -> None:
        """What is not written reads as zeros."""

    def finish(self) -> None:
        """Complete the snapshot, and wait until EBS has it. Raises ``TargetFailed``."""
        self._direct.complete(self._snapshot, self._digests)
        for _ in range(_POLLS):
            state = self._state()
            if state == "completed":
                return
            if state == "error":
                raise failed(COMPLETE, self._snapshot, "EBS gave it up", hint="Restore it again.")
            self._pacing.sleep(_POLL_S)
        msg = f"{self._snapshot}: is still not complete"
        raise TargetFailed(msg, hint="Look at it with `aws ec2 describe-snapshots`.")

    def abort(self) -> None:
        """Delete it, if that is allowed."""
        snapshot, self._snapshot = self._snapshot, ""
        if snapshot:
            try:
                self._ask(lambda: self._ec2.delete_snapshot(SnapshotId=snapshot), DELETE, snapshot)
            except DonjonError:
                return  # the error that led here says more, and EBS gives it up

    def read_at(self, offset: int, length: int) -> bytes | memoryview:
        """What was written."""
        data = memoryview(bytearray(length))
        self._made().read_into(offset, data)
        return data

    def is_zero(self, offset: int, length: int) -> bool:
        """Whether nothing, or zeros, are there."""
        return self._made().is_zero(offset, length)

    def close(self) -> None:
        """Nothing is held."""

    def made(self) -> tuple[str, list[str]]:
        """The id of the snapshot, and how to make a volume of it."""
        region = self._direct.region
        command = (
            f"aws ec2 create-volume --region {region} --snapshot-id {self._snapshot} "
            f"--availability-zone {region}a"
        )
        return self._snapshot, [f"make a volume of it with: {command}"]

    def _made(self) -> SnapshotReader:
        if self._reader is None:
            self._reader = SnapshotReader(self._direct, self._snapshot)
        return self._reader

    def _state(self) -> str:
        answer = self._ask(
            lambda: self._ec2.describe_snapshots(SnapshotIds=[self._snapshot]), FIND, self._snapshot
        )
        return str(answer["Snapshots"][0]["State"])

    def _ask(self, ask: Callable[[], Any], operation: Any, what: str) -> Any:
        def once() -> Any:
            try:
                return ask()
            except Exception as error:
                raise translated(error, operation, what) from error

        return self._pacing.retries().carry_out(once)


_ZEROS = bytes(BLOCK_BYTES)
