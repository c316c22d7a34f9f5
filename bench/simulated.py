"""A made-up vault of 100 TiB: real signed manifests, sessions and index objects, packs in name only."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from donjon.codec.digest import digest
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.epoch import Epoch
from donjon.format.manifest import Manifest, Use
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.pack import PackKind
from donjon.format.session import SessionObject
from donjon.format.table import IndexObject, PackRow, build_table
from donjon.format.vault import VaultObject
from donjon.repository.keyring import Keyring, Writer, vault_id_of
from donjon.repository.packbits import PackBits
from donjon.repository.vault import Vault
from donjon.stores.base import Buffer, LockEnforcement, ObjectInfo, ObjectStore, byte_range, not_found

START = 1_800_000_000
LOCK_S = 30 * SECONDS_PER_DAY
WRITERS = 20
POINTS = 500  #: of each writer, one a day
PACKS = 160  #: of each session: 1.6 million in all, of 64 chunks of 1 MiB each
PACK_BYTES = 64 * MIB
_ROOT = SigningKey(bytes(32))
_ROW_BYTES = 32


def _writer(number: int) -> SigningKey:
    return SigningKey(number.to_bytes(32, "little"))


def _digests() -> Iterator[tuple[int, int, int, bytes]]:
    """Writer, session, ordinal and digest of every pack."""
    for writer in range(1, WRITERS + 1):
        for session in range(1, POINTS + 1):
            for ordinal in range(PACKS):
                place = f"{writer} {session} {ordinal}".encode()
                yield writer, session, ordinal, digest(place)


def make(folder: Path) -> None:
    """Write the objects of the vault into two files."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[int, int, int]] = {}
    with (folder / "objects").open("wb") as file:
        for name, stored_at, data in _objects():
            found[name] = (file.tell(), len(data), stored_at)
            file.write(data)
    (folder / "objects.json").write_text(json.dumps(found))
    rows = sorted(d + session.to_bytes(4, "little") for _, session, _, d in _digests())
    (folder / "packs").write_bytes(b"".join(rows))


def _objects() -> Iterator[tuple[str, int, bytes]]:
    vault_id = vault_id_of(_ROOT.public)
    choice = random.Random(7)  # noqa: S311 - the same vault each time
    for number, rows in groupby(_digests(), key=lambda row: row[0]):
        signer = _writer(number)
        identity = _identity(signer)
        alive: dict[int, int] = {}
        previous = bytes(32)
        for session, group in groupby(rows, key=lambda row: row[1]):
            at = START + session * SECONDS_PER_DAY
            packs = [PackRow(d, session, o, PackKind.DATA, PACK_BYTES, at + LOCK_S) for _, _, o, d in group]
            opening = SessionObject(identity, session, at, 0, at + LOCK_S, bytes(32), ())
            table = build_table([(pack, []) for pack in packs])
            index = IndexObject(identity, session, 0, table[16:], bytes(64))
            alive[session] = (1 << PACKS) - 1
            for older in alive:  # each day a part of what is older is not needed any more
                if choice.random() < 0.3:
                    alive[older] &= ~(1 << choice.randrange(PACKS))
            uses = tuple(Use(identity, s, bits.to_bytes(PACKS // 8, "little")) for s, bits in alive.items())
            manifest = Manifest(identity, session, previous, session, at, at + LOCK_S, uses, bytes(1500))
            data = pack_object(ObjectKind.MANIFEST, manifest, vault_id, signer)
            previous = digest(data)
            yield (
                names.session(identity, session),
                at,
                pack_object(ObjectKind.SESSION, opening, vault_id, signer),
            )
            yield (
                names.index(identity, session, 0),
                at,
                pack_object(ObjectKind.INDEX, index, vault_id, signer),
            )
            yield names.manifest(identity, session), at, data


def _identity(signer: SigningKey) -> bytes:
    return vault_id_of(signer.public)


class SimulatedStore(ObjectStore):
    """Reads what ``make`` wrote. Its listings tell no locks, as those of S3."""

    url = "s3://simulated"

    def __init__(self, folder: Path, now: int) -> None:
        self.lists_locks = False
        self._now = now
        self._found: dict[str, list[int]] = json.loads((folder / "objects.json").read_text())
        self._file = (folder / "objects").open("rb")
        self._packs = folder / "packs"
        self._epoch = folder / "epoch"
        if self._epoch.exists():
            self._found[names.epoch(1)] = [0, self._epoch.stat().st_size, now]

    @property
    def lock_enforcement(self) -> LockEnforcement:
        """As if it were a provider."""
        return LockEnforcement.PROVIDER

    def now(self) -> int:
        """The time that the simulation is at."""
        return self._now

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        """Planning puts nothing."""
        raise NotImplementedError

    def extend(self, name: str, retain_until: int, *, version: str | None = None) -> None:
        """Planning extends nothing."""
        raise NotImplementedError

    def delete_expired(self, name: str, *, version: str | None = None) -> None:
        """Planning deletes nothing."""
        raise NotImplementedError

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        """From the file."""
        if name not in self._found:
            raise not_found(name, version)
        at, size, _ = self._found[name]
        start, count = byte_range(size, offset, length)
        if name.startswith(names.EPOCHS):
            return self._epoch.read_bytes()[start : start + count]
        self._file.seek(at + start)
        return self._file.read(count)

    def head(self, name: str, *, version: str | None = None) -> ObjectInfo:
        """Size and time."""
        _, size, stored_at = self._found[name]
        return ObjectInfo(name, size, stored_at)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        """Names before ``packs/``, the packs, names after them."""
        listed = sorted(name for name in self._found if name.startswith(prefix))
        yield from (self._info(name) for name in listed if name < names.PACKS)
        if names.PACKS.startswith(prefix):
            with self._packs.open("rb") as file:
                while row := file.read(_ROW_BYTES + 4):
                    at = START + int.from_bytes(row[_ROW_BYTES:], "little") * SECONDS_PER_DAY
                    name = names.pack(row[:_ROW_BYTES])
                    yield ObjectInfo(name, PACK_BYTES, at, None, row[:16].hex())
        yield from (self._info(name) for name in listed if name > names.PACKS)

    def _info(self, name: str) -> ObjectInfo:
        return self.head(name)


def tell(folder: Path, vault: Vault, until: int, packs: PackBits) -> None:
    """Write the epoch object of a custodian who locked these packs anew until then."""
    epoch = Epoch(_identity(_writer(0)), 1, vault.store.now(), until, packs.uses(), ())
    (folder / "epoch").write_bytes(pack_object(ObjectKind.EPOCH, epoch, vault.vault_id, _writer(0)))


def open_keyring() -> Keyring:
    """The keyring before anybody is certified."""
    vault_object = VaultObject(
        vault_id_of(_ROOT.public), START, _ROOT.public, 2**18, 2**20, 2**22, LOCK_S, 2 * SECONDS_PER_DAY
    )
    return Keyring(vault_object, bytes(32))


def open_simulated(folder: Path, now: int) -> Vault:
    """The vault, without any key."""
    keyring = open_keyring()
    for number in range(1, WRITERS + 1):
        signer = _writer(number)
        keyring.writers[_identity(signer)] = Writer(_identity(signer), signer.public, b"", START)
    custodian = _writer(0)
    keyring.custodians[_identity(custodian)] = Writer(_identity(custodian), custodian.public, b"", START)
    return Vault(SimulatedStore(folder, now), keyring.vault, keyring)
