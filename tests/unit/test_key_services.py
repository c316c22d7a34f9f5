"""Vaults with recipients in key services: what is asked when, and what happens when one does not serve."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from donjon.app.wiring import no_key, use_services
from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    KeyServiceUnavailable,
    PermissionMissing,
    UsageError,
)
from donjon.core.events import Silent
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.session import SealObject, SessionObject, commitment
from donjon.format.vault import KeyringRecord
from donjon.keys.base import Recipient, recipient_id, service_id
from donjon.keys.recovery import RecoveryKit
from donjon.keys.services import KeyServices
from donjon.repository.cache import Cache
from donjon.repository.creation import create_vault
from donjon.repository.keyring import vault_id_of
from donjon.repository.records import recipient_record, writer_record
from donjon.repository.sealing import reseal, survey
from donjon.repository.vault import Vault, add_recipient, open_vault
from donjon.repository.writing import WriteSession
from donjon.stores.memory import MemoryStore
from donjon.testing.clock import ManualClock
from donjon.testing.memory_key import MemoryKey, connecting
from tests import second_reader

ROOT, WRITER = SigningKey(bytes(range(32))), SigningKey(bytes(range(1, 33)))
WHO = recipient_id(WRITER.public)
DENIED = PermissionMissing("first: no permission")
DOWN = KeyServiceUnavailable("second: does not answer")


class Place:
    """A vault in memory with a kit and two keys in services, and one writer."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.keys = MemoryKey("first"), MemoryKey("second")
        self.kit = RecoveryKit.generate(
            vault_id=vault_id_of(ROOT.public),
            vault_name="v",
            vault_url="memory:",
            created_at=1,
            with_root=True,
        )
        self.cache = Cache(folder)
        self.connect = connecting(*self.keys)

        def certify(vault: Vault) -> None:
            vault.keyring.add(
                self.store, ROOT, lambda n, p: writer_record(WRITER.public, "w", vault.secret, 1, n, p), None
            )

        create_vault(
            self.store,
            vault_id_of(ROOT.public),
            ROOT,
            [self.kit.recipient("kit"), *(key.recipient for key in self.keys)],
            lock_s=0,
            before_commit=certify,
            connect=self.connect,
        )
        self.secret = self.open_with_kit().secret

    def open(self) -> Vault:
        return open_vault(self.store, connect=self.connect)

    def open_with_kit(self) -> Vault:
        vault = self.open()
        vault.use_opener(self.kit.opener())
        return vault

    def session(self) -> int:
        """Start a session as the writer does, and give it up; its number."""
        vault = self.open()
        vault.use_secret(self.secret)
        session = WriteSession(vault, WRITER, WHO, self.cache, ManualClock())
        session.close()
        return session.number

    def calls(self) -> list[tuple[int, int]]:
        """(sealed, opened) of both keys."""
        return [(key.sealed, key.opened) for key in self.keys]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "cache")


# --- Writing --------------------------------------------------------------------------------------


def test_a_session_asks_each_service_once_and_opens_nothing(place: Place) -> None:
    assert place.calls() == [(1, 0), (1, 0)]  # the vault secret
    assert [place.session(), place.session()] == [1, 2]
    assert place.calls() == [(3, 0), (3, 0)]


def test_a_cache_that_is_behind_costs_no_further_calls(place: Place, tmp_path: Path) -> None:
    for _ in range(3):
        place.session()
    place.cache = Cache(tmp_path / "another")  # of a host that was rebuilt
    before = place.calls()
    assert place.session() == 4
    place.cache.path("index", WHO.hex(), "sessions").write_text("1 1\n")  # of a disk that was set back
    assert place.session() == 5
    assert [sealed for sealed, _ in place.calls()] == [sealed + 2 for sealed, _ in before]


