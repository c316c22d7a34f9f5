"""Approval requests in a vault: signing, carrying out, and what strangers and lying stores make of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from donjon.codec.digest import digest, short_id
from donjon.codec.sign import Buffer, SigningKey
from donjon.core.errors import (
    IntegrityFailure,
    KeyNotAvailable,
    NotApproved,
    ObjectNotFound,
    Refused,
    StoreUnavailable,
    UsageError,
)
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.approval import (
    KeyringChange,
    PlanChange,
    PointDeletion,
    encode_request,
    hide_reason,
    pack_request,
    pack_signature,
)
from donjon.format.vault import Action
from donjon.repository.approvals import (
    Request,
    find_request,
    list_requests,
    make_request,
    put_request,
    put_signature,
    read_signatures,
)
from donjon.repository.approver_keys import ApproverCredential
from donjon.repository.approving import (
    State,
    change_keyring,
    check_open,
    check_plan_change,
    keyring_change,
    state_of,
)
from donjon.repository.check import check_structure
from donjon.repository.records import removal_record, writer_record
from donjon.repository.vault import Vault, add_recipient
from donjon.stores.base import ObjectInfo, ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.stores.retry import RetryingStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.approving import Council, approver, doomed

DAY = 86_400


@pytest.fixture
def council() -> Council:
    return Council.make()


@pytest.fixture
def request_(council: Council) -> Request:
    """A request to remove a second kit, in the vault."""
    asked = council.ask(council.removal(council.add_kit().recipient_id))
    put_request(council.open(), asked)
    return asked


def sign(
    council: Council, request: Request, *signers: ApproverCredential, store: ObjectStore | None = None
) -> None:
    for signer in signers:
        (signature,) = council.signed(request.payload, signer).values()
        put_signature(council.open(store), request, signer.approver_id, signature)


def carry_out(council: Council, request: Request, store: ObjectStore | None = None) -> bool:
    vault = council.open(store)
    return change_keyring(vault, council.root, request, read_signatures(vault, request, []))


def state(vault: Vault, request: Request) -> State:
    return state_of(vault, request, len(read_signatures(vault, request, [])), ())


def findings(council: Council) -> list[tuple[str, str]]:
    return [(f.kind, f.object) for f in check_structure(council.open(), Silent()).findings]


def subject(request: Request) -> bytes:
    assert isinstance(request.parameters, KeyringChange)
    return request.parameters.subject


# --- the way it goes ----------------------------------------------------------------------------------


def test_a_request_goes_from_open_to_done(council: Council, request_: Request) -> None:
    assert [r.request_id for r in list_requests(council.open(), [])] == [request_.request_id]
    assert state(council.open(), request_) is State.OPEN
    sign(council, request_, council.members[0])
    assert state(council.open(), request_) is State.OPEN
    with pytest.raises(NotApproved, match="1 of the 2") as error:
        carry_out(council, request_)
    assert error.value.exit_code == 11
    assert "approver 1" in error.value.hint
    sign(council, request_, council.members[2])
    assert state(council.open(), request_) is State.APPROVED
    assert carry_out(council, request_)
    assert subject(request_) not in council.open().keyring.members
    assert state(council.open(), request_) is State.DONE
    assert findings(council) == []


def test_everything_is_locked_like_the_rest() -> None:
    council = Council.make(lock_s=30 * DAY)
    asked = council.ask(PointDeletion((doomed(1),)))
    put_request(council.open(), asked)
    sign(council, asked, council.members[0])
    stored = list(council.store.list(names.APPROVALS))
    assert len(stored) == 2
    assert all((info.retain_until or 0) >= council.clock() + 30 * DAY for info in stored)


def test_a_whole_id_is_found_without_listing(council: Council, request_: Request) -> None:
    class Unlisted(StoreWrapper):
        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            raise AssertionError(prefix)

    vault, wanted = council.open(), request_.request_id.hex()
    assert find_request(vault, wanted[:6].upper()).request_id == request_.request_id
    with pytest.raises(Refused, match="shows no request"):
        find_request(vault, "0" * 64)
    for none in ("", "12345", "g" * 10, "0" * 65, "../../vault"):
        with pytest.raises(UsageError):
            find_request(vault, none)
    vault.store = Unlisted(vault.store)
    assert find_request(vault, wanted).request_id == request_.request_id
    assert read_signatures(vault, request_, []) == {}


def test_who_may_ask(council: Council) -> None:
    """The root key, writers and approvers; none who was revoked or replaced, no custodian, no stranger."""
    vault, writer, change = council.open(), SigningKey.generate(), PointDeletion((doomed(1),))
    vault.keyring.add(
        council.store,
        council.root,
        lambda n, p: writer_record(writer.public, "w", vault.secret, 1, n, p),
        None,
    )
    for asker in (council.root, writer, council.members[0].signing_key):
        made = make_request(council.open(), change, asker, DAY, bytes(16))
        check_open(council.open(), made)
    with pytest.raises(KeyNotAvailable):
        make_request(council.open(), change, SigningKey.generate(), DAY, bytes(16))
    theirs = make_request(council.open(), change, writer, DAY, bytes(16))
    put_request(council.open(), theirs)
    council.open().keyring.add(
        council.store,
        council.root,
        lambda n, p: removal_record(Action.REVOKE_WRITER, short_id(writer.public), 2, n, p),
        None,
    )
    with pytest.raises(KeyNotAvailable):
        make_request(council.open(), change, writer, DAY, bytes(16))
    assert state(council.open(), theirs) is State.VOID
    with pytest.raises(NotApproved, match="revoked or replaced"):
        check_open(council.open(), theirs)
    assert findings(council) == []  # it was good when it came


def test_a_request_that_a_stranger_signed_is_none(council: Council) -> None:
    now, stranger = council.clock(), SigningKey.generate()
    for asked_by in (council.kit.vault_id, council.members[0].approver_id, short_id(stranger.public)):
        content = encode_request(PointDeletion((doomed(1),)), asked_by, now, now + 60, bytes(16), b"")
        data = pack_request(content, council.kit.vault_id, stranger)
        name = names.approval_request(digest(data))
        council.store.put(name, data)
        damaged: list[IntegrityFailure] = []
        assert list_requests(council.open(), damaged) == []
        assert damaged[0].message.startswith(name)
        assert findings(council) == [("damaged", name)]
        council.store.delete_expired(name)


def test_a_reason_is_hidden(council: Council) -> None:
    vault = council.open()
    hidden = hide_reason(vault.secret, "ticket 4711")
    made = make_request(vault, PointDeletion((doomed(1),)), council.root, 60, bytes(16), hidden)
    assert b"4711" not in made.data
    assert vault.secret.read_label(made.content.reason, "x") == "ticket 4711"


@pytest.mark.parametrize("life_s", [0, -1, 90 * DAY + 1])
def test_requests_live_90_days_at_most(council: Council, life_s: int) -> None:
    with pytest.raises(UsageError):
        make_request(council.open(), PointDeletion((doomed(1),)), council.root, life_s, bytes(16))


def test_a_vault_without_approvers_asks_nobody() -> None:
    council = Council.make(0)
    with pytest.raises(Refused, match="without approvers"):
        make_request(council.open(), PointDeletion((doomed(1),)), council.root, 60, bytes(16))


# --- expiry and clocks --------------------------------------------------------------------------------


def test_it_expires_by_the_clock_of_the_store(council: Council, request_: Request) -> None:
    sign(council, request_, *council.members)
    council.clock.advance(7 * DAY)
    check_open(council.open(), request_)  # in its last second
    council.clock.advance(1)
    assert state(council.open(), request_) is State.EXPIRED
    for attempt in (lambda: check_open(council.open(), request_), lambda: carry_out(council, request_)):
        with pytest.raises(NotApproved, match="expired at") as error:
            attempt()
        assert error.value.exit_code == 11
    assert subject(request_) in council.open().keyring.members


def test_a_request_of_a_clock_that_is_ahead_is_refused(council: Council, request_: Request) -> None:
    """It would live longer than it may."""
    sign(council, request_, *council.members)
    council.clock.advance(-299)
    check_open(council.open(), request_)
    council.clock.advance(-2)
    with pytest.raises(NotApproved) as error:
        carry_out(council, request_)
    assert "clocks" in error.value.hint
    assert subject(request_) in council.open().keyring.members


def test_a_clock_that_was_set_back_dates_no_record_back(council: Council, request_: Request) -> None:
    sign(council, request_, *council.members)
    council.clock.advance(100)
    council.add_kit("third")
    latest = council.open().keyring.latest
    council.clock.advance(-150)
    assert carry_out(council, request_)
    assert council.open().keyring.latest >= latest


# --- replay -------------------------------------------------------------------------------------------


def test_the_same_request_twice_is_once(council: Council, request_: Request) -> None:
    sign(council, request_, *council.members)
    assert carry_out(council, request_)
    before = council.store.snapshot().keys()
    assert carry_out(council, request_) is False
    assert council.store.snapshot().keys() == before


def test_it_serves_for_no_other_time_that_the_recipient_comes(council: Council) -> None:
    recipient = council.add_kit()
    request = council.ask(council.removal(recipient.recipient_id))
    again = council.ask(council.removal(recipient.recipient_id))
    for each in (request, again):
        sign(council, each, *council.members)
    assert carry_out(council, request)
    add_recipient(council.open(), council.root, recipient)
    assert carry_out(council, request) is False  # and that removes nobody
    with pytest.raises(NotApproved, match="changed since"):
        carry_out(council, again)
    assert state(council.open(), again) is State.VOID
    assert recipient.recipient_id in council.open().keyring.members


def test_two_people_who_ask_at_once_make_two_requests_and_one_change(council: Council) -> None:
    gone = council.add_kit().recipient_id
    first, second = (council.ask(council.removal(gone)) for _ in range(2))
    assert first.request_id != second.request_id
    for request in (first, second):
        put_request(council.open(), request)
    sign(council, first, council.members[0])
    sign(council, second, council.members[1])
    for request in (first, second):  # two signatures, but not for one request
        with pytest.raises(NotApproved, match="1 of the 2"):
            carry_out(council, request)
    sign(council, second, council.members[0])
    assert carry_out(council, second)
    sign(council, first, council.members[1])
    with pytest.raises(NotApproved, match="changed since"):
        carry_out(council, first)


def test_signatures_of_a_replaced_approver_count_no_more(council: Council, request_: Request) -> None:
    sign(council, request_, *council.members[:2])
    council.replace([*council.members[1:], approver("new")])
    assert state(council.open(), request_) is State.OPEN
    with pytest.raises(NotApproved, match="1 of the 2"):
        carry_out(council, request_)
    assert findings(council) == []  # what is there was signed by one who approved then
    sign(council, request_, council.members[2])
    assert carry_out(council, request_)


def test_a_request_of_another_vault_is_none(council: Council) -> None:
    """The same people approve in both, and both have the same root key's thief."""
    other = Council.make()
    other.replace(council.members)
    asked = other.ask(PointDeletion((doomed(1),)))
    council.store.put(names.approval_request(asked.request_id), asked.data)
    damaged: list[IntegrityFailure] = []
    assert list_requests(council.open(), damaged) == []
    assert len(damaged) == 1
    mine = council.ask(PointDeletion((doomed(1),)))
    (signature,) = council.signed(mine.payload, council.members[0], vault_id=other.kit.vault_id).values()
    put_signature(council.open(), mine, council.members[0].approver_id, signature)
    assert read_signatures(council.open(), mine, damaged) == {}
    assert "is wrong" in damaged[1].message


