"""Carries out what a plan says of the snapshots of a workload: wait, lock, copy, keep some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from donjon.app import snapshots as providers
from donjon.app.kinds.base import Prepared
from donjon.core.clock import Clock
from donjon.core.errors import DonjonError
from donjon.plan.model import Plan, SnapshotPolicy
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.snapshots.expiry import expired


@dataclass(slots=True)
class Kept:
    """What there is afterwards, where it was looked for, and what failed."""

    snapshots: list[Snapshot] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)
    failures: list[DonjonError] = field(default_factory=list)
    deleted: int = 0


@dataclass(frozen=True, slots=True)
class SnapshotKeeper:
    """What the plan says of the snapshots of one workload. ``clock`` tells when locks end."""

    plan: Plan
    workload: str
    policy: SnapshotPolicy
    clock: Clock

    def keep(self, prepared: Prepared) -> Kept:
        """Wait for the snapshots of a run, lock and copy them, and delete those that are too many.

        What fails does not keep the rest from being done; the caller raises it. Nothing is deleted in a place
        where the snapshot of this run is not complete.
        """
        kept = Kept()
        provider = prepared.provider
        if provider is None or not prepared.snapshots:
            return kept
        complete: list[Snapshot] = []
        try:
            complete = provider.wait(prepared.snapshots, timeout_s=self.policy.wait)
            self._settle(provider, complete, kept)
        except DonjonError as error:
            kept.failures.append(error)
        _look(provider, self.workload, kept)
        for site in self.policy.copy_to if complete else ():
            try:
                self._copy(provider, complete, site, kept)
            except DonjonError as error:
                kept.failures.append(error)
        return kept

    def _copy(self, provider: Snapshots, complete: Sequence[Snapshot], site: str, kept: Kept) -> None:
        target = providers.at_site(self.plan.workloads[self.workload].source, self.plan, site)
        try:
            copies = []
            for snapshot in complete:
                if target.account != snapshot.account:
                    provider.share(snapshot, target.account)
                copies.append(target.copy(snapshot))
            self._settle(target, target.wait(copies, timeout_s=self.policy.wait), kept)
        finally:
            _look(target, self.workload, kept)

    def _settle(self, provider: Snapshots, complete: Sequence[Snapshot], kept: Kept) -> None:
        """Lock what is complete, and delete what is too old for the policy."""
        if self.policy.lock is not None:
            for snapshot in complete:
                provider.lock(snapshot, retain_until=self.clock() + self.policy.lock)
        there = list(provider.list(self.workload))
        for snapshot in expired(there, keep=self.policy.keep, now=self.clock()):
            provider.delete(snapshot)
            kept.deleted += 1


def _look(provider: Snapshots, workload: str, kept: Kept) -> None:
    try:
        found = list(provider.list(workload))
    except DonjonError as error:
        kept.failures.append(error)
        return
    kept.snapshots += found
    kept.places.append((provider.account, provider.region))
