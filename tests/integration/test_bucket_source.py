"""Buckets of a real S3 server as a source: large ones, changing ones, and those that say no."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from donjon.app.kinds.base import Surroundings
from donjon.app.kinds.registry import prepare
from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.base import Listed, Metadata, Objects
from donjon.clouds.objects.entries import is_marker, metadata_of
from donjon.clouds.objects.s3 import S3Objects
from donjon.codec.chunk import Sizes
from donjon.core.errors import IntegrityFailure, PermissionMissing, SourceFailed, UsageError
from donjon.core.events import Silent, never_stop
from donjon.core.pace import Pace
from donjon.format.entries import Kind
from donjon.plan.model import Plan
from donjon.sources.base import Source
from donjon.sources.bucket.inventory import inventory_pages
from donjon.sources.bucket.source import BucketSource
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.conformance.sources import SourceTests
from tests.integration.buckets import Meddled, backup, entries, put_all
from tests.integration.engine import Place

MIB = 1 << 20


def opened(server: SeaweedFs, bucket: str, prefix: str = "") -> S3Objects:
    return S3Objects(BucketAddress.parse(f"s3://{bucket}/{prefix}?endpoint={server.endpoint}"))


@pytest.fixture
def objects(s3_server: SeaweedFs) -> Iterator[S3Objects]:
    made = opened(s3_server, s3_server.make_bucket(locks=False))
    yield made
    made.close()


@pytest.fixture
def versioned(s3_server: SeaweedFs) -> Iterator[S3Objects]:
    made = opened(s3_server, s3_server.make_bucket())
    yield made
    made.close()


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place")


@pytest.fixture
def place_for_large(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes(256 << 10, 1 << 20, 4 << 20))


@pytest.mark.usefixtures("_filled")
class TestBucketSource(SourceTests):
    @pytest.fixture
    def _filled(self, objects: S3Objects) -> Iterator[None]:
        put_all(objects, {"a": b"1" * 3000, "d/b": b"2", "d/e/c": b"3", "d.x": b"", "large": b"x" * 3 * MIB})
        self.objects = objects
        self.sources: list[BucketSource] = []
        yield
        for source in self.sources:
            source.close()

    def make(self) -> Source:
        self.sources.append(BucketSource(self.objects))
        return self.sources[-1]


def test_two_thousand_objects_and_an_unchanged_bucket_that_costs_the_list_alone(
    objects: S3Objects, place: Place, tmp_path: Path
) -> None:
    randomness = random.Random(3)
    wanted = {f"d{n % 13}/k{n:05}": randomness.randbytes(randomness.randrange(3000)) for n in range(2000)}
    put_all(objects, wanted)
    first = backup(place, Meddled(objects))
    assert (first.counts.files_new, first.counts.problems) == (2000, [])
    counted = Meddled(objects)
    second = backup(place, counted)
    assert (second.counts.files_unmodified, second.counts.bytes_read, counted.reads) == (2000, 0, [])
    put_all(objects, {"d1/k00001": b"other", "new": b"new"})
    objects._client.delete_object(Bucket=objects._bucket, Key="d2/k00002")
    third = backup(place, counted)
    assert sorted(counted.reads) == ["d1/k00001", "new"]
    assert (third.counts.files_new, third.counts.files_changed) == (1, 1)
    wanted |= {"d1/k00001": b"other", "new": b"new"}
    del wanted["d2/k00002"]
    place.restore(tmp_path / "out")
    found = {
        str(path.relative_to(tmp_path / "out" / "objects")): path.read_bytes()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert found == wanted
    place.assert_sound()


def test_metadata_and_tags_are_kept(objects: S3Objects, place: Place) -> None:
    metadata = Metadata(
        content_type="text/plain",
        cache_control="no-store",
        content_disposition="inline",
        user={"owner": "ops"},
        tags={"team": "a b", "x": "1"},
    )
    put_all(objects, {"a": b"text"}, metadata)
    backup(place, objects)
    kept = metadata_of(entries(place)[b"objects/a"])
    assert kept is not None
    assert (kept.content_type, kept.cache_control, kept.content_disposition) == (
        "text/plain",
        "no-store",
        "inline",
    )
    assert (kept.user, kept.tags) == ({"owner": "ops"}, {"team": "a b", "x": "1"})


def test_a_restored_folder_has_no_attributes_of_objects(
    objects: S3Objects, place: Place, tmp_path: Path
) -> None:
    put_all(objects, {"a": b"text"})
    backup(place, objects)
    done = place.restore(tmp_path / "out")
    assert (done.files, done.problems) == (1, [])
    assert [name for name in os.listxattr(tmp_path / "out/objects/a") if "donjon" in name] == []


def test_large_objects_come_in_ranges(objects: S3Objects, place_for_large: Place, tmp_path: Path) -> None:
    data = random.Random(4).randbytes(70 * MIB)
    upload = objects.start("large", len(data), Metadata(content_type="video/x"), replace=False)
    parts = -(-len(data) // upload.part_bytes)
    for number in range(parts):
        upload.part(number, data[number * upload.part_bytes :][: upload.part_bytes])
    assert upload.complete(parts)
    counted = Meddled(objects)
    assert backup(place_for_large, counted).counts.problems == []
    assert len(counted.reads) == 9
    place_for_large.restore(tmp_path / "out")
    assert (
        hashlib.sha256((tmp_path / "out/objects/large").read_bytes()).digest()
        == hashlib.sha256(data).digest()
    )
    kept = metadata_of(entries(place_for_large)[b"objects/large"])
    assert kept is not None
    assert kept.content_type == "video/x"


def test_folder_markers_and_empty_objects(objects: S3Objects, place: Place) -> None:
    put_all(objects, {"folder/": b"", "empty": b"", "folder/x": b"1"})
    assert backup(place, objects).counts.problems == []
    found = entries(place)
    assert found[b"objects/folder/%="].size == 0
    assert found[b"objects/folder"].kind == Kind.DIRECTORY
    assert found[b"objects/empty"].size == 0
    assert found[b"objects/folder/x"].size == 1


# -- older versions --------------------------------------------------------------------------------


def test_history_comes_in_order_and_with_delete_markers(
    versioned: S3Objects, place: Place, tmp_path: Path
) -> None:
    client, bucket = versioned._client, versioned._bucket
    for text in (b"one", b"two", b"three", b"four"):
        client.put_object(Bucket=bucket, Key="d/a", Body=text)
    client.put_object(Bucket=bucket, Key="d/gone", Body=b"was here")
    client.delete_object(Bucket=bucket, Key="d/gone")
    backup(place, versioned, versions=True)
    place.restore(tmp_path / "out")
    found = entries(place)
    older = sorted(path for path in found if path.startswith(b"versions/d/a/"))
    assert [(tmp_path / "out" / os.fsdecode(path)).read_bytes() for path in older] == [
        b"one",
        b"two",
        b"three",
    ]
    assert (tmp_path / "out/objects/d/a").read_bytes() == b"four"
    gone = sorted(path for path in found if path.startswith(b"versions/d/gone/"))
    assert [is_marker(found[path]) for path in gone] == [False, True]
    assert b"objects/d/gone" not in found
    counted = Meddled(versioned)
    again = backup(place, counted, versions=True)
    assert (again.counts.files_new + again.counts.files_changed, counted.reads) == (0, [])


def test_without_versions_there_are_none(versioned: S3Objects, place: Place) -> None:
    put_all(versioned, {"a": b"1"})
    put_all(versioned, {"a": b"2"})
    backup(place, versioned)
    assert sorted(entries(place)) == [b"objects", b"objects/a"]


# -- what changes meanwhile ------------------------------------------------------------------------


def test_an_object_that_changed_since_it_was_listed_is_taken_as_it_is_now(
    objects: S3Objects, place: Place, tmp_path: Path
) -> None:
    put_all(objects, {"a": b"before", "b": b"x"})

    def meddle(listed: Listed, _: int) -> None:
        if listed.key == "a":
            objects.put("a", b"afterwards", Metadata(), replace=True)

    assert backup(place, Meddled(objects, meddle)).counts.problems == []
    place.restore(tmp_path / "out")
    assert (tmp_path / "out/objects/a").read_bytes() == b"afterwards"
    assert entries(place)[b"objects/a"].size == 10


def test_a_small_object_that_became_a_large_one(
    objects: S3Objects, place_for_large: Place, tmp_path: Path
) -> None:
    put_all(objects, {"a": b"before"})
    large = random.Random(5).randbytes(20 * MIB)

    def meddle(_: Listed, number: int) -> None:
        if number == 1:
            objects.put("a", large, Metadata(), replace=True)

    assert backup(place_for_large, Meddled(objects, meddle)).counts.problems == []
    place_for_large.restore(tmp_path / "out")
    assert (tmp_path / "out/objects/a").read_bytes() == large


def test_an_object_that_vanished_is_a_problem_of_its_own(objects: S3Objects, place: Place) -> None:
    put_all(objects, {"a": b"1", "b": b"2"})

    def meddle(listed: Listed, _: int) -> None:
        if listed.key == "a":
            objects._client.delete_object(Bucket=objects._bucket, Key="a")

    outcome = backup(place, Meddled(objects, meddle))
    assert [(row.path, row.reason) for row in outcome.counts.problems] == [
        (b"/objects/a", "vanished before it was read")
    ]
    assert sorted(entries(place)) == [b"objects", b"objects/b"]


@pytest.mark.parametrize("changes", [1, 99])
def test_a_large_object_that_changes_while_it_is_read_is_never_a_mixture(
    objects: S3Objects, place_for_large: Place, tmp_path: Path, changes: int
) -> None:
    size, versions = 24 * MIB, [0]
    objects.put("a", bytes([0]) * size, Metadata(), replace=True)

    def meddle(listed: Listed, _: int) -> None:
        if len(versions) <= changes and len(counted.reads) % 3 == 2:
            versions.append(len(versions))
            objects.put("a", bytes([versions[-1]]) * size, Metadata(), replace=True)

    counted = Meddled(objects, meddle)
    outcome = backup(place_for_large, counted)
    place_for_large.restore(tmp_path / "out")
    restored = tmp_path / "out/objects/a"
    if changes == 1:
        assert outcome.counts.problems == []
        assert restored.read_bytes() == bytes([1]) * size
    else:
        assert "changed each time" in outcome.counts.problems[0].reason
        assert not restored.exists()


def test_memory_does_not_grow_with_the_list() -> None:
    def peak_mib(keys: int) -> int:
        command = [sys.executable, "-m", "bench.buckets", "--simulate", str(keys)]
        told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        assert told.startswith(f"{keys} keys in ")
        return int(told.split()[-2])

    assert peak_mib(250_000) - peak_mib(5_000) < 45  # of which 32 are the cache of SQLite


# -- refusals --------------------------------------------------------------------------------------


def policy(bucket: str, *actions: tuple[str, str]) -> dict[str, object]:
    rows = [
        {"Effect": "Allow", "Action": action, "Resource": f"arn:aws:s3:::{bucket}{below}"}
        for action, below in actions
    ]
    return {"Version": "2012-10-17", "Statement": rows}


def as_user(
    server: SeaweedFs, patch: pytest.MonkeyPatch, bucket: str, *actions: tuple[str, str]
) -> S3Objects:
    user = server.make_user(policy(bucket, *actions))
    for name, value in user.environment.items():
        patch.setenv(name, value)
    return opened(server, bucket)


def test_one_forbidden_object_is_a_problem_and_a_forbidden_list_ends_it(
    s3_server: SeaweedFs, objects: S3Objects, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_all(objects, {"open/a": b"1", "secret/b": b"2"})
    bucket = objects._bucket
    user = as_user(s3_server, monkeypatch, bucket, ("s3:ListBucket", ""), ("s3:GetObject", "/open/*"))
    outcome = backup(place, user)
    ((path, reason),) = [(row.path, row.reason) for row in outcome.counts.problems]
    assert path == b"/objects/secret/b"
    assert "s3:GetObject" in reason
    assert b"objects/open/a" in entries(place)
    blind = as_user(s3_server, monkeypatch, bucket, ("s3:GetObject", "/*"))
    with pytest.raises(PermissionMissing, match="s3:ListBucket"):
        backup(place, blind)
    assert len(place.points()) == 1


def test_a_bucket_that_is_not_there(s3_server: SeaweedFs, place: Place) -> None:
    with pytest.raises(SourceFailed, match="no such bucket"):
        backup(place, opened(s3_server, "no-such-bucket"))


def test_a_server_that_is_not_there(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    pace = Pace(attempts=2, sleep=lambda _: None)
    objects = S3Objects(BucketAddress.parse("s3://bucket?endpoint=http://127.0.0.1:1"), pace)
    with pytest.raises(SourceFailed, match="no answer") as caught:
        backup(place, objects)
    assert caught.value.retryable


def test_the_rate_of_requests_is_kept() -> None:
    clock = [0.0]
    slept: list[float] = []

    def sleep(pause_s: float) -> None:
        slept.append(pause_s)
        clock[0] += pause_s

    pace = Pace(10, sleep=sleep, monotonic=lambda: clock[0])
    for _ in range(5):
        pace.carry_out(lambda: None)
    assert slept == pytest.approx([0.1] * 4)


def test_a_bucket_is_a_workload_of_a_plan(s3_server: SeaweedFs, objects: S3Objects) -> None:
    put_all(objects, {"below/a": b"1", "b": b"2"})
    url = f"s3://{objects._bucket}/below?endpoint={s3_server.endpoint}"
    plan = Plan.model_validate(
        {
            "version": 1,
            "name": "plan",
            "sites": {"here": {"provider": "on-premises", "account": "us", "region": "cellar"}},
            "vaults": {"v": {"url": "/vault", "site": "here"}},
            "workloads": {
                "photos": {
                    "site": "here",
                    "vault": "v",
                    "source": {"kind": "bucket", "url": url},
                    "limits": {"requests": 1000},
                }
            },
        }
    )
    rests: list[str] = []

    @contextmanager
    def quiesce() -> Iterator[None]:
        rests.append("begins")
        yield
        rests.append("ends")

    surroundings = Surroundings(
        plan, "photos", plan.rules("photos"), Silent(), never_stop, quiesce, frozenset()
    )
    with prepare(plan.workloads["photos"].source, surroundings) as prepared:
        paths = [item.path for item in prepared.source.items()]
        assert rests == ["begins"]
    assert rests == ["begins", "ends"]
    assert (paths, prepared.paths) == (
        [b"/objects", b"/objects/a"],
        (f"s3://{objects._bucket}/below".encode(),),
    )


# -- inventories -----------------------------------------------------------------------------------


def write_inventory(objects: S3Objects, lists: S3Objects, folder: str, **changes: object) -> None:
    """An inventory as S3 writes it, of what is in the bucket now."""
    rows = [row for page in objects.pages() for row in page]
    lines = [
        ",".join(
            f'"{value}"'
            for value in (
                objects._bucket,
                quoted(row.key),
                row.size_bytes,
                time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(row.modified_ns // 10**9)),
                row.etag,
            )
        )
        for row in rows
    ]
    files = []
    for number, half in enumerate((lines[::2], lines[1::2])):
        data = gzip.compress("\n".join(half).encode())
        key = f"{folder}data/{number}.csv.gz"
        lists.put(lists.prefix + key, data, Metadata(), replace=True)
        digest = hashlib.md5(data).hexdigest()  # noqa: S324  (as S3 has it)
        files.append({"key": lists.prefix + key, "size": len(data), "MD5checksum": digest})
    manifest = {
        "sourceBucket": objects._bucket,
        "destinationBucket": f"arn:aws:s3:::{lists._bucket}",
        "version": "2016-11-30",
        "creationTimestamp": "1514944800000",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size, LastModifiedDate, ETag",
        "files": files,
    }
    body = json.dumps(manifest | changes).encode()
    lists.put(f"{lists.prefix}{folder}manifest.json", body, Metadata(), replace=True)


def quoted(key: str) -> str:
    from urllib.parse import quote_plus

    return quote_plus(key)


@pytest.fixture
def lists(s3_server: SeaweedFs) -> Iterator[S3Objects]:
    made = opened(s3_server, s3_server.make_bucket(locks=False), "inventory/daily")
    yield made
    made.close()


def test_the_newest_inventory_takes_the_place_of_the_list(
    objects: S3Objects, lists: S3Objects, place: Place
) -> None:
    put_all(objects, {"old": b"1"})
    write_inventory(objects, lists, "2026-01-01T00-00Z/")
    put_all(objects, {'a b/ü+,"x': b"2", "c": b"3"})
    write_inventory(objects, lists, "2026-01-02T00-00Z/")
    put_all(objects, {"later": b"4"})

    def never() -> None:
        pytest.fail("the bucket was listed")

    counted = Meddled(objects)
    counted.pages = never  # type: ignore[attr-defined]
    pages = inventory_pages(lists, objects, versions=False)
    assert backup(place, counted, pages=pages).counts.problems == []
    assert {path for path, entry in entries(place).items() if entry.kind == Kind.FILE} == {
        b"objects/old",
        'objects/a b/ü+,"x'.encode(),
        b"objects/c",
    }
    before = len(counted.reads)
    backup(place, counted, pages=pages)
    assert len(counted.reads) == before


def test_inventories_that_cannot_be_trusted_are_refused(
    objects: S3Objects, lists: S3Objects, place: Place
) -> None:
    put_all(objects, {"a": b"1"})
    pages = inventory_pages(lists, objects, versions=False)
    with pytest.raises(SourceFailed, match="no inventory yet"):
        backup(place, objects, pages=pages)
    write_inventory(objects, lists, "1/", sourceBucket="another")
    with pytest.raises(SourceFailed, match="of another"):
        backup(place, objects, pages=pages)
    write_inventory(objects, lists, "2/", fileSchema="Bucket, Key")
    with pytest.raises(SourceFailed, match="lacks Size"):
        backup(place, objects, pages=pages)
    write_inventory(objects, lists, "3/")
    lists.put(f"{lists.prefix}3/data/0.csv.gz", gzip.compress(b'"x"'), Metadata(), replace=True)
    with pytest.raises(IntegrityFailure, match="not what the manifest"):
        backup(place, objects, pages=pages)
    with pytest.raises(UsageError, match="only S3"):
        inventory_pages(lists, _google(), versions=False)
    assert place.points() == []


def _google() -> Objects:
    class Other:
        provider = "gs"

    return Other()  # type: ignore[return-value]
