"""What a place holds, for the catalog. A place is a store with a vault, or with a copy of one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from donjon.catalog import facts, points
from donjon.catalog.database import Catalog
from donjon.catalog.facts import EvidenceRecord
from donjon.catalog.points import CopyRow, PointRow
from donjon.codec.digest import digest
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, ObjectNotFound
from donjon.drills.canaries import KIND as CANARY
from donjon.format import names
from donjon.format.evidence import MAX_TEXT_BYTES, fitting
from donjon.format.manifest import Manifest
from donjon.format.objects import ObjectKind
from donjon.repository.cache import Cache
from donjon.repository.epochs import LockEnds, read_epochs
from donjon.repository.evidence import SignedEvidence, Standing
from donjon.repository.evidence import read_evidence as read_one
from donjon.repository.fetch import fetch_object
from donjon.repository.points import Point, open_point, read_manifest
from donjon.repository.vault import Vault
from donjon.stores.base import ObjectInfo
from donjon.stores.first_versions import first_of_each

#: The kind of evidence that a place was found sound; its subject is the address of the place.
VERIFIED = "verify"
#: Gives the workload whose run began a session, by writer and session, or an empty text.
SessionOwner = Callable[[bytes, int], str]


@dataclass(slots=True)
class Surveyed:
    """The points of a place that were asked for, what is wrong with others, and what no key opened."""

    points: list[PointRow] = field(default_factory=list)
    copies: list[CopyRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    sealed: int = 0
    ends: LockEnds = field(default_factory=LockEnds)


def survey(vault: Vault, cache_folder: Path, owner: SessionOwner, *, skip: Collection[str] = ()) -> Surveyed:
    """The points in a vault but those whose manifests are named in ``skip``.

    With a key at hand what is sealed is read. Without one, ``owner`` may know the workload. Raises what the
    store raises.
    """
    vault.read_successions()
    # Its own, not that of the vault: the locks of a copy are told by custodians of the copy.
    cache = Cache(cache_folder / "places" / digest(vault.store.url.encode()).hex()[:16])
    found = Surveyed(ends=read_epochs(vault, cache))
    for info in first_of_each(vault.store.list(names.MANIFESTS)):
        if info.name in skip:
            continue
        try:
            data = fetch_object(vault.store, info.name, ObjectKind.MANIFEST)
            manifest = read_manifest(vault, info.name, data)
        except ObjectNotFound:
            continue
        except IntegrityFailure as error:
            found.problems.append(error.message)
            continue
        point = Point(digest(data), info.name, manifest, info.stored_at, info.stored_at)
        row = _point_row(vault, point, owner, found)
        found.points.append(row)
        until = _protected(vault, info, manifest, found.ends)
        found.copies.append(CopyRow(row.point_id, vault.store.url, info.stored_at, until))
    return found


def _point_row(vault: Vault, point: Point, owner: SessionOwner, found: Surveyed) -> PointRow:
    manifest = point.manifest
    row = PointRow(
        point.point_id.hex(),
        vault.vault_id.hex(),
        point.name,
        point.time,
        owner(manifest.writer, manifest.session),
    )
    try:
        body = open_point(vault, point).body if vault.openers else None
    except IntegrityFailure as error:
        found.problems.append(error.message)
        body = None
    except KeyNotAvailable:
        body = None
    if body is None:
        found.sealed += 1
        return row
    return PointRow(
        row.point_id,
        row.vault_id,
        row.manifest,
        row.time,
        body.workload,
        body.size_bytes,
        body.problem_count,
        tuple(body.tags),
    )


def _protected(vault: Vault, info: ObjectInfo, manifest: Manifest, ends: LockEnds) -> int:
    """Until when the locks of this place protect a point, 0 for not at all.

    That is what its writer signed, but no longer than its manifest is locked here, as the locks of a copy are
    its own; or what a custodian of this place has told since, who locks a manifest last.
    """
    until = info.retain_until
    if until is None and not vault.store.lists_locks:
        until = vault.store.head(info.name, version=info.version).retain_until
    return max(min(manifest.protected_until, until or 0), ends.name(info.name))


def refresh(catalog: Catalog, vault: Vault, cache_folder: Path, owner: SessionOwner) -> Surveyed:
    """Add what the catalog does not know yet of a place: points, longer locks, evidence."""
    place = vault.store.url
    here = {copy.point_id: copy for copy in points.list_copies(catalog) if copy.place == place}
    known = points.manifests_of(catalog, vault.vault_id.hex())
    skip = {name for name, point in known.items() if point in here}
    found = survey(vault, cache_folder, owner, skip=skip)
    longer = [
        replace(here[known[name]], protected_until=until)
        for name in skip
        if (until := found.ends.name(name)) > here[known[name]].protected_until
    ]
    new = [row for row in found.points if row.manifest not in known]
    points.put_points(catalog, new, found.copies + longer)
    there = {record.digest for record in facts.list_evidence(catalog)}
    for record in read_evidence(vault, found.problems, skip=there):
        facts.put_evidence(catalog, record)
        count_evidence(catalog, record)
    return found


def read_evidence(vault: Vault, problems: list[str], *, skip: Collection[str] = ()) -> list[EvidenceRecord]:
    """The evidence in a place that counts; what is wrong with some is added to ``problems``."""
    found = []
    for info in first_of_each(vault.store.list(names.EVIDENCE)):
        if info.name.removeprefix(names.EVIDENCE) in skip:
            continue
        try:
            signed = read_one(vault, info)
        except ObjectNotFound:
            continue
        except IntegrityFailure as error:
            problems.append(error.message)
            continue
        if signed.standing is Standing.COUNTS and signed.evidence.kind != CANARY:
            found.append(evidence_record(vault, signed))
    return found


def evidence_record(vault: Vault, signed: SignedEvidence) -> EvidenceRecord:
    """Evidence as the catalog has it."""
    evidence = signed.evidence
    return EvidenceRecord(
        signed.digest.hex(),
        vault.vault_id.hex(),
        evidence.kind,
        evidence.subject,
        evidence.signer.hex(),
        evidence.created_at,
        evidence.has_passed,
    )


def count_evidence(catalog: Catalog, record: EvidenceRecord) -> None:
    """Let evidence that a place was found sound count for the copies that it had by then."""
    if record.kind != VERIFIED or not record.passed:
        return
    for place in points.places(catalog):
        if subject_of(place) == record.subject:
            points.mark_verified(catalog, place, record.created_at)


def subject_of(place: str) -> str:
    """How evidence names a place."""
    return fitting(place, MAX_TEXT_BYTES)


def rebuild_places(
    catalog: Catalog, vaults: Sequence[Vault], cache_folder: Callable[[Vault], Path], owner: SessionOwner
) -> list[Surveyed]:
    """Let the catalog know of vaults what these places hold now, and of no other place of them.

    The first place of each vault tells when its points were made. What is known of other vaults stays.
    """
    surveys = [survey(vault, cache_folder(vault), owner) for vault in vaults]
    for place in points.places(catalog, {vault.vault_id.hex() for vault in vaults}):
        if place not in {vault.store.url for vault in vaults}:
            points.replace_place(catalog, place, [], [])
    seen: set[str] = set()
    for vault, found in zip(vaults, surveys, strict=True):
        new = [row for row in found.points if row.point_id not in seen]
        seen |= {row.point_id for row in found.points}
        points.replace_place(catalog, vault.store.url, new, found.copies)
    evidence: dict[str, dict[str, EvidenceRecord]] = {}
    for vault, found in zip(vaults, surveys, strict=True):
        records = evidence.setdefault(vault.vault_id.hex(), {})
        records |= {one.digest: one for one in read_evidence(vault, found.problems, skip=records)}
    for vault_id, records in evidence.items():
        facts.replace_evidence(catalog, vault_id, records.values())
        for record in records.values():
            count_evidence(catalog, record)
    return surveys


def owner_by_sessions(sessions: Mapping[str, str]) -> SessionOwner:
    """The owner by what runs wrote down when they began: see ``session_name``."""
    return lambda writer, session: sessions.get(session_name(writer, session), "")


def session_name(writer: bytes, session: int) -> str:
    """How a run writes down the session in which it stores."""
    return f"{writer.hex()}/{session}"


def first_line(error: DonjonError) -> str:
    """An error and its remedy on one line."""
    return f"{error.message}. {error.hint}" if error.hint else error.message
