"""What is known of the copies of a workload: facts, as somebody saw them. See ``docs/3-2-1.md``.

Nothing here says whether the facts are good enough; ``plan.placement`` does.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field


class CopyKind(enum.StrEnum):
    """What a copy is."""

    PRODUCTION = "production"
    SNAPSHOT = "snapshot"
    BACKUP = "backup"


class Medium(enum.StrEnum):
    """What a copy is kept on."""

    VOLUME = "volume"  #: block storage that production itself runs on, and the provider's snapshots of it
    OBJECT_STORAGE = "object-storage"
    DISK = "disk"  #: a file system on other disks than production's
    TAPE = "tape"


class LockMode(enum.StrEnum):
    """Who can still delete what is locked."""

    COMPLIANCE = "compliance"  #: nobody
    GOVERNANCE = "governance"  #: some administrators: of the provider, or of the machine
    ADVISORY = "advisory"  #: whoever has access to the medium
    NONE = "none"


class Depth(enum.StrEnum):
    """How much of a copy was looked at."""

    STRUCTURE = "structure"  #: signatures, and that every object is there
    METADATA = "metadata"  #: also the tree of every point
    DATA = "data"  #: also stored data, read back and compared


@dataclass(frozen=True, slots=True)
class Key:
    """A key that opens a copy without any other. ``owner`` is who can take it away: an account or a holder.

    Accounts are written as in ``Place.account_id``.
    """

    key_id: str
    owner: str


@dataclass(frozen=True, slots=True)
class Place:
    """What can fail or be taken over as a whole. On premises ``region`` is the building."""

    site: str
    provider: str
    account: str
    region: str
    administrators: frozenset[str] = frozenset()

    @property
    def account_id(self) -> str:
        """The account, with its provider."""
        return f"{self.provider}:{self.account}"

    @property
    def region_id(self) -> str:
        """The region, with its provider."""
        return f"{self.provider}:{self.region}"


@dataclass(frozen=True, slots=True)
class Check:
    """That a copy was verified. ``at`` is in Unix seconds, ``data_percent`` the share of the data read.

    ``source`` is where that is known from: the id of the evidence, or what else showed it. ``by_writer``: no
    better one than a writer signed it, whose key is where production is.
    """

    at: int
    depth: Depth
    passed: bool
    source: str
    data_percent: float = 0.0
    by_writer: bool = False


@dataclass(frozen=True, slots=True)
class Suspect:
    """Points that count for nothing, as somebody marked them as suspect.

    ``points`` are their ids in hexadecimal, newest first; ``marked`` says by whom the newest was, and when.
    """

    points: tuple[str, ...]
    marked: str

    def __str__(self) -> str:
        more = f" and {len(self.points) - 1} before it" if len(self.points) > 1 else ""
        return f"{self.points[0][:12]}{more}, marked {self.marked}"


@dataclass(frozen=True, slots=True)
class Copy:
    """One copy of a workload. All times are in Unix seconds.

    ``address`` is what a command takes to reach it, ``storage`` the bucket, server or device that holds it as
    far as that is seen, whatever the plan says. ``point`` names the newest point or snapshot there and
    ``point_time`` is when it was made, None if there is none; for production it is when it was last read.
    ``locked_until`` is the earliest end of all locks that this point hangs on, 0 if something is not locked.
    ``kept_s`` is how much of a lock a custodian, who was seen at work, leaves at least; 0 if none was seen.
    ``keys`` each open it alone; a copy without any is not encrypted.

    ``suspect`` are newer points there that do not count, None if there are none.
    ``unreachable`` says why it could not be looked at, ``broken`` what of the newest point is missing or
    damaged, ``tampered`` what somebody did to it, though all can still be read. ``facts`` are further lines
    for people.
    """

    kind: CopyKind
    name: str
    address: str
    place: Place | None
    medium: Medium | None
    storage: str = ""
    point: str = ""
    point_time: int | None = None
    locked_until: int = 0
    lock_mode: LockMode = LockMode.NONE
    kept_s: int = 0
    keys: tuple[Key, ...] = ()
    checked: Check | None = None
    suspect: Suspect | None = None
    unreachable: str = ""
    broken: str = ""
    tampered: str = ""
    hint: str = ""
    facts: tuple[str, ...] = field(default=(), compare=False)

    @property
    def title(self) -> str:
        """For people."""
        return self.name if self.kind is CopyKind.PRODUCTION else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Restore:
    """The last whole restore of a point of the workload that was timed; ``source`` as in ``Check``."""

    at: int
    seconds: float
    point: str
    source: str
    passed: bool = True


@dataclass(frozen=True, slots=True)
class Objectives:
    """What the plan wants of a workload. Durations are in seconds, None if the plan wants nothing.

    ``kept_s`` is how long retention promises to keep points, 0 if it counts none. Without ``verify_every_s``
    and ``data_percent`` those of ``plan.model.Verification`` hold.
    """

    rpo_s: int | None = None
    rto_s: int | None = None
    verify_every_s: int = 7 * 86_400
    data_percent: float = 1.0
    kept_s: int = 0


@dataclass(frozen=True, slots=True)
class Facts:
    """All that was seen of a workload at ``now``, in Unix seconds."""

    workload: str
    now: int
    wanted: Objectives
    copies: tuple[Copy, ...]
    restore: Restore | None = None

    @property
    def production(self) -> Copy | None:
        """Where the workload lives."""
        return next((copy for copy in self.copies if copy.kind is CopyKind.PRODUCTION), None)
