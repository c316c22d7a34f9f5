"""A keeper of the vault who hides, replays, swaps or plants whole objects; and clocks that are wrong."""

from __future__ import annotations

import itertools
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from donjon.app.wiring import open_vault_at
from donjon.backup.job import Job
from donjon.backup.run import run_backup
from donjon.codec.sign import SigningKey
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, UnsupportedVersion
from donjon.core.events import Silent
from donjon.format.objects import ObjectKind, pack_object
from donjon.repository.cache import Cache
from donjon.repository.points import list_points, open_point
from donjon.repository.vault import Vault, open_vault
from donjon.repository.verify import Report, verify_content, verify_structure
from donjon.repository.writing import WriteSession
from donjon.stores.local import LocalStore
from donjon.stores.memory import MemorySnapshot, MemoryStore
from donjon.testing.clock import ManualClock
from donjon.testing.folders import remove_tree
from tests import second_reader
from tests.golden import reading
from tests.golden.made_up import MadeUpSource
from tests.golden.recipe import Maker, small_tree

GOLDEN = reading.load("v1-large")
YEAR = 365 * 86_400


def store_of(snapshot: MemorySnapshot) -> MemoryStore:
    return MemoryStore.from_snapshot(snapshot, ManualClock(1_801_000_000))


def without(name: str) -> MemorySnapshot:
    return {other: item for other, item in GOLDEN.snapshot.items() if other != name}


def opened(store: MemoryStore) -> Vault:
    vault = open_vault(store)
    vault.use_opener(GOLDEN.kit().opener())
    return vault


def check(vault: Vault, folder: Path) -> Report:
    report = verify_structure(vault, Silent())
    verify_content(vault, reading.reader_of(vault, folder), report, 100, Silent())
    return report


def names_in(folder: str) -> list[str]:
    return sorted(name for name in GOLDEN.snapshot if name.startswith(folder))


def inner_manifests() -> list[str]:
    """Manifests that are not the newest of their writer."""
    found = names_in("manifests/")
    return [name for name, after in itertools.pairwise(found) if name[:-8] == after[:-8]]


@pytest.mark.parametrize("name", [*inner_manifests(), *names_in("sessions/"), *names_in("packs/")])
def test_a_hidden_object_is_reported(name: str, tmp_path: Path) -> None:
    report = check(opened(store_of(without(name))), tmp_path)
    assert (name, "missing") in {(finding.object, finding.kind) for finding in report.findings}


def test_a_hidden_index_costs_nothing_but_time(tmp_path: Path) -> None:
    snapshot = {name: item for name, item in GOLDEN.snapshot.items() if not name.startswith("index/")}
    vault = opened(store_of(snapshot))
    assert reading.listing(vault, reading.reader_of(vault, tmp_path)) == reading.expected(GOLDEN.name)


def test_a_hidden_end_of_the_keyring_is_proven_by_the_sessions() -> None:
    """The last session was sealed to the second kit, which came with a later record."""
    *_, last = names_in("keyring/")
    vault = opened(store_of(without(last)))
    newest = max(names_in("sessions/"), key=lambda name: GOLDEN.snapshot[name].stored_at)
    _, writer, number = newest.split("/")
    with pytest.raises(IntegrityFailure, match="keyring"):
        vault.read_session(bytes.fromhex(writer), int(number))
    hidden = second_reader.Vault(
        {name: item.data for name, item in without(last).items()}, second_reader.read_kit(GOLDEN.kits[0])
    )
    with pytest.raises(second_reader.Wrong, match="hidden"):
        hidden.session_key(bytes.fromhex(writer), int(number))


def test_an_object_of_a_newer_version_concerns_itself_alone(tmp_path: Path) -> None:
    """Planted as the next manifest of a writer, it keeps no other point from being restored."""
    last = inner_manifests()[-1][:-8] + "00000004"
    data = bytearray(GOLDEN.snapshot[last].data)
    data[5] = 2
    planted = last[:-1] + "5"
    snapshot = {**GOLDEN.snapshot, planted: replace(GOLDEN.snapshot[last], data=bytes(data))}
    vault = opened(store_of(snapshot))
    damaged: list[IntegrityFailure] = []
    points = list_points(vault, damaged)
    assert [type(error) for error in damaged] == [UnsupportedVersion]
    assert planted in damaged[0].message
    chunks = reading.reader_of(vault, tmp_path)
    lines = [line for point in points for line in reading.restored_lines(open_point(vault, point), chunks)]
    assert sorted(lines) == sorted(line for line in reading.expected(GOLDEN.name) if line.startswith("  "))