@pytest.mark.parametrize("error", [DENIED, DOWN, KeyNotAvailable("disabled")], ids=lambda e: type(e).__name__)
def test_no_session_starts_without_one_of_its_recipients(place: Place, error: DonjonError) -> None:
    place.session()
    place.keys[1].seal_error = error
    with pytest.raises(type(error), match=error.message):
        place.session()
    assert [info.name for info in place.store.list(names.SESSIONS)] == [names.session(WHO, 1)]
    place.keys[1].seal_error = None
    assert place.session() == 2


def test_a_host_that_knows_no_services_starts_no_session(place: Place) -> None:
    vault = open_vault(place.store)
    vault.use_secret(place.secret)
    with pytest.raises(KeyNotAvailable, match="cannot be asked from here"):
        WriteSession(vault, WRITER, WHO, place.cache, ManualClock())


def test_nothing_is_left_of_a_vault_whose_service_refuses() -> None:
    store, key = MemoryStore(), MemoryKey("first", seal_error=DENIED)
    kit = RecoveryKit.generate(
        vault_id=bytes(16), vault_name="v", vault_url="memory:", created_at=1, with_root=True
    )
    recipients = [kit.recipient("kit"), key.recipient]
    with pytest.raises(PermissionMissing):
        create_vault(store, vault_id_of(ROOT.public), ROOT, recipients, lock_s=0, connect=connecting(key))
    assert list(store.list()) == []


# --- Opening --------------------------------------------------------------------------------------


def test_the_first_service_that_opens_is_asked_once_for_each_session(place: Place) -> None:
    numbers = [place.session(), place.session()]
    vault = place.open()
    assert use_services(vault) == []
    for number in (*numbers, *numbers):
        vault.session_key(WHO, number)
    assert [opened for _, opened in place.calls()] == [3, 0]


def test_the_next_service_opens_what_the_first_does_not(place: Place) -> None:
    number = place.session()
    for error in (DENIED, DOWN, KeyNotAvailable("gone")):
        place.keys[0].open_error = error
        vault = place.open()
        assert use_services(vault) == []
        assert vault.session_key(WHO, number)
    place.keys[0].open_error = None
    vault = place.open()
    use_services(vault)
    place.keys[0].open_error = DENIED  # between the vault secret and the session
    assert vault.session_key(WHO, number)


def test_what_was_tried_and_why_it_failed_is_told(place: Place) -> None:
    place.keys[0].open_error, place.keys[1].open_error = DENIED, DOWN
    vault = place.open()
    failures = use_services(vault)
    assert failures == [DENIED, DOWN]
    told = no_key(vault, failures)
    assert type(told) is KeyNotAvailable
    assert "first: no permission; second: does not answer" in told.message
    assert "--kit" in told.hint
    assert type(no_key(vault, [DENIED, DENIED])) is PermissionMissing
    assert no_key(vault, [DOWN]) is DOWN


def test_a_service_that_does_not_answer_is_waited_for_once(place: Place) -> None:
    numbers = [place.session() for _ in range(3)]
    vault = place.open()
    use_services(vault)
    place.keys[0].open_error = DOWN
    before = place.keys[0].opened
    assert all(vault.session_key(WHO, number) for number in numbers)
    assert place.keys[0].opened == before + 1
    place.keys[1].open_error = DOWN
    vault = place.open_with_kit()
    vault.openers = [place.keys[0], place.keys[1]]
    with pytest.raises(KeyServiceUnavailable, match="does not answer"):
        reseal(vault, ROOT, [MemoryKey("x").recipient], Silent())


def test_a_session_that_no_service_may_open_says_so(place: Place) -> None:
    number = place.session()
    vault = place.open()
    use_services(vault)
    place.keys[0].open_error = place.keys[1].open_error = DENIED
    with pytest.raises(PermissionMissing):
        vault.session_key(WHO, number)
    place.keys[1].open_error = DOWN
    with pytest.raises(KeyNotAvailable, match="second: does not answer"):
        vault.session_key(WHO, number)


def test_a_service_that_this_host_cannot_use_does_not_hide_the_next(place: Place) -> None:
    def connect(recipient: Recipient) -> MemoryKey:
        if recipient.recipient_id == place.keys[0].recipient_id:
            raise UsageError("no package")
        return place.keys[1]

    vault = place.open()
    vault.connect = connect
    assert use_services(vault) == []
    assert vault.openers[0].recipient_id == place.keys[1].recipient_id


