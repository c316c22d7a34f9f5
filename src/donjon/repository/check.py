"""Checks of the structure of a vault, none of which needs a key.

Every object is read but the bodies of packs, whose trailers are. What is found is gathered, so that one
damaged object does not hide another.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from donjon.codec.digest import digest
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, ObjectNotFound, UnsupportedVersion
from donjon.core.events import Progress
from donjon.format import names
from donjon.format.manifest import Manifest, PackKey
from donjon.format.objects import ObjectKind, parse_object, verify_object
from donjon.format.session import SealObject
from donjon.format.succession import parse_succession
from donjon.format.table import PackRow, pack_rows
from donjon.repository.approvals import check_signature_object, read_request
from donjon.repository.certificates import LATE_REMEDY, SUSPICIOUS, read_certificate
from donjon.repository.checkpoints import Signed, is_revoked, read_checkpoint
from donjon.repository.epochs import LockEnds, parse_epoch
from donjon.repository.evidence import LATE as LATE_EVIDENCE
from donjon.repository.evidence import LATE_REMEDY as LATE_EVIDENCE_REMEDY
from donjon.repository.evidence import Standing as EvidenceStanding
from donjon.repository.evidence import read_evidence
from donjon.repository.fetch import fetch_object
from donjon.repository.index import read_index_object
from donjon.repository.keyring import put_after_revocation
from donjon.repository.points import Point, arrange, read_manifest
from donjon.repository.rebuild import pack_digest, read_trailer
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo

_NO_MANIFEST = bytes(32)
#: A hostile manifest can name millions of packs that never were.
_MOST_MISSING = 1000
BACK_UP_AGAIN = "Back up the affected workloads again with --read-all; look for it in other copies."


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: damaged, missing, unexpected, hidden or suspicious, or what ``witness`` finds."""

    kind: str
    object: str
    what: str
    affects: tuple[str, ...] = ()
    remedy: str = ""