# --- another vault in its place -------------------------------------------------------------------


@pytest.fixture
def other() -> Iterator[Maker]:
    maker = Maker("other", lock_s=0)
    yield maker
    maker.close()


def test_a_kit_opens_its_own_vault_only(other: Maker) -> None:
    vault = open_vault(other.store)
    with pytest.raises(KeyNotAvailable):
        vault.use_opener(GOLDEN.kit().opener())
    objects = {name: item.data for name, item in other.store.snapshot().items()}
    with pytest.raises(second_reader.Wrong):
        second_reader.Vault(objects, second_reader.read_kit(GOLDEN.kits[0]))


def test_a_host_notices_that_its_vault_was_replaced(other: Maker) -> None:
    pinned = open_vault(GOLDEN.store()).object.root_public
    with pytest.raises(KeyNotAvailable, match="another vault"):
        open_vault(other.store, root_public=pinned)


def test_a_vault_id_belongs_to_its_root_key(tmp_path: Path) -> None:
    """Otherwise a kit without the root key would name nothing that holds."""
    root, stolen = SigningKey.generate(), GOLDEN.vault_id
    honest = open_vault(GOLDEN.store()).object
    forged = msgspec.structs.replace(honest, root_public=root.public)
    data = pack_object(ObjectKind.VAULT, forged, stolen, root)
    store = LocalStore.create(tmp_path / "vault")
    store.put("vault", data)
    try:
        with pytest.raises(IntegrityFailure, match="does not belong"):
            open_vault_at(store.url)
    finally:
        remove_tree(tmp_path / "vault")
    with pytest.raises(second_reader.Wrong):
        second_reader.Vault({**GOLDEN.objects, "vault": data}, second_reader.read_kit(GOLDEN.kits[1]))


# --- clocks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset_s", [-50 * YEAR, 50 * YEAR], ids=["behind", "ahead"])
def test_no_clock_of_a_host_orders_points_or_sets_locks(offset_s: int, tmp_path: Path) -> None:
    maker = Maker("clocks")
    try:
        made = []
        for number, wrong_by in enumerate((0, offset_s, 0)):
            writer = maker.writer(f"host-{number}")
            clock = ManualClock(maker.clock() + wrong_by)
            cache = Cache(tmp_path / str(number))
            session = WriteSession(maker.vault, writer.signing_key, writer.writer_id, cache, clock)
            try:
                job = Job(MadeUpSource(small_tree()), "db", writer.name, (b"/srv",))
                made.append(run_backup(job, session, cache, clock, Silent()).point)
            finally:
                session.close()
            maker.clock.advance(60)
        points = list_points(maker.vault)
        assert [point.point_id for point in points] == made
        ends = {item.retain_until for item in maker.store.snapshot().values()}
        assert all(end is not None and 30 <= (end - maker.clock()) / 86_400 <= 31 for end in ends)
    finally:
        maker.close()


# --- huge objects ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "vault",
        "keyring/00000009",
        "sessions/{writer}/00000001",
        "seals/{recipient}/{writer}/00000001",
        "index/{writer}/00000009-0000",
        "manifests/{writer}/00000009",
        "packs/ab/" + "ab" * 32,
    ],
)
def test_an_object_of_a_terabyte_is_reported_and_not_read(name: str, tmp_path: Path) -> None:
    """The file has a hole for its size: whoever reads all of it needs the memory."""
    folder = tmp_path / "vault"
    for other, data in GOLDEN.objects.items():
        (folder / other).parent.mkdir(parents=True, exist_ok=True)
        (folder / other).write_bytes(data)
    vault = open_vault(GOLDEN.store())
    recipients, writers = sorted(vault.keyring.members), sorted(vault.keyring.writers)
    path = folder / name.format(writer=writers[0].hex(), recipient=recipients[0].hex())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(1 << 40)
    tracemalloc.start()
    try:
        assert str(path.relative_to(folder)) in problems(LocalStore(folder))
        assert tracemalloc.get_traced_memory()[1] < 300 << 20  # an index object may have 256 MiB
    finally:
        tracemalloc.stop()


def problems(store: LocalStore) -> str:
    """What verifying the structure finds, as one text."""
    try:
        report = verify_structure(open_vault(store), Silent())
    except IntegrityFailure as error:
        return error.message
    return "\n".join(finding.object for finding in report.findings)


def test_a_record_after_a_hidden_one_is_reported() -> None:
    *_, before, last = names_in("keyring/")
    report = verify_structure(open_vault(store_of(without(before))), Silent())
    assert last in {finding.object for finding in report.findings}
