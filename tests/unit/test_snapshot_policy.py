"""What a plan says of snapshots, carried out on providers in memory that keep to the rules of the port."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from donjon.app import snapshots as providers
from donjon.app.catalog import rebuild
from donjon.app.kinds.base import Prepared
from donjon.app.plans.snapshot_policy import Kept, SnapshotKeeper
from donjon.catalog import facts, schema
from donjon.core.errors import LocksUnsupported, ObjectLocked, Refused, SnapshotFailed, UsageError
from donjon.plan.model import Plan, SnapshotPolicy
from donjon.snapshots.base import Snapshot, SnapshotState

NOW = 1_000_000
DAY = 86_400


@dataclass
class MemorySnapshots:
    """Snapshots of one account and region, in memory."""

    account: str = "111"
    region: str = "eu"
    there: dict[str, Snapshot] = field(default_factory=dict)
    shared: list[tuple[str, str]] = field(default_factory=list)
    fails: str = ""
    locks: bool = True
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str, at: int = NOW) -> list[Snapshot]:
        made = []
        for volume in volumes:
            name = f"{self.region}-{next(self.numbers)}"
            state = SnapshotState.PENDING
            self.there[name] = Snapshot(
                name, volume, workload, set_id, at, 10, state, self.account, self.region, len(volumes)
            )
            made.append(self.there[name])
        return made

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        if self.fails == "wait":
            raise SnapshotFailed("the snapshot never became complete", retryable=True)
        done = [replace(self.there[one.snapshot_id], state=SnapshotState.COMPLETE) for one in snapshots]
        self.there |= {one.snapshot_id: one for one in done}
        return done

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        if self.fails == "copy":
            raise SnapshotFailed("no room for the copy", retryable=True)
        if snapshot.account != self.account:
            assert self.shared_here(snapshot)
        name = f"{self.region}-{next(self.numbers)}"
        self.there[name] = replace(
            snapshot,
            snapshot_id=name,
            state=SnapshotState.PENDING,
            account=self.account,
            region=self.region,
            origin=snapshot.snapshot_id,
            locked_until=0,
        )
        return self.there[name]

    def shared_here(self, snapshot: Snapshot) -> bool:
        return (snapshot.snapshot_id, self.account) in self.shared

    def share(self, snapshot: Snapshot, account: str) -> None:
        self.shared.append((snapshot.snapshot_id, account))

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        if not self.locks:
            raise LocksUnsupported("this provider has no locks")
        locked = replace(self.there[snapshot.snapshot_id], locked_until=retain_until)
        self.there[snapshot.snapshot_id] = locked
        return locked

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        return iter([one for one in self.there.values() if workload in (None, one.workload)])

    def delete(self, snapshot: Snapshot) -> None:
        found = self.there[snapshot.snapshot_id]
        if found.locked_until > NOW:
            raise ObjectLocked("is locked", retain_until=found.locked_until)
        if self.fails == "delete":
            raise Refused("it is in use by an image")
        del self.there[snapshot.snapshot_id]


def plan(**policy: Any) -> Plan:
    site = {"provider": "aws", "account": "1", "region": "eu"}
    return Plan.model_validate(
        {
            "version": 1,
            "name": "p",
            "sites": {"here": site, "far": site},
            "vaults": {"main": {"url": "file:///vault", "site": "here"}},
            "workloads": {
                "web": {
                    "source": {"kind": "ebs", "volumes": ["v1", "v2"]},
                    "site": "here",
                    "vault": "main",
                    "snapshots": policy,
                }
            },
        }
    )


@pytest.fixture
def near() -> MemorySnapshots:
    return MemorySnapshots()


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch, near: MemorySnapshots) -> MemorySnapshots:
    """The other site; the plan's are these two."""
    provider = MemorySnapshots("222", "us", shared=near.shared)
    sites = {"here": near, "far": provider}
    monkeypatch.setattr(providers, "at_site", lambda source, of_plan, site: sites[site])
    return provider


def keep(near: MemorySnapshots, set_id: str = "s", at: int = NOW, **policy: Any) -> Kept:
    made = plan(**policy)
    prepared = Prepared(None, (), near.create(["v1", "v2"], workload="web", set_id=set_id, at=at), near)  # type: ignore[arg-type]
    found = made.rules("web").snapshots
    assert isinstance(found, SnapshotPolicy)
    return SnapshotKeeper(made, "web", found, lambda: NOW).keep(prepared)


