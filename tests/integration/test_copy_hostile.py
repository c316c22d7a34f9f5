"""Copies of vaults that are damaged or lie, into places where somebody else was, too."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure, Refused
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object, parse_object
from donjon.format.pack import MAX_PACK_BYTES, PackKind
from donjon.format.session import SessionObject
from donjon.format.table import IndexObject, PackRow, Table, build_table, pack_rows
from donjon.format.vault import Action
from donjon.repository.cache import Cache
from donjon.repository.check import Finding
from donjon.repository.packer import PACK_BYTES
from donjon.repository.records import removal_record
from donjon.stores.base import Buffer, ObjectInfo
from donjon.stores.memory import MemoryObject, MemoryStore
from donjon.stores.wrapper import StoreWrapper
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.copying import Copying, Interposed, changed, contents, damaged
from tests.integration.engine import Host, Place, fill
from tests.integration.witnesses import Watched


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, 2 * MIB)


@pytest.fixture
def copying(tmp_path: Path) -> Copying:
    return Copying.make(tmp_path, points=3)


def _told(findings: list[Finding]) -> set[tuple[str, str]]:
    return {(finding.kind, finding.object) for finding in findings}


def _of(copying: Copying, folder: str) -> list[str]:
    return [name for name in copying.place.store.snapshot() if name.startswith(folder)]


def _root_signed(name: str) -> bool:
    return name == names.VAULT or name.startswith(names.KEYRING)


def _naming(copying: Copying, pack: str) -> set[str]:
    """The index objects that name a pack."""
    found = set()
    for name in _of(copying, names.INDEX):
        data = copying.place.store.get(name)
        rows = pack_rows(parse_object(data, ObjectKind.INDEX, IndexObject, name).packs, name)
        if pack in {names.pack(row.name) for row in rows}:
            found.add(name)
    return found


# --- A damaged source -----------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
def test_damage_of_any_object_is_told_and_does_not_spread(copying: Copying, cut: bool) -> None:
    whole = contents(copying.place.store.snapshot())
    for name, data in whole.items():
        copying.reset()
        bad = data[: len(data) // 2] if cut else damaged(data)
        with changed(copying.place.store, name, bad):
            if _root_signed(name):
                with pytest.raises(IntegrityFailure, match=name):
                    copying.copy()
                assert copying.holds() == {}
                continue
            done = copying.copy()
        assert ("damaged", name) in _told(done.findings)
        lacking = {name} | (_naming(copying, name) if name.startswith(names.PACKS) else set())
        assert copying.holds() == {n: d for n, d in whole.items() if n not in lacking}
        done = copying.copy()
        assert done.findings == []
        copying.assert_equal()
    copying.assert_restores()


def test_what_needs_a_damaged_pack_is_named_and_the_rest_restores(copying: Copying) -> None:
    points = copying.place.points()
    for pack in _of(copying, names.PACKS):
        copying.reset()
        with changed(copying.place.store, pack, damaged(copying.place.store.get(pack))):
            (finding,) = copying.copy().findings
        affected = set(finding.affects)
        assert affected
        for source, point in zip(copying.sources, points, strict=True):
            if point.point_id.hex() not in affected:
                copying.copied.assert_restores(source, point)


def test_bytes_that_are_damaged_on_their_way_are_not_put(copying: Copying) -> None:
    counting = FaultyStore(copying.place.store)
    copying.copy(source=counting)
    whole = copying.holds()
    for number, fault in itertools.product(
        range(1, len(counting.calls) + 1), (Fault.CORRUPT, Fault.TRUNCATE)
    ):
        copying.reset()
        try:
            copying.copy(source=FaultyStore(copying.place.store, {number: fault}))
        except DonjonError:
            continue
        assert copying.holds().items() <= whole.items()


def test_a_missing_object_is_told_and_all_others_are_copied(copying: Copying) -> None:
    whole = contents(copying.place.store.snapshot())
    newest = max(_of(copying, names.MANIFESTS))
    for name in whole:
        if _root_signed(name) or name == newest:  # no vault; or what only a checkpoint or a pin can tell
            continue
        copying.reset()
        with changed(copying.place.store, name, None):
            findings = copying.copy().findings
        if name.startswith(names.PACKS):
            assert {kind for kind, _ in _told(findings)} == {"missing"}
            assert all(obj.startswith(names.MANIFESTS) for _, obj in _told(findings))
            lacking = {name} | _naming(copying, name)
        else:
            assert _told(findings) == (set() if name.startswith(names.INDEX) else {("missing", name)})
            lacking = {name}
        assert copying.holds() == {n: d for n, d in whole.items() if n not in lacking}
        copying.copy()
        copying.assert_equal()


def test_without_any_index_everything_is_found_by_the_packs_themselves(copying: Copying) -> None:
    for name in _of(copying, names.INDEX):
        del copying.place.store._objects[name]
    assert copying.copy().findings == []
    copying.assert_equal()
    copying.assert_restores()


# --- A hostile source -----------------------------------------------------------------------------


def test_swapped_objects_are_not_copied(copying: Copying) -> None:
    for folder in (names.SESSIONS, names.MANIFESTS, names.INDEX, names.PACKS):
        one, other, *_ = sorted(_of(copying, folder))
        copying.reset()
        with changed(copying.place.store, one, copying.place.store.get(other)):
            assert ("damaged", one) in _told(copying.copy().findings)
            assert one not in copying.holds()


def test_what_nobody_certified_signed_is_not_copied(copying: Copying, tmp_path: Path) -> None:
    """Objects of another vault, and of a stranger's key, under names of their own."""
    stranger = Copying.make(tmp_path / "stranger", points=1)
    alien = {
        name: data
        for name, data in contents(stranger.place.store.snapshot()).items()
        if not _root_signed(name)
    }
    for name, data in alien.items():
        copying.place.store.put(name, data)
    copying.place.store.put("something/else", b"?")
    done = copying.copy()
    assert {name for _, name in _told(done.findings)} == alien.keys()
    assert not copying.holds().keys() & {*alien, "something/else"}
    copying.assert_restores()


