"""Copies a vault into another store: the same objects under the same names, checked before they are put.

No key is needed. The order, and what is left out, are those of ``docs/format.md``, section 22: whenever a run
ends, what the target shows is whole, and the next run goes on from there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field

from donjon.codec.digest import digest
from donjon.core.clock import SECONDS_PER_DAY
from donjon.core.errors import IntegrityFailure, ObjectExists, ObjectNotFound, Refused
from donjon.core.events import Progress, StopCheck
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.objects import ObjectKind
from donjon.format.pack import MAX_PACK_BYTES, TRAILER_BYTES, parse_trailer
from donjon.format.table import pack_rows
from donjon.repository.check import Finding
from donjon.repository.copy_plan import Step
from donjon.repository.copy_survey import FORK, IN_SOURCE, THREADS, Survey, survey
from donjon.repository.evidence import Standing, parse_evidence
from donjon.repository.fetch import fetch_object
from donjon.repository.index import parse_index_object
from donjon.repository.parallel import in_order
from donjon.repository.points import Point, read_manifest
from donjon.repository.vault import Vault
from donjon.repository.witness import FORKED
from donjon.stores.base import ObjectStore

#: Each holds a whole pack in memory, usually 64 MiB.
_PACK_THREADS = 3
_LARGE_BYTES = 64 * MIB

_Check = Callable[[str, bytes], object]


class _NotRelied(IntegrityFailure):
    """An index object is sound, and names a pack that the copy does not have."""


@dataclass(slots=True)
class Copied:
    """What a run has put: objects, the packs among them, bytes, points; and what was there already.

    ``findings`` are what is wrong with source or copy, ``notes`` what people should know besides.
    """

    objects: int = 0
    packs: int = 0
    size_bytes: int = 0
    points: int = 0
    skipped: int = 0
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one object: put, there already, wrong, or left out for a reason."""

    name: str
    size_bytes: int = 0
    was_there: bool = False
    finding: Finding | None = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class _Run:
    """How this run is to go; see ``copy_vault``."""

    lock_s: int
    progress: Progress
    stop: StopCheck
    dry_run: bool


def copy_vault(
    vault: Vault,
    target: ObjectStore,
    *,
    lock_s: int,
    progress: Progress,
    stop: StopCheck,
    dry_run: bool = False,
) -> Copied:
    """Bring a copy of a vault up to date. New objects are locked for ``lock_s`` seconds, 0 for not at all.

    What is damaged or missing in the source is told and left out; what the target has stays as it is. With
    ``dry_run`` nothing is put, and what would be is counted.

    Raises ``Refused`` if the target holds something else, ``IntegrityFailure`` if it has another keyring, and
    what the stores raise.
    """
    found = survey(vault, target, stop)
    run = _Run(lock_s, progress, stop, dry_run=dry_run)
    return _Copier(vault, target, found, run).run()


