"""A store that lies, a cache that was tampered with, and a writer that crafts what it backs up."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from donjon.codec.digest import chunk_id
from donjon.core.errors import DonjonError, IntegrityFailure, ObjectExists
from donjon.core.events import Silent
from donjon.core.units import KIB, MIB
from donjon.format import names
from donjon.format.entries import Entry, Kind
from donjon.format.manifest import PointBody
from donjon.format.pack import PackKind
from donjon.format.segments import SegmentRecord, encode_root, encode_segment
from donjon.recovery.request import Request
from donjon.recovery.restore import restore
from donjon.repository.packer import PACK_BYTES
from donjon.repository.points import OpenPoint, find_points
from donjon.repository.vault import open_vault
from donjon.repository.writing import WriteSession
from donjon.stores.base import Buffer, ObjectInfo, ObjectStore, Write
from donjon.stores.memory import MemoryStore
from donjon.stores.wrapper import StoreWrapper
from donjon.targets.base import Overwrite
from donjon.targets.tree import TreeTarget
from donjon.testing.faulty import Fault, FaultyStore
from donjon.testing.trees import compare_trees
from tests.integration.engine import Place, change, fill


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, 2 * MIB)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 80, 1, size_bytes=60_000)
    return folder


@pytest.fixture
def place(tmp_path: Path, source: Path) -> Place:
    made = Place.make(tmp_path / "place")
    made.backup(source)
    return made


# --- The store lies -------------------------------------------------------------------------------


def _restore_or_refuse(place: Place, store: ObjectStore, source: Path) -> bool:
    """Whether the restore succeeded, in which case it brought back the truth."""
    target = place.folder / "restored"
    shutil.rmtree(target, ignore_errors=True)
    point = place.points()[-1]
    try:
        done = place.restore(target, point=point, under=os.fsencode(source).lstrip(b"/"), store=store)
    except DonjonError:
        return False
    assert done.damage == []
    assert compare_trees(os.fsencode(source), os.fsencode(target)) == []
    return True


@pytest.mark.parametrize("fault", [Fault.CORRUPT, Fault.TRUNCATE, Fault.UNAVAILABLE])
def test_a_restore_brings_back_the_truth_or_says_no(place: Place, source: Path, fault: Fault) -> None:
    counting = FaultyStore(place.store)
    assert _restore_or_refuse(place, counting, source)
    outcomes = [
        _restore_or_refuse(place, FaultyStore(place.store, {number: fault}), source)
        for number in range(1, len(counting.calls) + 1)
    ]
    assert len(outcomes) > 8
    assert outcomes.count(False) >= 3  # the index can be rebuilt, the rest cannot


@pytest.mark.parametrize("fault", [Fault.CORRUPT, Fault.TRUNCATE])
def test_what_is_stored_damaged_is_found_by_verify(tmp_path: Path, source: Path, fault: Fault) -> None:
    place = Place.make(tmp_path / "fresh")
    start = place.store.snapshot()
    counting = FaultyStore(place.store)
    place.host.backup(counting, source)
    puts = [n for n, call in enumerate(counting.calls, 1) if call.method == "put"]
    assert len(puts) >= 5
    for number in puts:
        place.store = MemoryStore.from_snapshot(start, place.clock)
        shutil.rmtree(place.host.cache.folder)
        place.host.backup(FaultyStore(place.store, {number: fault}), source)
        name = counting.calls[number - 1].name.split("/")[0]
        report = place.verify_as_host(place.host)
        assert any(finding.object.startswith(name) for finding in report.findings), name


class _Piecemeal(StoreWrapper):
    """Streams pieces of a few bytes, once from the start again in between, and damages one byte if told."""

    def __init__(self, inner: ObjectStore, piece_bytes: int, damaged_at: int = -1) -> None:
        super().__init__(inner)
        self._piece, self._damaged_at = piece_bytes, damaged_at

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        data = bytearray(self.inner.get(name, length=size_bytes, version=version))
        for end in (size_bytes // 2, size_bytes):
            if end == size_bytes and 0 <= self._damaged_at < size_bytes:
                data[self._damaged_at] ^= 4
            for at in range(0, end, self._piece):
                write(at, memoryview(data)[at : min(at + self._piece, end)])


@pytest.mark.parametrize("piece_bytes", [1009, 64 * KIB, 3 * MIB])
def test_data_is_verified_however_it_arrives(place: Place, piece_bytes: int) -> None:
    sound = place.verify(_Piecemeal(place.store, piece_bytes))
    assert (sound.findings, sound.data_bytes) == ([], place.verify().data_bytes)
    assert sound.packs_read
    sizes = {info.name: info.size_bytes for info in place.store.list(names.PACKS)}
    for at in {0, 1009, 64 * KIB - 1, 64 * KIB, *(size - 1 for size in sizes.values())}:
        report = place.verify(_Piecemeal(place.store, piece_bytes, at))
        wrong = {finding.object for finding in report.findings}
        assert wrong == {name for name, size in sizes.items() if at < size}, at


class _Swapping(StoreWrapper):
    """Gives for one name what is under another."""

    def __init__(self, inner: ObjectStore, name: str, other: str) -> None:
        super().__init__(inner)
        self._swap = {name: other}

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        return self.inner.get(self._swap.get(name, name), offset=offset, length=length, version=version)

    def stream(self, name: str, size_bytes: int, write: Write, *, version: str | None = None) -> None:
        self.inner.stream(self._swap.get(name, name), size_bytes, write, version=version)


def test_an_object_in_the_place_of_another_is_never_taken_for_it(place: Place, source: Path) -> None:
    change(source, 2)
    place.backup(source)
    folders: dict[str, list[str]] = {}
    for info in place.store.list():
        folders.setdefault(info.name.split("/")[0], []).append(info.name)
    swapped = 0
    for found in folders.values():
        for name, other in itertools.permutations(found[:4], 2):
            lying = _Swapping(place.store, name, other)
            _restore_or_refuse(place, lying, source)
            try:
                report = place.verify(lying)
            except DonjonError:
                pass
            else:
                assert report.findings
            swapped += 1
    assert swapped >= 20


def test_hiding_the_newest_pack_hides_its_files_only(place: Place, source: Path, tmp_path: Path) -> None:
    before = {info.name for info in place.store.list(names.PACKS)}
    (source / "new").write_bytes(os.urandom(50_000))
    place.backup(source)
    new = [info.name for info in place.store.list(names.PACKS) if info.name not in before]
    assert new
    data_pack = max(new, key=lambda name: place.store.head(name).size_bytes)
    place.store.delete_expired(data_pack)
    target = tmp_path / "out"
    done = place.restore(target, under=os.fsencode(source).lstrip(b"/"), keep_going=True)
    assert [problem.path for problem in done.damage] == [b"new"]
    (source / "new").unlink()
    names_back = {path.name for path in target.rglob("*")}
    assert names_back == {path.name for path in source.rglob("*")}
    assert data_pack in {finding.object for finding in place.verify().findings}
    place.verify_as_host(place.host)
    (source / "new").write_bytes(os.urandom(100))
    place.backup(source)
    place.assert_restores(source)


# --- The cache was tampered with ------------------------------------------------------------------


def test_any_damage_to_the_cache_costs_time_only(place: Place, source: Path) -> None:
    change(source, 2)
    saved = place.folder / "saved"
    shutil.copytree(place.host.cache.folder, saved)
    start = place.store.snapshot()
    files = sorted(path.relative_to(saved) for path in saved.rglob("*") if path.is_file())
    assert len(files) >= 4
    for file in files:
        size = (saved / file).stat().st_size
        for at in sorted({0, 1, size // 3, size // 2, size - 1}):
            place.store = MemoryStore.from_snapshot(start, place.clock)
            shutil.rmtree(place.host.cache.folder)
            shutil.copytree(saved, place.host.cache.folder)
            data = bytearray((saved / file).read_bytes())
            data[at] ^= 0x10
            (place.host.cache.folder / file).write_bytes(data)
            place.backup(source)
            place.assert_restores(source)
            place.assert_sound()


def test_the_cache_of_another_vault_is_of_no_use_and_no_harm(
    place: Place, source: Path, tmp_path: Path
) -> None:
    other = Place.make(tmp_path / "other")
    shutil.copytree(place.host.cache.folder, other.host.cache.folder, dirs_exist_ok=True)
    mine = place.host.credential.writer_id.hex()
    theirs = other.host.credential.writer_id.hex()
    for folder in ("index", "journal"):
        if (other.host.cache.folder / folder / mine).exists():
            (other.host.cache.folder / folder / mine).rename(other.host.cache.folder / folder / theirs)
    outcome = other.backup(source)
    assert outcome.counts.files_new + outcome.counts.files_changed + outcome.counts.files_unmodified == 80
    structure = other.verify()
    if structure.ok:
        other.assert_restores(source)


# --- A writer that crafts -------------------------------------------------------------------------


def _craft(
    place: Place,
    segments: Sequence[bytes],
    first_paths: Sequence[bytes],
    chunks: Sequence[bytes] = (),
    repeat: int = 1,
) -> None:
    """Commit a point with these bytes as its metadata, by a certified writer."""
    host = place.add_host()
    vault = open_vault(place.store)
    vault.use_secret(host.credential.secret)
    session = WriteSession(
        vault, host.credential.signing_key, host.credential.writer_id, host.cache, host.clock
    )

    def store(kind: PackKind, data: bytes) -> bytes:
        identity = chunk_id(session.chunk_id_key, data)
        if session.claim(identity):
            session.store(kind, memoryview(bytearray(data)), [(identity, len(data))])
        return identity

    for chunk in chunks:
        store(PackKind.DATA, chunk)
    records = [
        SegmentRecord(store(PackKind.METADATA, data), path, 1)
        for data, path in zip(segments, first_paths, strict=True)
    ]
    roots = b"".join(store(PackKind.METADATA, data) for data in encode_root(records * repeat))
    session.flush()
    empty = PointBody(
        "crafted", "evil", (b"/",), (), 1, 2, 1, 0, 0, 5, 1, 0, 0, 5, 5, 0, roots, b"", "donjon evil"
    )
    session.commit(empty)
    session.close()


def _file(place: Place, name: bytes, content: bytes, **changes: object) -> Entry:
    vault = place.open()
    identity = chunk_id(vault.secret.chunk_id_key, content)
    fields: dict[str, object] = {"depth": 0, "kind": int(Kind.FILE), "mode": 0o644, "size": len(content)}
    return Entry(name=name, **{**fields, "chunks": identity, **changes})  # type: ignore[arg-type]


def _of(place: Place, workload: str) -> OpenPoint:
    return next(point for point in place.points() if point.body.workload == workload)


CONTENT = b"content of a crafted file"

Crafted = Callable[[Place], list[Entry]]

CRAFTED: dict[str, Crafted] = {
    "a slash in the name": lambda p: [_file(p, b"../escaped", CONTENT)],
    "an absolute name": lambda p: [_file(p, b"/tmp/escaped", CONTENT)],
    "dot dot": lambda p: [Entry(0, b"..", int(Kind.DIRECTORY)), _file(p, b"escaped", CONTENT, depth=1)],
    "dot": lambda p: [_file(p, b".", CONTENT)],
    "an empty name": lambda p: [_file(p, b"", CONTENT)],
    "a zero byte": lambda p: [_file(p, b"a\0b", CONTENT)],
    "an endless name": lambda p: [_file(p, b"x" * 5000, CONTENT)],
    "below a link": lambda p: [
        Entry(0, b"link", int(Kind.SYMLINK), target=b"/tmp"),
        _file(p, b"escaped", CONTENT, depth=1),
    ],
    "below a file": lambda p: [_file(p, b"a", CONTENT), _file(p, b"escaped", CONTENT, depth=1)],
    "a step too deep": lambda p: [_file(p, b"escaped", CONTENT, depth=2)],
    "out of order": lambda p: [_file(p, b"b", CONTENT), _file(p, b"a", CONTENT)],
    "twice the same name": lambda p: [_file(p, b"a", CONTENT), _file(p, b"a", CONTENT)],
    "more data than size": lambda p: [_file(p, b"a", CONTENT, size=3)],
    "less data than size": lambda p: [_file(p, b"a", CONTENT, size=9000)],
    "extents beyond the end": lambda p: [_file(p, b"a", CONTENT, extents=((0, 10), (10, 4000)))],
    "extents backwards": lambda p: [_file(p, b"a", CONTENT, size=500, extents=((100, 5), (50, 20)))],
    "a chunk that is nowhere": lambda p: [_file(p, b"a", CONTENT, chunks=bytes(32))],
    "half a chunk id": lambda p: [_file(p, b"a", CONTENT, chunks=bytes(31))],
    "indirect data": lambda p: [_file(p, b"a", CONTENT, indirect=True)],
    "a folder with data": lambda p: [_file(p, b"a", CONTENT, kind=int(Kind.DIRECTORY))],
    "a kind of the future": lambda p: [_file(p, b"a", CONTENT, kind=99)],
    "a negative size": lambda p: [_file(p, b"a", CONTENT, size=-1)],
    "a mode with a file type": lambda p: [_file(p, b"a", CONTENT, mode=0o120777)],
}


@pytest.mark.parametrize("what", CRAFTED)
def test_crafted_metadata_is_refused_and_nothing_is_written_outside(
    place: Place, source: Path, tmp_path: Path, what: str
) -> None:
    entries = CRAFTED[what](place)
    _craft(place, [encode_segment(entries)], [entries[0].name], [CONTENT])
    point = _of(place, "crafted")
    cage = tmp_path / "cage"
    for keep_going in (False, True):
        target = cage / f"target{keep_going}"
        target.mkdir(parents=True)
        (target / "kept").write_bytes(b"was here")
        if keep_going:
            done = place.restore(target, point=point, keep_going=True)
            assert done.damage
        else:
            with pytest.raises(IntegrityFailure):
                place.restore(target, point=point)
        assert (target / "kept").read_bytes() == b"was here"
    outside = {path.name for path in cage.iterdir()} | {path.name for path in tmp_path.iterdir()}
    assert "escaped" not in outside
    assert not Path("/tmp/escaped").exists()
    assert place.verify().findings
    place.assert_restores(source, _of(place, "files"))  # what others backed up is not touched by it


def test_a_segment_listed_again_and_again_is_refused(place: Place, tmp_path: Path) -> None:
    segment = encode_segment([_file(place, b"a", CONTENT)])
    _craft(place, [segment], [b"a"], [CONTENT], repeat=1000)
    point = _of(place, "crafted")
    with pytest.raises(IntegrityFailure, match="out of order"):
        place.restore(tmp_path / "out", point=point)
    assert place.verify().findings


def test_a_point_cannot_name_packs_of_another_writer_for_data_that_differs(
    place: Place, source: Path, tmp_path: Path
) -> None:
    """Whoever holds a writer's secret knows chunk ids; a planted chunk under such an id is not believed."""
    planted = place.add_host()
    vault = open_vault(place.store)
    vault.use_secret(planted.credential.secret)
    session = WriteSession(
        vault, planted.credential.signing_key, planted.credential.writer_id, planted.cache, planted.clock
    )
    for path in sorted(source.rglob("f*"))[:20]:
        identity = chunk_id(session.chunk_id_key, path.read_bytes())
        data = b"something else altogether"
        session.store(PackKind.DATA, memoryview(bytearray(data)), [(identity, len(data))])
    session.flush()
    session.close()
    for _ in range(3):  # whichever index is read first
        place.assert_restores(source, _of(place, "files"))
    report = place.verify()
    assert report.findings
    assert {finding.object.split("/")[0] for finding in report.findings} == {"packs"}
    change(source, 3)
    place.backup(source)
    place.assert_restores(source)