def test_an_older_keyring_than_the_source_showed_before_stops_the_copy(copying: Copying) -> None:
    copying.copy()
    place, before = copying.place, copying.place.store.snapshot()
    who = place.add_host().credential.writer_id
    place.open().keyring.add(
        place.store, place.root, lambda n, p: removal_record(Action.REVOKE_WRITER, who, 1, n, p), None
    )
    copying.copy()
    after = copying.holds()
    place.store = MemoryStore.from_snapshot(before, place.clock)  # the revocation is hidden again
    with pytest.raises(IntegrityFailure, match="keyring/00000003: is not in the source"):
        copying.copy()
    assert copying.holds() == after


def test_points_that_the_source_hides_again_are_told(copying: Copying) -> None:
    copying.copy()
    newest = max(_of(copying, names.MANIFESTS))
    with changed(copying.place.store, newest, None):
        assert _told(copying.copy().findings) == {("forked", f"memory:copy: {newest}")}
    assert newest in copying.holds()


def test_points_that_a_checkpoint_of_the_source_names_are_missed(tmp_path: Path) -> None:
    watched = Watched.make(tmp_path)
    watched.backup(3)
    watched.sign()
    copying = Copying(watched.place, tmp_path, MemoryStore(watched.place.clock, url="memory:copy"))
    with changed(watched.place.store, watched.name(3), None):
        (finding,) = copying.copy().findings
    assert (finding.kind, finding.object, finding.affects) == (
        "rolled back",
        watched.name(3),
        (watched.points()[2],),
    )


def _sign_index(place: Place, session: int, part: int, rows: list[PackRow]) -> None:
    """Put an index object in the name of the first host, as a thief of its key can."""
    packs = bytes(Table(build_table([(row, []) for row in rows]), "").pack_part)
    writer = place.host.credential.writer_id
    content = IndexObject(writer, session, part, packs, b"no key opens this")
    data = pack_object(ObjectKind.INDEX, content, place.kit.vault_id, place.host.credential.signing_key)
    place.store.put(names.index(writer, session, part), data)


@pytest.mark.parametrize("hidden", [False, True])
def test_a_false_index_keeps_no_pack_from_being_copied(copying: Copying, hidden: bool) -> None:
    """A thief of the writer's key says that every pack is another one, and of another time."""
    rows = []
    for name in _of(copying, names.INDEX):
        data = copying.place.store.get(name)
        rows += pack_rows(parse_object(data, ObjectKind.INDEX, IndexObject, name).packs, name)
        if hidden:  # and the store helps
            del copying.place.store._objects[name]
    false = [row._replace(name=rows[0].name, lock_until=1) for row in rows]
    elsewhere = [row._replace(session=1 << 40, ordinal=n, lock_until=1) for n, row in enumerate(rows)]
    nowhere = [rows[0]._replace(session=1 << 60, ordinal=(1 << 32) - 1, name=bytes(32))]
    _sign_index(copying.place, 1, 7, [*false, *elsewhere])
    _sign_index(copying.place, 1, 8, nowhere)
    done = copying.copy()
    assert done.findings == []
    assert {name for name in copying.holds() if name.startswith(names.PACKS)} == set(
        _of(copying, names.PACKS)
    )
    for source, point in zip(copying.sources, copying.place.points(), strict=True):
        copying.copied.assert_restores(source, point)


