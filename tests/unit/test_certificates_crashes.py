"""A submission of a deletion certificate that breaks off at any call to the store, and one made twice."""

from __future__ import annotations

import pytest

from donjon.core.errors import StoreUnavailable
from donjon.format import names
from donjon.repository.certificates import deleted_points, put_certificate
from donjon.repository.vault import open_vault
from donjon.stores.memory import MemoryStore
from donjon.stores.retry import RetryingStore
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.approving import Council, doomed, request_for


@pytest.fixture
def council() -> Council:
    return Council.make()


def _calls(council: Council, request: bytes, signatures: dict[bytes, bytes]) -> int:
    counted = FaultyStore(MemoryStore.from_snapshot(council.store.snapshot(), council.clock))
    vault = open_vault(counted)
    before = len(counted.calls)
    put_certificate(vault, request, signatures)
    assert before < len(counted.calls)
    return len(counted.calls)


@pytest.mark.parametrize(
    "fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.UNAVAILABLE, Fault.REPLY_LOST]
)
def test_a_submission_that_broke_off_is_made_again(council: Council, fault: Fault) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, *council.members[:2])
    for number in range(1, _calls(council, request, signatures) + 1):
        store = MemoryStore.from_snapshot(council.store.snapshot(), council.clock)
        with pytest.raises((Crash, StoreUnavailable)):
            put_certificate(open_vault(faulty := FaultyStore(store, {number: fault})), request, signatures)
        assert len(faulty.calls) == number
        certificate, is_new = put_certificate(open_vault(store), request, signatures)
        put_before = fault in {Fault.CRASH_AFTER, Fault.REPLY_LOST} and faulty.calls[-1].method == "put"
        assert is_new is not put_before
        assert [info.name for info in store.list(names.CERTIFICATES)] == [certificate.name]
        assert set(deleted_points(open_vault(store))) == {doomed(1).point_id}


def test_a_lost_reply_is_no_failure_behind_retries(council: Council) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, *council.members[:2])
    for number in range(1, _calls(council, request, signatures) + 1):
        store = MemoryStore.from_snapshot(council.store.snapshot(), council.clock)
        faulty = FaultyStore(store, {number: Fault.REPLY_LOST})
        put_certificate(open_vault(RetryingStore(faulty, sleep=lambda _: None)), request, signatures)
        assert set(deleted_points(open_vault(store))) == {doomed(1).point_id}


def test_two_submissions_of_one_request_are_one(council: Council) -> None:
    request = request_for(doomed(1))
    signatures = council.signed(request, *council.members[:2])
    first, is_new = put_certificate(council.open(), request, signatures)
    council.clock.advance(100)
    again, is_new_again = put_certificate(council.open(), request, signatures)
    assert (is_new, is_new_again) == (True, False)
    assert again == first
    more, _ = put_certificate(council.open(), request, council.signed(request, *council.members))
    assert more.name != first.name
    assert len(deleted_points(council.open())) == 1