def test_so_many_sets_are_kept_and_older_ones_go(near: MemorySnapshots) -> None:
    for number in range(4):
        kept = keep(near, f"s{number}", NOW - DAY + number, keep=2)
        assert kept.failures == []
    assert {one.set_id for one in near.list("web")} == {"s2", "s3"}
    assert kept.deleted == 2
    assert kept.places == [("111", "eu")]
    assert {one.snapshot_id for one in kept.snapshots} == set(near.there)


def test_they_are_locked_and_locked_ones_stay(near: MemorySnapshots) -> None:
    for number in range(3):
        assert keep(near, f"s{number}", NOW + number, keep=1, lock="30d").failures == []
    assert len(near.there) == 6
    assert {one.locked_until for one in near.there.values()} == {NOW + 30 * DAY}


def test_they_are_copied_to_another_account_and_expire_there_too(
    near: MemorySnapshots, far: MemorySnapshots
) -> None:
    for number in range(3):
        kept = keep(near, f"s{number}", NOW + number, keep=1, copy_to=["far"])
        assert kept.failures == []
    assert {one.set_id for one in far.there.values()} == {"s2"}
    assert {one.state for one in far.there.values()} == {SnapshotState.COMPLETE}
    assert kept.places == [("111", "eu"), ("222", "us")]
    assert len(kept.snapshots) == 4


def test_one_that_never_completes_deletes_nothing_and_copies_nothing(
    near: MemorySnapshots, far: MemorySnapshots
) -> None:
    keep(near, "s0", NOW - 5, keep=1, copy_to=["far"])
    near.fails = "wait"
    kept = keep(near, "s1", NOW, keep=1, copy_to=["far"])
    assert [error.message for error in kept.failures] == ["the snapshot never became complete"]
    assert {one.set_id for one in near.there.values()} == {"s0", "s1"}
    assert {one.set_id for one in far.there.values()} == {"s0"}


def test_a_copy_that_fails_is_told_and_the_last_good_one_stays(
    near: MemorySnapshots, far: MemorySnapshots
) -> None:
    keep(near, "s0", NOW - 5, keep=1, copy_to=["far"])
    far.fails = "copy"
    kept = keep(near, "s1", NOW, keep=1, copy_to=["far"])
    assert [error.message for error in kept.failures] == ["no room for the copy"]
    assert {one.set_id for one in near.there.values()} == {"s1"}
    assert {one.set_id for one in far.there.values()} == {"s0"}


def test_a_provider_without_locks_is_told(near: MemorySnapshots) -> None:
    near.locks = False
    kept = keep(near, keep=1, lock="1d")
    assert [type(error) for error in kept.failures] == [LocksUnsupported]
    assert len(kept.snapshots) == 2


def test_one_that_cannot_be_deleted_is_told(near: MemorySnapshots) -> None:
    keep(near, "s0", NOW - 5, keep=1)
    near.fails = "delete"
    kept = keep(near, "s1", NOW, keep=1)
    assert [error.message for error in kept.failures] == ["it is in use by an image"]


def test_a_site_without_snapshots_is_told(near: MemorySnapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    def at_site(source: object, of_plan: object, site: str) -> None:
        raise UsageError(f"{site}: is no site of AWS")

    monkeypatch.setattr(providers, "at_site", at_site)
    kept = keep(near, keep=1, copy_to=["far"])
    assert [error.message for error in kept.failures] == ["far: is no site of AWS"]


def test_a_rebuilt_catalog_has_the_snapshots_of_all_sites(
    near: MemorySnapshots, far: MemorySnapshots, tmp_path: Path
) -> None:
    kept = keep(near, keep=3, copy_to=["far"])
    catalog = schema.open_catalog(None, tmp_path)
    facts.replace_snapshots(catalog, "web", kept.snapshots, places=kept.places)
    before = facts.list_snapshots(catalog)
    assert len(before) == 4
    facts.forget_snapshots(catalog, ["other"])
    assert facts.list_snapshots(catalog) == before
    facts.forget_snapshots(catalog, ["web"])
    from donjon.app.catalog.opening import Places
    from donjon.app.config import Settings

    places = Places(Settings(tmp_path), plan(keep=3, copy_to=["far"]), lambda _: None)
    for workload, found in rebuild._snapshots(places).items():
        facts.replace_snapshots(catalog, workload, found, places=())
    assert facts.list_snapshots(catalog) == before
    catalog.close()