class _Boasting(StoreWrapper):
    """Lists every pack as larger than any can be."""

    def list(self, prefix: str = "") -> itertools.chain[ObjectInfo]:
        return itertools.chain(
            replace(info, size_bytes=MAX_PACK_BYTES + 1) if info.name.startswith(names.PACKS) else info
            for info in self.inner.list(prefix)
        )


def test_a_pack_that_is_said_to_be_huge_is_not_fetched(copying: Copying) -> None:
    packs = set(_of(copying, names.PACKS))
    counting = FaultyStore(copying.place.store)
    done = copying.copy(source=_Boasting(counting))
    assert {name for _, name in _told(done.findings)} == packs
    assert not any(call.name in packs for call in counting.calls)


# --- Somebody was in the copy ---------------------------------------------------------------------


def test_what_others_wrote_to_the_copy_is_a_fork_and_stays(copying: Copying) -> None:
    copying.copy()
    host = copying.place.host
    thief = Host(host.credential, Cache(copying.folder / "thief"), host.clock)
    thief.backup(copying.target, copying.sources[0])
    theirs = copying.target.snapshot()
    alone = _told(copying.copy().findings)
    writer = host.credential.writer_id
    manifest, session = names.manifest(writer, 4), names.session(writer, 4)
    assert alone == {("forked", f"memory:copy: {name}") for name in (manifest, session)}
    copying.backup()  # takes the same numbers
    copying.backup()
    done = copying.copy()
    assert {(k, o.removeprefix("memory:copy: ")) for k, o in _told(done.findings)} >= {
        ("forked", manifest),
        ("forked", session),
    }
    held = copying.target.snapshot()
    assert {name: held[name] for name in theirs} == theirs
    assert done.points == 1
    whole = contents(copying.place.store.snapshot())
    index = names.index(writer, 4, 0)
    assert (
        copying.holds().items()
        >= {n: d for n, d in whole.items() if n not in (manifest, session, index)}.items()
    )
    copying.copied.assert_restores(copying.sources[4], copying.place.points()[4])


def test_others_may_write_to_the_copy_between_any_two_calls(copying: Copying) -> None:
    """A host that has no business there harms neither what is copied nor what it puts itself."""
    other = copying.place.add_host()
    copying.copy()
    start = copying.target.snapshot()
    copying.backup()
    counting = Interposed(copying.target, 0, lambda: None)
    copying.copy(target=counting)
    whole = copying.holds()
    theirs = copying.folder / "theirs"
    fill(theirs, 5, 99)
    for number in range(1, counting.calls + 1):
        copying.target = MemoryStore.from_snapshot(start, copying.place.clock)
        host = Host(other.credential, Cache(copying.folder / f"cache{number}"), other.clock)
        done = copying.copy(
            target=Interposed(copying.target, number, lambda h=host: h.backup(copying.target, theirs))  # type: ignore[misc]
        )
        assert {kind for kind, _ in _told(done.findings)} <= {"forked"}
        assert all(other.credential.writer_id.hex() in where for _, where in _told(done.findings))
        assert copying.holds().items() >= whole.items()
        copying.assert_shows_whole_points()
        (point,) = (p for p in copying.copied.points() if p.body.sources == (os.fsencode(theirs),))
        copying.copied.assert_restores(theirs, point)


def test_other_bytes_under_any_name_are_told_and_never_overwritten(copying: Copying) -> None:
    """Somebody who may put took the names before the copy came; the vault object is not there yet."""
    whole = contents(copying.place.store.snapshot())
    copying.copy()
    full = copying.target.snapshot()
    for name, data in whole.items():
        if _root_signed(name):
            continue
        planted = MemoryObject(data + b"!", 0, None)
        copying.target = MemoryStore.from_snapshot({**full, name: planted}, copying.place.clock)
        copying.target.url = "memory:copy"
        told = {where for _, where in _told(copying.copy().findings)}
        assert told == {f"memory:copy: {name}"}
        assert copying.holds() == {**whole, name: data + b"!"}


