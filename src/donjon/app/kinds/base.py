"""What every kind of workload offers to whoever runs a plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from donjon.core.events import Progress, StopCheck
from donjon.plan.model import Credential, Limits, Plan, Rules, Site
from donjon.snapshots.base import Snapshot, Snapshots
from donjon.sources.base import Source

#: Brings the application to rest while its body runs, and always releases it. The body takes the snapshot, or
#: reads the data where there is none.
Quiesce = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a kind needs beside its own settings."""

    plan: Plan
    workload: str
    rules: Rules
    progress: Progress
    stop: StopCheck
    quiesce: Quiesce
    #: (device, inode) of folders that no backup of this host should take up.
    own_folders: frozenset[tuple[int, int]]

    @property
    def limits(self) -> Limits:
        """What the run may take of the network and of quotas."""
        return self.rules.limits or Limits()

    @property
    def site(self) -> Site | None:
        """Where production is, if the plan says so."""
        return self.plan.sites[self.rules.site] if self.rules.site else None

    @property
    def credential(self) -> Credential:
        """The credential for production: by default what the SDK finds."""
        site = self.site
        return self.plan.credentials[site.credential] if site and site.credential else Credential()


@dataclass(slots=True)
class Prepared:
    """A workload that can be read now. ``paths`` are what the manifest says was backed up.

    ``snapshots`` are those that were taken for it; ``provider`` lists, copies, locks and expires them.
    """

    source: Source
    paths: tuple[bytes, ...]
    snapshots: Sequence[Snapshot] = ()
    provider: Snapshots | None = None
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """What was seen of a workload without reading it; ``is_good`` is None if that could not be told."""

    message: str
    is_good: bool | None
    hint: str = ""