class _Copier:
    def __init__(self, vault: Vault, target: ObjectStore, found: Survey, run: _Run) -> None:
        self._vault, self._source, self._target = vault, vault.store, target
        self._found = found
        self._lock_s = run.lock_s
        self._progress, self._stop = run.progress, run.stop
        self._dry_run = run.dry_run
        self._done = Copied(findings=found.findings, notes=found.notes)
        self._in_target = set(found.target.packs)
        self._large = threading.Lock()
        self._put_before: set[str] = set()

    def run(self) -> Copied:
        source = self._found.source
        self._announce()
        self._put_allowed_successions()
        for name, data in self._found.keyring:
            self._count(self._put(name, data))
        for folder, kind, check, compare in (
            (names.SESSIONS, ObjectKind.SESSION, self._vault.parse_session, True),
            (names.SEALS, ObjectKind.SEAL, self._vault.parse_seal, False),
        ):
            wanted = [name for name in source.signed if name.startswith(folder)]
            self._copy_signed(wanted, kind, check, compare=compare)
        for step in self._found.steps:
            self._carry_out(step)
        self._put_certificates()
        self._put_evidence()
        self._put_checkpoints()
        self._done.skipped += self._settled_before()
        self._done.findings.sort(key=lambda finding: (finding.object, finding.kind))
        return self._done

    def _announce(self) -> None:
        """Tell the progress how much there is to do."""
        found = self._found
        packs = [pack for step in found.steps for pack in step.packs]
        signed = [name for name, _ in found.keyring]
        alone = (names.SESSIONS, names.SEALS, names.EVIDENCE)
        signed += [name for name in found.source.signed if name.startswith(alone)]
        signed += [name for step in found.steps for name in step.indexes]
        signed += [step.point.name for step in found.steps if step.point]
        size = sum(found.source.packs[pack] for pack in packs)
        size += sum(found.source.signed.get(name, 0) for name in signed if name not in found.target.signed)
        others = len(found.checkpoints) + len(found.certificates)
        self._progress.total(items=len(packs) + len(signed) + others, size_bytes=size)

    def _settled_before(self) -> int:
        """Objects of the source that the target had, and that nothing above looked at."""
        source, target = self._found.source, self._found.target
        count = len(source.packs.keys() & target.packs.keys())
        looked_at = (names.SESSIONS, names.SEALS, names.CHECKPOINTS, names.EVIDENCE, names.SUCCESSIONS)
        count += sum(name in target.signed for name in source.signed if not name.startswith(looked_at))
        return count

    # -- points ------------------------------------------------------------------------------------

    def _carry_out(self, step: Step) -> None:
        packs = [pack for pack in step.packs if pack not in self._in_target]
        for outcome in in_order(_PACK_THREADS, self._copy_pack, packs, self._stop, "donjon-copy"):
            self._count(outcome, is_pack=True)
        self._copy_signed(step.indexes, ObjectKind.INDEX, self._check_index)
        if step.point is not None and step.point.name not in self._found.target.signed:
            self._put_successions(step.point)
            outcome = self._copy_object(
                step.point.name,
                ObjectKind.MANIFEST,
                lambda name, data: read_manifest(self._vault, name, data),
                is_locked=not step.is_history,
            )
            self._count(outcome, is_point=True)

    def _put_allowed_successions(self) -> None:
        """Keys that approvers allowed come before the keyring, which may tell that these were replaced.

        By the times of the copy they would have come too late otherwise. What they say of points goes by
        sequences, so it does not matter that they come first.
        """
        for writer in self._vault.keyring.writers:
            for known in self._vault.keyring.successions.of(writer):
                name = names.succession(writer, known.number)
                if known.last is None:
                    continue
                if name not in self._found.source.signed:
                    msg = f"{name}: was put while the vault was looked at"
                    raise Refused(msg, hint="Run the copy again.")
                self._put_succession(name)

    def _put_successions(self, point: Point) -> None:
        """The keys of a writer up to the one that signed a point: after the points of the keys before.

        For the copy has its own times, by which what a key signs after it was succeeded does not count.
        """
        successions, writer = self._vault.keyring.successions, point.manifest.writer
        for known in successions.of(writer)[: successions.key_of(point.manifest)]:
            self._put_succession(names.succession(writer, known.number))

    def _put_succession(self, name: str) -> None:
        if name not in self._put_before:
            self._put_before.add(name)
            # The larger of both forms is asked for.
            self._copy_signed([name], ObjectKind.ALLOWED_SUCCESSION, self._check_succession, compare=True)

    def _check_succession(self, name: str, data: bytes) -> None:
        writer = self._vault.keyring.writer(bytes.fromhex(name.split("/")[1]), name)
        self._vault.keyring.successions.apply(data, name, writer.public, None, self._source)

    def _copy_pack(self, pack: bytes) -> _Outcome:
        name, size = names.pack(pack), self._found.source.packs[pack]
        if self._dry_run:
            return _Outcome(name, size)
        try:
            if size > MAX_PACK_BYTES:
                msg = f"{name}: is larger than any pack"
                raise IntegrityFailure(msg)
            with self._large if size > _LARGE_BYTES else nullcontext():
                data = self._source.get(name, length=size)
                check_pack(self._vault, pack, data)
                return self._put(name, data)
        except IntegrityFailure as error:
            needing = self._needing(pack)
            return _Outcome(name, finding=Finding("damaged", name, error.message, needing, IN_SOURCE))
        except ObjectNotFound:
            return _Outcome(name, finding=self._vanished(name, self._needing(pack)))

    def _needing(self, pack: bytes) -> tuple[str, ...]:
        """The ids of the points that a pack is said to belong to."""
        keys = self._found.packs.claims(pack)
        return tuple(p.point_id.hex() for p in self._found.points if any(key in p.uses for key in keys))

    def _check_index(self, name: str, data: bytes) -> None:
        """Raises ``_NotRelied`` if a writer in the copy would rely on a pack that is not there."""
        index = parse_index_object(self._vault, name, data)
        for row in pack_rows(index.packs, name):
            if row.name not in self._in_target and self._found.packs.is_open(row):
                msg = f"{name}: is left out, for it names {names.pack(row.name)}, which could not be copied"
                raise _NotRelied(msg)

    # -- signed objects ----------------------------------------------------------------------------

    def _copy_signed(
        self, wanted: Iterable[str], kind: ObjectKind, check: _Check, *, compare: bool = False
    ) -> None:
        def work(name: str) -> _Outcome:
            return self._copy_object(name, kind, check, compare=compare)

        for outcome in in_order(THREADS, work, wanted, self._stop, "donjon-copy"):
            self._count(outcome)

    def _copy_object(
        self, name: str, kind: ObjectKind, check: _Check, *, compare: bool = False, is_locked: bool = True
    ) -> _Outcome:
        """Copy a signed object. If it is there, its size is compared, and its bytes if ``compare``."""
        size, there = self._found.source.signed[name], self._found.target.signed.get(name)
        if there is not None and not compare:
            return _Outcome(name, was_there=True) if there == size else self._fork(name)
        if self._dry_run and there is None:
            return _Outcome(name, size)
        try:
            data = fetch_object(self._source, name, kind)
            check(name, data)
        except _NotRelied as error:
            return _Outcome(name, left_out=error.message)
        except IntegrityFailure as error:
            return _Outcome(name, finding=Finding("damaged", name, error.message, (), IN_SOURCE))
        except ObjectNotFound:
            return _Outcome(name, finding=self._vanished(name))
        return self._compared(name, data) if there is not None else self._put(name, data, is_locked=is_locked)

    def _put_certificates(self) -> None:
        for certificate in self._found.certificates:
            self._stop()
            try:
                data = fetch_object(self._source, certificate.name, ObjectKind.CERTIFICATE)
            except ObjectNotFound:  # it goes once its lock has ended
                continue
            if digest(data).hex() != certificate.name.removeprefix(names.CERTIFICATES):
                self._count(_Outcome(certificate.name, finding=self._vanished(certificate.name)))
            elif certificate.name in self._found.target.signed:
                self._count(self._compared(certificate.name, data))
            else:
                self._count(self._put(certificate.name, data))

    def _put_evidence(self) -> None:
        wanted = [name for name in self._found.source.signed if name.startswith(names.EVIDENCE)]
        self._copy_signed(wanted, ObjectKind.EVIDENCE, self._check_evidence)

    def _check_evidence(self, name: str, data: bytes) -> None:
        """Raises ``_NotRelied`` for that of revoked signers, of which the copy would have the wrong time."""
        if digest(data).hex() != name.removeprefix(names.EVIDENCE):
            msg = f"{name}: its bytes do not have the digest that is its name"
            raise IntegrityFailure(msg)
        if parse_evidence(self._vault, data, name).standing is Standing.LATE:
            msg = f"{name}: is left out, as its signer is revoked: the copy would have it too late"
            raise _NotRelied(msg)

    def _put_checkpoints(self) -> None:
        """The checkpoints come last, so that the copy has all points that they name."""
        left_out = 0
        for signed in self._found.checkpoints:
            self._stop()
            if signed.where in self._found.target.signed:
                self._count(_Outcome(signed.where, was_there=True))  # the survey compared it
            elif self._vault.keyring.custodians[signed.checkpoint.custodian].revoked_at is not None:
                left_out += 1
            else:
                self._count(self._put(signed.where, signed.data))
        if left_out:
            what = "checkpoints of revoked custodians are left out: the copy would have them too late"
            self._done.notes.append(f"{left_out} {what}")

    # -- one object --------------------------------------------------------------------------------

    def _put(self, name: str, data: bytes, *, is_locked: bool = True) -> _Outcome:
        if name in self._found.target.signed:  # what the survey compared
            return _Outcome(name, was_there=True)
        if not self._dry_run:
            try:
                self._target.put(name, data, retain_until=self._lock_end() if is_locked else None)
            except ObjectExists:  # a copy made at the same time, or a reply that was lost
                return self._compared(name, data)
        return _Outcome(name, len(data))

    def _compared(self, name: str, data: bytes) -> _Outcome:
        if self._target.get(name, length=len(data) + 1) == data:
            return _Outcome(name, was_there=True)
        return self._fork(name)

    def _fork(self, name: str) -> _Outcome:
        what = "is another object in the copy than in the source"
        return _Outcome(name, finding=Finding(FORKED, f"{self._target.url}: {name}", what, (), FORK))

    def _vanished(self, name: str, affects: tuple[str, ...] = ()) -> Finding:
        return Finding("missing", name, "vanished while the vault was copied", affects, "Run the copy again.")

    def _lock_end(self) -> int | None:
        if not self._lock_s:
            return None
        return -(-(self._target.now() + self._lock_s) // SECONDS_PER_DAY) * SECONDS_PER_DAY

    def _count(self, outcome: _Outcome, *, is_pack: bool = False, is_point: bool = False) -> None:
        done = self._done
        if outcome.finding is not None:
            done.findings.append(outcome.finding)
        elif outcome.left_out:
            done.notes.append(outcome.left_out)
        elif outcome.was_there:
            done.skipped += 1
        else:
            done.objects += 1
            done.packs += is_pack
            done.points += is_point
            done.size_bytes += outcome.size_bytes
        if is_pack and outcome.finding is None:
            self._in_target.add(bytes.fromhex(outcome.name.rpartition("/")[2]))
        self._progress.advance(items=1, size_bytes=outcome.size_bytes, current=outcome.name)


def check_pack(vault: Vault, pack: bytes, data: bytes) -> None:
    """Raises ``IntegrityFailure`` unless this is the whole pack of that digest, signed by a writer."""
    name = names.pack(pack)
    if digest(data) != pack:
        msg = f"{name}: its bytes do not have the digest that is its name"
        raise IntegrityFailure(msg)
    trailer = parse_trailer(data[-TRAILER_BYTES:], name)
    vault.verify_pack(trailer, name)
