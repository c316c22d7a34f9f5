"""A vault in memory with custodians, and what a hostile store does to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from donjon.codec.sign import SigningKey
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.checkpoint import Checkpoint
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.vault import Action
from donjon.repository.attest import sign_checkpoint
from donjon.repository.check import Finding
from donjon.repository.checkpoints import Signed, is_revoked, parse_checkpoint
from donjon.repository.credential import CustodianCredential
from donjon.repository.records import custodian_record, removal_record
from donjon.repository.verify import verify_structure
from donjon.repository.witness import judge
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemorySnapshot, MemoryStore
from tests.integration.engine import Place, fill

NOTHING = (0, "")


@dataclass
class Watched:
    """A vault whose points are small, its custodians, and the checkpoints that were carried away."""

    place: Place
    source: Path
    custodians: list[CustodianCredential] = field(default_factory=list)
    carried: list[Signed] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, *, lock_s: int = 0) -> Watched:
        source = folder / "source"
        fill(source, 3, 1)
        made = cls(Place.make(folder / "place", lock_s=lock_s), source)
        made.add_custodian()
        return made

    def add_custodian(self) -> CustodianCredential:
        vault = self.place.open()
        key = SigningKey.generate()
        vault.keyring.add(
            self.place.store,
            self.place.root,
            lambda n, p: custodian_record(key.public, f"c{n}", vault.secret, self.place.clock(), n, p),
            vault.lock_end(),
        )
        self.custodians.append(
            CustodianCredential(
                vault_id=vault.vault_id,
                url="memory:",
                name="c",
                root_public=self.place.root.public,
                seed=key.seed,
            )
        )
        return self.custodians[-1]

    def revoke(self, custodian: CustodianCredential) -> None:
        vault = self.place.open()
        who, now = custodian.custodian_id, self.place.clock()
        vault.keyring.add(
            self.place.store,
            self.place.root,
            lambda n, p: removal_record(Action.REVOKE_CUSTODIAN, who, now, n, p),
            vault.lock_end(),
        )

    def backup(self, times: int = 1) -> None:
        """Points a minute apart."""
        for _ in range(times):
            self.place.clock.advance(60)
            (self.source / "when").write_text(str(self.place.clock()))
            self.place.backup(self.source)

    def sign(
        self,
        store: ObjectStore | None = None,
        custodian: CustodianCredential | None = None,
        *,
        accept_removed: bool = False,
    ) -> Signed:
        """A checkpoint, carried away."""
        vault = self.place.open(store)
        signed, _ = sign_checkpoint(
            vault, custodian or self.custodians[0], NOTHING, accept_removed=accept_removed
        )
        self.carried.append(signed)
        return signed

    def forge(self, key: SigningKey, like: Signed, **changes: object) -> bytes:
        """The bytes of a checkpoint that somebody else signs."""
        import msgspec

        content = msgspec.structs.replace(like.checkpoint, **changes)
        assert isinstance(content, Checkpoint)
        return pack_object(ObjectKind.CHECKPOINT, content, self.place.open().vault_id, key)

    def judge(self, *outside: Signed, store: ObjectStore | None = None, pinned: int = 0) -> list[Finding]:
        """What is found with these checkpoints from elsewhere, besides what the structure shows."""
        vault = self.place.open(store)
        again = [parse_checkpoint(vault, signed.data, "elsewhere") for signed in outside]
        structure = verify_structure(vault, Silent()).structure
        inside = [signed for signed in structure.checkpoints if not is_revoked(vault, signed)]
        return judge(structure.points, inside, again, pinned=pinned)

    def points(self) -> list[str]:
        """All ids, oldest first."""
        return [point.point_id.hex() for point in self.place.points()]

    def name(self, sequence: int) -> str:
        """A manifest of the first host."""
        return names.manifest(self.place.host.credential.writer_id, sequence)


def without(snapshot: MemorySnapshot, hide: Callable[[str], bool]) -> MemorySnapshot:
    """What a store shows that hides some objects."""
    return {name: item for name, item in snapshot.items() if not hide(name)}


def showing(watched: Watched, hide: Callable[[str], bool]) -> MemoryStore:
    """A store that hides these objects of the vault."""
    return MemoryStore.from_snapshot(without(watched.place.store.snapshot(), hide), watched.place.clock)
