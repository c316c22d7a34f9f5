from __future__ import annotations

import ctypes
import errno
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    LocksUnsupported,
    ObjectExists,
    ObjectNotFound,
    PermissionMissing,
    StoreError,
    StoreFull,
    StoreUnavailable,
)
from donjon.core.units import MIB
from donjon.stores.base import LockEnforcement
from donjon.stores.files import LOCK_ATTRIBUTE
from donjon.stores.local import LocalStore
from donjon.testing.clock import ManualClock
from donjon.testing.folders import remove_tree
from tests.unit.local_store import fail, flag, flag_of, temporaries

LATER = 4_000_000_000


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "vault"
    try:
        yield path
    finally:
        remove_tree(path)


@pytest.fixture
def store(root: Path) -> LocalStore:
    return LocalStore.create(root)


# The kernel's flag


def test_root_can_neither_delete_nor_change_a_locked_object(store: LocalStore, root: Path) -> None:
    assert store.lock_enforcement is LockEnforcement.KERNEL, "run as root on ext4, XFS, Btrfs or a new tmpfs"
    store.put("a/one", b"data", retain_until=LATER)
    path = root / "a/one"
    assert os.geteuid() == 0
    attempts: list[Callable[[], object]] = [
        path.unlink,
        lambda: path.rename(root / "a/two"),
        lambda: path.write_bytes(b"other"),
        lambda: os.truncate(path, 0),
        lambda: os.setxattr(path, LOCK_ATTRIBUTE, b"0"),
        lambda: os.removexattr(path, LOCK_ATTRIBUTE),
        lambda: os.utime(path, (0, 0)),
        lambda: os.link(path, root / "a/two"),
    ]
    for attempt in attempts:
        with pytest.raises(PermissionError):
            attempt()
    assert store.get("a/one") == b"data"


def test_an_object_without_lock_has_no_flag(store: LocalStore, root: Path) -> None:
    store.put("one", b"data")
    assert not flag_of(root / "one")
    store.extend("one", LATER)
    assert flag_of(root / "one")


def test_extend_repairs_a_flag_that_a_crash_left_off(store: LocalStore, root: Path) -> None:
    store.put("one", b"data", retain_until=LATER)
    flag(root / "one", on=False)
    store.extend("one", LATER)
    assert flag_of(root / "one")


def test_extend_sets_the_flag_again_when_the_change_fails(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("one", b"data", retain_until=LATER)
    monkeypatch.setattr(os, "setxattr", fail(errno.EIO))
    with pytest.raises(StoreError, match="extend the lock of"):
        store.extend("one", LATER + 1)
    assert flag_of(root / "one")
    assert store.head("one").retain_until == LATER


def test_the_probe_leaves_nothing(store: LocalStore, root: Path) -> None:
    assert store.lock_enforcement is LockEnforcement.KERNEL
    assert temporaries(root) == []


def test_without_attributes_locks_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "setxattr", fail(errno.ENOTSUP))
    monkeypatch.setattr(os, "getxattr", fail(errno.ENOTSUP))
    store = LocalStore.create(root)
    assert store.lock_enforcement is LockEnforcement.NONE
    with pytest.raises(LocksUnsupported):
        store.put("one", b"data", retain_until=LATER)
    assert store.put("one", b"data").retain_until is None
    assert store.head("one").retain_until is None
    with pytest.raises(LocksUnsupported):
        store.extend("one", LATER)


def test_on_a_system_without_attributes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setxattr")
    monkeypatch.delattr(os, "getxattr")
    store = LocalStore.create(root)
    assert store.lock_enforcement is LockEnforcement.NONE
    store.put("one", b"data")
    assert [info.name for info in store.list()] == ["one"]


@pytest.mark.parametrize("value", [b"", b"soon", b"-1", b"1e9", b"\xff"])
def test_a_damaged_lock_is_an_integrity_failure(store: LocalStore, root: Path, value: bytes) -> None:
    store.put("one", b"data")
    os.setxattr(root / "one", LOCK_ATTRIBUTE, value)
    for call in (store.head, store.delete_expired, lambda name: store.extend(name, LATER)):
        with pytest.raises(IntegrityFailure, match="one"):
            call("one")
    assert store.get("one") == b"data"


# Errors and their names


