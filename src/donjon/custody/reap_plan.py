"""The plan of a reaping as a file that people can read, sealed so that only this host's own is carried out.

One JSON object a line: a head, what may go, and the seal.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import msgspec
from blake3 import blake3

from donjon.core.clock import SECONDS_PER_DAY, iso
from donjon.core.errors import Refused, UsageError
from donjon.custody.reaping import Doomed
from donjon.keys.private import create_private
from donjon.plan.retention import Policy

DEFAULT_GRACE_S = 7 * SECONDS_PER_DAY
_GOOD_FOR_S = 30 * SECONDS_PER_DAY
_FORMAT = "donjon reaping plan"
_VERSION = 1
_MAX_FILE_BYTES = 2 << 30


class _Head(msgspec.Struct):
    format: str
    version: int
    vault: str
    url: str
    created: str
    created_at: int
    apply_after: int
    policy: Policy
    items: int
    bytes: int


class _Seal(msgspec.Struct):
    seal: str


class ReapPlan(msgspec.Struct):
    """A plan, as it was made. Times are in Unix seconds by the store's clock."""

    vault_id: bytes
    created_at: int
    apply_after: int
    policy: Policy
    doomed: list[Doomed]

    def check(self, vault_id: bytes, now: int, what: str) -> None:
        """Raises ``Refused`` unless the plan is for this vault, and its time has come and not gone."""
        if self.vault_id != vault_id:
            msg = f"{what}: is a plan for another vault ({self.vault_id.hex()})"
            raise Refused(msg, hint="Make a plan for this one: `donjon custody reap plan --out FILE`.")
        if now < self.apply_after:
            msg = f"{what}: its grace time ends at {iso(self.apply_after)}, and it is {iso(now)} in the store"
            raise Refused(msg, hint="Look at what it would delete, and apply it after that.")
        if now > self.apply_after + _GOOD_FOR_S:
            msg = f"{what}: is too old: it was to be applied until {iso(self.apply_after + _GOOD_FOR_S)}"
            raise Refused(msg, hint="Make a new plan: `donjon custody reap plan --out FILE`.")


def write_plan(path: Path, plan: ReapPlan, url: str, key: bytes) -> None:
    """Create the file. ``key`` is 32 secret bytes of this host. Raises ``Refused`` if it exists."""
    head = _Head(
        _FORMAT,
        _VERSION,
        plan.vault_id.hex(),
        url,
        iso(plan.created_at),
        plan.created_at,
        plan.apply_after,
        plan.policy,
        len(plan.doomed),
        sum(item.size_bytes for item in plan.doomed),
    )
    lines = [msgspec.json.encode(head), *map(msgspec.json.encode, plan.doomed)]
    body = b"".join(line + b"\n" for line in lines)
    create_private(path, body + msgspec.json.encode(_Seal(_seal(key, body))) + b"\n")


def read_plan(path: Path, key: bytes) -> ReapPlan:
    """The plan in a file. Raises ``Refused`` unless this host made it so, ``UsageError`` for no file."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE_BYTES)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise UsageError(msg, hint="Name a file that `donjon custody reap plan` made.") from error
    body, last = _split(data)
    try:
        good = msgspec.json.decode(last, type=_Seal).seal == _seal(key, body)
    except msgspec.MsgspecError:
        good = False
    if not good:
        msg = f"{path}: is no plan that was made on this host, or it was changed"
        raise Refused(msg, hint="Make a plan here: `donjon custody reap plan --out FILE`.")
    lines = body.splitlines()
    head = msgspec.json.decode(lines[0], type=_Head)
    if head.version != _VERSION:
        msg = f"{path}: is a plan of version {head.version}"
        raise Refused(msg, hint="Make a new one with this Donjon.")
    decoder = msgspec.json.Decoder(Doomed)
    doomed = [decoder.decode(line) for line in lines[1:]]
    return ReapPlan(bytes.fromhex(head.vault), head.created_at, head.apply_after, head.policy, doomed)


def _split(data: bytes) -> tuple[bytes, bytes]:
    """All lines but the last, and the last one."""
    at = data.rstrip(b"\n").rfind(b"\n") + 1
    return data[:at], data[at:]


def _seal(key: bytes, body: bytes) -> str:
    return blake3(_FORMAT.encode() + b"\0" + body, key=key).hexdigest()


def same(planned: Iterable[Doomed], found: Iterable[Doomed]) -> list[Doomed]:
    """What both say may go."""
    now = {(item.name, item.version) for item in found}
    return [item for item in planned if (item.name, item.version) in now]
