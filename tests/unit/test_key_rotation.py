"""Rotating keys: broken off at any call to the store and run again, by every kind, and into what is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from donjon.app.config import Settings
from donjon.app.keys.members import infos
from donjon.app.keys.revocation import RevokedKey, revoke_key
from donjon.app.keys.rotation import Replacement, Rotated, next_name, rotate_key
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, KeyNotAvailable, Refused, StoreUnavailable, UsageError
from donjon.core.events import Silent
from donjon.format import names
from donjon.keys import passphrase
from donjon.keys.argon2id import Cost
from donjon.keys.recovery import RecoveryKit, read_kit, write_kit
from donjon.repository.reach import reach
from donjon.repository.sealing import survey
from donjon.repository.vault import Vault, add_recipient, open_vault
from donjon.stores.base import ObjectStore
from donjon.stores.memory import MemoryStore
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.unit.test_keyring import _kit, _place

CHEAP = Cost(memory_kib=8 * 1024, passes=1, lanes=1)
OLD, NEW = "nine lives and a locked gate", "ten lives and a locked gate"
FAULTS = [Fault.CRASH_BEFORE, Fault.CRASH_AFTER, Fault.UNAVAILABLE, Fault.REPLY_LOST]


class Here(Workspace):
    """A workspace whose vault is in the memory of the test."""

    def __init__(self, folder: Path, store: ObjectStore, kit: Path) -> None:
        super().__init__(Settings(folder / "home", kit=kit))
        self.store = store

    def open(self) -> Vault:
        return open_vault(self.store)


@pytest.fixture(autouse=True)
def _cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passphrase, "create", partial(passphrase.create, cost=CHEAP))


class Setting:
    """A vault of three sessions with two kits and a passphrase, from which every test starts."""

    def __init__(self, folder: Path) -> None:
        place = _place()
        self.folder = folder
        self.kit = folder / "first.kit"
        write_kit(self.kit, place.kit)
        second = replace(_kit(place.root, 2), root_seed=None)
        vault = place.open(place.kit)
        add_recipient(vault, place.root, second.recipient("second"))
        add_recipient(vault, place.root, passphrase.create("office", OLD, created_at=1))
        self.start = place.store.snapshot()
        self.writer = place.writer_id
        self._runs = 0

    def store(self) -> MemoryStore:
        return MemoryStore.from_snapshot(self.start)

    def run_folder(self) -> Path:
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        folder.mkdir()
        return folder

    def open(self, store: ObjectStore) -> Vault:
        vault = open_vault(store)
        vault.use_opener(read_kit(self.kit).opener())
        return vault


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path)


Rotate = Callable[[Workspace, Path], Rotated]


def rotate_second(space: Workspace, folder: Path) -> Rotated:
    new = Replacement(kit=folder / "third.kit")
    return rotate_key(space, "second", new, Silent(), revoke_old=True, single_recipient=False)


def rotate_office(space: Workspace, folder: Path) -> Rotated:
    new = Replacement(passphrase=NEW)
    return rotate_key(space, "office", new, Silent(), revoke_old=True, single_recipient=False)


@pytest.mark.parametrize("rotate", [rotate_second, rotate_office], ids=["kit", "passphrase"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_rotation_broken_off_at_any_call_goes_on(setting: Setting, rotate: Rotate, fault: Fault) -> None:
    gone = "second" if rotate is rotate_second else "office"
    number = 0
    while True:
        number += 1
        store, folder = setting.store(), setting.run_folder()
        faulty = FaultyStore(store, {number: fault})
        before = {key.name for key in infos(setting.open(store))}
        try:
            rotate(Here(folder, faulty, setting.kit), folder)
        except (Crash, StoreUnavailable):
            halfway = setting.open(store)
            kept = {key.name for key in infos(halfway)}
            assert len(kept) in (3, 4)
            if gone not in kept:  # it went only after the new one was complete
                states = survey(halfway, Silent()).keys
                assert all(
                    not states[k.recipient_id].missing for k in infos(halfway) if k.name == f"{gone} 2"
                )
            rotate(Here(folder, store, setting.kit), folder)
        after = setting.open(store)
        found = {key.name: key for key in infos(after)}
        assert set(found) == (before - {gone}) | {f"{gone} 2"}
        new = found[f"{gone} 2"]
        checked = survey(after, Silent()).keys[new.recipient_id]
        assert (checked.sealed, checked.missing) == (3, [])
        _opens_all(setting, after, folder, rotate)
        if len(faulty.calls) < number:
            break
    assert number > 12


def _opens_all(setting: Setting, vault: Vault, folder: Path, rotate: Rotate) -> None:
    """The new key alone opens every session."""
    alone = open_vault(vault.store)
    if rotate is rotate_second:
        alone.use_opener(read_kit(folder / "third.kit").opener())
    else:
        members = [m.recipient for m in alone.keyring.members.values() if m.recipient.kind == "passphrase"]
        assert len(members) == 1
        alone.use_opener(passphrase.unlock(members[0], NEW))
    keys = {alone.session_key(setting.writer, number) for number in (1, 2, 3)}
    assert keys == {vault.session_key(setting.writer, 1)}


def test_nothing_is_rewritten(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    before = {info.name: store.get(info.name) for info in store.list()}
    rotate_second(Here(tmp_path, store, setting.kit), tmp_path)
    after = {info.name: store.get(info.name) for info in store.list()}
    assert before.items() <= after.items()
    assert {name.partition("/")[0] for name in after.keys() - before.keys()} == {"keyring", "seals"}


def test_the_kit_in_use_hands_on_the_root_key(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    new = Replacement(kit=tmp_path / "new.kit")
    here = Here(tmp_path, store, setting.kit)
    done = rotate_key(here, "first", new, Silent(), revoke_old=True, single_recipient=False)
    kit = read_kit(tmp_path / "new.kit")
    assert kit.root is not None
    assert kit.root_seed == read_kit(setting.kit).root_seed
    assert done.reach is not None
    assert (done.reach.sessions, done.reach.all_sessions) == (3, 3)
    with pytest.raises(KeyNotAvailable):
        setting.open(store)
    again = Here(tmp_path, store, tmp_path / "new.kit")
    revoke_key(again, "office", force=False, single_recipient=False)


def test_the_old_key_stays_until_it_is_to_go(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    here = Here(tmp_path, store, setting.kit)
    new = Replacement(passphrase=NEW, name="board")
    done = rotate_key(here, "office", new, Silent(), revoke_old=False, single_recipient=False)
    assert done.reach is None
    assert {key.name for key in infos(setting.open(store))} == {"first", "second", "office", "board"}
    again = rotate_key(here, "office", new, Silent(), revoke_old=True, single_recipient=False)
    assert again.new == done.new
    assert again.resealed.sealed == 0
    assert {key.name for key in infos(setting.open(store))} == {"first", "second", "board"}


def test_the_old_key_stays_if_a_session_cannot_be_sealed_anew(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    name = names.session(setting.writer, 2)
    data = store.get(name)
    store.delete_expired(name)
    store.put(name, data[:-1] + bytes([data[-1] ^ 1]))
    done = rotate_second(Here(tmp_path, store, setting.kit), tmp_path)
    assert len(done.resealed.failures) == 1
    assert done.reach is None
    assert "second" in {key.name for key in infos(setting.open(store))}


@pytest.mark.parametrize(
    ("wanted", "new", "error", "said"),
    [
        ("office", Replacement(kit=Path("x.kit")), UsageError, "--new-passphrase-file"),
        ("second", Replacement(passphrase=NEW), UsageError, "--out"),
        ("second", Replacement(), UsageError, "--out"),
        ("office", Replacement(passphrase=NEW, uri="aws-kms:x"), UsageError, "nothing else"),
        ("nobody", Replacement(passphrase=NEW), UsageError, "fits no keys"),
        ("office", Replacement(passphrase=NEW, name="second"), Refused, "another key"),
        ("office", Replacement(passphrase=NEW, name="office"), Refused, "another key"),
        ("office", Replacement(passphrase=NEW, name=" "), UsageError, "name of a key"),
    ],
)
def test_what_cannot_take_the_place_of_a_key_changes_nothing(
    setting: Setting, tmp_path: Path, wanted: str, new: Replacement, error: type[DonjonError], said: str
) -> None:
    store = setting.store()
    if new.kit is not None:
        new = replace(new, kit=tmp_path / new.kit)
    with pytest.raises(error, match=said):
        rotate_key(
            Here(tmp_path, store, setting.kit), wanted, new, Silent(), revoke_old=True, single_recipient=False
        )
    assert store.snapshot() == setting.start
    assert new.kit is None or not new.kit.exists()


def test_a_file_that_is_not_the_new_kit_is_not_taken_for_it(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    stranger = tmp_path / "stranger.kit"
    write_kit(
        stranger,
        RecoveryKit.generate(
            vault_id=bytes(16), vault_name="x", vault_url="x", created_at=0, with_root=False
        ),
    )
    text = tmp_path / "text"
    text.write_text("precious")
    for path, kind in ((stranger, Refused), (setting.kit, Refused), (text, KeyNotAvailable)):
        before = path.read_bytes()
        with pytest.raises(kind):
            rotate_key(
                Here(tmp_path, store, setting.kit),
                "second",
                Replacement(kit=path),
                Silent(),
                revoke_old=True,
                single_recipient=False,
            )
        assert path.read_bytes() == before
    assert store.snapshot() == setting.start


def test_another_passphrase_is_not_taken_for_the_one_of_an_earlier_run(
    setting: Setting, tmp_path: Path
) -> None:
    store = setting.store()
    here = Here(tmp_path, store, setting.kit)
    rotate_key(
        here, "office", Replacement(passphrase=NEW), Silent(), revoke_old=False, single_recipient=False
    )
    with pytest.raises(Refused, match="office 2"):
        rotate_key(
            here, "office", Replacement(passphrase=OLD), Silent(), revoke_old=True, single_recipient=False
        )
    assert "office" in {key.name for key in infos(setting.open(store))}


def test_generations_are_counted() -> None:
    assert [next_name(name) for name in ("office", "office 2", "a 9", "2")] == [
        "office 2",
        "office 3",
        "a 10",
        "2 2",
    ]


# --- Revoking ---------------------------------------------------------------------------------------


def test_two_keys_stay_unless_one_is_meant(setting: Setting, tmp_path: Path) -> None:
    store = setting.store()
    here = Here(tmp_path, store, setting.kit)
    first = revoke_key(here, "office", force=False, single_recipient=False)
    assert isinstance(first, RevokedKey)
    assert first.warnings == []
    with pytest.raises(Refused, match="one of two keys"):
        revoke_key(here, "second", force=False, single_recipient=False)
    assert len(setting.open(store).keyring.members) == 2
    gone = revoke_key(here, "second", force=False, single_recipient=True)
    assert isinstance(gone, RevokedKey)
    assert "one key alone" in gone.warnings[0]
    with pytest.raises(Refused, match="last key"):
        revoke_key(here, "first", force=True, single_recipient=True)
    assert len(setting.open(store).keyring.members) == 1


def test_a_revoked_key_is_said_to_open_what_was_sealed_to_it(setting: Setting, tmp_path: Path) -> None:
    """Of three sessions those two that were sealed to it, at their start or later; not the third."""
    store = setting.store()
    second = next(key for key in infos(setting.open(store)) if key.name == "second")
    assert reach(setting.open(store), second.recipient_id).sessions == 0  # it joined after all three
    rotate_second(Here(tmp_path, store, setting.kit), tmp_path)
    new = next(key for key in infos(setting.open(store)) if key.name == "second 2")
    store.delete_expired(names.seal(new.recipient_id, setting.writer, 3))
    found = reach(setting.open(store), new.recipient_id)
    assert (found.sessions, found.all_sessions, found.points, found.first, found.unknown) == (
        2,
        3,
        0,
        None,
        0,
    )
