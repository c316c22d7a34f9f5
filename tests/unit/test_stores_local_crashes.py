"""A folder as a store, when disks fill up and processes die."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.errors import ObjectExists, StoreError, StoreFull
from donjon.core.units import KIB, MIB
from donjon.stores import local
from donjon.stores.local import LocalStore
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "donjon-test", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def test_a_full_disk_leaves_neither_object_nor_temporary_file(small_disk: Path) -> None:
    store = LocalStore.create(small_disk / "vault")
    store.put("fits", bytes(2 * MIB))
    for size_bytes in (3 * MIB, 64 * MIB):
        with pytest.raises(StoreFull, match="too/large") as caught:
            store.put("too/large", bytes(size_bytes))
        assert caught.value.hint
    assert temporaries(small_disk / "vault") == []
    assert [info.name for info in store.list()] == ["fits"]
    store.put("too/large", bytes(MIB))


def test_a_disk_that_fills_up_with_small_objects(small_disk: Path) -> None:
    store = LocalStore.create(small_disk / "vault")
    names = [f"small/{number:04d}" for number in range(100)]
    with pytest.raises(StoreFull):
        list(map(store.put, names, [bytes(100 * KIB)] * 100))
    assert temporaries(small_disk / "vault") == []
    kept = list(store.list())
    assert [info.name for info in kept] == names[: len(kept)]
    assert {info.size_bytes for info in kept} == {100 * KIB}


@pytest.mark.parametrize("step", ["write_all", "sync", "sync_folder"])
def test_a_failing_step_leaves_nothing(
    store: LocalStore, root: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    store.put("a/first", b"data", retain_until=LATER)
    with monkeypatch.context() as patch:
        patch.setattr(local, step, fail(errno.EIO))
        with pytest.raises(StoreError, match="a/one"):
            store.put("a/one", b"data", retain_until=LATER)
    assert temporaries(root) == []
    assert [info.name for info in store.list()] == ["a/first"]


WRITER = """
import sys
from pathlib import Path
from donjon.stores.local import LocalStore
store = LocalStore(Path(sys.argv[1]))
print("ready", flush=True)
for number in range(100_000):
    content = bytes([number % 251]) * (200_000 + number)
    store.put(f"{number % 7}/{number:06d}", content, retain_until=4_000_000_000)
"""


def test_a_killed_writer_leaves_no_half_object(store: LocalStore, root: Path) -> None:
    for _ in range(3):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, root], stdout=subprocess.PIPE)
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            while len(list(store.list())) < 5:
                time.sleep(0.01)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()
        for info in store.list():
            number = int(info.name[2:])
            assert store.get(info.name) == bytes([number % 251]) * (200_000 + number)
            assert info.retain_until == LATER
        remove_tree(root)
        LocalStore.create(root)


DYING = """
import os, signal, sys
from pathlib import Path
from donjon.stores import local
root, step, survived, call = sys.argv[1:]
store = local.LocalStore(Path(root))
store.lock_enforcement
original, left = getattr(local, step), [int(survived)]
def die(*arguments, **options):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments, **options)
setattr(local, step, die)
eval(call)
"""


def die_in(root: Path, step: str, survived: int, call: str) -> None:
    """Let a process die when it is about to take ``step`` for one time more than it survives."""
    done = subprocess.run([sys.executable, "-c", DYING, root, step, str(survived), call], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    ("step", "survived", "visible"),
    [("write_all", 0, False), ("sync", 0, False), ("drop_cache", 0, False), ("set_immutable", 0, True)],
)
def test_a_put_that_dies_at_a_step(
    store: LocalStore, root: Path, step: str, survived: int, *, visible: bool
) -> None:
    store.put("a/first", b"data")
    die_in(root, step, survived, "store.put('a/one', b'data', retain_until=4_000_000_000)")
    assert [info.name for info in store.list()] == ["a/first", "a/one"][: 1 + visible]
    if visible:
        assert store.head("a/one").retain_until == LATER
        with pytest.raises(ObjectExists):
            store.put("a/one", b"data")
    else:
        store.put("a/one", b"data")
    assert store.get("a/one") == b"data"


@pytest.mark.parametrize(("step", "survived"), [("set_immutable", 0), ("set_immutable", 1), ("sync", 0)])
def test_an_extension_that_dies_at_a_step_shortens_nothing(
    store: LocalStore, root: Path, step: str, survived: int
) -> None:
    store.put("one", b"data", retain_until=LATER)
    die_in(root, step, survived, "store.extend('one', 4_000_000_001)")
    assert store.head("one").retain_until in {LATER, LATER + 1}
    store.extend("one", LATER + 2)
    assert flag_of(root / "one")


def test_what_killed_writers_left_is_removed_after_a_day(root: Path) -> None:
    LocalStore.create(root).put("one", b"data")
    names = ["young", "old", "old-immutable", "old-published"]
    for name in names:
        (root / ".tmp" / name).write_bytes(b"half")
    os.link(root / ".tmp/old-published", root / "published")
    for name in names[1:]:
        os.utime(root / ".tmp" / name, (0, time.time() - 90_000))
    flag(root / ".tmp/old-immutable", on=True)
    flag(root / ".tmp/old-published", on=True)
    LocalStore(root).put("two", b"data")
    assert sorted(temporaries(root)) == ["old-published", "young"]
    assert flag_of(root / "published")


def test_racing_puts_of_several_processes_have_one_winner(store: LocalStore, root: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from donjon.core.errors import ObjectExists\n"
        "from donjon.stores.local import LocalStore\n"
        "store = LocalStore(Path(sys.argv[1])); won = []; sys.stdin.readline()\n"
        "for n in range(50):\n"
        "    try: store.put(f'race/{n}', sys.argv[2].encode()); won.append(n)\n"
        "    except ObjectExists: pass\n"
        "print(*won)\n"
    )
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", script, root, str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    with ThreadPoolExecutor() as pool:
        outputs = list(pool.map(lambda writer: writer.communicate("go\n")[0], writers))
    won = {(int(number), str(who)) for who, output in enumerate(outputs) for number in output.split()}
    assert sorted(number for number, _ in won) == list(range(50))
    assert all(store.get(f"race/{number}") == who.encode() for number, who in won)
