"""A vault in memory and the engine around it, put together without the command line."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from donjon.app.setup import certify
from donjon.backup.job import Job
from donjon.backup.run import Outcome, run_backup
from donjon.codec.chunk import Sizes
from donjon.codec.sign import SigningKey
from donjon.core.events import Silent
from donjon.format.approvers import ApproverList
from donjon.format.vault import VaultSecret
from donjon.keys.recovery import RecoveryKit
from donjon.recovery.request import Request
from donjon.recovery.restore import Restored, restore
from donjon.repository.cache import Cache
from donjon.repository.creation import create_vault
from donjon.repository.credential import WriterCredential
from donjon.repository.index import Index
from donjon.repository.keyring import vault_id_of
from donjon.repository.points import OpenPoint, list_points, open_point
from donjon.repository.reading import ChunkReader
from donjon.repository.rebuild import complete_index
from donjon.repository.vault import Vault, open_vault
from donjon.repository.verify import Report, remember_bad_packs, verify_content, verify_structure
from donjon.repository.writing import WriteSession
from donjon.sources.tree import TreeSource
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.targets.base import Overwrite
from donjon.targets.tree import TreeTarget
from donjon.testing.clock import ManualClock
from donjon.testing.trees import compare_trees

DAY = 86_400
#: Small chunks, so that small trees have many.
SMALL = Sizes(1024, 4096, 16_384)


@dataclass
class Host:
    """A machine that backs up: a writer credential, a cache and a clock."""

    credential: WriterCredential
    cache: Cache
    clock: ManualClock

    def backup(
        self,
        store: ObjectStore,
        *sources: Path,
        workload: str = "files",
        read_all: bool = False,
        compact_percent: float = 0,
    ) -> Outcome:
        """One backup through this store; whatever goes wrong comes out."""
        vault = open_vault(store)
        vault.use_secret(self.credential.secret)
        session = WriteSession(
            vault, self.credential.signing_key, self.credential.writer_id, self.cache, self.clock
        )
        paths = tuple(os.fsencode(path) for path in sources)
        job = Job(
            TreeSource(paths), workload, "host", paths, read_all=read_all, compact_percent=compact_percent
        )
        try:
            return run_backup(job, session, self.cache, self.clock, Silent())
        finally:
            session.close()


@dataclass
class Place:
    """A vault in memory, its kit, and where its hosts and readers keep their caches."""

    folder: Path
    store: MemoryStore
    clock: ManualClock
    root: SigningKey
    kit: RecoveryKit
    hosts: list[Host] = field(default_factory=list)

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        lock_s: int = 0,
        sizes: Sizes = SMALL,
        other: tuple[ObjectStore, ManualClock] | None = None,
        approvers: Callable[[VaultSecret], ApproverList] | None = None,
    ) -> Place:
        """A vault with one host, in memory or in another store; those have no snapshots."""
        clock = other[1] if other else ManualClock()
        store = cast("MemoryStore", other[0]) if other else MemoryStore(clock)
        root = SigningKey.generate()
        made = RecoveryKit.generate(
            vault_id=vault_id_of(root.public),
            vault_name="v",
            vault_url="memory:",
            created_at=1,
            with_root=False,
        )
        kit = replace(made, root_seed=root.seed)
        create_vault(
            store,
            kit.vault_id,
            root,
            [kit.recipient("first")],
            lock_s=lock_s,
            sizes=sizes,
            approvers=approvers,
        )
        place = cls(folder, store, clock, root, kit)
        place.add_host()
        return place

    @property
    def host(self) -> Host:
        """The first host."""
        return self.hosts[0]

    def add_host(self) -> Host:
        """One more host with a writer key of its own."""
        vault = self.open()
        number = len(self.hosts) + 1
        credential = certify(vault, self.root, f"host{number}", "memory:")
        host = Host(credential, Cache(self.folder / f"host{number}"), self.clock)
        self.hosts.append(host)
        return host

    def backup(self, *sources: Path, workload: str = "files") -> Outcome:
        """A backup by the first host."""
        return self.host.backup(self.store, *sources, workload=workload)

    def open(self, store: ObjectStore | None = None) -> Vault:
        """The vault, opened with the kit."""
        vault = open_vault(store or self.store)
        vault.use_opener(self.kit.opener())
        return vault

    def reader(self, vault: Vault) -> ChunkReader:
        """A reader on a machine that has read nothing yet."""
        index = Index(Cache(self.folder / f"reader{random.getrandbits(64):x}"))
        index.sync_all(vault)
        return ChunkReader(vault, index, lambda: complete_index(vault, index, Silent()))

    def points(self, store: ObjectStore | None = None) -> list[OpenPoint]:
        """All points, oldest first, opened."""
        vault = self.open(store)
        return [open_point(vault, point) for point in list_points(vault, [])]

    def restore(
        self,
        target: Path,
        *,
        point: OpenPoint | None = None,
        under: bytes = b"",
        store: ObjectStore | None = None,
        keep_going: bool = False,
    ) -> Restored:
        """Restore a point, by default the newest, into a new folder."""
        vault = self.open(store)
        wanted = point or self.points(store)[-1]
        request = Request(wanted, under, keep_going=keep_going)
        with TreeTarget(target, Overwrite.NEVER) as tree:
            return restore(request, self.reader(vault), tree, Silent())

    def verify(self, store: ObjectStore | None = None) -> Report:
        """Verify everything, data included."""
        vault = self.open(store)
        report = verify_structure(vault, Silent())
        verify_content(vault, self.reader(vault), report, 100, Silent())
        return report

    def verify_as_host(self, host: Host) -> Report:
        """Verify everything and let the next backup of this host know."""
        report = self.verify()
        remember_bad_packs(Index(host.cache), report)
        return report

    def assert_restores(self, source: Path, point: OpenPoint | None = None) -> None:
        """The point, by default the newest, restores to what ``source`` is now."""
        target = self.folder / f"out{random.getrandbits(64):x}"
        try:
            done = self.restore(target, point=point, under=os.fsencode(source).lstrip(b"/"))
            assert (done.problems, done.damage) == ([], [])
            assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def assert_sound(self) -> None:
        """Verification finds nothing."""
        assert [str(finding) for finding in self.verify().findings] == []


def fill(folder: Path, files: int, seed: int, *, size_bytes: int = 6000) -> None:
    """Files of all sizes in a few folders, some of them alike."""
    randomness = random.Random(seed)
    for number in range(files):
        path = folder / f"d{number % 7}" / f"f{number:04d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        data = randomness.randbytes(randomness.randrange(size_bytes))
        path.write_bytes(data if number % 5 else b"the same text again and again\n" * 100)


def change(folder: Path, seed: int) -> None:
    """Rewrite, remove, rename and add some of the files that ``fill`` made."""
    randomness = random.Random(seed)
    files = sorted(path for path in folder.rglob("f*") if path.is_file())
    for path in randomness.sample(files, len(files) // 6):
        path.write_bytes(randomness.randbytes(randomness.randrange(9000)))
    for path in randomness.sample(files, len(files) // 20):
        path.unlink(missing_ok=True)
    left = [path for path in files if path.exists()]
    for path in randomness.sample(left, len(left) // 20):
        path.rename(path.with_name(f"renamed-{path.name}"))
    fill(folder / f"new{seed}", len(files) // 10, seed)
