"""The engine on real S3 servers: crashes at every call, lost replies, and many writers at once.

Hosts have nothing but the policy of a writer, so they never list.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.core.events import Silent
from donjon.core.units import MIB
from donjon.format import names
from donjon.format.pack import PackKind
from donjon.repository.check import check_structure
from donjon.repository.packer import PACK_BYTES
from donjon.stores.base import ObjectStore
from donjon.stores.first_versions import FirstVersions
from donjon.stores.retry import RetryingStore
from donjon.stores.s3 import S3Address, S3Store
from donjon.stores.s3.client import S3Client
from donjon.testing.aws.ministack import MiniStack
from donjon.testing.aws.people import User
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.clock import ManualClock
from donjon.testing.faulty import Crash, Fault, FaultyStore
from tests.integration.engine import Host, Place, change, fill
from tests.integration.s3_roles import PREFIX, policy

DAY = 86_400


@pytest.fixture(autouse=True)
def _small_packs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PACK_BYTES, PackKind.DATA, MIB // 4)


Server = SeaweedFs | MiniStack


def _store(server: Server, url: str, client: Any) -> ObjectStore:
    address = S3Address.parse(url)
    store = S3Store(address, S3Client(address, client))
    # MiniStack gives the whole object where a range of a version is asked for.
    return store if isinstance(server, MiniStack) else FirstVersions(store)


@dataclass
class Site:
    """A vault under a prefix of its own, and the users that its hosts are."""

    server: Server
    bucket: str
    prefix: str
    place: Place
    users: dict[bytes, User]

    @classmethod
    def make(cls, server: Server, bucket: str, folder: Path) -> Site:
        prefix = secrets.token_hex(6)
        client = server.client() if isinstance(server, SeaweedFs) else server.client("s3")
        store = _store(server, server.url(bucket, prefix), client)
        place = Place.make(folder, lock_s=7 * DAY, other=(store, ManualClock(int(time.time()))))
        return cls(server, bucket, prefix, place, {})

    def as_writer(self, host: Host) -> ObjectStore:
        """The store as a new process of this host has it."""
        writer = host.credential.writer_id
        if writer not in self.users:
            rules = json.dumps(policy("writer", self.bucket, writer.hex()))
            self.users[writer] = self.server.make_user(json.loads(rules.replace(PREFIX, self.prefix)))
        client = self.users[writer].client("s3", self.server.endpoint)
        return _store(self.server, self.server.url(self.bucket, self.prefix), client)

    def back_up(self, host: Host, source: Path) -> None:
        host.backup(self.as_writer(host), source)


@pytest.fixture(scope="module", params=["s3_server", "aws"], ids=["SeaweedFS", "MiniStack"])
def server(request: pytest.FixtureRequest) -> Server:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, SeaweedFs | MiniStack)
    return found


@pytest.fixture(scope="module")
def bucket(server: Server) -> str:
    return server.make_bucket()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    fill(folder, 12, 1, size_bytes=40_000)
    return folder


# --- crashes ----------------------------------------------------------------------------------------


def _rounds(server: Server, bucket: str, source: Path, fault: Fault) -> Iterator[tuple[Site, FaultyStore]]:
    """For each call of a second backup a new vault, and a store in which that call suffers the fault."""
    for number in range(1, 100):
        site = Site.make(server, bucket, source.with_name(f"place{number}"))
        site.back_up(site.place.host, source)
        change(source, number)
        store = FaultyStore(site.as_writer(site.place.host), {number: fault})
        yield site, store
        if len(store.calls) < number:  # that one had no such call: all have had their turn
            assert number > 8
            return


@pytest.mark.parametrize("fault", [Fault.CRASH_BEFORE, Fault.CRASH_AFTER])
def test_a_backup_may_fail_at_any_call(server: Server, bucket: str, source: Path, fault: Fault) -> None:
    failed = 0
    for site, store in _rounds(server, bucket, source, fault):
        place = site.place
        try:
            place.host.backup(store, source)
        except Crash:
            failed += 1
            committed = len(place.points()) - 1
            assert committed in (0, 1)
            if committed:
                assert store.calls[-1].name.startswith(names.MANIFESTS)
        else:
            assert len(place.points()) == 2
        assert check_structure(place.open(), Silent()).findings == []
        site.back_up(place.host, source)
        place.assert_restores(source)
        place.assert_sound()
    assert failed >= 5


def test_retries_make_up_for_every_lost_reply(server: Server, bucket: str, source: Path) -> None:
    for site, store in _rounds(server, bucket, source, Fault.REPLY_LOST):
        site.place.host.backup(RetryingStore(store, sleep=lambda _: None), source)
        assert len(site.place.points()) == 2
        site.place.assert_restores(source)


# --- many at once -----------------------------------------------------------------------------------


def _at_once(*works: Callable[[], object]) -> None:
    barrier = threading.Barrier(len(works))

    def run(work: Callable[[], object]) -> object:
        barrier.wait(10)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        for done in [pool.submit(run, work) for work in works]:
            done.result(120)


def test_hosts_back_up_at_once_while_others_verify(
    server: Server, bucket: str, source: Path, tmp_path: Path
) -> None:
    site = Site.make(server, bucket, tmp_path / "place")
    place = site.place
    hosts = [place.host, place.add_host()]
    for host in hosts:
        site.as_writer(host)
    site.back_up(place.host, source)
    [first] = place.points()
    change(source, 2)
    both = [lambda h=host: site.back_up(h, source) for host in hosts]
    _at_once(*both, both[0], place.assert_sound)
    points = place.points()
    assert len(points) == 4
    # Points of one second are in no order between hosts: the first is told by its id.
    for point in points:
        if point.point.point_id != first.point.point_id:
            place.assert_restores(source, point)
    for host, sequences in zip(hosts, ([1, 2, 3], [1]), strict=True):
        own = [p.point for p in points if p.point.manifest.writer == host.credential.writer_id]
        assert sorted(point.manifest.sequence for point in own) == sequences
        assert {key[0] for point in own for key in point.uses} == {host.credential.writer_id}
    place.assert_sound()