# --- Later seals ----------------------------------------------------------------------------------


def test_a_service_that_joins_is_asked_once_for_each_session_and_no_more(place: Place) -> None:
    numbers = [place.session(), place.session()]
    late = MemoryKey("late")
    place.connect = connecting(*place.keys, late)
    vault = place.open_with_kit()
    add_recipient(vault, ROOT, late.recipient)
    for sealed in (2, 0):
        done = reseal(place.open_with_kit(), ROOT, [late.recipient], Silent())
        assert (done.sealed, done.failures) == (sealed, [])
    assert late.sealed == 3
    place.keys[0].open_error = place.keys[1].open_error = DENIED
    vault = place.open()
    assert use_services(vault) == []
    assert all(vault.session_key(WHO, number) for number in numbers)
    assert survey(vault, Silent()).least == 4


# --- Hostile stores -------------------------------------------------------------------------------


def _record(place: Place, **changes: object) -> bytes:
    vault = place.open_with_kit()
    late = MemoryKey("late").recipient
    record = recipient_record(late, vault.secret, b"seal", vault.keyring.number + 1, vault.keyring.head)
    record = msgspec.structs.replace(record, **changes)
    return pack_object(ObjectKind.KEYRING, record, vault.vault_id, ROOT)


@pytest.mark.parametrize(
    "changes",
    [
        {"sealed_secret": b""},
        {"sealed_secret": bytes(2049)},
        {"public": bytes(1216)},
        {"subject": bytes(16)},
        {"extra": b"other"},
        {"kind": "aws-kms"},
        {"extra": bytes(1025), "subject": service_id("gcp-kms", bytes(1025))},
        {"label": b""},
    ],
    ids=" ".join,
)
def test_odd_records_of_services_are_refused_by_both_readers(
    place: Place, changes: dict[str, object]
) -> None:
    name = names.keyring(5)
    place.store.put(name, _record(place))
    place.open()
    assert len(_second(place).keyring.recipients) == 4
    place.store.delete_expired(name)
    place.store.put(name, _record(place, **changes))
    with pytest.raises(IntegrityFailure, match=name):
        place.open()
    with pytest.raises(second_reader.Wrong):
        _second(place)


def _second(place: Place) -> second_reader.Vault:
    kit = second_reader.Kit(vault_id_of(ROOT.public), 1, "", "v", "memory:", place.kit.opening_key, None)
    objects = {info.name: bytes(place.store.get(info.name)) for info in place.store.list()}
    return second_reader.Vault(objects, kit)


def test_an_address_that_cannot_be_read_stops_writers_and_nobody_else(place: Place) -> None:
    number = place.session()
    vault = place.open_with_kit()
    for extra in (b"\x92\x02\xa1x", b"\xc1"):  # of a newer version, and of none
        subject = service_id("gcp-kms", extra)
        record = msgspec.msgpack.decode(_record(place)[12:-64], type=KeyringRecord)
        odd = msgspec.structs.replace(
            record,
            number=vault.keyring.number + 1,
            previous=vault.keyring.head,
            extra=extra,
            subject=subject,
        )
        place.store.put(names.keyring(odd.number), pack_object(ObjectKind.KEYRING, odd, vault.vault_id, ROOT))
        vault.keyring.read_on(place.store)
    place.connect = KeyServices({})
    assert place.open_with_kit().session_key(WHO, number)
    with pytest.raises(DonjonError):
        place.session()


@pytest.mark.parametrize("sealed", [b"", bytes(2049)])
def test_seals_of_an_odd_length_are_no_seals(sealed: bytes) -> None:
    with pytest.raises(ValueError, match="seal"):
        SessionObject(WHO, 1, 1, 1, 0, commitment(bytes(32)), ((bytes(16), sealed),))
    with pytest.raises(ValueError, match="seal"):
        SealObject(WHO, WHO, 1, sealed)
