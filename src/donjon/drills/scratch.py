"""Attacks on what a vault means, not on its store: what a stolen key signs, and what a store may show.

They would leave points for ever in a real vault, so they are tried on a vault in memory, by the same code. So
they say nothing about this installation, but that this version of Donjon holds.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from msgspec import structs

from donjon.backup.job import Job
from donjon.backup.run import run_backup
from donjon.codec.sign import SigningKey
from donjon.core.clock import SECONDS_PER_DAY, Clock
from donjon.core.errors import IntegrityFailure, KeyNotAvailable
from donjon.core.events import Silent
from donjon.drills.base import Report
from donjon.format import names
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from donjon.format.objects import ObjectKind, pack_object
from donjon.keys.recovery import RecoveryKit
from donjon.plan.retention import Candidate, Policy, decide
from donjon.repository.attest import sign_checkpoint
from donjon.repository.cache import Cache
from donjon.repository.check import check_structure
from donjon.repository.checkpoints import Signed
from donjon.repository.creation import create_vault
from donjon.repository.credential import CustodianCredential, WriterCredential
from donjon.repository.keyring import vault_id_of
from donjon.repository.points import list_points, open_point
from donjon.repository.records import custodian_record, writer_record
from donjon.repository.vault import Vault, open_vault
from donjon.repository.witness import judge
from donjon.repository.writing import WriteSession
from donjon.sources.stream import StreamSource
from donjon.stores.memory import MemoryStore

WHERE = "in a scratch vault"
ATTACKS = {
    "open-backup": "open a backup with all that a writer holds",
    "future-point": "push points out with one from the future",
    "flood": "push points out with a flood of points",
    "rollback": "show an older state, with an old checkpoint",
    "forge-point": "put a point that an unknown key signed",
}
_START = 1_800_000_000
_CENTURY_S = 100 * 365 * SECONDS_PER_DAY
_POLICY = Policy(last=2, daily=3)
_FLOOD = 12


@dataclass
class _Host:
    credential: WriterCredential
    cache: Cache


@dataclass
class Scratch:
    """A vault in memory with two writers, a custodian and a clock that is set by hand."""

    folder: Path
    time: int = _START
    root: SigningKey = field(default_factory=SigningKey.generate)
    hosts: list[_Host] = field(default_factory=list)

    def __post_init__(self) -> None:
        vault_id = vault_id_of(self.root.public)
        self.store = MemoryStore(self.now)
        self.kit = RecoveryKit.generate(
            vault_id=vault_id, vault_name="scratch", vault_url="memory:", created_at=_START, with_root=False
        )
        lock_s = 30 * SECONDS_PER_DAY
        vault = create_vault(self.store, vault_id, self.root, [self.kit.recipient("kit")], lock_s=lock_s)
        for number in range(2):
            self.hosts.append(self._enrol(vault, number))
        key = SigningKey.generate()
        vault.keyring.add(
            self.store,
            self.root,
            lambda n, p: custodian_record(key.public, "c", vault.secret, self.time, n, p),
            None,
        )
        self.custodian = CustodianCredential(
            vault_id=vault_id, url="", name="", root_public=self.root.public, seed=key.seed
        )

    def now(self) -> int:
        """The store's time."""
        return self.time

    def _enrol(self, vault: Vault, number: int) -> _Host:
        key = SigningKey.generate()
        vault.keyring.add(
            self.store,
            self.root,
            lambda n, p: writer_record(key.public, "w", vault.secret, self.time, n, p),
            None,
        )
        credential = WriterCredential(
            vault_id=vault.vault_id,
            url="",
            name="",
            root_public=self.root.public,
            seed=key.seed,
            secret=vault.secret.secret,
        )
        return _Host(credential, Cache(self.folder / f"host{number}"))

    def back_up(self, host: _Host, clock: Clock | None = None) -> bytes:
        """One point of a few bytes; its id. ``clock`` is what the host says the time is."""
        vault = open_vault(self.store)
        vault.use_secret(host.credential.secret)
        clock = clock or self.now
        who = host.credential
        session = WriteSession(vault, who.signing_key, who.writer_id, host.cache, clock)
        source = StreamSource(b"canary", io.BytesIO(b"canary"), clock=clock)
        try:
            job = Job(source, "canary", "drill", (b"canary",))
            return run_backup(job, session, host.cache, clock, Silent()).point
        finally:
            session.close()

    def days(self, host: _Host, count: int) -> None:
        """A point a day."""
        for _ in range(count):
            self.back_up(host)
            self.time += SECONDS_PER_DAY

    def kept(self) -> dict[bytes, tuple[str, ...]]:
        """The points that retention keeps, by id, and on what account."""
        points = list_points(open_vault(self.store), [])
        candidates = [
            Candidate(p.point_id, p.manifest.writer, p.manifest.sequence, p.time, None, "") for p in points
        ]
        decisions = decide(_POLICY, candidates, self.time)
        return {d.candidate.point_id: d.reasons for d in decisions if d.stays}


