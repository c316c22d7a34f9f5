"""Any sequence of changes, backups, crashes and losses leaves every committed point as it was made."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from donjon.core.errors import DonjonError
from donjon.core.events import Silent
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.pack import PackKind
from donjon.format.vault import Action
from donjon.plan.retention import Policy
from donjon.repository import packer
from donjon.repository.check import check_structure
from donjon.repository.records import removal_record
from donjon.testing.faulty import Crash, Fault, FaultyStore
from donjon.testing.trees import compare_trees
from tests.integration.custody import Custody
from tests.integration.engine import DAY, Host, Place, change, fill
from tests.integration.witnesses import Watched

POLICIES = st.sampled_from([Policy(), Policy(last=1), Policy(last=2), Policy(daily=2)])
SEEDS = st.integers(0, 2**32 - 1)


class Vaults(RuleBasedStateMachine):
    """A tree that changes, hosts that back it up, and copies of what each point must bring back."""

    @initialize(seed=SEEDS, locked=st.booleans())
    def start(self, seed: int, locked: bool) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="donjon-stateful-"))
        self.limit = packer.PACK_BYTES[PackKind.DATA]
        packer.PACK_BYTES[PackKind.DATA] = 2 * MIB
        self.place = Place.make(self.folder / "place", lock_s=30 * DAY if locked else 0)
        self.source = self.folder / "source"
        fill(self.source, 40, seed, size_bytes=30_000)
        self.watched = Watched(self.place, self.source)
        self.watched.add_custodian()
        self.custody = Custody(self.watched)
        self.wanted: dict[bytes, Path] = {}
        self.given_up: set[bytes] = set()
        self.revoked: set[bytes] = set()

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            packer.PACK_BYTES[PackKind.DATA] = self.limit
            shutil.rmtree(self.folder)

    def _host(self, seed: int) -> Host:
        return self.place.hosts[seed % len(self.place.hosts)]

    def _keep(self) -> Path:
        copy = self.folder / f"copy{len(list(self.folder.iterdir()))}"
        shutil.copytree(self.source, copy, symlinks=True)
        return copy

    @rule(seed=SEEDS)
    def change_files(self, seed: int) -> None:
        change(self.source, seed % 1000)

    @rule(seed=SEEDS, compact_percent=st.sampled_from([0, 0, 50, 90]))
    def back_up(self, seed: int, compact_percent: float) -> None:
        host = self._host(seed)
        if host.credential.writer_id in self.revoked:
            with pytest.raises(DonjonError, match="revoked"):
                host.backup(self.place.store, self.source)
            return
        outcome = host.backup(self.place.store, self.source, compact_percent=compact_percent)
        assert outcome.counts.problems == []
        self.wanted[outcome.point] = self._keep()

    @rule(seed=SEEDS, call=st.integers(1, 12), after=st.booleans())
    def crash_while_backing_up(self, seed: int, call: int, after: bool) -> None:
        host = self._host(seed)
        before = {point.point_id for point in self.place.points()}
        fault = Fault.CRASH_AFTER if after else Fault.CRASH_BEFORE
        with contextlib.suppress(Crash, DonjonError):
            host.backup(FaultyStore(self.place.store, {call: fault}), self.source)
        new = {point.point_id for point in self.place.points()} - before
        assert len(new) <= 1
        for point in new:  # the crash came after the commit
            self.wanted[point] = self._keep()

    @rule(seed=SEEDS)
    def lose_the_cache(self, seed: int) -> None:
        shutil.rmtree(self._host(seed).cache.folder, ignore_errors=True)

    @rule(seed=SEEDS)
    def lose_an_index_object(self, seed: int) -> None:
        found = [info.name for info in self.place.store.list(names.INDEX)]
        if found and not any(info.retain_until for info in self.place.store.list(names.INDEX)):
            self.place.store.delete_expired(found[seed % len(found)])
            self.lost_index = True

    @rule(days=st.integers(0, 20))
    def wait(self, days: int) -> None:
        self.place.clock.advance(days * DAY)

    @rule(policy=POLICIES)
    def extend(self, policy: Policy) -> None:
        if self.place.open().object.lock_s:
            done = self.custody.extend(policy)
            assert (done.debt, done.failed) == (0, [])

    @rule(policy=POLICIES, call=st.integers(1, 60), after=st.booleans())
    def crash_while_extending(self, policy: Policy, call: int, after: bool) -> None:
        fault = Fault.CRASH_AFTER if after else Fault.CRASH_BEFORE
        if self.place.open().object.lock_s:
            with contextlib.suppress(Crash, DonjonError):
                self.custody.extend(policy, FaultyStore(self.place.store, {call: fault}))

    @rule(policy=POLICIES, call=st.integers(1, 60))
    def reap(self, policy: Policy, call: int) -> None:
        """Only points that the policy gives up, and whose manifest is not locked, may lose anything."""
        _, standings = self.custody.look(policy)
        self.given_up |= {s.point.point_id for s in standings if not s.is_spared}
        with contextlib.suppress(Crash, DonjonError):
            self.custody.reap(policy, FaultyStore(self.place.store, {call: Fault.CRASH_BEFORE}))
        self.custody.reap(policy)

    @precondition(lambda self: len(self.place.hosts) < 3)
    @rule()
    def add_a_host(self) -> None:
        self.place.add_host()

    @precondition(lambda self: len(self.place.hosts) > 1)
    @rule(seed=SEEDS)
    def revoke_a_host(self, seed: int) -> None:
        host = self._host(seed)
        if host.credential.writer_id in self.revoked or len(self.revoked) + 1 == len(self.place.hosts):
            return
        vault = self.place.open()
        vault.keyring.add(
            vault.store,
            self.place.root,
            lambda number, previous: removal_record(
                Action.REVOKE_WRITER, host.credential.writer_id, vault.store.now(), number, previous
            ),
            vault.lock_end(),
        )
        self.revoked.add(host.credential.writer_id)

    @rule(seed=SEEDS)
    def restore(self, seed: int) -> None:
        kept = sorted(self.wanted.keys() - self.given_up)
        if not kept:
            return
        point_id = kept[seed % len(kept)]
        point = next(point for point in self.place.points() if point.point_id == point_id)
        target = self.folder / f"out{random.getrandbits(64):x}"
        done = self.place.restore(target, point=point, under=os.fsencode(self.source).lstrip(b"/"))
        assert (done.problems, done.damage) == ([], [])
        assert _without_times(compare_trees(os.fsencode(self.wanted[point_id]), os.fsencode(target))) == []
        shutil.rmtree(target)

    @invariant()
    def every_point_is_listed_and_nothing_is_wrong(self) -> None:
        if not hasattr(self, "place"):
            return
        assert {point.point_id for point in self.place.points()} == set(self.wanted)
        findings = check_structure(self.place.open(), Silent()).findings
        if not getattr(self, "lost_index", False):
            assert [str(finding) for finding in findings] == []


def _without_times(differences: list[str]) -> list[str]:
    """The copies to compare with have the status times and inodes of copies, and folders' new times."""
    return [text for text in differences if "time" not in text]


Test: Callable[..., object] = Vaults.TestCase
Vaults.TestCase.settings = settings(
    max_examples=12,
    stateful_step_count=14,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