def test_a_missing_root_is_no_empty_vault(root: Path) -> None:
    store = LocalStore(root)
    calls: list[Callable[[], object]] = [
        lambda: list(store.list()),
        lambda: store.get("one"),
        lambda: store.head("one"),
        lambda: store.put("one", b"data"),
        lambda: store.put("one", b"data", retain_until=LATER),
        lambda: store.extend("one", LATER),
        lambda: store.delete_expired("one"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="no such folder") as caught:
            call()
        assert "Mount" in caught.value.hint
    assert not root.exists()


def test_a_root_that_vanished_and_came_back(store: LocalStore, root: Path) -> None:
    store.put("a/one", b"data")
    remove_tree(root)
    with pytest.raises(StoreUnavailable):
        store.put("a/two", b"data")
    LocalStore.create(root)
    store.put("a/two", b"data")
    assert [info.name for info in store.list()] == ["a/two"]


def test_a_folder_that_vanished_is_made_again_by_the_retry(store: LocalStore, root: Path) -> None:
    store.put("a/one", b"data")
    remove_tree(root / "a")
    with pytest.raises(StoreUnavailable):
        store.put("a/two", b"data")
    store.put("a/two", b"data")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (errno.ENOSPC, StoreFull),
        (errno.EDQUOT, StoreFull),
        (errno.EACCES, PermissionMissing),
        (errno.EPERM, PermissionMissing),
        (errno.EROFS, PermissionMissing),
        (errno.ESTALE, StoreUnavailable),
        (errno.EMFILE, StoreUnavailable),
        (errno.EIO, StoreError),
    ],
)
def test_errors_of_the_system_are_named(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, code: int, kind: type[DonjonError]
) -> None:
    monkeypatch.setattr(os, "link", fail(code))
    with pytest.raises(kind) as caught:
        store.put("a/one", b"data")
    assert type(caught.value) is kind
    assert str(root / "a/one") in caught.value.message
    assert "create" in caught.value.message
    assert caught.value.hint
    assert isinstance(caught.value.__cause__, OSError)


def test_a_name_below_an_object_is_refused(store: LocalStore) -> None:
    store.put("a", b"data")
    with pytest.raises(StoreError):
        store.put("a/b", b"data")
    with pytest.raises(ObjectNotFound):
        store.get("a/b")


def test_a_read_only_store_can_be_read(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.put("one", b"data", retain_until=LATER)
    monkeypatch.setattr(tempfile, "mkstemp", fail(errno.EROFS))
    reader = LocalStore(root)
    assert reader.lock_enforcement is LockEnforcement.ADVISORY
    assert reader.head("one").retain_until == LATER
    with pytest.raises(PermissionMissing):
        reader.put("two", b"data")


# What is on the disk


def test_modes_keep_others_out(store: LocalStore, root: Path) -> None:
    store.put("a/b/one", b"data")
    modes = {path: (root / path).stat().st_mode & 0o777 for path in ("", "a", "a/b", "a/b/one", ".tmp")}
    assert modes == {"": 0o700, "a": 0o700, "a/b": 0o700, "a/b/one": 0o600, ".tmp": 0o700}


def test_foreign_files_links_and_temporaries_are_not_listed(store: LocalStore, root: Path) -> None:
    store.put("a/one", b"data")
    (root / "README.txt").write_text("mine")
    (root / "lost+found").mkdir()
    (root / ".tmp" / "half").write_text("half")
    (root / "link").symlink_to(root / "a/one")
    os.mkfifo(root / "fifo")
    assert [info.name for info in store.list()] == ["a/one"]
    with pytest.raises(StoreError):
        store.get("link")


def test_stored_at_is_the_file_systems_time_or_that_of_the_clock_given(root: Path) -> None:
    clock = ManualClock()
    info = LocalStore.create(root, clock).put("one", b"data")
    assert info.stored_at == clock()
    info = LocalStore(root).put("two", b"data")
    assert info.stored_at == int((root / "two").stat().st_mtime)
    assert info.stored_at != clock()


def test_an_object_deleted_while_a_listing_runs(store: LocalStore, root: Path) -> None:
    for name in ("a", "b", "c/d", "e"):
        store.put(name, b"data")
    listing = store.list()
    assert next(listing).name == "a"
    (root / "b").unlink()
    remove_tree(root / "c")
    assert [info.name for info in listing] == ["e"]


def test_url_escapes_the_path(tmp_path: Path) -> None:
    assert LocalStore(tmp_path / "a b").url == f"file://{tmp_path}/a%20b"


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("size_bytes", [MIB - 1, MIB, MIB + 1, 3 * MIB + 4095])
def test_large_objects_past_the_cache_and_through_it(
    store: LocalStore, size_bytes: int, *, aligned: bool
) -> None:
    content = (os.urandom(256) * (size_bytes // 256 + 1))[:size_bytes]
    memory = memory_at(size_bytes, shift=0 if aligned else 1)
    memory[:] = content
    store.put("large", memory)
    assert store.get("large") == content
    for offset in (0, 4096, 5000):
        assert store.get("large", offset=offset, length=size_bytes) == content[offset:]


def memory_at(size_bytes: int, shift: int) -> memoryview:
    """Memory that starts ``shift`` bytes after the begin of a page."""
    memory = bytearray(size_bytes + 2 * 4096)
    start = -ctypes.addressof(ctypes.c_char.from_buffer(memory)) % 4096 + shift
    return memoryview(memory)[start : start + size_bytes]


def test_a_name_taken_by_a_folder(store: LocalStore) -> None:
    store.put("a/b", b"data")
    with pytest.raises(ObjectExists):
        store.put("a", b"data")