@dataclass(slots=True)
class Structure:
    """What a vault consists of, as far as it is sound. Sizes are in bytes."""

    objects: int = 0
    size_bytes: int = 0
    packs: dict[PackKey, ObjectInfo] = field(default_factory=dict)
    indexed: dict[PackKey, PackRow] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    #: Ids of points whose locks have ended and whose data is gone.
    expired: set[bytes] = field(default_factory=set)
    checkpoints: list[Signed] = field(default_factory=list)
    #: The ids of those to whom each session is sealed, by its writer and number.
    sealed_to: dict[tuple[bytes, int], set[bytes]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    def add(self, kind: str, name: str, what: str, remedy: str = "") -> None:
        """Note something wrong with one object."""
        affects = tuple(sorted(self._affected(name)))
        self.findings.append(Finding(kind, name, what, affects, remedy))

    def _affected(self, name: str) -> set[str]:
        """The ids of the points that need a pack of this name."""
        keys = {key for key, info in self.packs.items() if info.name == name}
        keys |= {key for key, row in self.indexed.items() if names.pack(row.name) == name}
        return {point.point_id.hex() for point in self.points if keys & point.uses}


def check_structure(vault: Vault, progress: Progress) -> Structure:
    """Read and check all that can be checked without a key."""
    return _Check(vault, progress).run()


class _Check:
    def __init__(self, vault: Vault, progress: Progress) -> None:
        self._vault = vault
        self._progress = progress
        self._found = Structure()
        self._sessions: set[tuple[bytes, int]] = set()
        self._seen_names: set[str] = set()
        self._damaged_packs: list[tuple[ObjectInfo, str]] = []
        self._checks: dict[str, Callable[[ObjectInfo], None]] = {
            names.VAULT: lambda _: None,  # checked when the vault was opened
            names.KEYRING: self._record,
            names.SESSIONS: self._session,
            names.SEALS: self._seal,
            names.PACKS: self._pack,
            names.INDEX: self._index,
            names.MANIFESTS: self._manifest,
            names.CHECKPOINTS: self._checkpoint,
            names.EPOCHS: self._epoch,
            names.CERTIFICATES: self._certificate,
            names.EVIDENCE: self._evidence,
            names.APPROVALS: self._approval,
            names.SUCCESSIONS: self._succession,
            names.WITNESS: lambda _: None,  # checkpoints of other vaults, whose keys are not known here
        }
        self._manifests: list[tuple[bytes, Manifest, int]] = []
        self._listed_ends: dict[str, int] = {}
        self._ends = LockEnds()

    def run(self) -> Structure:
        for name, group in itertools.groupby(self._vault.store.list(), key=lambda info: info.name):
            versions = list(group)  # newest first; the oldest is the object, and what reads mean
            written = [info for info in versions if not info.delete_marker]
            if written:
                self._found.objects += 1
                self._found.size_bytes += written[-1].size_bytes
                self._seen_names.add(name)
                self._look_at(written[-1])
            self._covers(name, versions, len(written))
            self._progress.advance(items=1, current=name)
        self._vault.read_successions()
        self._arrange()
        self._chains()
        for info, what in self._damaged_packs:
            self._note("damaged", info.name, what, BACK_UP_AGAIN)
        self._needs()
        return self._found

    def _note(self, kind: str, name: str, what: str, remedy: str = "") -> None:
        self._found.add(kind, name, what, remedy)

    def _covers(self, name: str, versions: list[ObjectInfo], written: int) -> None:
        """Note what lies over an object that was read all the same."""
        for info in versions:
            if not info.delete_marker:
                continue
            state = "is gone but for a delete marker"
            if written and info.is_latest:
                state = "is hidden from other programs by a delete marker; it was read all the same"
            elif written:
                state = "was hidden by a delete marker, and then put again"
            remedy = "Delete that version of it, which removes the marker, and find out who may delete there."
            self._note("hidden", name, f"{state} (version {info.version})", remedy)
        if not any(info.is_latest for info in versions):  # Azure and Google Cloud have no delete markers
            what = "is hidden from other programs, for somebody deleted it; it was read all the same"
            remedy = "Make this version the current one again, and find out who may delete there."
            self._note("hidden", name, what, remedy)
        if written > 1:
            newest = next(info.version for info in versions if not info.delete_marker)
            what = f"was replaced {written - 1} times, last by {newest}; the oldest version was read"
            remedy = "Find out who may put there without `If-None-Match`; remove the newer versions."
            self._note("suspicious", name, what, remedy)

    def _look_at(self, info: ObjectInfo) -> None:
        folder = info.name.partition("/")[0] + ("/" if "/" in info.name else "")
        check = self._checks.get(folder)
        if check is None:
            self._note("unexpected", info.name, "does not belong into a vault", "Find out who put it there.")
            return
        try:
            check(info)
        except ObjectNotFound:
            self._note("missing", info.name, "vanished while the vault was checked", "Run verify again.")
        except (IntegrityFailure, UnsupportedVersion) as error:
            if folder == names.PACKS:  # which points need it is known later
                self._damaged_packs.append((info, error.message))
            else:
                self._note("damaged", info.name, error.message, _remedy(folder))

    # -- each kind of object -----------------------------------------------------------------------

    def _record(self, info: ObjectInfo) -> None:
        """All records up to the last one were checked when the vault was opened."""
        keyring = self._vault.keyring
        if info.name > names.keyring(keyring.number):
            keyring.read_on(self._vault.store)  # it may have grown since
        if not any(info.name == names.keyring(number) for number in range(1, keyring.number + 1)):
            msg = f"{info.name}: does not belong to the keyring, or a record before it is hidden"
            raise IntegrityFailure(msg)

    def _session(self, info: ObjectInfo) -> None:
        writer, number = _writer_and_number(info.name)
        session = self._vault.read_session(writer, number)
        self._sessions.add((writer, number))
        self._found.sealed_to.setdefault((writer, number), set()).update(who for who, _ in session.seals)

    def _seal(self, info: ObjectInfo) -> None:
        data = fetch_object(self._vault.store, info.name, ObjectKind.SEAL)
        seal = parse_object(data, ObjectKind.SEAL, SealObject, info.name)
        verify_object(data, self._vault.vault_id, self._vault.object.root_public, info.name)
        if info.name != names.seal(seal.recipient, seal.writer, seal.number):
            raise _swapped(info.name)
        self._found.sealed_to.setdefault((seal.writer, seal.number), set()).add(seal.recipient)

    def _pack(self, info: ObjectInfo) -> None:
        pack_digest(info.name)
        trailer = read_trailer(self._vault, info.name)
        self._found.packs[(trailer.writer, trailer.session, trailer.ordinal)] = info

    def _index(self, info: ObjectInfo) -> None:
        index = read_index_object(self._vault, info.name)
        for row in pack_rows(index.packs, info.name):
            self._found.indexed[(index.writer, row.session, row.ordinal)] = row

    def _manifest(self, info: ObjectInfo) -> None:
        data = fetch_object(self._vault.store, info.name, ObjectKind.MANIFEST)
        manifest = read_manifest(self._vault, info.name, data)
        self._manifests.append((digest(data), manifest, info.stored_at))
        self._listed_ends[info.name] = info.retain_until or 0

    def _checkpoint(self, info: ObjectInfo) -> None:
        signed = read_checkpoint(self._vault, info)
        self._found.checkpoints.insert(0, signed)
        if is_revoked(self._vault, signed):
            what = "was put after its custodian was revoked, perhaps by a thief of its key"
            self._note("suspicious", info.name, what, "It does not count; sign a new checkpoint.")

    def _epoch(self, info: ObjectInfo) -> None:
        data = fetch_object(self._vault.store, info.name, ObjectKind.EPOCH)
        epoch = parse_epoch(self._vault, data, info.name)
        if self._vault.keyring.custodians[epoch.custodian].revoked_at is None:
            self._ends.add(epoch)

    def _certificate(self, info: ObjectInfo) -> None:
        """One that too few signed is reported as damaged: honest people put no such thing."""
        try:
            certificate = read_certificate(self._vault, info)
        except IntegrityFailure:  # the keyring may have grown since the vault was opened
            self._vault.keyring.read_on(self._vault.store)
            certificate = read_certificate(self._vault, info)
        if certificate.standing in SUSPICIOUS:
            self._note("suspicious", info.name, SUSPICIOUS[certificate.standing], LATE_REMEDY)

    def _approval(self, info: ObjectInfo) -> None:
        """A request that approvers are asked, or the signature of one of them, now or then."""
        check = read_request if info.name.endswith("/request") else check_signature_object
        try:
            check(self._vault, info.name)
        except IntegrityFailure:  # the keyring may have grown since the vault was opened
            self._vault.keyring.read_on(self._vault.store)
            check(self._vault, info.name)

    def _evidence(self, info: ObjectInfo) -> None:
        if read_evidence(self._vault, info).standing is EvidenceStanding.LATE:
            self._note("suspicious", info.name, LATE_EVIDENCE, LATE_EVIDENCE_REMEDY)

    def _succession(self, info: ObjectInfo) -> None:
        vault = self._vault
        data = fetch_object(vault.store, info.name, ObjectKind.ALLOWED_SUCCESSION)
        succession = parse_succession(data, info.name)
        writer = vault.keyring.writer(succession.writer, info.name)
        vault.keyring.successions.apply(data, info.name, writer.public, info.stored_at, vault.store)
        if put_after_revocation(info.stored_at, writer):
            what = "was put after its writer was revoked, perhaps by a thief of its key"
            self._note("suspicious", info.name, what, "What its key signed came late as well.")

    # -- how they hang together --------------------------------------------------------------------

    def _arrange(self) -> None:
        """The points in their order, and which of them came after their writer was revoked."""
        trusted = (signed for signed in self._found.checkpoints if not is_revoked(self._vault, signed))
        newest = next(trusted, None)
        self._found.points = arrange(self._manifests, newest.times() if newest else {})
        keyring = self._vault.keyring
        for point in self._found.points:
            if why := keyring.came_late(point.manifest, point.time, point.name, point.point_id):
                what = f"was put after {why}, perhaps by a thief of its key"
                self._note("suspicious", point.name, what, "Do not restore from it unless you know better.")

    def _chains(self) -> None:
        """Every manifest names the digest of the one before it, and no number is left out."""
        by_writer: dict[bytes, dict[int, Point]] = {}
        for point in self._found.points:
            by_writer.setdefault(point.manifest.writer, {})[point.manifest.sequence] = point
        for writer, points in by_writer.items():
            for sequence in range(1, max(points) + 1):
                name = names.manifest(writer, sequence)
                if sequence not in points:
                    if name not in self._seen_names and not self._came_meanwhile(name):
                        what = "is missing, though a later point of the same writer exists"
                        self._note("missing", name, what, "Look for it in another copy.")
                    continue
                self._check_predecessor(points[sequence].manifest, points.get(sequence - 1), name)

    def _came_meanwhile(self, name: str) -> bool:
        """Whether an object was put while the listing had passed its name already."""
        return any(not info.delete_marker for info in self._vault.store.list(name))

    def _check_predecessor(self, manifest: Manifest, before: Point | None, name: str) -> None:
        if manifest.sequence == 1:
            wanted: bytes | None = _NO_MANIFEST
        else:
            wanted = before.point_id if before else None
        if wanted is not None and manifest.previous != wanted:
            what = "does not follow the point before it: one of them was replaced"
            self._note("suspicious", name, what, "Compare with another copy of the vault.")

    def _needs(self) -> None:
        """Everything that points and index name is there, and as large as it should be."""
        found = self._found
        for key, row in found.indexed.items():
            info = found.packs.get(key)
            name = names.pack(row.name)
            if info is not None and (info.name != name or info.size_bytes != row.size_bytes):
                self._note("damaged", info.name, f"is not the pack of {row.size_bytes} bytes in the index")
        broken = {info.name for info, _ in self._damaged_packs}
        missing: dict[PackKey, list[str]] = {}
        for point in found.points:
            session = (point.manifest.writer, point.manifest.session)
            if session not in self._sessions and names.session(*session) not in self._seen_names:
                finding = Finding(
                    "missing",
                    names.session(*session),
                    "is missing, and with it the key of a session",
                    (point.point_id.hex(),),
                    "Restore the object from another copy of the vault.",
                )
                found.findings.append(finding)
            if self._is_expired(point):
                found.expired.add(point.point_id)
                continue
            gone = (key for key in point.uses if key not in found.packs)
            for key in itertools.islice(gone, _MOST_MISSING):
                missing.setdefault(key, []).append(point.point_id.hex())
        for key, affected in sorted(missing.items()):
            row_or_none = found.indexed.get(key)
            name = names.pack(row_or_none.name) if row_or_none else _describe(key)
            if name in broken:
                continue
            found.findings.append(Finding("missing", name, "is missing", tuple(affected), BACK_UP_AGAIN))

    def _is_expired(self, point: Point) -> bool:
        """Whether no lock holds on the manifest any more, and data of the point is gone."""
        vault = self._vault
        if not vault.object.lock_s:
            return False
        end = max(point.manifest.protected_until, self._listed_ends[point.name], self._ends.name(point.name))
        if not vault.store.lists_locks:
            end = max(end, point.store_time + vault.object.lock_s + SECONDS_PER_DAY)
        return end <= vault.store.now() and any(key not in self._found.packs for key in point.uses)


def _describe(key: PackKey) -> str:
    return f"pack {key[2]} of {names.session(key[0], key[1])}"


def _swapped(name: str) -> IntegrityFailure:
    return IntegrityFailure(f"{name}: holds another object")


def _remedy(folder: str) -> str:
    if folder == names.INDEX:
        return "Nothing is lost: the index is rebuilt from the packs when it is needed."
    if folder == names.CERTIFICATES:
        return "It does not count, so no point goes because of it. Find out who may put into the vault."
    if folder == names.EVIDENCE:
        return "It proves nothing. Find out who may put into the vault."
    if folder == names.APPROVALS:
        return "It does not count, so nothing happens because of it. Find out who may put into the vault."
    return "Restore the object from another copy of the vault."


def _writer_and_number(name: str) -> tuple[bytes, int]:
    parts = name.split("/")
    try:
        writer, number = bytes.fromhex(parts[1]), int(parts[2])
    except (IndexError, ValueError):
        writer, number = b"", 0
    if name != names.session(writer, number):
        raise IntegrityFailure(f"{name}: is no name of a session")
    return writer, number
