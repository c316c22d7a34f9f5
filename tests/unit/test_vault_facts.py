"""Facts of a vault whose store fails, lies or keeps silent: told, never raised, never better than it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from donjon.app.config import Settings
from donjon.app.status.point_facts import SAMPLE, PointLook, any_of, look_at_point
from donjon.app.status.vault_facts import VaultLook, look_into
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.evidence import Outcome, evidence_row
from donjon.plan.copies import LockMode
from donjon.repository.evidence import put_evidence, sign_evidence
from donjon.repository.vault import Vault, open_vault
from donjon.stores.base import ObjectStore
from donjon.testing.faulty import Fault, FaultyStore
from tests.integration.engine import DAY, Place, fill


class Here(Workspace):
    """A workspace whose vault is in the memory of the test."""

    def __init__(self, folder: Path, store: ObjectStore) -> None:
        super().__init__(Settings(folder))
        self.store = store

    def open(self) -> Vault:
        return open_vault(self.store)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    made = Place.make(tmp_path / "place", lock_s=30 * DAY)
    fill(tmp_path / "source", 5, 1, size_bytes=20_000)
    made.host.backup(made.store, tmp_path / "source")
    return made


def look(folder: Path, store: ObjectStore) -> VaultLook:
    return look_into(VaultLook("v", "v"), Here(folder, store), Silent())


def newest(folder: Path, store: ObjectStore) -> PointLook | None:
    """What is told of the newest point; None where nothing can be told, or no point is shown."""
    seen = look(folder, store)
    assert (seen.vault is None) is bool(seen.unreachable or seen.gone)
    if not seen.points or seen.vault is None:
        return None
    try:
        return look_at_point(seen, seen.points[-1], any_of)
    except DonjonError:
        return None


def test_a_sound_vault(place: Place, tmp_path: Path) -> None:
    seen = newest(tmp_path, place.store)
    assert seen is not None
    assert (seen.broken, seen.tampered, seen.mode) == ("", "", LockMode.COMPLIANCE)
    assert seen.locked_until >= place.clock() + 30 * DAY
    assert [key.owner for key in seen.keys] == [f"kit {place.kit.recipient('x').recipient_id.hex()[:12]}"]


@pytest.mark.parametrize("folder", [names.PACKS, names.SESSIONS, names.KEYRING])
def test_whatever_is_lost_is_missed(place: Place, tmp_path: Path, folder: str) -> None:
    lost = next(info for info in place.store.list(folder))
    place.clock.advance(60 * DAY)
    place.store.delete_expired(lost.name, version=lost.version)
    seen = newest(tmp_path, place.store)
    assert seen is None or "missing" in seen.broken


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.CORRUPT, Fault.TRUNCATE])
def test_no_fault_of_a_store_is_raised_and_none_makes_a_broken_point_whole(
    place: Place, tmp_path: Path, fault: Fault
) -> None:
    place.clock.advance(60 * DAY)
    lost = next(info for info in place.store.list(names.PACKS))
    place.store.delete_expired(lost.name, version=lost.version)
    counting = FaultyStore(place.store)
    assert newest(tmp_path / "0", counting) is not None
    for number in range(1, len(counting.calls) + 1):
        seen = newest(tmp_path / str(number), FaultyStore(place.store, {number: fault}))
        assert seen is None or seen.broken, counting.calls[number - 1]


def test_locks_that_have_ended_are_seen(place: Place, tmp_path: Path) -> None:
    place.clock.advance(31 * DAY)
    seen = newest(tmp_path, place.store)
    assert seen is not None
    assert seen.locked_until < place.clock()


def test_evidence_is_read_once_for_verifications_and_for_verdicts(place: Place, tmp_path: Path) -> None:
    vault, key = place.open(), place.host.credential.signing_key
    rows = [evidence_row("structure and signatures", "sound", "sound", Outcome.PASSED)]
    for number in range(5):
        put_evidence(
            vault, sign_evidence(vault, key, kind="verify", program="p", subject=f"{number}", rows=rows)
        )
    for home in ("new", "new", "another"):
        counting = FaultyStore(place.store)
        seen = look(tmp_path / home, counting)
        assert (len(seen.evidence), seen.verdicts and seen.verdicts.marks) == (5, {})
        read = [call.name for call in counting.calls if call.method in {"get", "stream"}]
        evidence = [name for name in read if name.startswith(names.EVIDENCE)]
        assert (len(evidence), len(set(evidence))) == (5, 5)


def test_of_many_packs_a_sample_is_asked_for() -> None:
    packs = [str(number) for number in range(1000)]
    assert len(set(any_of(packs, SAMPLE))) == SAMPLE
    assert sorted(any_of(packs[:3], SAMPLE)) == packs[:3]
