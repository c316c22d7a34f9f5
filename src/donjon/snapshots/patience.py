"""How long adapters try, and how they wait: the same for every provider."""

from __future__ import annotations

import random as random_numbers
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from donjon.core.errors import SnapshotFailed
from donjon.core.retries import Retries
from donjon.core.units import format_duration
from donjon.snapshots.base import Snapshot, SnapshotState

T = TypeVar("T")

_ATTEMPTS: Final = 8
_BUDGET_S: Final = 120.0
_FIRST_POLL_S: Final = 1.0
_LONGEST_POLL_S: Final = 30.0
#: How often in a row a snapshot may be missing before it counts as vanished: listings lag behind.
_MISSED: Final = 3


@dataclass(frozen=True)
class Patience:
    """Tries again what may succeed later, and waits. ``random`` gives numbers from 0 to 1."""

    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic
    random: Callable[[], float] = random_numbers.random
    attempts: int = _ATTEMPTS

    def call(self, attempt: Callable[[], T]) -> T:
        """What ``attempt`` gives, tried again as ``Retries`` says; the last error is raised as it came."""
        retries = Retries(self.attempts, _BUDGET_S, self.sleep, self.random, self.monotonic)
        return retries.carry_out(attempt)

    def wait(
        self,
        snapshots: Sequence[Snapshot],
        look: Callable[[Sequence[Snapshot]], Mapping[str, Snapshot]],
        timeout_s: float,
    ) -> list[Snapshot]:
        """See ``Snapshots.wait``. ``look`` gives what there is of some snapshots, by id."""
        deadline = self.monotonic() + timeout_s
        done: dict[str, Snapshot] = {}
        missed: dict[str, int] = {}
        pause_s = _FIRST_POLL_S
        while True:
            waiting = [one for one in snapshots if one.snapshot_id not in done]
            found = look(waiting) if waiting else {}
            for one in waiting:
                now = found.get(one.snapshot_id)
                missed[one.snapshot_id] = 0 if now else missed.get(one.snapshot_id, 0) + 1
                if missed[one.snapshot_id] >= _MISSED:
                    raise vanished(one)
                if now is not None and now.state is SnapshotState.FAILED:
                    raise failed(now)
                if now is not None and now.state is SnapshotState.COMPLETE:
                    done[one.snapshot_id] = now
            waiting = [one for one in waiting if one.snapshot_id not in done]
            if not waiting:
                return [done[one.snapshot_id] for one in snapshots]
            if self.monotonic() + pause_s > deadline:
                raise hangs(found.get(waiting[0].snapshot_id, waiting[0]), timeout_s)
            self.sleep(pause_s)
            pause_s = min(1.5 * pause_s, _LONGEST_POLL_S)


def vanished(snapshot: Snapshot) -> SnapshotFailed:
    """The error for a snapshot that is not there any more."""
    return SnapshotFailed(
        f"{snapshot.snapshot_id}: the snapshot of {snapshot.volume_id} has vanished",
        hint="Somebody deleted it: look into the provider's audit log, then run it again.",
        retryable=True,
    )


def failed(snapshot: Snapshot) -> SnapshotFailed:
    """The error for a snapshot that will never be complete."""
    said = f": {snapshot.detail}" if snapshot.detail else ""
    return SnapshotFailed(
        f"{snapshot.snapshot_id}: the provider could not take the snapshot of {snapshot.volume_id}{said}",
        hint="Look at the state of the volume and of the key that encrypts it, then run it again.",
        retryable=True,
    )


def hangs(snapshot: Snapshot, timeout_s: float) -> SnapshotFailed:
    """The error for a snapshot that is not complete in time."""
    said = f" ({snapshot.detail})" if snapshot.detail else ""
    return SnapshotFailed(
        f"{snapshot.snapshot_id}: the snapshot of {snapshot.volume_id} is not complete after "
        f"{format_duration(timeout_s)}{said}",
        hint="It may become so: the next run counts it. Let `wait` in the plan be longer if it is large.",
        retryable=True,
    )