def test_a_huge_hole_is_a_problem_of_its_file_alone(place: Place, tmp_path: Path) -> None:
    huge = _file(place, b"a", CONTENT, size=(1 << 62), extents=((0, len(CONTENT)),))
    _craft(place, [encode_segment([huge, _file(place, b"b", CONTENT)])], [b"a"], [CONTENT])
    point = _of(place, "crafted")
    vault = place.open()
    with TreeTarget(tmp_path / "out", Overwrite.NEVER) as target:
        done = restore(Request(point), place.reader(vault), target, Silent())
    assert [problem.path for problem in done.problems] == [b"a"]
    assert (tmp_path / "out" / "b").read_bytes() == CONTENT
    assert not (tmp_path / "out" / "a").exists()
    assert sum(path.stat().st_blocks for path in (tmp_path / "out").iterdir()) < 64 * KIB


def test_a_damaged_manifest_lets_no_older_point_stand_for_the_latest(place: Place, source: Path) -> None:
    (source / "new").write_bytes(b"new")
    place.backup(source)
    newest = place.points()[-1]
    data = place.store.get(newest.point.name)
    place.store.delete_expired(newest.point.name)
    place.store.put(newest.point.name, data[:-1] + bytes([data[-1] ^ 1]))
    older = place.points()[-1]
    for name in ("latest", "files@latest", "files@2100-01-01"):
        with pytest.raises(IntegrityFailure, match=f"{newest.point.name}.*older point"):
            find_points(place.open(), name)
    assert find_points(place.open(), older.point_id.hex()[:12]) == [older]


class _Full(StoreWrapper):
    """Says of every object below a prefix that it is there."""

    def __init__(self, inner: ObjectStore, prefix: str) -> None:
        super().__init__(inner)
        self._prefix = prefix

    def put(self, name: str, data: Buffer, *, retain_until: int | None = None) -> ObjectInfo:
        if name.startswith(self._prefix):
            raise ObjectExists(f"{name}: exists")
        return self.inner.put(name, data, retain_until=retain_until)

    def get(
        self, name: str, *, offset: int = 0, length: int | None = None, version: str | None = None
    ) -> bytes:
        if name.startswith(self._prefix):
            return b"x"
        return self.inner.get(name, offset=offset, length=length, version=version)


@pytest.mark.parametrize("prefix", [names.SESSIONS, names.MANIFESTS])
def test_a_store_that_has_everything_is_found_out(place: Place, source: Path, prefix: str) -> None:
    with pytest.raises(IntegrityFailure):
        place.host.backup(_Full(place.store, prefix), source)
    fresh = place.add_host()
    with pytest.raises(IntegrityFailure, match="every object"):
        fresh.backup(_Full(place.store, prefix), source)
    place.backup(source)
    place.assert_restores(source)
