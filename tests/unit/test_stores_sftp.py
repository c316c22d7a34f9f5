from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    ObjectExists,
    ObjectNotFound,
    PermissionMissing,
    Refused,
    StoreFull,
    StoreUnavailable,
    UsageError,
)
from donjon.core.units import KIB, MIB
from donjon.stores.retry import RetryingStore
from donjon.stores.sftp import SftpAddress, SftpConnection, SftpStore
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.stores import streamed
from donjon.testing.servers import sshd
from donjon.testing.servers.sshd import SshServer, ssh_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


def connect(
    server: SshServer, *, identity: Path | None = None, known_hosts: Path | None = None
) -> SftpConnection:
    return SftpConnection(
        SftpAddress.parse(server.url(Path("/unused"))),
        identity=identity or server.identity,
        known_hosts=known_hosts or server.known_hosts,
    )


@pytest.fixture(scope="module")
def connection(server: SshServer) -> Iterator[SftpConnection]:
    made = connect(server)
    yield made
    made.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "far/vault"


@pytest.fixture
def store(server: SshServer, connection: SftpConnection, root: Path) -> SftpStore:
    return SftpStore.create(server.url(root), connection)


# Addresses


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sftp://me@host/a/b", SftpAddress("host", 22, "me", "/a/b")),
        ("sftp://host:2222/a/", SftpAddress("host", 2222, None, "/a")),
        ("sftp://me@[::1]:22/a%20b", SftpAddress("::1", 22, "me", "/a b")),
        ("sftp://host/~/a", SftpAddress("host", 22, None, "a")),
    ],
)
def test_addresses(url: str, expected: SftpAddress) -> None:
    assert SftpAddress.parse(url) == expected


