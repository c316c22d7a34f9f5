from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from donjon.core.errors import ObjectLocked, PermissionMissing
from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.first_versions import FirstVersions
from donjon.stores.local import LocalStore
from donjon.stores.memory import MemoryStore
from donjon.stores.observe import ObservingStore
from donjon.stores.retry import RetryingStore
from donjon.stores.s3 import S3Store
from donjon.stores.sftp import SftpAddress, SftpConnection, SftpStore
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.clock import ManualClock
from donjon.testing.conformance.stores import DATA, StoreTests
from donjon.testing.faulty import FaultyStore
from donjon.testing.folders import remove_tree
from donjon.testing.servers.sshd import SshServer, ssh_server


class OnManualClock(StoreTests):
    """Stores whose clock the tests move."""

    @pytest.fixture
    def clock(self) -> ManualClock:
        self.moved_clock = ManualClock()
        return self.moved_clock

    def pass_time(self, store: ObjectStore, seconds: int) -> None:
        self.moved_clock.advance(seconds)


class TestMemoryStore(OnManualClock):
    @pytest.fixture
    def store(self, clock: ManualClock) -> ObjectStore:
        return MemoryStore(clock)

    def reopen(self, store: ObjectStore) -> ObjectStore:
        assert isinstance(store, MemoryStore)
        return MemoryStore.from_snapshot(store.snapshot(), self.moved_clock)


class TestMemoryStoreWithoutLocks(StoreTests):
    @pytest.fixture
    def store(self) -> ObjectStore:
        return MemoryStore(lock_enforcement=LockEnforcement.NONE)


class TestLocalStore(OnManualClock):
    """On the file system of the checkout's temporary folder, with the kernel's flag if it can be had."""

    @pytest.fixture
    def store(self, tmp_path: Path, clock: ManualClock) -> Iterator[ObjectStore]:
        self.root = tmp_path / "vault"
        try:
            yield LocalStore.create(self.root, clock)
        finally:
            remove_tree(self.root)

    def reopen(self, store: ObjectStore) -> ObjectStore:
        return LocalStore(self.root, self.moved_clock)


class TestLocalStoreWithoutFlag(TestLocalStore):
    """As a user who is not root has it."""

    @pytest.fixture(autouse=True)
    def _no_flag(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("donjon.stores.local.can_set_immutable", lambda _: False)

    def test_locks_are_advisory(self, store: ObjectStore) -> None:
        assert store.lock_enforcement is LockEnforcement.ADVISORY


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def connection(server: SshServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SftpConnection]:
    """One for all tests, for logging in takes longer than most of them."""
    address = SftpAddress.parse(server.url(tmp_path_factory.mktemp("unused")))
    made = SftpConnection(address, identity=server.identity, known_hosts=server.known_hosts)
    yield made
    made.close()


class TestSftpStore(StoreTests):
    @pytest.fixture
    def store(self, server: SshServer, connection: SftpConnection, tmp_path: Path) -> ObjectStore:
        self.connection = connection
        return SftpStore.create(server.url(tmp_path / "vault"), connection)

    def reopen(self, store: ObjectStore) -> ObjectStore:
        return SftpStore(store.url, self.connection)


@pytest.fixture(scope="module")
def bucket(s3_server: SeaweedFs) -> str:
    """One for all, each test with a prefix of its own: making a bucket takes longer than most tests."""
    return s3_server.make_bucket()


class TestS3Store(StoreTests):
    """On a server with Object Lock. Its clock cannot be set, so a few locks are short and waited for."""

    lock_s = 8
    margin_s = 5

    @pytest.fixture
    def store(self, s3_server: SeaweedFs, bucket: str) -> Iterator[ObjectStore]:
        with S3Store(s3_server.url(bucket, f"some/Prefix_{secrets.token_hex(6)}")) as store:
            yield store

    def reopen(self, store: ObjectStore) -> ObjectStore:
        return S3Store(store.url)

    def test_concurrent_extensions_keep_the_latest_end(self, store: ObjectStore) -> None:
        """SeaweedFS looks at a lock and changes it in two steps, so the last of two at once may win.

        It never falls below what it was before either of them.
        """
        info = store.put("a/locked", DATA, retain_until=store.now() + self.lock_s)
        ends = [self._end(info) + i for i in range(1, 17)]

        def extend(end: int) -> None:
            with contextlib.suppress(ObjectLocked, PermissionMissing):
                store.extend(info.name, end, version=info.version)

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(extend, ends))
        assert store.head(info.name).retain_until in ends


class TestS3StoreOnMiniStack(TestS3Store):
    """On another server that enforces locks, as a user of an account of its own."""

    @pytest.fixture
    def store(self, aws: MiniStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
        for name, value in aws.root().environment.items():
            monkeypatch.setenv(name, value)
        with S3Store(aws.url(aws.make_bucket(), "vault")) as store:
            yield store

    def pass_until(self, store: ObjectStore, moment: int) -> None:
        """MiniStack counts the second in which a lock ends as locked."""
        super().pass_until(store, moment + 1)


class TestFirstVersions(OnManualClock):
    @pytest.fixture
    def store(self, clock: ManualClock) -> ObjectStore:
        return FirstVersions(MemoryStore(clock))


class TestRetryingStore(OnManualClock):
    @pytest.fixture
    def store(self, clock: ManualClock) -> ObjectStore:
        return RetryingStore(MemoryStore(clock))


class TestObservingStore(OnManualClock):
    @pytest.fixture
    def store(self, clock: ManualClock) -> ObjectStore:
        return ObservingStore(MemoryStore(clock))


class TestFaultyStoreWithoutFaults(OnManualClock):
    @pytest.fixture
    def store(self, clock: ManualClock) -> ObjectStore:
        return FaultyStore(MemoryStore(clock))
