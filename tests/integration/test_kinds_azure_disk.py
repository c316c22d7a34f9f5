"""Workloads of the kind ``azure-disk``, as a plan has them. Azure is a fake of ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from donjon.app.kinds import registry
from donjon.app.kinds.base import Prepared, Surroundings
from donjon.codec.chunk import Sizes
from donjon.core.errors import (
    SnapshotFailed,
)
from donjon.core.events import Silent
from donjon.plan.model import Plan
from donjon.targets.image import ImageTarget
from donjon.testing.azure.snapshots import AzureSnapshotsFront
from tests.integration.azure_disks import SUBSCRIPTION, Cloud, served_clouds
from tests.integration.engine import Place
from tests.integration.volumes import MIB, assert_same, back_up, bring_back, noise


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[AzureSnapshotsFront, Any]]:
    with served_clouds() as served:
        yield served


@pytest.fixture
def cloud(served: tuple[AzureSnapshotsFront, Any]) -> Cloud:
    return Cloud(*served)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes())


@dataclass
class Run:
    """One workload of a plan, and when it rested."""

    source: dict[str, object]
    rules: dict[str, object] = field(default_factory=dict)
    rested: list[str] = field(default_factory=list)

    @contextlib.contextmanager
    def _quiesce(self) -> Iterator[None]:
        self.rested.append("rests")
        try:
            yield
        finally:
            self.rested.append("works")

    @property
    def plan(self) -> Plan:
        site = {"provider": "azure", "account": SUBSCRIPTION, "region": "westeurope"}
        workload = {"source": {"kind": "azure-disk", "resource_group": "rg", **self.source}, "site": "here"}
        return Plan.model_validate(
            {
                "version": 1, "name": "p", "sites": {"here": site}, "vaults": {},
                "workloads": {"db": {**workload, **self.rules}},
            }
        )  # fmt: skip

    def prepare(self) -> contextlib.AbstractContextManager[Prepared]:
        plan = self.plan
        surroundings = Surroundings(
            plan, "db", plan.rules("db"), Silent(), lambda: None, self._quiesce, frozenset()
        )
        return registry.prepare(plan.workloads["db"].source, surroundings)


@pytest.fixture
def planned(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> Cloud:
    for module in ("donjon.snapshots.azure_disk", "donjon.app.kinds.azure_disk"):
        monkeypatch.setattr(f"{module}.connect", lambda *_, **__: cloud.client)
    return cloud


def test_a_plan_reads_disks_from_snapshots_and_then_what_changed(
    planned: Cloud, place: Place, tmp_path: Path
) -> None:
    planned.front.make_disk(SUBSCRIPTION, "rg", "log", "westeurope", {"app": "db"})
    planned.write({0: noise(1, 4 * MIB)})
    planned.write({0: noise(2, MIB)}, "log")
    run = Run({"disks": ["data"], "tags": {"app": "db"}})
    with run.prepare() as prepared:
        assert run.rested == ["rests", "works"]  # before anything is read
        assert sorted(prepared.paths) == [b"/data", b"/log"]
        planned.write({2 * MIB: noise(3, 512)})  # production goes on
        assert back_up(place, prepared.source).counts.bytes_read == 5 * MIB
    kept = set(planned.front.snapshots)
    planned.ahead += 600
    with run.prepare() as prepared:
        done = back_up(place, prepared.source)
    assert (done.counts.bytes_read, done.warnings) == (MIB, [])
    assert len(planned.front.snapshots) == 2  # of the second run
    assert not kept & set(planned.front.snapshots)
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False), b"data")
    assert_same(planned.image(tmp_path / "wanted", "disks/data"), tmp_path / "back")
    checks = list(registry.check_online(run.plan, "db"))
    assert [(one.is_good, one.message) for one in checks] == [
        (True, "rg/data: is there"), (True, "rg/log: is there"),
    ]  # fmt: skip
    assert planned.blobs.grants == {}


def test_a_run_that_fails_keeps_the_set_of_the_newest_point(planned: Cloud, place: Place) -> None:
    planned.write({0: noise(1, MIB)})
    run = Run({"disks": ["data"]})
    with run.prepare() as prepared:
        back_up(place, prepared.source)
    kept = set(planned.front.snapshots)
    planned.ahead += 600

    def crash() -> None:
        with run.prepare():
            assert len(planned.front.snapshots) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        crash()
    assert set(planned.front.snapshots) == kept
    planned.ahead += 600
    with run.prepare() as prepared:
        assert back_up(place, prepared.source).counts.bytes_read == 0


def test_rules_for_snapshots_keep_them(planned: Cloud, place: Place) -> None:
    run = Run({"disks": ["data"]}, {"snapshots": {"keep": 2}})
    for number in range(1, 3):
        planned.ahead += 600
        with run.prepare() as prepared:
            back_up(place, prepared.source)
        assert len(planned.front.snapshots) == number


def test_a_disk_that_is_gone_is_told_before_anything_rests(planned: Cloud) -> None:
    run = Run({"disks": ["nothing"]})
    with pytest.raises(SnapshotFailed, match="is not there"), run.prepare():
        pass
    assert run.rested == []
    (check,) = registry.check_online(run.plan, "db")
    assert check.is_good is False