@pytest.mark.parametrize(
    "url",
    ["", "sftp://", "sftp://host", "sftp:///a", "ssh://host/a", "sftp://me:secret@host/a", "sftp://host:x/a"],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        SftpStore(url)
    assert "secret" not in str(caught.value)


# Whom to trust


def test_an_unknown_host_is_refused_with_the_command_that_helps(server: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.touch()
    with pytest.raises(Refused, match="ssh-ed25519 SHA256:") as caught:
        SftpStore(server.url(tmp_path), connect(server, known_hosts=known_hosts)).get("one")
    assert f"ssh-keyscan -p {server.port} 127.0.0.1 >> ~/.ssh/known_hosts" in caught.value.hint
    assert known_hosts.read_text() == ""


def test_the_fingerprint_is_the_one_that_openssh_shows(server: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.touch()
    shown = subprocess.run(
        ["ssh-keygen", "-lf", server.folder / "host_key.pub"], check=True, capture_output=True, text=True
    )
    with pytest.raises(Refused) as caught:
        SftpStore(server.url(tmp_path), connect(server, known_hosts=known_hosts)).get("one")
    assert shown.stdout.split()[1] in caught.value.message


def test_a_changed_host_key_is_refused(server: SshServer, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.identity.with_suffix('.pub').read_text()}")
    with pytest.raises(Refused, match="another host key") as caught:
        SftpStore(server.url(tmp_path), connect(server, known_hosts=known_hosts)).get("one")
    assert "ssh-keygen -R" in caught.value.hint


def new_key(path: Path, passphrase: str = "") -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", path], check=True)
    return path


def test_a_key_that_the_server_does_not_know(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(PermissionMissing, match="log in"):
        SftpStore(server.url(tmp_path), connect(server, identity=new_key(tmp_path / "key"))).get("one")


def test_an_encrypted_and_a_missing_key(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    for identity in (new_key(tmp_path / "key", "passphrase"), tmp_path / "none"):
        with pytest.raises(KeyNotAvailable):
            SftpStore(server.url(tmp_path), connect(server, identity=identity)).get("one")


def test_the_environment_names_the_identity(
    server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DONJON_SFTP_IDENTITY", str(server.identity))
    address = SftpAddress.parse(server.url(tmp_path))
    with SftpStore(server.url(tmp_path), SftpConnection(address, known_hosts=server.known_hosts)) as store:
        assert list(store.list()) == []


def test_without_the_sdk_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "paramiko", None)
    with pytest.raises(UsageError) as caught:
        SftpStore("sftp://host/a").get("one")
    assert "pip install 'donjon[sftp]'" in caught.value.hint


def test_the_sdk_is_not_loaded_before_it_is_needed() -> None:
    script = (
        "import sys, donjon.stores.sftp as s; s.SftpStore('sftp://host/a'); print('paramiko' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
    assert done.stdout == b"False\n"


# Broken connections


def test_nobody_listens(tmp_path: Path, server: SshServer) -> None:
    address = SftpAddress("127.0.0.1", 1, "root", "/")
    with pytest.raises(StoreUnavailable, match="no connection"):
        SftpStore(server.url(tmp_path), SftpConnection(address, known_hosts=server.known_hosts)).get("one")


def test_a_cut_connection_is_retryable_and_comes_back(server: SshServer, root: Path) -> None:
    with SftpStore.create(server.url(root), connect(server)) as store:
        store.put("one", b"data")
        cut_all(server)
        with pytest.raises(StoreUnavailable):
            store.get("one")
        assert store.get("one") == b"data"
        cut_all(server)
        assert RetryingStore(store, sleep=lambda _: None).get("one") == b"data"


def test_a_connection_cut_in_the_middle_of_puts(server: SshServer, root: Path) -> None:
    content = bytes(range(256)) * 8 * KIB
    with SftpStore.create(server.url(root), connect(server)) as inner:
        store = RetryingStore(inner, sleep=lambda _: None)

        def put(number: int) -> None:
            if number == 3:
                cut_all(server)
            store.put(f"{number}", content)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(put, range(8)))
        assert [info.name for info in store.list()] == [str(number) for number in range(8)]
        assert all(store.get(str(number)) == content for number in range(8))


def cut_all(server: SshServer) -> None:
    """Kill what serves the present connections, and not the server."""
    for process in server.session_processes():
        os.kill(process, signal.SIGKILL)


def test_more_threads_than_channels(store: SftpStore) -> None:
    with ThreadPoolExecutor(24) as pool:
        list(pool.map(lambda number: store.put(f"{number}", bytes(number)), range(48)))
    assert sum(info.size_bytes for info in store.list()) == sum(range(48))


def test_a_listing_holds_no_channel(store: SftpStore) -> None:
    store.put("one", b"data")
    listings = [store.list() for _ in range(20)]
    assert [next(listing).name for listing in listings] == ["one"] * 20
    assert store.get("one") == b"data"


# What the server refuses


def test_a_missing_root_is_no_empty_vault(store: SftpStore, root: Path) -> None:
    root.rmdir()
    calls: list[Callable[[], object]] = [
        lambda: list(store.list()),
        lambda: store.get("one"),
        lambda: store.head("one"),
        lambda: store.put("a/one", b"data"),
        lambda: store.delete_expired("one"),
    ]
    for call in calls:
        with pytest.raises(StoreUnavailable, match="no such folder"):
            call()
    assert not root.exists()


def test_a_full_disk_leaves_nothing(server: SshServer, connection: SftpConnection, tmp_path: Path) -> None:
    disk = tmp_path / "small"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "donjon-test", disk], check=True)
    try:
        store = SftpStore.create(server.url(disk / "vault"), connection)
        store.put("fits", bytes(2 * MIB))
        with pytest.raises(StoreFull, match="too/large"):
            store.put("too/large", os.urandom(3 * MIB))
        assert list((disk / "vault/.tmp").iterdir()) == []
        assert [info.name for info in store.list()] == ["fits"]
    finally:
        subprocess.run(["umount", "--lazy", disk], check=True)


def test_a_server_that_is_read_only(tmp_path: Path, root: Path) -> None:
    root.mkdir(parents=True)
    (root / "one").write_bytes(b"data")
    (tmp_path / "sshd").mkdir()
    clock = ManualClock()
    with ssh_server(tmp_path / "sshd", "-R") as server, contextlib.closing(connect(server)) as connection:
        store = SftpStore(server.url(root), connection, clock)
        assert store.get("one") == b"data"
        assert store.now() == clock()
        with pytest.raises(PermissionMissing, match=f"create {root}/two"):
            store.put("two", b"data")
        with pytest.raises(PermissionMissing, match=f"delete {root}/one"):
            store.delete_expired("one")


def test_a_server_without_extensions_has_one_winner_too(tmp_path: Path, root: Path) -> None:
    (tmp_path / "sshd").mkdir()
    with (
        ssh_server(tmp_path / "sshd", "-P hardlink,fsync,statvfs") as server,
        contextlib.closing(connect(server)) as connection,
    ):
        store = SftpStore.create(server.url(root), connection)

        def put(job: int) -> int | None:
            try:
                store.put(f"{job // 4}", b"%d" % job)
            except ObjectExists:
                return None
            return job

        with ThreadPoolExecutor(4) as pool:
            winners = [job for job in pool.map(put, range(40)) if job is not None]
        assert [job // 4 for job in winners] == list(range(10))
        assert all(store.get(f"{job // 4}") == b"%d" % job for job in winners)
        assert list((root / ".tmp").iterdir()) == []


def test_a_name_below_an_object_is_refused(store: SftpStore) -> None:
    store.put("a", b"data")
    with pytest.raises(DonjonError):
        store.put("a/b", b"data")


# What is on the server


def test_modes_keep_others_out_and_no_temporary_stays(store: SftpStore, root: Path) -> None:
    store.put("a/b/one", b"data")
    modes = {path: (root / path).stat().st_mode & 0o777 for path in ("", "a", "a/b", "a/b/one", ".tmp")}
    assert modes == {"": 0o700, "a": 0o700, "a/b": 0o700, "a/b/one": 0o600, ".tmp": 0o700}
    assert list((root / ".tmp").iterdir()) == []
    assert (root / "a/b/one").stat().st_nlink == 1


def test_what_broken_connections_left_is_removed_after_a_day(
    store: SftpStore, server: SshServer, connection: SftpConnection, root: Path
) -> None:
    store.put("one", b"data")
    for name in ("young", "old"):
        (root / ".tmp" / name).write_bytes(b"half")
    os.utime(root / ".tmp/old", (0, time.time() - 90_000))
    SftpStore(server.url(root), connection).put("two", b"data")
    assert os.listdir(root / ".tmp") == ["young"]


def test_now_is_the_servers_clock(server: SshServer, connection: SftpConnection, root: Path) -> None:
    clock = ManualClock(1_000)
    store = SftpStore.create(server.url(root), connection, clock)
    (root / "probe").touch()
    seen = int((root / "probe").stat().st_mtime)
    assert seen <= store.now() <= seen + 5
    before = store.now()
    clock.advance(100)
    assert store.now() == before + 100


def test_foreign_files_and_folders_are_not_objects(store: SftpStore, root: Path) -> None:
    store.put("a/one", b"data")
    (root / "README.txt").write_text("mine")
    (root / "link").symlink_to(root / "a/one")
    assert [info.name for info in store.list()] == ["a/one"]
    for call in (store.head, store.get, store.delete_expired):
        with pytest.raises(ObjectNotFound):
            call("a")


def test_an_object_cut_short(store: SftpStore, root: Path) -> None:
    store.put("one", bytes(100))
    os.truncate(root / "one", 50)
    with pytest.raises(IntegrityFailure, match="byte 50"):
        streamed(store, "one", 100)


def test_a_suite_without_sshd_fails_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(RuntimeError, match="apt-get install openssh-server"), sshd.ssh_server(tmp_path):
        pass