# --- tampering ----------------------------------------------------------------------------------------


def test_a_signature_for_another_request_is_refused(council: Council, request_: Request) -> None:
    """Wherever it is put, and whatever is written around it."""
    other = council.ask(council.removal(subject(request_)))
    who = council.members[0].approver_id
    (signature,) = council.signed(other.payload, council.members[0]).values()
    for data in (
        pack_signature(request_.request_id, who, signature),
        pack_signature(other.request_id, who, signature),
        pack_signature(request_.request_id, council.members[1].approver_id, signature),
        b"rubbish",
    ):
        name = names.approver_signature(request_.request_id, who)
        council.store.put(name, data)
        damaged: list[IntegrityFailure] = []
        assert read_signatures(council.open(), request_, damaged) == {}
        assert damaged[0].message.startswith(name)
        assert findings(council) == [("damaged", name)]
        council.store.delete_expired(name)


def test_flipped_bits_of_requests_and_signatures_are_found(council: Council, request_: Request) -> None:
    sign(council, request_, council.members[0])
    store = council.store.snapshot()
    request, signature = (
        names.approval_request(request_.request_id),
        names.approver_signature(request_.request_id, council.members[0].approver_id),
    )
    for name in (request, signature):
        data = council.store.get(name)
        for at in range(0, len(data), 3):
            council.store = MemoryStore.from_snapshot(store, council.clock)
            council.store.delete_expired(name)
            council.store.put(name, data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
            vault, damaged = council.open(), list[IntegrityFailure]()
            found = list_requests(vault, damaged)
            counted = [read_signatures(vault, each, damaged) for each in found]
            assert counted in ([], [{}]), at
            assert len(damaged) == 1, at


def test_who_takes_the_place_of_a_signature_is_noticed(council: Council, request_: Request) -> None:
    """And keeps nobody from carrying out what enough others signed."""
    name = names.approver_signature(request_.request_id, council.members[0].approver_id)
    council.store.put(name, b"rubbish")
    with pytest.raises(IntegrityFailure, match="taken"):
        sign(council, request_, council.members[0])
    sign(council, request_, *council.members[1:])
    assert carry_out(council, request_)


def test_a_token_that_signs_the_same_in_other_bytes_has_signed(council: Council, request_: Request) -> None:
    """What is there is good, so nothing is wrong; a bad one in its place was told above."""
    sign(council, request_, council.members[0])
    put_signature(council.open(), request_, council.members[0].approver_id, bytes(64))
    assert set(read_signatures(council.open(), request_, [])) == {council.members[0].approver_id}


def test_the_place_of_a_request_cannot_be_taken(council: Council) -> None:
    asked = council.ask(PointDeletion((doomed(1),)))
    council.store.put(names.approval_request(asked.request_id), b"rubbish")
    with pytest.raises(IntegrityFailure, match="taken"):
        put_request(council.open(), asked)


def test_signatures_in_odd_places_are_reported(council: Council, request_: Request) -> None:
    folder = names.approval_request(request_.request_id).removesuffix("request")
    stranger = approver("stranger")
    (signature,) = council.signed(request_.payload, stranger).values()
    odd = {
        f"{folder}{stranger.approver_id.hex()}": pack_signature(
            request_.request_id, stranger.approver_id, signature
        ),
        f"{folder}zz": b"x",
        f"{names.APPROVALS}x": b"x",
        names.approver_signature(bytes(32), council.members[0].approver_id): b"x",
        f"{names.APPROVALS}x/request": b"x",
    }
    for name, data in odd.items():
        council.store.put(name, data)
    assert findings(council) == sorted(("damaged", name) for name in odd)


# --- stores that lie ----------------------------------------------------------------------------------


class Hiding(StoreWrapper):
    """Has what was put under some names, and shows none of it."""

    def __init__(self, inner: ObjectStore, hides: Callable[[str], bool]) -> None:
        super().__init__(inner)
        self._hides = hides

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        if self._hides(name):
            raise ObjectNotFound(name)
        return self.inner.get(name, offset=offset, length=length, version=version)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        return (info for info in self.inner.list(prefix) if not self._hides(info.name))


def test_a_store_that_hides_a_signature_is_told(council: Council, request_: Request) -> None:
    """It cannot make anybody believe that less is needed, and who signs again learns of it."""
    sign(council, request_, *council.members[:2])
    hidden = council.members[0].approver_id.hex()
    hiding = Hiding(council.store, lambda name: name.endswith(hidden))
    with pytest.raises(NotApproved, match="1 of the 2") as error:
        carry_out(council, request_, hiding)
    assert "approver 0" in error.value.hint
    with pytest.raises(IntegrityFailure, match="does not show it"):
        sign(council, request_, council.members[0], store=hiding)


def test_a_listing_that_leaves_out_a_signature_hides_nothing(council: Council, request_: Request) -> None:
    class Leaving(StoreWrapper):
        def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
            keep = (names.KEYRING, names.VAULT)
            return (info for info in self.inner.list(prefix) if info.name.startswith(keep))

    sign(council, request_, *council.members[:2])
    assert carry_out(council, request_, Leaving(council.store))


def test_a_store_that_hides_a_request_is_told(council: Council, request_: Request) -> None:
    vault = council.open(Hiding(council.store, lambda name: name.startswith(names.APPROVALS)))
    with pytest.raises(Refused, match="shows no request"):
        find_request(vault, request_.request_id.hex())
    with pytest.raises(IntegrityFailure, match="does not show it"):
        put_request(vault, request_)


# --- crashes ------------------------------------------------------------------------------------------

FAULTS = pytest.mark.parametrize(
    "fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.UNAVAILABLE, Fault.REPLY_LOST]
)


def _everything(council: Council, request: Request, store: ObjectStore) -> None:
    """Ask, sign twice, carry out; each step goes on where the one before broke off."""
    put_request(council.open(store), request)
    sign(council, request, *council.members[:2], store=store)
    carry_out(council, request, store)


@FAULTS
def test_it_may_break_off_at_every_call(council: Council, fault: Fault) -> None:
    request = council.ask(council.removal(council.add_kit().recipient_id))
    before = council.store.snapshot()
    counted = FaultyStore(MemoryStore.from_snapshot(before, council.clock))
    _everything(council, request, counted)
    for number in range(1, len(counted.calls) + 1):
        store = MemoryStore.from_snapshot(before, council.clock)
        with pytest.raises((Crash, StoreUnavailable)):
            _everything(council, request, FaultyStore(store, {number: fault}))
        keyring = council.open(store).keyring
        assert (subject(request) in keyring.members) or request.digest in keyring.carried_out
        _everything(council, request, store)  # and once more, from the beginning
        keyring = council.open(store).keyring
        assert subject(request) not in keyring.members
        assert keyring.number == council.open().keyring.number + 1


def test_a_lost_reply_is_no_failure_behind_retries(council: Council) -> None:
    request = council.ask(council.removal(council.add_kit().recipient_id))
    before = council.store.snapshot()
    counted = FaultyStore(MemoryStore.from_snapshot(before, council.clock))
    _everything(council, request, counted)
    for number in range(1, len(counted.calls) + 1):
        faulty = FaultyStore(MemoryStore.from_snapshot(before, council.clock), {number: Fault.REPLY_LOST})
        _everything(council, request, RetryingStore(faulty, sleep=lambda _: None))


def test_somebody_else_carries_it_out_at_the_same_time(council: Council, request_: Request) -> None:
    """Between our look and our put: then it is done, and not by us."""
    sign(council, request_, *council.members)

    class Overtaken(StoreWrapper):
        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            if name.startswith(names.KEYRING):
                council.clock.advance(1)  # so that the other record has other bytes
                carry_out(council, request_)
            return self.inner.put(name, data, retain_until=retain_until)

    assert carry_out(council, request_, Overtaken(council.store)) is False
    assert subject(request_) not in council.open().keyring.members


def test_the_approvers_are_replaced_at_the_same_time(council: Council, request_: Request) -> None:
    """Then those of the record before count, whoever signed, and no record is put that readers refuse."""
    sign(council, request_, *council.members[:2])

    class Overtaken(StoreWrapper):
        done = False

        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            if name.startswith(names.KEYRING) and not self.done:
                self.done = True
                council.replace([approver("x"), approver("y")])
            return self.inner.put(name, data, retain_until=retain_until)

    with pytest.raises(NotApproved, match="0 of the 2"):
        carry_out(council, request_, Overtaken(council.store))
    assert subject(request_) in council.open().keyring.members


def test_the_last_recipient_stays_though_all_approve() -> None:
    council = Council.make()
    (only,) = council.open().keyring.members
    request = council.ask(council.removal(only))
    sign(council, request, *council.members)
    with pytest.raises(Refused, match="last key"):
        carry_out(council, request)
    with pytest.raises(Refused):
        keyring_change(council.open(), Action.REMOVE_RECIPIENT, bytes(16))


# --- plans --------------------------------------------------------------------------------------------


def test_a_change_of_the_plan_needs_enough_signatures_for_just_that(council: Council) -> None:
    old, new, other = bytes([1]) * 32, bytes([2]) * 32, bytes([3]) * 32
    request = council.ask(PlanChange(old, new))
    vault = council.open()
    one = council.signed(request.payload, council.members[0])
    two = council.signed(request.payload, *council.members[:2])
    assert set(check_plan_change(vault, request, two, old, new)) == set(two)
    with pytest.raises(NotApproved, match="1 of the 2"):
        check_plan_change(vault, request, one, old, new)
    for before, after in ((old, other), (new, old), (other, new)):
        with pytest.raises(NotApproved, match="not about these plans"):
            check_plan_change(vault, request, two, before, after)
    removal = council.ask(council.removal(council.add_kit().recipient_id))
    with pytest.raises(NotApproved):
        check_plan_change(vault, removal, council.signed(removal.payload, *council.members), old, new)
    with pytest.raises(UsageError):
        change_keyring(vault, council.root, request, two)
    council.clock.advance(7 * DAY + 1)
    with pytest.raises(NotApproved, match="expired"):
        check_plan_change(vault, request, two, old, new)
