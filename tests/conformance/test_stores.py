from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.stores.base import LockEnforcement, ObjectStore
from donjon.stores.local import LocalStore
from donjon.stores.memory import MemoryStore
from donjon.stores.observe import ObservingStore
from donjon.stores.retry import RetryingStore
from donjon.stores.sftp import SftpAddress, SftpConnection, SftpStore
from donjon.testing.clock import ManualClock
from donjon.testing.faulty import FaultyStore
from donjon.testing.folders import remove_tree
from donjon.testing.sshd import SshServer, ssh_server
from donjon.testing.store_tests import StoreTests


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
