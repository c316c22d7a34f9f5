"""A fresh vault of a real and hostile tree, and every kit ever written, read by the second reader.

What it says is compared with the tree itself, not with what Donjon says.
"""

from __future__ import annotations

import ast
import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from donjon.app.setup import certify
from donjon.backup.job import Job
from donjon.backup.run import run_backup
from donjon.core.clock import system_clock
from donjon.core.events import Silent
from donjon.keys.recovery import RecoveryKit, write_kit
from donjon.repository.cache import Cache
from donjon.repository.creation import create_vault
from donjon.repository.keyring import vault_id_of
from donjon.repository.points import list_points, open_point
from donjon.repository.tree import Tree
from donjon.repository.writing import WriteSession
from donjon.sources.tree import TreeSource
from donjon.stores.local import LocalStore
from donjon.testing.folders import remove_tree
from donjon.testing.trees import build_gnarly_tree
from tests import second_reader
from tests.golden import reading

KINDS = {
    stat.S_IFREG: 1,
    stat.S_IFDIR: 2,
    stat.S_IFLNK: 3,
    stat.S_IFIFO: 4,
    stat.S_IFSOCK: 5,
    stat.S_IFCHR: 6,
    stat.S_IFBLK: 7,
}
KIT_VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "keys.json").read_text())["kits"]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    remove_tree(tmp_path)


def make_vault(place: Path, source: bytes) -> list[list[second_reader.Entry]]:
    """A vault in ``place/vault`` with two points of ``source``, and its kit in ``place/kit``.

    Returns the entries of both points as Donjon reads them.
    """
    store = LocalStore.create(place / "vault")
    address = store.url
    kit = RecoveryKit.generate(
        vault_id=bytes(16), vault_name="fresh", vault_url=address, created_at=store.now(), with_root=True
    )
    root = kit.root
    assert root is not None
    kit = replace(kit, vault_id=vault_id_of(root.public))
    write_kit(place / "kit", kit, None)
    vault = create_vault(store, kit.vault_id, root, [kit.recipient("kit")], lock_s=0)
    writer = certify(vault, root, "host", address)
    cache = Cache(place / "cache")
    for _ in range(2):
        session = WriteSession(vault, writer.signing_key, writer.writer_id, cache, system_clock)
        job = Job(TreeSource([source]), "tree", "host", (source,))
        try:
            run_backup(job, session, cache, system_clock, Silent())
        finally:
            session.close()
    vault.use_opener(kit.opener())
    chunks = reading.reader_of(vault, place / "reading")
    return [
        [reading.as_second(path, entry) for path, entry in Tree(open_point(vault, point), chunks).entries()]
        for point in list_points(vault)
    ]


def test_both_readers_see_the_tree_as_it_is(place: Path) -> None:
    source = os.fsencode(place / "source")
    build_gnarly_tree(source)
    donjon = make_vault(place, source)
    kit = second_reader.read_kit((place / "kit").read_text())
    vault = second_reader.Vault(second_reader.read_folder(place / "vault"), kit)
    points = list(vault.points())
    assert len(points) == 2
    finders = (vault.places_by_index, vault.places_by_footers)
    for point, find, entries in zip(points, finders, donjon, strict=True):
        reader = second_reader.Reader(vault, point, find(point.writer))
        assert list(reader.entries()) == entries
        seen = {entry.path: entry for entry in reader.entries()}
        top = source.lstrip(b"/")
        above = {b"/".join(top.split(b"/")[: i + 1]) for i in range(top.count(b"/") + 1)}
        fd = os.open(source, os.O_RDONLY | os.O_DIRECTORY)
        try:
            differences, paths = compare(fd, top, reader, seen)
        finally:
            os.close(fd)
        assert differences == []
        assert set(seen) - above == paths
        assert len(paths) > 150
        assert reader.problems() == []


def compare(
    dir_fd: int, at: bytes, reader: second_reader.Reader, seen: dict[bytes, second_reader.Entry]
) -> tuple[list[str], set[bytes]]:
    """What a directory on disk has otherwise than the point, and all paths below it."""
    differences: list[str] = []
    paths: set[bytes] = set()
    for name in map(os.fsencode, os.listdir(dir_fd)):
        path = at + b"/" + name
        paths.add(path)
        status = os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
        entry = seen[path]
        differences += [
            f"{path!r}: {what}: {found} instead of {wanted}"
            for what, found, wanted in facts(dir_fd, name, status, entry)
            if found != wanted
        ]
        if stat.S_ISREG(status.st_mode):
            differences += wrong_data(dir_fd, name, reader, entry)
        if stat.S_ISDIR(status.st_mode):
            below = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
            try:
                more, deeper = compare(below, path, reader, seen)
            finally:
                os.close(below)
            differences += more
            paths |= deeper
    return differences, paths