def attack_scratch(report: Report, accepted: frozenset[str] = frozenset()) -> Iterator[EvidenceRow]:
    """Try all of them; each row is in the report, too."""
    with tempfile.TemporaryDirectory(prefix="donjon-drill-") as folder:
        for number, (name, way) in enumerate(_WAYS):
            place = Path(folder) / str(number)
            place.mkdir()
            scratch = Scratch(place)
            scratch.days(scratch.hosts[0], 4)
            expected, seen, held, answer = way(scratch)
            what = f"{ATTACKS[name]} ({WHERE})"
            outcome = Outcome.PASSED if held else Outcome.FAILED
            yield report.add(name, evidence_row(what, expected, seen, outcome, answer=answer), accepted)


_Seen = tuple[str, str, bool, str]


def _open_backup(scratch: Scratch) -> _Seen:
    vault = open_vault(scratch.store)
    vault.use_secret(scratch.hosts[0].credential.secret)
    (first, *_) = list_points(vault)
    try:
        open_point(vault, first)
    except KeyNotAvailable as error:
        return "refused", "refused", True, error.message
    return "refused", "went through: it opened", False, ""


def _future_point(scratch: Scratch) -> _Seen:
    before = scratch.kept()
    late = scratch.time + _CENTURY_S
    thief = scratch.hosts[1]
    planted = scratch.back_up(thief, lambda: late)
    return _unmoved(scratch, before, planted)


def _flood(scratch: Scratch) -> _Seen:
    before = scratch.kept()
    thief = scratch.hosts[1]
    for _ in range(_FLOOD):
        planted = scratch.back_up(thief)
        scratch.time += 1
    return _unmoved(scratch, before, planted)


def _unmoved(scratch: Scratch, before: dict[bytes, tuple[str, ...]], planted: bytes) -> _Seen:
    """Whether every point that was kept still is, and on the same account."""
    after = scratch.kept()
    lost = [point for point, reasons in before.items() if after.get(point) != reasons]
    came = planted in {p.point_id for p in list_points(open_vault(scratch.store), [])}
    seen = f"{len(before) - len(lost)} of {len(before)} points kept"
    return "nothing pushed out", seen, not lost and came and bool(before), ""


def _rollback(scratch: Scratch) -> _Seen:
    """The store shows a client what it once was, the checkpoint of then included."""
    vault = open_vault(scratch.store)
    old, _ = sign_checkpoint(vault, scratch.custodian, (0, ""))
    old_points = list_points(vault)
    scratch.back_up(scratch.hosts[0])
    new, _ = sign_checkpoint(vault, scratch.custodian, (0, ""))
    outside: list[Signed] = [new]
    by_witness = judge(old_points, [old], outside)
    by_memory = judge(old_points, [old], [], pinned=new.number)
    sound = judge(list_points(vault), [new, old], outside, pinned=new.number)
    kinds = ", ".join(sorted({finding.kind for finding in (*by_witness, *by_memory)}))
    held = bool(by_witness) and bool(by_memory) and not sound
    return "found out", f"found out: {kinds}" if held else "went unnoticed", held, ""


def _forge_point(scratch: Scratch) -> _Seen:
    """The next point of a writer, signed by somebody who is in no keyring."""
    vault = open_vault(scratch.store)
    before = list_points(vault)
    last = before[-1]
    name = names.manifest(last.manifest.writer, last.manifest.sequence + 1)
    manifest = structs.replace(last.manifest, sequence=last.manifest.sequence + 1, previous=last.point_id)
    forged = pack_object(ObjectKind.MANIFEST, manifest, vault.vault_id, SigningKey.generate())
    scratch.store.put(name, forged)
    damaged: list[IntegrityFailure] = []
    points = list_points(open_vault(scratch.store), damaged)
    findings = [f for f in check_structure(open_vault(scratch.store), Silent()).findings if f.object == name]
    held = len(points) == len(before) and len(damaged) == 1 and bool(findings)
    answer = damaged[0].message if damaged else ""
    return "found out", "found out by list and verify" if held else "went unnoticed", held, answer


_WAYS = (
    ("open-backup", _open_backup),
    ("future-point", _future_point),
    ("flood", _flood),
    ("rollback", _rollback),
    ("forge-point", _forge_point),
)
