"""How the golden vaults were made. They are made once for a version of the format and then kept.

    python -m tests.golden.recipe NAME    prints the JSON of a new vault: `large` or `small`

Nothing in a golden vault is secret: its keys are in the JSON, so that tests can open it.
"""

from __future__ import annotations

import json
import random
import struct
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from donjon.app.setup import certify
from donjon.backup.job import Job
from donjon.backup.run import run_backup
from donjon.codec.chunk import Sizes
from donjon.codec.sign import SigningKey
from donjon.core.events import Silent
from donjon.format.entries import Entry, Kind
from donjon.format.vault import Action
from donjon.keys import passphrase
from donjon.keys.argon2id import Cost
from donjon.keys.recovery import RecoveryKit, write_kit
from donjon.repository.cache import Cache
from donjon.repository.creation import create_vault
from donjon.repository.credential import WriterCredential
from donjon.repository.keyring import vault_id_of
from donjon.repository.records import removal_record
from donjon.repository.sealing import reseal
from donjon.repository.vault import Vault, add_recipient
from donjon.repository.writing import WriteSession
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from tests.golden.made_up import MadeUpItem, MadeUpSource, to_json

DAY = 86_400
#: Small chunks make a vault with everything in it that many large ones have.
SIZES = Sizes(64, 256, 1024)
#: The lowest cost that readers accept: tests do not guess.
COST = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
PASSPHRASE = "pâté de foie"


def entry(depth: int, name: bytes, kind: Kind = Kind.FILE, **fields: Any) -> Entry:
    """An entry with values that differ from all defaults."""
    base = Entry(
        depth,
        name,
        kind,
        mode=0o640,
        uid=1000,
        gid=100,
        user="ada",
        group="users",
        mtime_s=1_700_000_000,
        mtime_ns=123_456_789,
        ctime_s=1_700_000_001,
        ctime_ns=5,
        device=2049,
        inode=4711,
    )
    return msgspec.structs.replace(base, **fields)


def file(depth: int, name: bytes, data: bytes, **fields: Any) -> MadeUpItem:
    """A file without holes, unless ``size`` and ``extents`` are given."""
    return MadeUpItem(entry(depth, name, **{"size": len(data), **fields}), data)


def other(depth: int, name: bytes, kind: Kind, **fields: Any) -> MadeUpItem:
    """Anything but a file."""
    return MadeUpItem(entry(depth, name, kind, **fields))


def large_tree(version: int) -> list[MadeUpItem]:
    """Everything that an entry can hold. ``version`` changes some of it."""
    noise = random.Random(version).randbytes(3000)
    same = random.Random(0).randbytes(2500)
    acl = struct.pack("<I", 2) + struct.pack("<HHI", 1, 6, 0xFFFFFFFF)
    return [
        other(0, b"srv", Kind.DIRECTORY, mode=0o755),
        other(1, b"a", Kind.DIRECTORY, mode=0o3777, xattrs=((b"system.posix_acl_default", acl),)),
        file(2, b"changed", noise, ctime_s=1_700_000_000 + version),
        file(2, b"deep\xff\n", b"not UTF-8, and a line end\n"),
        file(1, b"a-b", b"after all that is in the directory a\n"),
        file(1, b"empty", b""),
        other(1, b"fifo", Kind.FIFO),
        file(1, b"link-1", b"one file, two names\n" * 20, links=2, inode=99),
        file(1, b"link-2", b"one file, two names\n" * 20, links=2, inode=99),
        other(1, b"null", Kind.CHARACTER_DEVICE, rdev=259),
        file(1, b"old", b"1960", mtime_s=-300_000_000, mtime_ns=999_999_999, uid=2**32 - 2, gid=0),
        file(1, b"same", same, mtime_s=10_413_792_000),
        other(1, b"sda", Kind.BLOCK_DEVICE, rdev=2048),
        other(1, b"socket", Kind.SOCKET),
        file(
            1,
            b"sparse",
            same[:1500],
            size=1 << 40,
            extents=((4096, 1000), (1 << 39, 500)),
        ),
        other(1, b"symlink", Kind.SYMLINK, target=b"../../etc/\xfe", mode=0o777),
        file(1, b"text", b"the quick brown fox jumps over the lazy dog\n" * 100),
        file(
            1,
            b"xattrs",
            b"x",
            mode=0o4755,
            user="",
            group="",
            xattrs=((b"security.capability", bytes(20)), (b"user.empty", b"")),
        ),
        # More than 16,384 chunks, all of them the same: id lists, and next to no bytes.
        file(1, b"zeros", bytes(17 << 20)),
    ]


