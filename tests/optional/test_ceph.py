"""The conformance suite on Ceph's RADOS gateway. Run by ``make ceph``, not by ``make test``.

Version 16.2, which Debian 12 has, takes ``If-None-Match`` and ignores it. So a put may replace there, the
tests that say otherwise are known to fail, and no vault is made.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from donjon.core.errors import Refused
from donjon.stores.base import ObjectStore
from donjon.stores.first_versions import FirstVersions
from donjon.stores.retry import RetryingStore
from donjon.stores.s3 import S3Store
from donjon.testing.clock import ManualClock
from tests.conformance.test_stores import TestS3Store as S3StoreTests
from tests.integration.engine import Place
from tests.optional.ceph import Ceph, ceph

DAY = 86_400
replaces = pytest.mark.xfail(reason="Ceph 16.2 ignores If-None-Match", strict=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ceph]:
    with ceph(tmp_path_factory.mktemp("ceph")) as running:
        yield running


@pytest.fixture(scope="module")
def bucket(server: Ceph) -> str:
    return server.make_bucket()


class TestS3StoreOnCeph(S3StoreTests):
    @pytest.fixture
    def store(self, server: Ceph, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectStore]:
        for name, value in server.user.environment.items():
            monkeypatch.setenv(name, value)
        with S3Store(server.url(bucket, f"some/Prefix_{secrets.token_hex(6)}")) as store:
            yield store

    @replaces
    def test_put_refuses_a_taken_name_and_changes_nothing(self, store: ObjectStore) -> None:
        super().test_put_refuses_a_taken_name_and_changes_nothing(store)

    @replaces
    def test_of_many_writers_of_one_name_exactly_one_wins(self, store: ObjectStore) -> None:
        super().test_of_many_writers_of_one_name_exactly_one_wins(store)

    @replaces
    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        super().test_an_empty_object_is_an_object(store)

    @replaces
    def test_a_locked_object_is_not_overwritten(self, store: ObjectStore) -> None:
        super().test_a_locked_object_is_not_overwritten(store)

    def test_concurrent_extensions_keep_the_latest_end(self, store: ObjectStore) -> None:
        """Of several at once it refuses some with an error that goes away."""
        super().test_concurrent_extensions_keep_the_latest_end(RetryingStore(store))


del S3StoreTests  # it is collected where it stands


def test_no_vault_is_made_where_puts_replace(
    server: Ceph, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in server.user.environment.items():
        monkeypatch.setenv(name, value)
    store = FirstVersions(S3Store(server.url(bucket, "no-vault")))
    with pytest.raises(Refused, match="take the place"):
        Place.make(tmp_path, lock_s=7 * DAY, other=(store, ManualClock()))
