"""Delete markers and newer versions over the objects of a vault, laid there by whoever may."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import Any

import pytest

from donjon.core.errors import ObjectExists, ObjectNotFound, PermissionMissing
from donjon.stores.base import ObjectInfo, ObjectStore
from donjon.stores.first_versions import FirstVersions, first_of_each
from donjon.stores.memory import MemoryStore
from donjon.stores.s3 import S3Store
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.conformance.stores import streamed

TRUTH, LIE = b"the truth", b"a lie that is longer"


@dataclass
class Place:
    """A store, and the plain client of someone who may do anything that locks allow."""

    store: ObjectStore
    raw: S3Store
    client: Any
    bucket: str
    prefix: str

    def hide(self, name: str) -> str:
        answer = self.client.delete_object(Bucket=self.bucket, Key=self.prefix + name)
        return str(answer["VersionId"])

    def replace(self, name: str, data: bytes = LIE) -> None:
        self.client.put_object(Bucket=self.bucket, Key=self.prefix + name, Body=data)

    def again(self) -> ObjectStore:
        """As the next process sees it."""
        return FirstVersions(S3Store(self.raw.url))


@pytest.fixture(scope="module")
def bucket(s3_server: SeaweedFs) -> str:
    return s3_server.make_bucket()


@pytest.fixture
def place(s3_server: SeaweedFs, bucket: str) -> Place:
    prefix = secrets.token_hex(6)
    raw = S3Store(s3_server.url(bucket, prefix))
    return Place(FirstVersions(raw), raw, s3_server.client(), bucket, f"{prefix}/")


def _assert_reads(store: ObjectStore, name: str, info: ObjectInfo) -> None:
    assert store.get(name) == TRUTH
    assert store.get(name, offset=4) == TRUTH[4:]
    assert streamed(store, name, len(TRUTH)) == TRUTH
    head = store.head(name)
    assert (head.version, head.size_bytes, head.retain_until) == (info.version, len(TRUTH), info.retain_until)


ATTACKS = {
    "marker": "h",
    "two markers": "hh",
    "newer version": "r",
    "many newer versions": "rrrr",
    "marker, then a newer version": "hr",
    "newer version, then a marker": "rh",
    "all of it": "hrhrrh",
}


@pytest.mark.parametrize("steps", ATTACKS.values(), ids=ATTACKS.keys())
def test_the_first_version_is_read_through_whatever_lies_over_it(place: Place, steps: str) -> None:
    info = place.store.put("a/one", TRUTH, retain_until=place.store.now() + 3600)
    place.store.put("a/one-more", b"x")
    for step in steps:
        place.hide("a/one") if step == "h" else place.replace("a/one")
    _assert_reads(place.again(), "a/one", info)
    again = place.again()
    assert len([i for i in again.list("a/one") if i.name == "a/one"]) == 1 + len(steps)
    _assert_reads(again, "a/one", info)  # as the listing told
    found = list(first_of_each(place.raw.list()))
    assert (found[0].name, found[0].version) == ("a/one", info.version)
    assert [i.name for i in found] == ["a/one", "a/one-more"]


def test_what_is_hidden_between_two_reads_is_still_read(place: Place) -> None:
    info = place.store.put("a/one", TRUTH, retain_until=place.store.now() + 3600)
    _assert_reads(place.store, "a/one", info)
    place.hide("a/one")
    place.replace("a/one")
    assert place.store.get("a/one") == TRUTH
    assert place.store.head("a/one").version == info.version


def test_locks_are_extended_and_versions_deleted_beneath_a_marker(place: Place) -> None:
    info = place.store.put("a/one", TRUTH, retain_until=place.store.now() + 3600)
    place.store.put("a/two", TRUTH)
    for name in ("a/one", "a/two"):
        place.hide(name)
    again = place.again()
    assert info.retain_until is not None
    again.extend("a/one", info.retain_until + 60)
    assert place.again().head("a/one").retain_until == info.retain_until + 60
    again.delete_expired("a/two")
    with pytest.raises(ObjectNotFound):
        again.get("a/two")
    assert [(i.name, i.delete_marker) for i in place.raw.list("a/two")] == [("a/two", True)]


def test_the_first_version_stays_the_first_when_its_lock_is_extended_later(place: Place) -> None:
    """SeaweedFS gives it the time of the extension."""
    info = place.store.put("a/one", TRUTH, retain_until=place.store.now() + 3600)
    for _ in range(2):
        place.replace("a/one")
    time.sleep(1.1)
    end = (info.retain_until or 0) + 60
    place.again().extend("a/one", end)
    assert place.again().get("a/one") == TRUTH
    *_, second, first = place.raw.list("a/one")
    assert (first.version, first.stored_at > second.stored_at) == (info.version, True)


def test_a_delete_marker_can_be_removed_by_its_version(place: Place) -> None:
    place.store.put("a/one", TRUTH, retain_until=place.store.now() + 3600)
    marker = place.hide("a/one")
    place.store.delete_expired("a/one", version=marker)
    assert place.raw.get("a/one") == TRUTH
    with pytest.raises(ObjectNotFound):
        place.store.delete_expired("a/one", version=marker)


def test_a_missing_name_and_one_that_only_has_a_marker_are_missing(place: Place) -> None:
    place.hide("a/one")
    for name in ("a/one", "a/two"):
        with pytest.raises(ObjectNotFound):
            place.store.get(name)


def test_who_may_not_list_reads_what_is_on_top() -> None:
    class NoListing(MemoryStore):
        asked = 0

        def list(self, prefix: str = "") -> Any:
            self.asked += 1
            msg = "no permission s3:ListBucketVersions"
            raise PermissionMissing(msg)

    inner = NoListing()
    store = FirstVersions(inner)
    store.put("a/one", TRUTH)
    with pytest.raises(ObjectExists):
        store.put("a/one", LIE)
    assert store.get("a/one") == TRUTH
    with pytest.raises(ObjectNotFound):
        store.get("a/two")
    assert inner.asked == 1