def small_tree() -> list[MadeUpItem]:
    """A few items, so that every byte of what is stored can be tried."""
    return [
        file(0, b"f", b"some text, some text, some text, some text\n" * 2),
        file(0, b"g", random.Random(1).randbytes(100)),
        other(0, b"l", Kind.SYMLINK, target=b"f"),
    ]


@dataclass
class Maker:
    """A vault that is being made, under a clock that is moved by hand."""

    name: str
    lock_s: int = 30 * DAY

    def __post_init__(self) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore(self.clock)
        self._folder = tempfile.TemporaryDirectory(prefix="donjon-golden-")
        self.folder = Path(self._folder.name)
        kit = self.new_kit(bytes(16), with_root=True)
        root = kit.root
        assert root is not None
        self.root: SigningKey = root
        self.kit = replace(kit, vault_id=vault_id_of(root.public))
        self.vault: Vault = create_vault(
            self.store,
            self.kit.vault_id,
            self.root,
            [self.kit.recipient("first kit")],
            lock_s=self.lock_s,
            sizes=SIZES,
        )
        self.vault.use_opener(self.kit.opener())

    def close(self) -> None:
        self._folder.cleanup()

    def new_kit(self, vault_id: bytes, *, with_root: bool) -> RecoveryKit:
        return RecoveryKit.generate(
            vault_id=vault_id,
            vault_name=self.name,
            vault_url=f"file:///{self.name}",
            created_at=self.clock(),
            with_root=with_root,
        )

    def writer(self, name: str) -> WriterCredential:
        return certify(self.vault, self.root, name, self.kit.vault_url)

    def back_up(self, writer: WriterCredential, source: MadeUpSource, workload: str) -> bytes:
        cache = Cache(self.folder / writer.name)
        session = WriteSession(self.vault, writer.signing_key, writer.writer_id, cache, self.clock)
        job = Job(source, workload, writer.name, (b"/srv",), ("golden",))
        try:
            return run_backup(job, session, cache, self.clock, Silent()).point
        finally:
            session.close()
            self.clock.advance(3600)

    def kit_text(self, kit: RecoveryKit, phrase: str | None = None) -> list[str]:
        path = self.folder / "kit"
        path.unlink(missing_ok=True)
        write_kit(path, kit, phrase)
        return path.read_text().splitlines()


def make_large() -> dict[str, Any]:
    """Two kits, a passphrase, two writers one of which is revoked, five points of two workloads."""
    maker = Maker("golden-large")
    try:
        phrase = passphrase.create("passphrase", PASSPHRASE, created_at=maker.clock(), cost=COST)
        add_recipient(maker.vault, maker.root, phrase)
        ada, bob = maker.writer("host-a"), maker.writer("host-b")
        maker.back_up(ada, MadeUpSource(large_tree(1), [(b"/srv/locked", "Permission denied")]), "web")
        maker.back_up(ada, MadeUpSource(large_tree(2)), "web")
        maker.back_up(bob, MadeUpSource(small_tree()), "db")
        second = maker.new_kit(maker.vault.vault_id, with_root=False)
        add_recipient(maker.vault, maker.root, second.recipient("second kit"))
        reseal(maker.vault, maker.root, [second.recipient("second kit")], Silent())
        maker.vault.keyring.add(
            maker.store,
            maker.root,
            lambda number, previous: removal_record(
                Action.REVOKE_WRITER, bob.writer_id, maker.clock(), number, previous
            ),
            maker.vault.lock_end(),
        )
        maker.back_up(ada, MadeUpSource([]), "nothing")
        maker.back_up(ada, MadeUpSource(large_tree(3)), "web")
        kits = [maker.kit_text(maker.kit), maker.kit_text(second)]
        return {
            "kits": kits,
            "passphrase": PASSPHRASE,
            "vault_id": maker.vault.vault_id.hex(),
            "objects": to_json(maker.store.snapshot()),
        }
    finally:
        maker.close()


def make_small() -> dict[str, Any]:
    """One point, and one object of every kind."""
    maker = Maker("golden-small")
    try:
        ada = maker.writer("host-a")
        maker.back_up(ada, MadeUpSource(small_tree()), "db")
        second = maker.new_kit(maker.vault.vault_id, with_root=False)
        add_recipient(maker.vault, maker.root, second.recipient("second kit"))
        reseal(maker.vault, maker.root, [second.recipient("second kit")], Silent())
        return {
            "kits": [maker.kit_text(maker.kit), maker.kit_text(second)],
            "vault_id": maker.vault.vault_id.hex(),
            "objects": to_json(maker.store.snapshot()),
        }
    finally:
        maker.close()


if __name__ == "__main__":
    made = {"large": make_large, "small": make_small}[sys.argv[1]]()
    print(json.dumps(made, indent=1))