def facts(
    dir_fd: int, name: bytes, status: os.stat_result, entry: second_reader.Entry
) -> Iterator[tuple[str, Any, Any]]:
    """What the point says and what the disk says, named."""
    kind = stat.S_IFMT(status.st_mode)
    place = b"/proc/self/fd/%d/" % dir_fd + name
    names = os.listxattr(place, follow_symlinks=False)
    yield "kind", entry.kind, KINDS[kind]
    yield "mode", entry.mode, stat.S_IMODE(status.st_mode)
    yield "owner", (entry.uid, entry.gid), (status.st_uid, status.st_gid)
    yield "time", entry.mtime, divmod(status.st_mtime_ns, 1_000_000_000)
    yield "item", (entry.device, entry.inode), (status.st_dev, status.st_ino)
    yield "links", entry.links, 1 if kind == stat.S_IFDIR else status.st_nlink
    yield "size", entry.size, status.st_size if kind == stat.S_IFREG else 0
    yield "device", entry.rdev, status.st_rdev
    yield "target", entry.target, os.readlink(name, dir_fd=dir_fd) if kind == stat.S_IFLNK else b""
    yield (
        "attributes",
        dict(entry.attributes),
        {os.fsencode(n): os.getxattr(place, n, follow_symlinks=False) for n in names},
    )


def wrong_data(
    dir_fd: int, name: bytes, reader: second_reader.Reader, entry: second_reader.Entry
) -> list[str]:
    """Whether the data lies elsewhere or is other data."""
    data = memoryview(reader.data(entry))
    extents = ((0, entry.size),) if entry.extents is None else entry.extents
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=dir_fd)
    try:
        for offset, length in extents:
            if os.pread(fd, length, offset) != data[:length]:
                return [f"{name!r}: other data at {offset}"]
            data = data[length:]
        at = 0
        for offset, length in (*extents, (entry.size, 0)):
            if offset > at and has_data(fd, at, offset):
                return [f"{name!r}: a hole at {at} that is none"]
            at = offset + length
    finally:
        os.close(fd)
    return [f"{name!r}: too much data"] if data else []


def has_data(fd: int, start: int, end: int) -> bool:
    try:
        return os.lseek(fd, start, os.SEEK_DATA) < end
    except OSError:  # no data up to the end of the file
        return False


@pytest.mark.parametrize("row", KIT_VECTORS, ids=[row["name"] for row in KIT_VECTORS])
@pytest.mark.parametrize("form", ["text", "qr"])
def test_the_second_reader_reads_every_kit(row: dict[str, Any], form: str) -> None:
    text = row["qr"] if form == "qr" else "\n".join(row["text"])
    kit = second_reader.read_kit(text, row["passphrase"])
    assert kit == second_reader.Kit(
        vault_id=bytes.fromhex(row["vault_id"]),
        created=row["created_at"],
        fingerprint=row["fingerprint"],
        name=row["vault_name"],
        address=row["vault_url"],
        private=bytes.fromhex(row["opening_private"]),
        root_seed=bytes.fromhex(row["root_seed"]) if row["root_seed"] else None,
    )


def test_the_second_reader_runs_as_a_program_of_its_own(place: Path) -> None:
    (place / "source").mkdir()
    (place / "source" / "file").write_bytes(b"content")
    make_vault(place, os.fsencode(place / "source"))
    arguments = [sys.executable, "-S", second_reader.__file__, str(place / "vault"), str(place / "kit")]
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if "site-packages" in path)}
    run = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert run.stdout.count("point ") == 2
    assert "file' file " in run.stdout


def test_the_second_reader_shares_nothing_with_donjon() -> None:
    tree = ast.parse(Path(second_reader.__file__).read_text())
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            assert node.module is not None
            imported.add(node.module.partition(".")[0])
    third_party = imported - sys.stdlib_module_names
    assert third_party == {"argon2", "blake3", "cryptography", "msgspec", "zstandard"}
