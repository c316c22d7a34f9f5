"""The port to a provider's own snapshots of volumes.

Only what Donjon made is ever deleted: an adapter marks what it makes (see ``marks``), lists nothing else, and
asks the provider for the mark once more right before it deletes.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from donjon.snapshots.marks import SET_TAG, TAG

__all__ = ["SET_TAG", "TAG", "Snapshot", "SnapshotState", "Snapshots"]


class SnapshotState(enum.StrEnum):
    """What a snapshot is good for."""

    PENDING = "pending"
    COMPLETE = "complete"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One snapshot of one volume. Times are the provider's, in Unix seconds.

    ``set_id`` is shared by the snapshots that one run took, and ``set_size`` says how many volumes that were.
    Snapshots of a set with the same ``moment`` are of one moment; those of different ones were taken one
    after another. ``locked_until`` is the time until which the provider refuses to delete it, 0 for none.
    ``key`` is what encrypts it, empty for nothing, or for what the provider alone knows. ``origin`` is the
    snapshot that a copy was made from, empty for what is no copy. ``detail`` is what the provider says of its
    state.
    """

    snapshot_id: str
    volume_id: str
    workload: str
    set_id: str
    created_at: int
    size_bytes: int
    state: SnapshotState
    account: str
    region: str
    set_size: int = 1
    moment: str = ""
    locked_until: int = 0
    key: str = ""
    origin: str = ""
    detail: str = ""


class Snapshots(Protocol):
    """Snapshots of one account and region. Every method raises errors of ``core.errors`` only.

    Of each: ``PermissionMissing`` that names the permission, ``CredentialsRejected``, ``SnapshotFailed`` with
    ``retryable`` set where the next attempt may succeed. What the provider asks to do more slowly is tried
    again before.
    """

    @property
    def account(self) -> str:
        """The account, subscription, project or host whose snapshots these are."""

    @property
    def region(self) -> str:
        """Where they are."""

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str) -> list[Snapshot]:
        """Take snapshots of all volumes, at one moment where the provider can. They may still be pending.

        In the order of ``volumes``. All or none: if one cannot be taken, those already taken are deleted. A
        second call with the same workload and set takes none again that is there and has not failed, so a
        call whose answer was lost can be repeated.
        """

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        """Wait until all are complete; what they are then. Raises ``SnapshotFailed`` if one fails, hangs or
        vanishes; nothing is deleted then.
        """

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        """Start a copy **here** of a complete snapshot of another region or account; see ``wait``.

        It has the marks of what it is a copy of, and is encrypted anew with ``key``, or else with the key
        that the adapter was made with, if any. Another account's must have been shared with this one. A
        second call finds the copy that is there.

        Raises ``Refused`` where the provider has no copies of this kind.
        """

    def share(self, snapshot: Snapshot, account: str) -> None:
        """Let another account read and copy it. Repeating it changes nothing.

        Raises ``Refused`` where the provider does not share it, with the reason.
        """

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        """Let nobody delete it before. A lock is only ever extended: one that is longer stays as it is.

        ``retain_until`` is in Unix seconds; a provider that counts days rounds up.
        Raises ``LocksUnsupported`` where the provider cannot.
        """

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        """Those that Donjon made, of one workload or of all, copies included; in no certain order."""

    def delete(self, snapshot: Snapshot) -> None:
        """Delete one that Donjon made; one that is gone already is fine.

        It is looked at again before. Raises ``Refused`` for one without Donjon's mark, with marks other than
        ``snapshot`` has, or in use by something, and ``ObjectLocked``. Which may go is not judged here but in
        ``expiry``.
        """
