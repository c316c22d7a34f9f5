"""Looks at a vault and at the store that it is copied to: what is there, what lacks, what is wrong.

Nothing is put here. See ``docs/format.md``, section 22; the target is listed first, and of the source what
names others before what is named, so that everything needed is seen though others write at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from donjon.codec.digest import digest
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, ObjectNotFound, PermissionMissing, Refused
from donjon.core.events import StopCheck
from donjon.format import names
from donjon.format.manifest import Manifest, PackKey
from donjon.format.objects import ObjectKind
from donjon.format.table import PackRow, pack_rows
from donjon.repository.certificates import Certificate, list_certificates
from donjon.repository.check import Finding
from donjon.repository.checkpoints import Signed, is_revoked, read_checkpoint
from donjon.repository.copy_plan import Held, Packs, Step
from donjon.repository.fetch import fetch_object
from donjon.repository.index import read_index_object
from donjon.repository.keyring import Keyring, put_after_revocation
from donjon.repository.parallel import in_order
from donjon.repository.points import Point, arrange, read_manifest
from donjon.repository.rebuild import pack_digest, read_trailer
from donjon.repository.vault import Vault
from donjon.repository.witness import FORKED, ROLLED_BACK, contradictions
from donjon.stores.base import ObjectInfo, ObjectStore
from donjon.stores.first_versions import first_of_each

THREADS = 8

#: What names others comes before what is named.
_ORDER = (
    names.EVIDENCE,
    names.CHECKPOINTS,
    names.MANIFESTS,
    names.INDEX,
    names.PACKS,
    names.SEALS,
    names.SESSIONS,
    names.SUCCESSIONS,
)
_OTHERS = (names.VAULT, names.KEYRING, names.CERTIFICATES, names.APPROVALS, names.EPOCHS, names.WITNESS)
_KNOWN = {*_OTHERS, *_ORDER}
#: What a writer or custodian signs under a number of its own; nobody may take one in a copy.
_NUMBERED = (names.MANIFESTS, names.SESSIONS, names.SUCCESSIONS)

IN_SOURCE = (
    "Nothing of it was copied. Run `donjon verify` on the source; if the copy has it, it is sound there."
)
FORK = (
    "The copy keeps what it has. Somebody wrote to the copy, or the source shows another history: find out "
    "who, and make a new copy in an empty place."
)


@dataclass(slots=True)
class Survey:
    """What there is to copy. ``keyring`` are names and bytes, the vault object last."""

    source: Held
    target: Held
    keyring: list[tuple[str, bytes]]
    points: list[Point]
    packs: Packs
    steps: list[Step]
    checkpoints: list[Signed]
    certificates: list[Certificate]
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def survey(vault: Vault, target: ObjectStore, stop: StopCheck) -> Survey:
    """Look at both sides. Raises ``Refused`` if the target holds something else than a copy of this vault,
    ``IntegrityFailure`` if it has another keyring.
    """
    return _Surveyor(vault, target, stop).run()


class _Surveyor:
    def __init__(self, vault: Vault, target: ObjectStore, stop: StopCheck) -> None:
        self._vault = vault
        self._target = target
        self._stop = stop
        self._findings: list[Finding] = []
        self._notes: list[str] = []
        self._manifests: dict[str, ObjectInfo] = {}

    def run(self) -> Survey:
        self._held, unexpected = _hold(self._target)
        listed = {folder: self._list(folder) for folder in _ORDER}
        self._manifests = {info.name: info for info in listed[names.MANIFESTS]}
        signed = [info for folder in _ORDER if folder != names.PACKS for info in listed[folder]]
        source = Held({info.name: info.size_bytes for info in signed}, self._packs(listed[names.PACKS]))
        keyring = _keyring_objects(self._vault)
        self._check_target(keyring, unexpected, source)
        self._only_in_target(source)
        self._other_sizes(source)
        checkpoints = list(self._checkpoints(listed[names.CHECKPOINTS]))
        points = self._points(checkpoints)
        packs = Packs(points, source, self._held, self._target.now())
        self._read_index(packs, listed[names.INDEX])
        self._read_trailers(packs, packs.unnamed())
        self._read_trailers(packs, packs.unplaced())  # a writer can sign an index with wrong places
        self._gaps(points, source)
        steps = packs.steps(points, self._history(points, packs))
        self._notes += [
            f"{name}: is left out, for it names packs that are gone; readers of the copy do without it"
            for name in packs.blocked()
        ]
        return Survey(
            source, self._held, keyring, points, packs, steps, checkpoints, self._certificates(),
            self._findings, self._notes,
        )  # fmt: skip

    def _list(self, folder: str) -> list[ObjectInfo]:
        self._stop()
        return list(first_of_each(self._vault.store.list(folder)))

    def _packs(self, infos: Iterable[ObjectInfo]) -> dict[bytes, int]:
        packs = {}
        for info in infos:
            try:
                packs[pack_digest(info.name)] = info.size_bytes
            except IntegrityFailure as error:
                self._note("unexpected", info.name, error.message, error.hint)
        return packs

    def _note(self, kind: str, where: str, what: str, remedy: str, affects: tuple[str, ...] = ()) -> None:
        self._findings.append(Finding(kind, where, what, affects, remedy))

    # -- the target --------------------------------------------------------------------------------

    def _check_target(self, keyring: list[tuple[str, bytes]], unexpected: list[str], source: Held) -> None:
        ours = dict(keyring)
        held = self._held.signed
        if names.VAULT in held:
            self._check_vault(ours[names.VAULT])
        else:
            first = {name for name in source.signed if name.startswith(names.SUCCESSIONS)}  # before a vault
            others = [*unexpected, *(name for name in held if name not in ours and name not in first)]
            others += [names.pack(pack) for pack in self._held.packs]
            if others:
                raise self._not_ours(f"is no vault, and not empty: it holds {min(others)}")
        for name in sorted(held):
            if name.startswith(names.KEYRING):
                self._check_record(name, ours.get(name))
        for name in unexpected:
            what = "does not belong into a vault"
            self._note("unexpected", f"{self._target.url}: {name}", what, "Find out who put it there.")

    def _check_vault(self, ours: bytes) -> None:
        try:
            there = fetch_object(self._target, names.VAULT, ObjectKind.VAULT)
        except IntegrityFailure as error:
            raise self._not_ours(f"is no vault: {error.message}") from error
        if there != ours:
            raise self._not_ours("holds another vault")

    def _check_record(self, name: str, ours: bytes | None) -> None:
        there = fetch_object(self._target, name, ObjectKind.KEYRING)
        if there == ours:
            return
        if names.VAULT not in self._held.signed:
            raise self._not_ours(f"holds {name} of another vault, perhaps of an `init` that was killed")
        what = "is not in the source" if ours is None else "is another record in the source"
        msg = f"{self._target.url}: {name}: {what}"
        hint = (
            "The source hides a change of who may read and write, or the root key signed two. Find out which."
        )
        raise IntegrityFailure(msg, hint=hint)

    def _not_ours(self, what: str) -> Refused:
        msg = f"{self._target.url}: {what}"
        return Refused(
            msg, hint="Nothing was put there. Name an empty place, or one with a copy of this vault."
        )

    def _only_in_target(self, source: Held) -> None:
        """What the copy has and the source does not show, though it never goes from a vault."""
        newest = max((n for n in source.signed if n.startswith(names.CHECKPOINTS)), default="")
        for name in sorted(self._held.signed.keys() - source.signed.keys()):
            is_newer = name.startswith(names.CHECKPOINTS) and name > newest
            if name.startswith(_NUMBERED) or is_newer:
                what = "is in the copy, and the source does not show it"
                self._note(FORKED, f"{self._target.url}: {name}", what, FORK)

    def _other_sizes(self, source: Held) -> None:
        """What has another size in the copy and is not compared otherwise."""
        for name, size in source.signed.items():
            if name.startswith(names.INDEX) and self._held.signed.get(name, size) != size:
                what = "is another object in the copy than in the source"
                self._note(FORKED, f"{self._target.url}: {name}", what, FORK)
        for pack, size in source.packs.items():
            if (there := self._held.packs.get(pack, size)) != size:
                what = f"has {there} bytes in the copy and {size} in the source: one of them is damaged"
                remedy = "Run `donjon verify` on both."
                self._note("damaged", f"{self._target.url}: {names.pack(pack)}", what, remedy)

    def differs(self, name: str, kind: ObjectKind, data: bytes) -> bool:
        """Whether the target has the object with other bytes."""
        if name not in self._held.signed:
            return False
        try:
            return fetch_object(self._target, name, kind) != data
        except ObjectNotFound:  # gone since it was listed
            return False
        except IntegrityFailure:
            return True

    # -- points ------------------------------------------------------------------------------------

    def _checkpoints(self, infos: Iterable[ObjectInfo]) -> Iterable[Signed]:
        for info in infos:
            try:
                signed = read_checkpoint(self._vault, info)
            except ObjectNotFound:
                continue
            except IntegrityFailure as error:
                self._note("damaged", info.name, error.message, IN_SOURCE)
                continue
            if self.differs(info.name, ObjectKind.CHECKPOINT, signed.data):
                what = "is another checkpoint in the copy than in the source"
                self._note(FORKED, f"{self._target.url}: {info.name}", what, FORK)
            yield signed

    def _certificates(self) -> list[Certificate]:
        """The deletion certificates that count. Of others the copy would have the wrong time."""
        damaged: list[IntegrityFailure] = []
        count = [one for one in list_certificates(self._vault, damaged) if one.counts]
        now = self._target.now()
        found = [c for c in count if now <= c.request.expires_at or c.name in self._held.signed]
        if len(found) < len(count):
            what = "deletion certificates are left out: their requests expired, so they would not count there"
            self._notes.append(f"{len(count) - len(found)} {what}; ask the approvers anew for the copy")
        for error in damaged:
            self._note("damaged", error.message.partition(":")[0], error.message, error.hint)
        return found

    def _points(self, checkpoints: list[Signed]) -> list[Point]:
        """All points in their order, and what contradicts what was seen of them before."""
        read = in_order(THREADS, self._manifest, self._manifests.values(), self._stop, "donjon-copy")
        newest = next((s for s in reversed(checkpoints) if not is_revoked(self._vault, s)), None)
        self._vault.read_successions()
        points = arrange([row for row in read if row], newest.times() if newest else {})
        for alarm in self._vault.watch(points, newest):
            self._note(ROLLED_BACK, self._vault.store.url, alarm.message, alarm.hint)
        if newest:
            self._findings += contradictions(newest, points)
        self._note_times(points, newest)
        return points

    def _manifest(self, info: ObjectInfo) -> tuple[bytes, Manifest, int] | None:
        try:
            data = fetch_object(self._vault.store, info.name, ObjectKind.MANIFEST)
            manifest = read_manifest(self._vault, info.name, data)
        except ObjectNotFound:
            return None
        except IntegrityFailure as error:
            self._note("damaged", info.name, error.message, IN_SOURCE)
            return None
        point_id = digest(data)
        if self.differs(info.name, ObjectKind.MANIFEST, data):
            what = "is another point in the copy than in the source"
            self._note(FORKED, f"{self._target.url}: {info.name}", what, FORK, (point_id.hex(),))
        return point_id, manifest, info.stored_at

    def _note_times(self, points: list[Point], newest: Signed | None) -> None:
        """In the copy the store's time is that of the copying; only a checkpoint tells the true one.

        Within a day, by which points are kept, they are the same.
        """
        told = newest.times() if newest else {}
        new = [p for p in points if p.point_id not in told and p.name not in self._held.signed]
        writers = self._vault.keyring.writers
        late = [
            point
            for point in new
            if (writer := writers[point.manifest.writer]).revoked_at is not None
            and not put_after_revocation(point.time, writer)
        ]
        sign = "sign one with `donjon custody checkpoint` before copying"
        if late:
            text = "points of revoked writers are in no checkpoint, so they look late in the copy"
            self._notes.append(f"{len(late)} {text}: {sign}")
        elif newest is None and any(point.time < self._target.now() - SECONDS_PER_DAY for point in new):
            self._notes.append(f"no checkpoint tells the copy when points were made: {sign}")

    def _history(self, points: list[Point], packs: Packs) -> set[bytes]:
        """The ids of points whose lock has ended and whose packs are gone; other gaps are told."""
        history = set()
        for point in points:
            if not (count := packs.lacks(point)):
                continue
            if self._is_over(point):
                history.add(point.point_id)
                continue
            what = f"needs {count} packs that the source does not have; the rest of it is copied"
            self._note("missing", point.name, what, IN_SOURCE, (point.point_id.hex(),))
        return history

    def _gaps(self, points: list[Point], source: Held) -> None:
        """What must be there for the points, and is not even listed."""
        last: dict[bytes, int] = {}
        for point in points:
            manifest = point.manifest
            last[manifest.writer] = max(last.get(manifest.writer, 0), manifest.sequence)
            name = names.session(manifest.writer, manifest.session)
            if name not in source.signed:
                what = "is missing, and with it the key of a session"
                self._note("missing", name, what, IN_SOURCE, (point.point_id.hex(),))
        for writer, end in last.items():
            for name in (names.manifest(writer, sequence) for sequence in range(1, end)):
                if name not in source.signed:
                    what = "is missing, though a later point of the same writer exists"
                    self._note("missing", name, what, IN_SOURCE)

    def _is_over(self, point: Point) -> bool:
        """Whether nothing protects a point any more. One without locks is never over by itself."""
        until = point.manifest.protected_until
        extended = self._manifests[point.name].retain_until
        if not self._vault.store.lists_locks:
            try:
                extended = self._vault.store.head(point.name).retain_until
            except (PermissionMissing, ObjectNotFound):
                extended = None
        return bool(until) and max(until, extended or 0) <= self._vault.store.now()

    # -- packs -------------------------------------------------------------------------------------

    def _read_index(self, packs: Packs, infos: list[ObjectInfo]) -> None:
        for row in in_order(THREADS, self._index, infos, self._stop, "donjon-copy"):
            if row:
                packs.add_index(*row)

    def _index(self, info: ObjectInfo) -> tuple[str, bytes, list[PackRow]] | None:
        try:
            index = read_index_object(self._vault, info.name)
            return info.name, index.writer, pack_rows(index.packs, info.name)
        except ObjectNotFound:
            return None
        except IntegrityFailure as error:
            self._note("damaged", info.name, error.message, IN_SOURCE)
            return None

    def _read_trailers(self, packs: Packs, which: list[bytes]) -> None:
        """Ask packs themselves for their places."""
        for pack, key in in_order(THREADS, self._trailer, which, self._stop, "donjon-copy"):
            if key:
                packs.add_trailer(key, pack)

    def _trailer(self, pack: bytes) -> tuple[bytes, PackKey | None]:
        name = names.pack(pack)
        try:
            trailer = read_trailer(self._vault, name)
        except ObjectNotFound:
            return pack, None
        except IntegrityFailure as error:
            self._note("damaged", name, error.message, IN_SOURCE)
            return pack, None
        return pack, (trailer.writer, trailer.session, trailer.ordinal)


def _hold(target: ObjectStore) -> tuple[Held, list[str]]:
    """What a target has, and the names in it that no vault has."""
    signed, packs, unexpected = {}, {}, []
    for info in first_of_each(target.list()):
        folder = info.name.partition("/")[0] + ("/" if "/" in info.name else "")
        if folder not in _KNOWN:
            unexpected.append(info.name)
        elif folder != names.PACKS:
            signed[info.name] = info.size_bytes
        else:
            try:
                packs[pack_digest(info.name)] = info.size_bytes
            except IntegrityFailure:
                unexpected.append(info.name)
    return Held(signed, packs), unexpected


def _keyring_objects(vault: Vault) -> list[tuple[str, bytes]]:
    """The records and the vault object, checked once more as they are read once more."""
    vault.keyring.read_on(vault.store)
    vault_data = fetch_object(vault.store, names.VAULT, ObjectKind.VAULT)
    again = Keyring(vault.object, digest(vault_data))
    objects = []
    for number in range(1, vault.keyring.number + 1):
        name = names.keyring(number)
        data = fetch_object(vault.store, name, ObjectKind.KEYRING)
        again.apply(data, name)
        objects.append((name, data))
    vault.keyring.require(again.number, again.head)
    return [*objects, (names.VAULT, vault_data)]