def test_other_bytes_of_the_same_size_are_told_where_numbers_can_be_taken(copying: Copying) -> None:
    copying.copy()
    full = copying.target.snapshot()
    for name in (*_of(copying, names.SESSIONS), *_of(copying, names.MANIFESTS)):
        other = replace(full[name], data=damaged(full[name].data))
        copying.target = MemoryStore.from_snapshot({**full, name: other}, copying.place.clock)
        copying.target.url = "memory:copy"
        assert _told(copying.copy().findings) == {("forked", f"memory:copy: {name}")}


def test_a_name_that_is_taken_while_the_copy_runs_is_told(copying: Copying) -> None:
    class Racing(StoreWrapper):
        def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
            if not _root_signed(name):
                self.inner.put(name, b"first")
            return self.inner.put(name, data, retain_until=retain_until)

    done = copying.copy(target=Racing(copying.target))
    taken = {name for name in _of(copying, "") if not _root_signed(name)} - set(_of(copying, names.INDEX))
    assert {where.removeprefix("memory:copy: ") for _, where in _told(done.findings)} == taken


@pytest.mark.parametrize("name", ["vault", "keyring/00000001", "packs/ab/cd", "photos/cat.jpg", "index/x"])
def test_a_place_with_something_else_is_refused_before_anything_is_put(copying: Copying, name: str) -> None:
    copying.target.put(name, b"somebody's")
    before = copying.target.snapshot()
    with pytest.raises(Refused) as refused:
        copying.copy()
    assert "memory:copy" in refused.value.message
    if name != "vault":
        assert name in refused.value.message
    assert copying.target.snapshot() == before


def test_another_vault_is_refused(copying: Copying, tmp_path: Path) -> None:
    other = Place.make(tmp_path / "other")
    before = other.store.snapshot()
    with pytest.raises(Refused, match="holds another vault"):
        copying.copy(target=other.store)
    del other.store._objects[names.VAULT]  # an `init` that was killed
    with pytest.raises(Refused, match="another vault"):
        copying.copy(target=other.store)
    assert {**other.store.snapshot(), names.VAULT: before[names.VAULT]} == before


def test_rubbish_beside_a_copy_is_told_and_keeps_nobody_from_copying(copying: Copying) -> None:
    copying.copy()
    copying.target.put("photos/cat.jpg", b"?")
    copying.backup()
    done = copying.copy()
    assert _told(done.findings) == {("unexpected", "memory:copy: photos/cat.jpg")}
    assert done.points == 1


def test_a_pack_that_was_lost_in_the_copy_is_put_again(copying: Copying) -> None:
    copying.copy()
    for pack in _of(copying, names.PACKS):
        del copying.target._objects[pack]
        done = copying.copy()
        assert (done.findings, done.packs, done.objects) == ([], 1, 1)
        copying.assert_equal()


class _DyingBeforeTheIndex(StoreWrapper):
    """The process that puts dies when its packs are stored."""

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        if name.startswith(names.INDEX):
            raise Crash
        return self.inner.put(name, data, retain_until=retain_until)


def test_leavings_of_a_crashed_backup_come_with_the_point_that_uses_them(copying: Copying) -> None:
    place = copying.place
    source = copying.folder / "source4"
    fill(source, 20, 44, size_bytes=500_000)
    with pytest.raises(Crash):
        place.host.backup(_DyingBeforeTheIndex(place.store), source)
    assert copying.copy().findings == []
    orphans = contents(place.store.snapshot()).keys() - copying.holds().keys()
    assert len(orphans) > 2
    assert all(name.startswith(names.PACKS) for name in orphans)
    copying.assert_shows_whole_points()
    place.backup(source)
    copying.sources.append(source)
    assert copying.copy().findings == []
    copying.assert_equal()
    copying.assert_restores()


def test_a_session_of_a_newer_keyring_than_the_source_shows_is_not_copied(copying: Copying) -> None:
    place = copying.place
    writer, key = place.host.credential.writer_id, place.host.credential.signing_key
    name = names.session(writer, 1)
    content = parse_object(place.store.get(name), ObjectKind.SESSION, SessionObject, name)
    forged = msgspec.structs.replace(content, number=9, keyring_number=99)
    assert isinstance(key, SigningKey)
    place.store.put(
        names.session(writer, 9), pack_object(ObjectKind.SESSION, forged, place.kit.vault_id, key)
    )
    assert _told(copying.copy().findings) == {("damaged", names.session(writer, 9))}
