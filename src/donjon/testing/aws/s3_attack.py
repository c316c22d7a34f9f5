"""The attacks of the drill, tried on every object of a vault instead of on canaries, and what became of it.

A server with Object Lock refuses all of ``destroy``, whoever asks. ``overwrite`` and ``hide`` are no
refusals: S3 takes them as newer versions over the locked ones
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-lock.html). ``take_stock`` and ``losses`` tell
by the bytes and the locks themselves, not by the answers, whether anything was lost.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from donjon.drills.base import Role, Trial
from donjon.drills.canaries import Canary
from donjon.drills.s3 import ATTACKS
from donjon.drills.s3_field import Field
from donjon.drills.s3_field import Held as Target

#: What would take objects away or weaken their locks.
DESTROYING = (
    "delete-version", "delete-bypass", "delete-batch", "delete-batch-bypass", "shorten", "shorten-bypass",
    "downgrade", "downgrade-bypass", "remove-lock", "suspend", "delete-bucket",
)  # fmt: skip


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """One version of one object."""

    key: str
    version_id: str

    def parameters(self) -> dict[str, str]:
        """As the SDK names it."""
        return {"Key": self.key, "VersionId": self.version_id}


@dataclass(frozen=True, slots=True)
class Held:
    """What a version is, and how it is locked."""

    sha256: bytes
    mode: str | None
    retain_until: datetime | None


def take_stock(client: Any, bucket: str, only: Container[Version] | None = None) -> dict[Version, Held]:
    """All versions in a bucket, or these of them, read in full. Raises the SDK's errors."""
    found = {}
    for page in client.get_paginator("list_object_versions").paginate(Bucket=bucket):
        for entry in page.get("Versions", ()):
            version = Version(entry["Key"], entry["VersionId"])
            if only is not None and version not in only:
                continue
            answer = client.get_object(Bucket=bucket, **version.parameters())
            digest = hashlib.sha256(answer["Body"].read()).digest()
            lock = answer.get("ObjectLockMode"), answer.get("ObjectLockRetainUntilDate")
            found[version] = Held(digest, *lock)
    return found


def losses(before: Mapping[Version, Held], after: Mapping[Version, Held]) -> list[str]:
    """What is gone, changed or less locked than before; what was added is no loss."""
    lost = []
    for version, held in before.items():
        now = after.get(version)
        if now is None:
            lost.append(f"{version.key}: is gone")
        elif now.sha256 != held.sha256:
            lost.append(f"{version.key}: has other bytes")
        elif now.mode != held.mode or _is_earlier(now.retain_until, held.retain_until):
            lost.append(f"{version.key}: {now.mode} until {now.retain_until}, not {held.mode} as before")
    return lost


def destroy(client: Any, bucket: str, stock: Mapping[Version, Held]) -> Iterator[Trial]:
    """Ask for all that would destroy these versions or their locks. Raises what the drill raises."""
    place = _field(client, bucket, stock)
    for attack, way in ATTACKS:
        if attack.name in DESTROYING:
            yield Trial(attack, Role.ADMINISTRATOR, tuple(way(place)))


def overwrite(client: Any, bucket: str, keys: Iterable[str]) -> Trial:
    """Put garbage under each key."""
    return _each("overwrite", client, bucket, keys)


def hide(client: Any, bucket: str, keys: Iterable[str]) -> Trial:
    """Lay a delete marker over each key."""
    return _each("delete-marker", client, bucket, keys)


def _each(name: str, client: Any, bucket: str, keys: Iterable[str]) -> Trial:
    (found,) = [pair for pair in ATTACKS if pair[0].name == name]
    stock = {Version(key, ""): Held(b"", None, None) for key in keys}
    answers = tuple(found[1](_field(client, bucket, stock)))
    return Trial(found[0], Role.ADMINISTRATOR, answers)


def _field(client: Any, bucket: str, stock: Mapping[Version, Held]) -> Field:
    """A field whose canaries are these versions."""
    return Field(
        client,
        client,
        bucket,
        "",
        _no_canary,
        lambda: int(time.time()),
        is_aws=False,
        intrusive=True,
        targets=[
            Target(
                version.key,
                version.key,
                version.version_id or None,
                held.sha256,
                held.mode,
                int(held.retain_until.timestamp()) if held.retain_until else None,
            )
            for version, held in stock.items()
        ],
    )


def _no_canary() -> Canary:
    raise AssertionError("the objects of the vault are attacked, and some are lost")


def _is_earlier(now: datetime | None, before: datetime | None) -> bool:
    return before is not None and (now is None or now < before)
