"""How large a vault is, what deduplication and compression save, and how it grows."""

from __future__ import annotations

from dataclasses import dataclass, field

from donjon.app.locks import lock_enforcement
from donjon.app.wiring import Workspace
from donjon.core.events import Progress
from donjon.repository.index import Index
from donjon.repository.points import OpenPoint, list_points, open_point
from donjon.repository.rebuild import complete_index
from donjon.repository.recipients import weaknesses


@dataclass(slots=True)
class Amount:
    """A number of objects, and their bytes as they are stored."""

    objects: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class Workload:
    """The points of one workload. Times are in Unix seconds, sizes in bytes.

    ``logical_bytes`` is what all points together would restore, ``last_bytes`` the newest alone;
    ``stored_bytes`` is what the points added to the vault.
    """

    name: str
    points: int = 0
    first: int = 0
    last: int = 0
    last_bytes: int = 0
    logical_bytes: int = 0
    stored_bytes: int = 0


@dataclass(slots=True)
class Contents:
    """What only a key shows. ``unique_bytes`` is all that is stored, once each, before compression."""

    unique_bytes: int
    pack_bytes: int
    logical_bytes: int = 0
    workloads: list[Workload] = field(default_factory=list)
    points: list[OpenPoint] = field(default_factory=list)

    @property
    def dedup_ratio(self) -> float:
        """How many times the points would be larger if nothing were shared."""
        return self.logical_bytes / self.unique_bytes if self.unique_bytes else 1.0

    @property
    def compression_ratio(self) -> float:
        """How many times larger the packs would be uncompressed; encryption and padding count as stored."""
        return self.unique_bytes / self.pack_bytes if self.pack_bytes else 1.0


@dataclass(slots=True)
class Stats:
    """The statistics of a vault; ``contents`` is None without a key.

    ``lock_s`` is in seconds, 0 for no locks. ``warnings`` say what leaves too few ``recipients``, for people.
    """

    url: str
    lock_s: int
    lock_enforcement: str | None
    kinds: dict[str, Amount]
    points: int
    writers: int
    recipients: int
    warnings: list[str]
    contents: Contents | None = None

    @property
    def total(self) -> Amount:
        """All objects."""
        amounts = self.kinds.values()
        return Amount(sum(amount.objects for amount in amounts), sum(amount.size_bytes for amount in amounts))


def vault_stats(workspace: Workspace, progress: Progress) -> Stats:
    """Count what the store lists, and with a key what it stands for. Raises ``KeyNotAvailable``."""
    vault = workspace.open_for_reading() if workspace.has_key else workspace.open()
    kinds: dict[str, Amount] = {}
    for info in vault.store.list():
        amount = kinds.setdefault(info.name.partition("/")[0], Amount())
        amount.objects += 1
        amount.size_bytes += info.size_bytes
    points = list_points(vault, [])
    writers = {point.manifest.writer for point in points}
    lock_s, enforcement = vault.object.lock_s, lock_enforcement(vault)
    members = vault.keyring.members
    warnings = weaknesses(member.recipient for member in members.values())
    stats = Stats(
        vault.store.url, lock_s, enforcement, kinds, len(points), len(writers), len(members), warnings
    )
    if not workspace.has_key:
        return stats
    index = Index(workspace.cache(vault))
    index.sync_all(vault)
    complete_index(vault, index, progress)
    stats.contents = _contents(index, [open_point(vault, point) for point in points])
    return stats


def _contents(index: Index, points: list[OpenPoint]) -> Contents:
    contents = Contents(*_pack_bytes(index))
    workloads: dict[str, Workload] = {}
    for point in points:
        body, time = point.body, point.point.time
        workload = workloads.setdefault(body.workload, Workload(body.workload, first=time))
        workload.points += 1
        workload.last, workload.last_bytes = time, body.size_bytes
        workload.logical_bytes += body.size_bytes
        workload.stored_bytes += body.bytes_stored
        contents.logical_bytes += body.size_bytes
    contents.workloads = sorted(workloads.values(), key=lambda workload: workload.name)
    contents.points = points
    return contents


def _pack_bytes(index: Index) -> tuple[int, int]:
    """Plaintext and stored bytes of all packs in the index, each counted once."""
    seen: set[bytes] = set()
    unique = stored = 0
    for _, table in index.tables():
        new = [row.name not in seen for row in table.packs()]
        for row in table.packs():
            if row.name not in seen:
                seen.add(row.name)
                stored += row.size_bytes
        unique += sum(raw for pack, _, _, raw, _, _ in table.frames() if new[pack])
    return unique, stored
