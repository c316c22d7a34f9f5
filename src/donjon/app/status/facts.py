"""Facts about the copies of workloads: from what is there now, never from what the plan hopes.

The plan tells what to look for, where places are, and what is wanted. All else is asked of vaults, providers
and signed evidence; the catalog tells whose point is whose, which is sealed, and what this host has timed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from donjon.app.catalog.opening import CATALOG_VARIABLE, Places, open_catalog
from donjon.app.config import Home, Settings
from donjon.app.evidence_rows import RESTORE, VERIFY, read_check, read_restore
from donjon.app.status.plan_facts import (
    medium_of,
    objectives,
    place_of,
    production_storage,
    storage_of,
    vaults_of,
)
from donjon.app.status.point_facts import any_of, look_at_point
from donjon.app.status.snapshot_facts import snapshot_copies
from donjon.app.status.vault_facts import VaultLook, look_at_vault
from donjon.catalog.facts import list_restores
from donjon.catalog.points import list_points
from donjon.core.clock import Clock, iso
from donjon.core.errors import DonjonError
from donjon.core.events import Progress
from donjon.format.evidence import MAX_TEXT_BYTES, fitting
from donjon.plan.copies import Check, Copy, CopyKind, Depth, Facts, Medium, Restore, Suspect
from donjon.plan.model import Plan, Rules
from donjon.plan.workloads import Workload
from donjon.repository.evidence import SignedEvidence, is_trusted
from donjon.repository.points import Point
from donjon.repository.vault import Vault

_SEALED = "whose points these are is sealed, and the catalog here does not know"
_SEALED_HINT = "Give a key with --kit FILE, or run this where `donjon plan run` does"


@dataclass(slots=True)
class Known:
    """What a catalog knows: the workloads of points by their ids, and timed restores by workload."""

    workloads: dict[bytes, str] = field(default_factory=dict)
    restores: list[tuple[str, Restore]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Survey:
    """The facts of every workload that was asked for, the vaults, and what people should know besides."""

    facts: list[Facts]
    looks: Mapping[str, VaultLook]
    warnings: list[str]


def gather(
    settings: Settings,
    environment: Mapping[str, str],
    plan: Plan,
    clock: Clock,
    wanted: Sequence[str],
    progress: Progress,
) -> Survey:
    """Look at everything that the workloads ``wanted`` of a plan need.

    What cannot be reached is told in the facts. Raises ``DonjonError`` for a catalog that cannot be read.
    """
    warnings: list[str] = []
    looks: dict[str, VaultLook] = {}
    places = Places(settings, plan, lambda text: warnings.append(text.removeprefix("warning: ")))
    for name in wanted:
        for vault in vaults_of(plan, name):
            if vault not in looks:
                looks[vault] = look_at_vault(places, vault, progress)
    known = from_catalog(settings, environment)
    for look in looks.values():
        known.workloads |= look.workloads
    now = max([clock(), *(look.now for look in looks.values())])
    suspect = _suspect(looks.values())
    facts = [_Gatherer(plan, name, looks, known, suspect, now).facts() for name in wanted]
    return Survey(facts, looks, list(dict.fromkeys(warnings)))


def _suspect(looks: Iterable[VaultLook]) -> dict[bytes, str]:
    """Who marked each suspect point, by its id; a mark in one vault holds for all copies of the point."""
    found: dict[bytes, str] = {}
    for verdicts in (look.verdicts for look in looks if look.verdicts is not None):
        for point_id in verdicts.marks:
            mark = verdicts.of(point_id)[0]
            found.setdefault(point_id, f"by {mark.who} on {iso(mark.signed_at)}")
    return found


def from_catalog(settings: Settings, environment: Mapping[str, str]) -> Known:
    """What the catalog of this host knows; nothing if there is none."""
    if not environment.get(CATALOG_VARIABLE) and not (settings.home / "catalog.db").exists():
        return Known()
    catalog = open_catalog(Home(settings.home), environment)
    try:
        workloads = {
            bytes.fromhex(row.point_id): row.workload for row in list_points(catalog) if row.workload
        }
        restores = [
            (
                one.workload,
                Restore(one.started_at, one.duration_s, one.point_id, f"catalog, {one.purpose}", one.passed),
            )
            for one in list_restores(catalog)
        ]
    finally:
        catalog.close()
    return Known(workloads, restores)


class _Gatherer:
    """The facts of one workload."""

    def __init__(
        self,
        plan: Plan,
        name: str,
        looks: Mapping[str, VaultLook],
        known: Known,
        suspect: Mapping[bytes, str],
        now: int,
    ) -> None:
        self._plan, self._name, self._known, self._now = plan, name, known, now
        self._suspect = suspect
        self._rules: Rules = plan.rules(name)
        self._source: Workload = plan.workloads[name].source
        self._looks = [looks[vault] for vault in vaults_of(plan, name)]
        self._wanted = objectives(self._rules)

    def facts(self) -> Facts:
        backups = [self._backup(look) for look in self._looks]
        times = sorted(point.time for look in self._looks for point in self._clean(look))
        snapshots = snapshot_copies(self._plan, self._name, times)
        # Production was read for a suspect point as well.
        seen = [point.time for look in self._looks for point in self._points(look)]
        seen += [copy.point_time for copy in snapshots if copy.point_time is not None]
        production = self._production(max(seen, default=None))
        copies = (production, *snapshots, *backups)
        return Facts(self._name, self._now, self._wanted, copies, self._restore())

    def _production(self, seen: int | None) -> Copy:
        medium = Medium.OBJECT_STORAGE if self._source.kind == "bucket" else Medium.VOLUME
        facts = (f"kind {self._source.kind}", "last seen when a backup or snapshot was made of it")
        return Copy(
            CopyKind.PRODUCTION,
            "production",
            "",
            place_of(self._plan, self._rules.site),
            medium,
            production_storage(self._source),
            point_time=seen,
            facts=facts,
        )

    def _backup(self, look: VaultLook) -> Copy:
        part = self._plan.vaults[look.name]
        url = look.vault.store.url if look.vault else look.address
        storage = storage_of(url)
        bare = Copy(
            CopyKind.BACKUP,
            look.name,
            look.address,
            place_of(self._plan, part.site),
            medium_of(url, part.medium, storage, production_storage(self._source)),
            storage,
            unreachable=look.unreachable,
            broken=look.gone,
            hint=look.hint,
            facts=(url,),
        )
        if look.vault is None:
            return bare
        points = self._points(look)
        if not points:
            sealed = any(point.point_id not in self._known.workloads for point in look.points)
            return replace(bare, unreachable=_SEALED, hint=_SEALED_HINT) if sealed else bare
        clean = self._clean(look)
        newer = points[points.index(clean[-1]) :] if clean else points
        bare = replace(bare, suspect=self._suspect_ones(newer))
        return self._with_point(bare, look, clean[-1], len(points)) if clean else bare

    def _with_point(self, bare: Copy, look: VaultLook, point: Point, count: int) -> Copy:
        try:
            seen = look_at_point(look, point, any_of)
        except DonjonError as error:
            return replace(bare, unreachable=error.message, hint=error.hint)
        return replace(
            bare,
            point=point.point_id.hex(),
            point_time=point.time,
            locked_until=seen.locked_until,
            lock_mode=seen.mode,
            kept_s=look.kept_s(is_copy=look.name != self._rules.vault),
            keys=seen.keys,
            checked=self._check(look),
            broken=seen.broken,
            tampered=seen.tampered,
            facts=(*bare.facts, f"{count} points", *seen.facts),
        )

    def _points(self, look: VaultLook) -> list[Point]:
        """The points of this workload that count, oldest first."""
        if look.vault is None:
            return []
        keyring = look.vault.keyring
        return [
            point
            for point in look.points
            if self._known.workloads.get(point.point_id) == self._name
            and not keyring.came_late(point.manifest, point.time, point.name, point.point_id)
        ]

    def _clean(self, look: VaultLook) -> list[Point]:
        """Those of them that nobody marked as suspect, in whichever vault."""
        return [point for point in self._points(look) if point.point_id not in self._suspect]

    def _suspect_ones(self, points: Sequence[Point]) -> Suspect | None:
        """Those of these points, oldest first, that somebody marked; None if there are none."""
        found = [point.point_id for point in reversed(points) if point.point_id in self._suspect]
        return Suspect(tuple(one.hex() for one in found), self._suspect[found[0]]) if found else None

    def _check(self, look: VaultLook) -> Check | None:
        """The last verification that is as deep as wanted, or a later one that failed; else the last one.

        It may have been signed in any vault of the workload. What auditors and custodians signed comes first.
        """
        assert look.vault is not None  # noqa: S101
        url = fitting(look.vault.store.url, MAX_TEXT_BYTES)
        checks = []
        for vault, signed in self._evidence(VERIFY):
            if signed.evidence.subject == url:
                by_writer = not is_trusted(vault, signed.evidence.signer)
                checks.append(read_check(signed, signed.signed_at, by_writer=by_writer))
        found = sorted(filter(None, checks), key=lambda one: (not one.by_writer, one.at), reverse=True)
        good = (one for one in found if not one.passed or self._is_deep(one))
        return next(good, found[0] if found else None)

    def _evidence(self, kind: str) -> Iterator[tuple[Vault, SignedEvidence]]:
        """Evidence of one kind, each with a vault that has it."""
        for look in self._looks:
            if look.vault is not None:
                yield from ((look.vault, one) for one in look.evidence if one.evidence.kind == kind)

    def _is_deep(self, check: Check) -> bool:
        percent = self._wanted.data_percent
        is_deep = not percent or (check.depth is Depth.DATA and check.data_percent >= percent)
        return is_deep and not check.by_writer

    def _restore(self) -> Restore | None:
        """The last restore that was timed, here or by signed evidence of whomever."""
        found = [restore for workload, restore in self._known.restores if workload == self._name]
        for _, signed in self._evidence(RESTORE):
            for point, seconds, passed in filter(None, map(read_restore, signed.evidence.rows)):
                if self._known.workloads.get(bytes.fromhex(point)) == self._name:
                    source = f"evidence {signed.digest.hex()[:12]}"
                    found.append(Restore(signed.signed_at, seconds, point, source, passed))
        return max(found, key=lambda restore: restore.at, default=None)
