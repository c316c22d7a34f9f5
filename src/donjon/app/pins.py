"""What this host saw of the points of each place, so that no store can take them back unnoticed.

Pins are kept for each vault *and* address: a second vault that lags behind the first hides nothing.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from donjon.codec.digest import digest
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    ObjectNotFound,
    PermissionMissing,
)
from donjon.format import names
from donjon.format.objects import ObjectKind
from donjon.keys.private import private_folder, replace_private
from donjon.repository.checkpoints import Signed, newest_trusted
from donjon.repository.fetch import fetch_object
from donjon.repository.points import Point
from donjon.repository.vault import Vault

_HINT = (
    "Somebody hides or replaced points. Run `donjon verify --witness` with a checkpoint from elsewhere, and "
    "look into another copy."
)


class Seen(msgspec.Struct):
    """What was seen at ``url``: the newest checkpoint, 0 for none, and the last point of each writer.

    Writers and digests are in hexadecimal.
    """

    url: str
    checkpoint: int = 0
    digest: str = ""
    heads: dict[str, tuple[int, str]] = {}


class PointPins:
    """The pins of one vault at one address."""

    def __init__(self, folder: Path, vault: Vault) -> None:
        self._vault = vault
        place = digest(vault.store.url.encode()).hex()[:16]
        self._path = folder / "pins" / f"{vault.vault_id.hex()}.points.{place}.json"

    def read(self) -> Seen:
        """What was seen so far. Raises ``KeyNotAvailable`` if that cannot be read."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Seen)
        except FileNotFoundError:
            return Seen(self._vault.store.url)
        except (msgspec.MsgspecError, OSError) as error:
            msg = f"{self._path}: cannot be read: {error}"
            hint = "It remembers which points there were. Remove it only if nobody tampered with it."
            raise KeyNotAvailable(msg, hint=hint) from error

    def check_heads(self) -> list[IntegrityFailure]:
        """Ask the store for the last point seen of each writer; what contradicts them.

        A writer's credential may read its own manifests only; what may not be read is left out.
        """
        return self._compare(self.read(), self._digest_there)

    def check(self, points: Sequence[Point], newest: Signed | None) -> list[IntegrityFailure]:
        """What of all points of the vault, and its newest checkpoint, contradicts what was seen."""
        ids = {(p.manifest.writer, p.manifest.sequence): p.point_id for p in points}
        seen = self.read()
        alarms = self._compare(seen, lambda writer, sequence: ids.get((writer, sequence)))
        number = newest.number if newest else 0
        if number < seen.checkpoint:
            msg = f"{names.checkpoint(seen.checkpoint)}: is not shown, though this host saw it there"
            alarms.append(IntegrityFailure(msg, hint=_HINT))
        elif newest and number == seen.checkpoint and newest.digest.hex() != seen.digest:
            msg = f"{names.checkpoint(number)}: is another checkpoint than the one that this host saw there"
            alarms.append(IntegrityFailure(msg, hint=_HINT))
        return alarms

    def keep(self, points: Sequence[Point], newest: Signed | None = None) -> None:
        """Remember the last point of each writer, and a checkpoint; nothing goes back."""
        private_folder(self._path.parent)
        with self._path.with_suffix(".lock").open("ab") as lock:
            os.fchmod(lock.fileno(), 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self.read()
            seen = _merged(before, points, newest)
            if seen != before:
                replace_private(self._path, msgspec.json.encode(seen) + b"\n")

    def _compare(self, seen: Seen, shown: Callable[[bytes, int], bytes | None]) -> list[IntegrityFailure]:
        alarms = []
        for writer_hex, (sequence, wanted) in seen.heads.items():
            writer = bytes.fromhex(writer_hex)
            name = names.manifest(writer, sequence)
            found = shown(writer, sequence)
            if found is None and not self._was_removed(seen, writer, sequence):
                msg = f"{name}: is not shown, though this host saw the point {wanted[:12]} there"
                alarms.append(IntegrityFailure(msg, hint=_HINT))
            elif found is not None and found.hex() != wanted:
                msg = f"{name}: is another point than {wanted[:12]}, which this host saw there"
                alarms.append(IntegrityFailure(msg, hint=_HINT))
        return alarms

    def _digest_there(self, writer: bytes, sequence: int) -> bytes | None:
        try:
            return digest(
                fetch_object(self._vault.store, names.manifest(writer, sequence), ObjectKind.MANIFEST)
            )
        except ObjectNotFound:
            return None
        except PermissionMissing:
            return bytes.fromhex(self.read().heads[writer.hex()][1])

    def _was_removed(self, seen: Seen, writer: bytes, sequence: int) -> bool:
        """Whether a checkpoint, no older than the one seen, says that the point was removed on purpose."""
        try:
            newest = newest_trusted(self._vault)
        except DonjonError:
            return False
        if newest is None or newest.number < seen.checkpoint:
            return False
        chains = {chain.writer: chain for chain in newest.checkpoint.chains}
        chain = chains.get(writer)
        return (
            chain is not None
            and chain.last >= sequence
            and all(row.sequence != sequence for row in chain.rows())
        )


def _merged(seen: Seen, points: Sequence[Point], newest: Signed | None) -> Seen:
    heads = dict(seen.heads)
    for point in points:
        writer, sequence = point.manifest.writer.hex(), point.manifest.sequence
        if sequence > heads.get(writer, (0, ""))[0]:
            heads[writer] = (sequence, point.point_id.hex())
    merged = Seen(seen.url, seen.checkpoint, seen.digest, heads)
    if newest is not None and newest.number > seen.checkpoint:
        merged.checkpoint, merged.digest = newest.number, newest.digest.hex()
    return merged


def watch_points(
    folder: Path, vault: Vault, tell: Callable[[str], None], *, keep: Callable[[], bool]
) -> None:
    """Compare what the vault shows with the pins, now and whenever its points are listed.

    ``tell`` hears at once what contradicts them; ``keep`` says whether this host may remember new points.
    """
    pins = PointPins(folder, vault)
    for alarm in pins.check_heads():
        tell(f"warning: {alarm.message}")

    def watch(points: Sequence[Point], newest: Signed | None) -> list[IntegrityFailure]:
        alarms = pins.check(points, newest)
        if keep():
            pins.keep(points, newest)
        return alarms

    vault.watch = watch
