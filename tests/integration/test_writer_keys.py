"""Signing keys of a writer that succeed each other: kept points, crashes, thieves, copies, custody."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    ObjectExists,
    PermissionMissing,
    Refused,
    StoreUnavailable,
)
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.succession import Succession, make_succession
from donjon.format.vault import Action
from donjon.keys.recovery import kit_to_text
from donjon.plan.retention import Policy
from donjon.repository.credential import WriterCredential
from donjon.repository.points import list_points
from donjon.repository.records import removal_record
from donjon.repository.vault import open_vault
from donjon.repository.writer_keys import adopt_successor, draft_of, rotate_key
from donjon.stores.base import Buffer, ObjectInfo, ObjectStore
from donjon.stores.local import LocalStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.clock import ManualClock
from donjon.testing.folders import remove_tree
from tests import second_reader
from tests.integration.cli import Donjon
from tests.integration.copying import Copying
from tests.integration.custody import Custody
from tests.integration.engine import DAY, Host, Place, change, fill
from tests.integration.witnesses import Watched

BACKUP_S = 7 * DAY  # the longest backup of a new vault


@dataclass
class Rotating:
    """A vault in memory and its first host, whose credential is in a file."""

    place: Place
    source: Path
    path: Path

    @classmethod
    def make(cls, folder: Path, *, lock_s: int = 0) -> Rotating:
        place = Place.make(folder / "place", lock_s=lock_s)
        source = folder / "source"
        fill(source, 30, 1)
        (folder / "home").mkdir()
        made = cls(place, source, folder / "home" / "writer.json")
        place.host.credential.write(made.path)
        return made

    @property
    def writer(self) -> bytes:
        return self.place.host.credential.writer_id

    def backup(self, seed: int = 0) -> None:
        """By whatever the file holds, as the command does it."""
        if seed:
            change(self.source, seed)
        self.place.clock.advance(60)
        vault = open_vault(self.place.store)
        self.place.host.credential = adopt_successor(vault, WriterCredential.read(self.path), self.path)
        self.place.backup(self.source)

    def rotate(self, store: ObjectStore | None = None) -> WriterCredential:
        self.place.clock.advance(60)
        made, _ = rotate_key(
            open_vault(store or self.place.store), WriterCredential.read(self.path), self.path
        )
        return made

    def thief(self) -> Host:
        """Somebody who has the credential as it is now, and nothing else."""
        return replace(self.place.host, credential=WriterCredential.read(self.path))

    def revoke(self) -> None:
        vault, place = self.place.open(), self.place
        place.clock.advance(60)
        now = place.store.now()
        vault.keyring.add(
            place.store,
            place.root,
            lambda number, previous: removal_record(Action.REVOKE_WRITER, self.writer, now, number, previous),
            None,
        )

    def findings(self) -> set[tuple[str, str]]:
        return {(finding.kind, finding.object) for finding in self.place.verify().findings}

    def put(self, succession: Succession, signer: SigningKey, name: str = "") -> None:
        data = pack_object(ObjectKind.SUCCESSION, succession, self.place.open().vault_id, signer)
        self.place.store.put(name or names.succession(succession.writer, succession.number), data)


@pytest.fixture
def rotating(tmp_path: Path) -> Rotating:
    made = Rotating.make(tmp_path)
    made.backup()
    return made


def late_backup(place: Place, source: Path, thief: Host) -> None:
    """A backup with a session that was begun before the thief could know of the succession."""

    class Blind(StoreWrapper):
        began = False

        def get(
            self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
        ) -> bytes:
            if name.startswith(names.SUCCESSIONS) and not self.began:
                raise PermissionMissing("not for you")
            return super().get(name, offset=offset, length=length, version=version)

        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            self.began = True
            return super().put(name, data, retain_until=retain_until)

    place.clock.advance(60)
    thief.backup(Blind(place.store), source)


# --- what holds -------------------------------------------------------------------------------------


def test_points_of_all_keys_stay_and_form_one_chain(rotating: Rotating) -> None:
    place, stored = rotating.place, len(list(rotating.place.store.list(names.PACKS)))
    rotating.rotate()
    rotating.backup()
    assert len(list(place.store.list(names.PACKS))) - stored <= 1  # metadata at most: data deduplicates
    for seed in (2, 3):
        rotating.rotate()
        rotating.backup(seed)
    place.assert_sound()
    points = place.points()
    assert [point.point.manifest.sequence for point in points] == [1, 2, 3, 4]
    assert {point.point.manifest.writer for point in points} == {rotating.writer}
    place.assert_restores(rotating.source)
    vault = place.open()
    list_points(vault)
    assert [vault.keyring.successions.key_of(point.point.manifest) for point in points] == [0, 1, 2, 3]


def test_a_host_without_its_cache_goes_on_after_a_rotation(rotating: Rotating, tmp_path: Path) -> None:
    rotating.rotate()
    rotating.backup(2)
    place = rotating.place
    place.host.cache = type(place.host.cache)(tmp_path / "fresh")
    rotating.backup(3)
    place.assert_sound()
    place.assert_restores(rotating.source)


def test_a_backup_under_way_goes_on_with_its_key(rotating: Rotating) -> None:
    place, old = rotating.place, rotating.thief()
    rotating.rotate()
    late_backup(place, rotating.source, old)  # it began before
    place.assert_sound()
    assert len(place.points()) == 2


def test_the_second_reader_reads_the_points_of_all_keys(tmp_path: Path) -> None:
    folder = tmp_path / "vault"
    clock = ManualClock()
    store = LocalStore.create(folder)
    place = Place.make(tmp_path / "place", other=(store, clock))
    source = tmp_path / "source"
    fill(source, 12, 1)
    path = tmp_path / "writer.json"
    place.host.credential.write(path)
    try:
        place.backup(source)
        for seed in (2, 3):
            made, _ = rotate_key(open_vault(store), WriterCredential.read(path), path)
            place.host.credential = made
            change(source, seed)
            place.backup(source)
        kit = second_reader.read_kit(kit_to_text(place.kit))
        vault = second_reader.Vault(second_reader.read_folder(folder), kit)
        points = list(vault.points())
        assert [point.sequence for point in points] == [1, 2, 3]
        writer = place.host.credential.writer_id
        assert len(vault.keys[writer]) == 3
        for places in (vault.places_by_index(writer), vault.places_by_footers(writer)):
            assert len(second_reader.listing(second_reader.Reader(vault, points[-1], places))) > 12
        objects = second_reader.read_folder(folder)
        del objects[names.succession(writer, 2)]
        with pytest.raises(second_reader.Wrong):
            list(second_reader.Vault(objects, kit).points())
    finally:
        remove_tree(folder)


# --- thieves ----------------------------------------------------------------------------------------


def test_what_a_thief_signs_with_the_old_key_does_not_count_for_long(rotating: Rotating) -> None:
    thief = rotating.thief()
    rotating.rotate()
    rotating.backup(2)
    rotating.place.clock.advance(BACKUP_S + 60)
    late_backup(rotating.place, rotating.source, thief)
    late = names.manifest(rotating.writer, 3)
    assert rotating.findings() == {("suspicious", late)}
    vault = rotating.place.open()
    points = list_points(vault)
    reasons = [vault.keyring.came_late(p.manifest, p.time, p.name, p.point_id) for p in points]
    assert reasons == ["", "", "another key of its writer had taken over"]
    # A flood of such points evicts nothing from what is kept:
    _, standings = Custody(Watched(rotating.place, rotating.source)).look(Policy(last=1))
    assert [standing.reasons for standing in standings][1:] == [
        ("last",),
        ("not counted: it came after another key of its writer had taken over",),
    ]


def test_a_host_relies_on_no_index_object_that_a_thief_signs_with_an_old_key(
    rotating: Rotating, tmp_path: Path
) -> None:
    """It names places that are none; a host that believed it would not store the data again."""
    place, thief = rotating.place, rotating.thief()
    rotating.rotate()
    place.clock.advance(BACKUP_S + 60)
    change(rotating.source, 5)
    thief.cache = type(thief.cache)(tmp_path / "thief")
    before = {info.name for info in place.store.list(names.PACKS)}
    late_backup(rotating.place, rotating.source, thief)
    put = {info.name for info in place.store.list(names.PACKS)} - before
    assert put
    for name in put:  # then he takes the data away
        place.store.delete_expired(name)
    rotating.backup()
    place.assert_restores(rotating.source)


def test_an_old_credential_starts_no_session(rotating: Rotating) -> None:
    thief = rotating.thief()
    rotating.rotate()
    before = len(list(rotating.place.store.list()))
    with pytest.raises(PermissionMissing, match="another key of this writer has taken over"):
        thief.backup(rotating.place.store, rotating.source)
    assert len(list(rotating.place.store.list())) == before


def test_a_thief_who_names_a_successor_is_noticed_by_the_host(rotating: Rotating, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen.json"
    rotating.thief().credential.write(stolen)
    rotate_key(open_vault(rotating.place.store), WriterCredential.read(stolen), stolen)
    with pytest.raises(PermissionMissing, match="taken over"):
        rotating.backup()
    with pytest.raises(Refused, match="names another key"):
        rotating.rotate()


def test_a_revocation_ends_all_keys_of_the_chain(rotating: Rotating, tmp_path: Path) -> None:
    stolen = tmp_path / "stolen.json"
    rotating.thief().credential.write(stolen)
    thief, _ = rotate_key(open_vault(rotating.place.store), WriterCredential.read(stolen), stolen)
    rotating.revoke()
    host = replace(rotating.place.host, credential=thief)
    with pytest.raises(PermissionMissing, match="revoked"):
        host.backup(rotating.place.store, rotating.source)
    with pytest.raises(PermissionMissing, match="revoked"):
        rotate_key(open_vault(rotating.place.store), thief, stolen)
    # He ignores what Donjon says, and names one more:
    rotating.place.clock.advance(60)
    vault = rotating.place.open()
    vault.read_successions()
    (first,) = vault.keyring.successions.of(rotating.writer)
    key = SigningKey.generate()
    made = make_succession(vault.vault_id, rotating.writer, 2, first.digest, 1, key)
    rotating.put(made, thief.signing_key)
    assert rotating.findings() == {("suspicious", names.succession(rotating.writer, 2))}
    assert len(rotating.place.points()) == 1


def test_points_of_earlier_keys_cannot_be_disowned_by_a_thief(rotating: Rotating) -> None:
    """He may claim any time in what he signs: that of the store counts."""
    rotating.backup(2)
    vault, key = rotating.place.open(), SigningKey.generate()
    rotating.place.clock.advance(BACKUP_S + DAY)
    made = make_succession(vault.vault_id, rotating.writer, 1, bytes(32), 1, key)
    rotating.put(made, rotating.place.host.credential.signing_key)
    assert rotating.findings() == set()


def _vault_id(rotating: Rotating) -> bytes:
    return rotating.place.open().vault_id


Forge = Callable[[Rotating, SigningKey, SigningKey], tuple[Succession, SigningKey, str]]


def _made(rotating: Rotating, key: SigningKey, **changed: object) -> Succession:
    made = make_succession(rotating.place.open().vault_id, rotating.writer, 1, bytes(32), 1, key)
    return msgspec.structs.replace(made, **changed)


FORGERIES: dict[str, Forge] = {
    "signed by nobody": lambda r, own, key: (_made(r, key), SigningKey.generate(), ""),
    "signed by the new key": lambda r, own, key: (_made(r, key), key, ""),
    "a key that he does not hold": lambda r, own, key: (
        _made(r, key, public=SigningKey.generate().public), own, ""),
    "another predecessor": lambda r, own, key: (_made(r, key, previous=b"x" * 32), own, ""),
    "of another vault": lambda r, own, key: (
        make_succession(b"v" * 16, r.writer, 1, bytes(32), 1, key), own, ""),
    "the same key again": lambda r, own, key: (
        make_succession(r.place.open().vault_id, r.writer, 1, bytes(32), 1, own), own, ""),
    "under another number": lambda r, own, key: (_made(r, key), own, names.succession(r.writer, 2)),
    "of another writer": lambda r, own, key: (
        make_succession(_vault_id(r), r.place.add_host().credential.writer_id, 1, bytes(32), 1, key),
        own, ""),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGERIES)
def test_forged_successions_count_for_nothing_and_are_reported(rotating: Rotating, how: str) -> None:
    key = SigningKey.generate()
    succession, signer, name = FORGERIES[how](rotating, rotating.place.host.credential.signing_key, key)
    rotating.put(succession, signer, name)
    name = name or names.succession(succession.writer, succession.number)
    assert rotating.findings() == {("damaged", name)}
    vault = rotating.place.open()
    assert vault.keyring.successions.of(rotating.writer) == ()
    assert len(rotating.place.points()) == 1
    rotating.backup(2)  # the host goes on with its key


def test_two_successors_cannot_be_as_the_number_is_taken(rotating: Rotating) -> None:
    own = rotating.place.host.credential.signing_key
    rotating.put(_made(rotating, SigningKey.generate()), own)
    with pytest.raises(ObjectExists):
        rotating.put(_made(rotating, SigningKey.generate()), own)


def test_a_hidden_succession_is_noticed(rotating: Rotating) -> None:
    rotating.rotate()
    rotating.backup(2)

    class Hiding(StoreWrapper):
        def list(self, prefix: str = "") -> object:  # type: ignore[override]
            return (info for info in super().list(prefix) if not info.name.startswith(names.SUCCESSIONS))

        def get(
            self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
        ) -> bytes:
            shown = "hidden" if name.startswith(names.SUCCESSIONS) else name
            return super().get(shown, offset=offset, length=length, version=version)

    with pytest.raises(IntegrityFailure):
        list_points(rotating.place.open(Hiding(rotating.place.store)))
    with pytest.raises(DonjonError):
        rotating.rotate(Hiding(rotating.place.store))


# --- crashes ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """The process ends here."""


class Dying(StoreWrapper):
    """Ends with the process before or after a succession is put."""

    def __init__(self, inner: ObjectStore, error: BaseException, *, after: bool) -> None:
        super().__init__(inner)
        self._error, self._after = error, after

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        if name.startswith(names.SUCCESSIONS):
            if self._after:
                super().put(name, data, retain_until=retain_until)
            raise self._error
        return super().put(name, data, retain_until=retain_until)


@pytest.mark.parametrize("error", [Killed(), StoreUnavailable("no reply")])
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("then", ["backup", "rotate"])
def test_a_crash_around_the_put_leaves_a_host_that_backs_up(
    rotating: Rotating, error: BaseException, after: bool, then: str
) -> None:
    with pytest.raises(type(error)):
        rotating.rotate(Dying(rotating.place.store, error, after=after))
    assert WriterCredential.read(rotating.path).key_number == 0
    assert stat.S_IMODE(draft_of(rotating.path).stat().st_mode) == 0o600
    if then == "backup":
        rotating.backup(2)
        assert WriterCredential.read(rotating.path).key_number == int(after)
    assert rotating.rotate().key_number == 1 + int(after and then == "backup")
    rotating.backup(3)
    rotating.place.assert_sound()
    assert [path.name for path in rotating.path.parent.iterdir()] == ["writer.json"]
    assert stat.S_IMODE(rotating.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("call", ["replace", "sync_folder"])
def test_a_crash_around_the_rename_leaves_a_host_that_backs_up(
    rotating: Rotating, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if call == "replace":
            patch.setattr(Path, "replace", die)
        else:
            patch.setattr("donjon.repository.writer_keys.sync_folder", die)
        with pytest.raises(Killed):
            rotating.rotate()
    rotating.backup(2)
    assert WriterCredential.read(rotating.path).key_number == 1
    rotating.place.assert_sound()


def test_a_foreign_draft_is_not_taken(rotating: Rotating) -> None:
    rotating.place.add_host().credential.write(draft_of(rotating.path))
    with pytest.raises(KeyNotAvailable, match="no successor"):
        rotating.rotate()
    rotating.backup(2)


# --- copies and custody -----------------------------------------------------------------------------


def test_a_copy_has_the_keys_and_nothing_looks_late_in_it(tmp_path: Path) -> None:
    copying = Copying.make(tmp_path, points=2)
    place, path = copying.place, tmp_path / "writer.json"
    place.host.credential.write(path)
    copying.copy()
    for _ in range(2):
        place.host.credential, _resumed = rotate_key(
            open_vault(place.store), WriterCredential.read(path), path
        )
        place.clock.advance(BACKUP_S + DAY)
        copying.backup()
    done = copying.copy()
    assert done.findings == []
    assert [str(finding) for finding in copying.copied.verify().findings] == []
    copying.reset()
    place.clock.advance(BACKUP_S + DAY)
    assert copying.copy().findings == []  # all at once, later
    assert [str(finding) for finding in copying.copied.verify().findings] == []
    copying.assert_equal()
    copying.copied.assert_restores(copying.sources[-1])


def test_a_copy_that_is_cut_off_anywhere_shows_whole_points(tmp_path: Path) -> None:
    copying = Copying.make(tmp_path, points=1)
    place, path = copying.place, tmp_path / "writer.json"
    place.host.credential.write(path)
    place.host.credential, _ = rotate_key(open_vault(place.store), WriterCredential.read(path), path)
    copying.backup()
    total = len(list(place.store.list()))

    class Cutting(StoreWrapper):
        left = 0

        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            if not self.left:
                raise Killed
            self.left -= 1
            return super().put(name, data, retain_until=retain_until)

    for count in range(1, total):
        copying.reset()
        target = Cutting(copying.target)
        target.left = count
        with pytest.raises(Killed):
            copying.copy(target=target)
        if names.VAULT in copying.holds():
            list_points(copying.copied.open())  # every manifest there has the key that signed it
    copying.copy()
    copying.assert_equal()


def test_locks_of_successions_are_extended_and_they_are_not_reaped(tmp_path: Path) -> None:
    rotating = Rotating.make(tmp_path, lock_s=30 * DAY)
    rotating.backup()
    rotating.rotate()
    rotating.backup(2)
    watched = Watched(rotating.place, rotating.source)
    watched.add_custodian()
    custody = Custody(watched)
    name = names.succession(rotating.writer, 1)
    before = rotating.place.store.head(name).retain_until
    assert before
    custody.wait(20)
    custody.extend()
    after = rotating.place.store.head(name).retain_until
    assert after
    assert after > before
    custody.wait(200)
    custody.reap(Policy(last=1))
    assert rotating.place.store.head(name)


# --- the command ------------------------------------------------------------------------------------


def test_the_command_rotates_lists_and_checks(donjon: Donjon, tmp_path: Path) -> None:
    source = tmp_path / "source"
    fill(source, 10, 1)
    donjon.run("backup", source)
    host = donjon.without_kit()  # it takes no kit
    done = host.json("credentials", "rotate", "writer")
    assert (done["old"][-2:], done["new"][-2:], done["resumed"]) == ("/0", "/1", False)
    keys = host.json("credentials", "list", "writer")["credentials"]
    assert [(key["active"], key["in_use"]) for key in keys] == [(False, False), (True, True)]
    assert host.json("credentials", "check", "writer")["ok"]
    found = host.later(91).json("credentials", "check", "writer", code=4)["findings"]
    assert [one["check"] for one in found] == ["over-age"]
    host.run("credentials", "retire", "writer", code=2)
    (listed,) = donjon.json("writer", "list")["writers"]
    assert listed["key"] == 1
    assert listed["key_since"]
    host.run("backup", source)
    assert donjon.json("verify", "--data", "100")["ok"]
    (file,) = (donjon.home / "writers").iterdir()
    assert json.loads(file.read_text())["version"] == 2
    donjon.run("writer", "revoke", os.uname().nodename)
    assert "revoked" in host.run("credentials", "rotate", "writer", code=11).stderr.decode()
