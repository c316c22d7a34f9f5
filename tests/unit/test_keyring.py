"""The keyring, session and seal objects of a hostile store, and what a failed creation leaves."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest

from donjon.app.config import Home
from donjon.codec.hpke import PrivateKey
from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    ObjectExists,
    Refused,
    UsageError,
)
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.session import SealObject, SessionObject, commitment
from donjon.format.vault import Action, KeyringRecord, session_info
from donjon.keys.base import Recipient, recipient_id
from donjon.keys.recovery import RecoveryKit
from donjon.repository.creation import create_vault
from donjon.repository.keyring import Writer, put_after_revocation, vault_id_of
from donjon.repository.records import recipient_record, removal_record, writer_record
from donjon.repository.sealing import reseal, survey
from donjon.repository.vault import Vault, add_recipient, open_vault
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.memory import MemoryStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.clock import ManualClock
from donjon.testing.faulty import Crash, Fault, FaultyStore

KEY = bytes(range(32))
DAY = 86_400


def _kit(root: SigningKey, number: int = 0) -> RecoveryKit:
    made = RecoveryKit.generate(
        vault_id=vault_id_of(root.public),
        vault_name=f"v{number}",
        vault_url="memory:",
        created_at=1,
        with_root=False,
    )
    return RecoveryKit(made.vault_id, made.vault_name, made.vault_url, 1, made.opening_key, root.seed)


@dataclass
class Place:
    """A vault with one writer and three sessions of it, all sealed to the first kit."""

    store: MemoryStore
    root: SigningKey
    kit: RecoveryKit
    writer: SigningKey

    @property
    def writer_id(self) -> bytes:
        return recipient_id(self.writer.public)

    def open(self, *kits: RecoveryKit) -> Vault:
        vault = open_vault(self.store)
        for kit in kits:
            vault.use_opener(kit.opener())
        return vault

    def put_session(self, number: int, key: bytes = KEY, **changes: object) -> bytes:
        vault = open_vault(self.store)
        info = session_info(vault.vault_id, self.writer_id, number)
        seals = tuple(
            (who, member.recipient.seal(key, info)) for who, member in vault.keyring.members.items()
        )
        session = SessionObject(self.writer_id, number, 1, vault.keyring.number, 0, commitment(key), seals)
        session = msgspec.structs.replace(session, **changes)
        data = pack_object(ObjectKind.SESSION, session, vault.vault_id, self.writer)
        self.store.put(names.session(self.writer_id, number), data)
        return data

    def replace(self, name: str, data: bytes) -> None:
        """What a hostile provider does."""
        self.store.delete_expired(name)
        self.store.put(name, data)


def _place() -> Place:
    store, root, writer = MemoryStore(), SigningKey.generate(), SigningKey.generate()
    kit = _kit(root)

    def certify(vault: Vault) -> None:
        vault.keyring.add(
            store, root, lambda n, p: writer_record(writer.public, "w", vault.secret, 1, n, p), None
        )

    create_vault(store, kit.vault_id, root, [kit.recipient("first")], lock_s=0, before_commit=certify)
    place = Place(store, root, kit, writer)
    for number in (1, 2, 3):
        place.put_session(number)
    return place


@pytest.fixture
def place() -> Place:
    return _place()


def _record(place: Place, **changes: object) -> KeyringRecord:
    vault = place.open(place.kit)
    other = _kit(place.root, 2).recipient("second")
    record = recipient_record(other, vault.secret, bytes(1168), vault.keyring.number + 1, vault.keyring.head)
    return msgspec.structs.replace(record, **changes)


def _put_record(place: Place, record: KeyringRecord, signer: SigningKey | None = None) -> str:
    name = names.keyring(3)
    vault_id = vault_id_of(place.root.public)
    place.store.put(name, pack_object(ObjectKind.KEYRING, record, vault_id, signer or place.root))
    return name


# --- The keyring ----------------------------------------------------------------------------------


def test_a_record_that_the_root_key_did_not_sign_is_refused(place: Place) -> None:
    name = _put_record(place, _record(place), SigningKey.generate())
    with pytest.raises(IntegrityFailure, match=name):
        place.open()


def test_a_writer_cannot_sign_records(place: Place) -> None:
    name = _put_record(place, _record(place), place.writer)
    with pytest.raises(IntegrityFailure, match=name):
        place.open()


STRANGE: list[dict[str, object]] = [
    {"kind": "kms-of-the-future"},
    {"kind": ""},
    {"subject": bytes(16)},
    {"public": bytes(32)},
    {"public": b""},
    {"sealed_secret": b""},
    {"label": b""},
    {"extra": bytes(1025)},
    {"action": 99},
    {"action": int(Action.REVOKE_WRITER)},
    {"action": int(Action.REMOVE_RECIPIENT)},
    {"action": int(Action.ADD_WRITER)},
    {"number": 2},
    {"number": 4},
    {"previous": bytes(32)},
]


@pytest.mark.parametrize("changes", STRANGE, ids=str)
def test_records_that_no_honest_root_signs_are_refused_by_name(
    place: Place, changes: dict[str, object]
) -> None:
    name = _put_record(place, _record(place, **changes))
    with pytest.raises(IntegrityFailure, match=name):
        place.open()


def test_records_cannot_be_swapped_replayed_or_cut_short(place: Place) -> None:
    first, second = (place.store.get(names.keyring(number)) for number in (1, 2))
    for name, data in (
        (names.keyring(1), second),
        (names.keyring(2), first),
        (names.keyring(2), second[:-1]),
        (names.keyring(2), b""),
        (names.keyring(2), second + b"x"),
        (names.keyring(2), place.store.get(names.VAULT)),
        (names.keyring(2), bytes(2 << 20)),
    ):
        before = place.store.get(name)
        place.replace(name, data)
        with pytest.raises(IntegrityFailure, match=name):
            place.open()
        place.replace(name, before)
    place.store.put(names.keyring(3), second)
    with pytest.raises(IntegrityFailure, match=names.keyring(3)):
        place.open()


def test_records_of_another_vault_are_refused(place: Place) -> None:
    place.replace(names.keyring(1), _place().store.get(names.keyring(1)))
    with pytest.raises(IntegrityFailure, match=names.keyring(1)):
        place.open()


def test_every_flipped_bit_of_a_record_is_found(place: Place) -> None:
    name = names.keyring(2)
    good = place.store.get(name)
    for at in range(len(good)):
        place.replace(name, good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        with pytest.raises(DonjonError, match=name):
            place.open()


def test_nothing_brings_a_revoked_writer_back(place: Place) -> None:
    vault = place.open(place.kit)

    def revoke(at: int) -> None:
        vault.keyring.add(
            place.store,
            place.root,
            lambda n, p: removal_record(Action.REVOKE_WRITER, place.writer_id, at, n, p),
            None,
        )

    revoke(100)
    revoke(900)  # a second revocation must not whitewash what came between
    assert place.open().keyring.writers[place.writer_id].revoked_at == 100
    with pytest.raises(IntegrityFailure):
        vault.keyring.add(
            place.store,
            place.root,
            lambda n, p: writer_record(place.writer.public, "w", vault.secret, 1000, n, p),
            None,
        )
    assert place.open().keyring.number == 4  # it was not even put


def test_the_last_recipient_stays(place: Place) -> None:
    vault = place.open(place.kit)
    (only,) = vault.keyring.members
    with pytest.raises(IntegrityFailure):
        vault.keyring.add(
            place.store, place.root, lambda n, p: removal_record(Action.REMOVE_RECIPIENT, only, 1, n, p), None
        )
    assert place.open().keyring.number == 2


def test_a_lost_reply_does_not_add_a_record_twice(place: Place) -> None:
    class Deaf(MemoryStore):
        """Puts, and then says that somebody else was first, as a retry does after a lost reply."""

        def put(self, name, data, *, retain_until=None):  # type: ignore[no-untyped-def]
            super().put(name, data, retain_until=retain_until)
            return super().put(name, data, retain_until=retain_until)

    store = Deaf.from_snapshot(place.store.snapshot())
    vault = open_vault(store)
    vault.use_opener(place.kit.opener())
    add_recipient(vault, place.root, _kit(place.root, 2).recipient("second"))
    assert vault.keyring.number == 3
    assert open_vault(store).keyring.head == vault.keyring.head


def test_names_are_checked_before_they_are_written_for_ever(place: Place) -> None:
    vault = place.open(place.kit)
    for name in ("", " x", "a\nb", "x" * 65, "\x1b[31m"):
        recipient = _kit(place.root, 2).recipient(name)
        with pytest.raises(UsageError):
            add_recipient(vault, place.root, recipient)


def test_what_came_after_a_revocation_is_told_apart() -> None:
    writer = Writer(bytes(16), bytes(32), b"", 1)
    revoked = Writer(bytes(16), bytes(32), b"", 1, revoked_at=100)
    assert not put_after_revocation(10**10, writer)
    assert [put_after_revocation(at, revoked) for at in (99, 100, 101)] == [False, False, True]


# --- Pins -----------------------------------------------------------------------------------------


def test_a_keyring_that_was_rolled_back_is_noticed(place: Place, tmp_path: Path) -> None:
    home, before = Home(tmp_path / "home"), place.store.snapshot()
    vault = place.open(place.kit)
    vault.keyring.add(
        place.store,
        place.root,
        lambda n, p: removal_record(Action.REVOKE_WRITER, place.writer_id, 5, n, p),
        None,
    )
    home.keep_pin(place.open().keyring)
    home.check_pin(place.open().keyring)
    rolled_back = open_vault(MemoryStore.from_snapshot(before))
    with pytest.raises(IntegrityFailure, match=names.keyring(3)):
        home.check_pin(rolled_back.keyring)
    with pytest.raises(IntegrityFailure):
        home.keep_pin(rolled_back.keyring)  # a slow process does not move the pin back either
    home.check_pin(place.open().keyring)


def test_a_forked_keyring_is_noticed(place: Place, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    fork = Place(MemoryStore.from_snapshot(place.store.snapshot()), place.root, place.kit, place.writer)
    for number, side in enumerate((place, fork), start=2):
        add_recipient(side.open(place.kit), place.root, _kit(place.root, number).recipient("x"))
    home.keep_pin(place.open().keyring)
    with pytest.raises(IntegrityFailure, match=names.keyring(3)):
        home.check_pin(fork.open().keyring)


def test_a_damaged_pin_is_named_and_not_ignored(place: Place, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.keep_pin(place.open().keyring)
    (pin,) = tmp_path.glob("home/pins/*.json")
    pin.write_text('{"number": 2, "head": "zz"}')
    with pytest.raises(KeyNotAvailable, match=pin.name):
        home.check_pin(place.open().keyring)


def test_a_session_of_a_newer_keyring_proves_a_rollback(place: Place) -> None:
    place.put_session(4, keyring_number=3)
    with pytest.raises(IntegrityFailure, match=r"sessions/.*newer keyring"):
        place.open(place.kit).session_key(place.writer_id, 4)


# --- Sessions and seals ---------------------------------------------------------------------------


def _attack_session(place: Place) -> Iterator[tuple[str, bytes]]:
    one, two = (place.store.get(names.session(place.writer_id, number)) for number in (1, 2))
    yield "swapped", two
    yield "truncated", one[:-1]
    yield "empty", b""
    yield "huge", bytes(2 << 20)
    forged = SessionObject(place.writer_id, 1, 1, 2, 0, commitment(KEY), ())
    yield (
        "forged",
        pack_object(ObjectKind.SESSION, forged, vault_id_of(place.root.public), SigningKey.generate()),
    )
    yield "of another vault", pack_object(ObjectKind.SESSION, forged, bytes(16), place.writer)
    strange = msgspec.structs.replace(forged, writer=bytes(16))
    yield (
        "of an unknown writer",
        pack_object(ObjectKind.SESSION, strange, vault_id_of(place.root.public), place.writer),
    )


def test_hostile_sessions_are_refused_by_name_and_hurt_no_other(place: Place) -> None:
    name = names.session(place.writer_id, 1)
    for what, data in list(_attack_session(place)):
        place.replace(name, data)
        vault = place.open(place.kit)
        with pytest.raises(IntegrityFailure, match=name):
            vault.session_key(place.writer_id, 1)
        assert vault.session_key(place.writer_id, 2) == KEY, what
    place.store.delete_expired(name)
    with pytest.raises(IntegrityFailure, match=name):
        place.open(place.kit).session_key(place.writer_id, 1)


def test_a_session_that_commits_to_another_key_is_refused(place: Place) -> None:
    place.put_session(4, commitment=commitment(bytes(32)))
    with pytest.raises(IntegrityFailure, match=names.session(place.writer_id, 4)):
        place.open(place.kit).session_key(place.writer_id, 4)


def test_a_session_with_a_bad_seal_for_one_opens_with_another(place: Place) -> None:
    second = _join(place)
    who = recipient_id(second.public)
    key = place.open(place.kit, second)
    good = place.open().keyring.members[recipient_id(place.kit.public)].recipient
    info = session_info(key.vault_id, place.writer_id, 4)
    place.put_session(4, seals=((who, bytes(1168)), (good.recipient_id, good.seal(KEY, info))))
    assert key.session_key(place.writer_id, 4) == KEY
    with pytest.raises(KeyNotAvailable, match=names.session(place.writer_id, 4)):
        place.open(second).session_key(place.writer_id, 4)


def _join(place: Place, number: int = 2) -> RecoveryKit:
    kit = _kit(place.root, number)
    add_recipient(place.open(place.kit), place.root, kit.recipient(f"kit {number}"))
    return kit


def _reseal(place: Place) -> int:
    vault = place.open(place.kit)
    recipients = [member.recipient for member in vault.keyring.members.values()]
    done = reseal(vault, place.root, recipients, Silent())
    assert done.failures == []
    return done.sealed


def test_a_new_recipient_opens_all_sessions_once_they_are_resealed(place: Place) -> None:
    kit = _join(place)
    with pytest.raises(KeyNotAvailable):
        place.open(kit).session_key(place.writer_id, 1)
    place.put_session(4)  # sealed to both at its start
    before = survey(place.open(kit), Silent())
    joined = kit.opener().recipient_id
    assert (before.sessions, before.least, len(before.keys[joined].missing)) == (4, 1, 3)
    assert (before.keys[joined].sealed, before.keys[joined].tried, before.keys[joined].opened) == (1, 1, 1)
    assert _reseal(place) == 3
    assert _reseal(place) == 0
    after = survey(place.open(kit), Silent())
    assert (after.sessions, after.least, after.keys[joined].opened, after.damaged) == (4, 2, 4, [])
    assert [place.open(kit).session_key(place.writer_id, n) for n in (1, 2, 3, 4)] == [KEY] * 4


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_resealing_goes_on_after_a_crash_at_any_call(fault: Fault) -> None:
    place = _place()
    kit = _join(place)
    start = place.store.snapshot()
    number = 0
    while True:
        number += 1
        place.store = MemoryStore.from_snapshot(start)
        faulty = FaultyStore(place.store, {number: fault})
        try:
            vault = open_vault(faulty)
            vault.use_opener(place.kit.opener())
            reseal(vault, place.root, [kit.recipient("")], Silent())
        except Crash:
            _reseal(place)
            assert survey(place.open(kit), Silent()).least == 2
        else:
            break
    assert number > 10


def test_hostile_seals_are_refused_by_name(place: Place) -> None:
    kit = _join(place)
    _reseal(place)
    who, vault_id = recipient_id(kit.public), vault_id_of(place.root.public)
    name = names.seal(who, place.writer_id, 1)
    good = place.store.get(name)
    sealed = kit.recipient("").seal(KEY, session_info(vault_id, place.writer_id, 1))
    mine = SealObject(who, place.writer_id, 1, sealed)
    hostile: list[bytes] = [
        place.store.get(names.seal(who, place.writer_id, 2)),
        good[:-1],
        b"",
        bytes(2 << 20),
        pack_object(ObjectKind.SEAL, mine, vault_id, place.writer),
        pack_object(ObjectKind.SEAL, mine, bytes(16), place.root),
        place.store.get(names.session(place.writer_id, 1)),
    ]
    for data in hostile:
        place.replace(name, data)
        with pytest.raises(IntegrityFailure, match=name):
            place.open(kit).session_key(place.writer_id, 1)
        assert [error.message.partition(":")[0] for error in survey(place.open(kit), Silent()).damaged] == [
            name
        ]
    wrong = kit.recipient("").seal(bytes(32), session_info(vault_id, place.writer_id, 1))
    place.replace(
        name, pack_object(ObjectKind.SEAL, SealObject(who, place.writer_id, 1, wrong), vault_id, place.root)
    )
    with pytest.raises(IntegrityFailure, match="commits"):
        place.open(kit).session_key(place.writer_id, 1)


def test_one_damaged_session_does_not_keep_the_others_from_being_resealed(place: Place) -> None:
    kit = _join(place)
    name = names.session(place.writer_id, 2)
    place.replace(name, b"damaged")
    vault = place.open(place.kit)
    done = reseal(vault, place.root, [kit.recipient("")], Silent())
    assert (done.sealed, [error.exit_code for error in done.failures]) == (2, [12])
    assert name in done.failures[0].message
    assert place.open(kit).session_key(place.writer_id, 3) == KEY


def test_a_public_key_that_is_not_its_ids_gets_nothing(place: Place) -> None:
    stranger = PrivateKey.generate().public.to_bytes()
    recipient = Recipient(recipient_id(place.kit.public), "kit", "", stranger, 1)
    with pytest.raises(IntegrityFailure):
        recipient.seal(KEY, b"info")


# --- Creation -------------------------------------------------------------------------------------


def _create(store: FaultyStore | MemoryStore, lock_s: int) -> Vault:
    root = SigningKey.generate()
    kit = _kit(root)
    return create_vault(store, kit.vault_id, root, [kit.recipient("first")], lock_s=lock_s)


@pytest.mark.parametrize("fault", [Fault.UNAVAILABLE, Fault.REPLY_LOST])
def test_a_failed_creation_leaves_nothing_and_blocks_no_second_try(fault: Fault) -> None:
    counted = FaultyStore(MemoryStore())
    _create(counted, 30 * DAY)
    last_put = max(n for n, call in enumerate(counted.calls, start=1) if call.method == "put")
    for number in range(1, last_put + 1):
        store = MemoryStore()
        with pytest.raises(DonjonError):
            _create(FaultyStore(store, {number: fault}), 30 * DAY)
        assert list(store.list()) == [], counted.calls[number - 1]
        _create(store, 30 * DAY)


def test_everything_is_locked_once_the_vault_is_made() -> None:
    clock = ManualClock()
    store = MemoryStore(clock)
    _create(store, 30 * DAY)
    assert all((info.retain_until or 0) >= clock() + 30 * DAY for info in store.list())


def test_of_two_creations_at_once_one_wins_whole() -> None:
    store = MemoryStore()

    class Racing(MemoryStore):
        def put(self, name, data, *, retain_until=None):  # type: ignore[no-untyped-def]
            if not list(store.list()):
                _create(store, 0)
            return store.put(name, data, retain_until=retain_until)

        def get(self, name, *, offset=0, length=None, version=None):  # type: ignore[no-untyped-def]
            return store.get(name, offset=offset, length=length, version=version)

        def delete_expired(self, name, *, version=None):  # type: ignore[no-untyped-def]
            store.delete_expired(name, version=version)

    with pytest.raises(DonjonError):
        _create(Racing(), 0)
    assert open_vault(store).keyring.number == 1


def test_a_used_place_is_refused() -> None:
    store = MemoryStore()
    _create(store, 0)
    before = store.snapshot()
    with pytest.raises(Refused):
        _create(store, 0)
    assert store.snapshot() == before


class _Replacing(StoreWrapper):
    """A store whose puts replace, as those of a server of S3 that ignores ``If-None-Match``."""

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        with contextlib.suppress(ObjectExists):
            return self.inner.put(name, data, retain_until=retain_until)
        self.inner.delete_expired(name)
        return self.inner.put(name, data, retain_until=retain_until)


def test_no_vault_is_made_in_a_store_whose_puts_replace() -> None:
    store = MemoryStore()
    root = SigningKey.generate()
    kit = _kit(root)
    with pytest.raises(Refused, match="take the place of the first"):
        create_vault(_Replacing(store), kit.vault_id, root, [kit.recipient("first")], lock_s=0)
    assert list(store.list()) == []
