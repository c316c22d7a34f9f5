"""Copies of vaults that are looked after: extended, reaped, with points given up; and custody of the copy."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.core.events import Silent
from donjon.format import names
from donjon.plan.retention import Policy
from donjon.repository.certificates import deleted_points, put_certificate
from donjon.repository.copy import Copied, copy_vault
from donjon.repository.vault import open_vault
from donjon.stores.memory import MemoryStore
from tests.approving import Council, approver, doomed, request_for
from tests.integration.copying import Copying, contents
from tests.integration.custody import Custody
from tests.integration.engine import DAY, fill
from tests.integration.witnesses import Watched

LAST = Policy(last=1)
LOCK_S = 30 * DAY


@pytest.fixture
def custody(tmp_path: Path) -> Custody:
    watched = Watched.make(tmp_path, lock_s=LOCK_S)
    for number in range(2):
        fill(watched.source, 6, number)  # all of it anew
        watched.backup()
    return Custody(watched)


@pytest.fixture
def copying(custody: Custody, tmp_path: Path) -> Copying:
    return Copying(custody.place, tmp_path, MemoryStore(custody.place.clock, url="memory:copy"))


def _epochs(store: MemoryStore) -> list[str]:
    return [name for name in store.snapshot() if name.startswith(names.EPOCHS)]


def _packs(store: MemoryStore) -> set[str]:
    return {name for name in store.snapshot() if name.startswith(names.PACKS)}


def _copy(copying: Copying) -> Copied:
    done = copying.copy(lock_s=LOCK_S)
    assert done.findings == []
    return done


def test_the_copy_has_a_custody_of_its_own(custody: Custody, copying: Copying) -> None:
    """What was extended in the vault says nothing about the locks of the copy."""
    _copy(copying)
    custody.wait(25)
    custody.extend()
    assert _epochs(custody.place.store)
    assert _copy(copying).objects == 0
    assert _epochs(copying.target) == []
    now = custody.place.clock()
    assert min(i.retain_until or 0 for i in copying.target.snapshot().values()) < now + 7 * DAY

    other = Custody(custody.watched)
    other.extend(store=copying.target)
    assert _epochs(copying.target)
    ends = {n: i.retain_until or 0 for n, i in copying.target.snapshot().items() if n.startswith(names.PACKS)}
    assert min(ends.values()) >= now + LOCK_S
    assert _copy(copying).objects == 0
    copying.copied.assert_sound()


@pytest.mark.parametrize("before", [True, False])
def test_what_was_reaped_stays_gone(custody: Custody, copying: Copying, before: bool) -> None:
    """A point that expired is history in a new copy; in an older copy it goes by the copy's own locks."""
    if before:
        _copy(copying)
    old = _packs(custody.place.store)
    for _ in range(8):
        custody.wait(5)
        custody.extend(LAST)
        if before:
            Custody(custody.watched).extend(LAST, store=copying.target)
    assert custody.reap(LAST).deleted
    gone = old - _packs(custody.place.store)
    assert gone
    done = _copy(copying)
    assert done.points == (0 if before else 2)
    copying.copied.assert_sound()
    if before:
        assert gone <= _packs(copying.target)
        assert Custody(custody.watched).reap(LAST, store=copying.target).deleted
        assert _copy(copying).objects == 0
    assert not gone & _packs(copying.target)
    copying.copied.assert_sound()
    copying.copied.assert_restores(custody.watched.source)


def test_certificates_go_along_while_they_count() -> None:
    council = Council.make()
    target = MemoryStore(council.clock, url="memory:copy")

    def copy(source: MemoryStore) -> Copied:
        return copy_vault(open_vault(source), target, lock_s=0, progress=Silent(), stop=lambda: None)

    request = request_for(doomed(1))
    certificate, _ = put_certificate(council.open(), request, council.signed(request, *council.members[:2]))
    council.store.put(names.certificate(b"f" * 32), b"forged")
    done = copy(council.store)
    assert [(f.kind, f.object) for f in done.findings] == [("damaged", names.certificate(b"f" * 32))]
    held = contents(target.snapshot())
    assert held.items() < contents(council.store.snapshot()).items()
    assert set(deleted_points(council.open(target))) == {doomed(1).point_id}
    assert copy(council.store).objects == 0

    council.store.delete_expired(names.certificate(b"f" * 32))
    council.clock.advance(8 * DAY)
    assert copy(council.store).notes == []  # the copy had it in time
    target = MemoryStore(council.clock, url="memory:late")
    assert [note for note in copy(council.store).notes if "anew" in note]
    assert certificate.name not in target.snapshot()  # its request has expired by the clock of the copy
    council.replace([approver("new 1"), approver("new 2")])
    council.clock.advance(60)
    target = MemoryStore(council.clock, url="memory:copy")
    assert copy(council.store).findings == []
    assert certificate.name not in target.snapshot()  # by its time there it would look like a thief's
