"""Buckets that come back with their history: the versions of each key are listed as they were."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.clouds.objects.address import BucketAddress
from donjon.clouds.objects.azure import AzureObjects
from donjon.clouds.objects.base import Listed, Metadata, Objects
from donjon.clouds.objects.gcs import GcsObjects
from donjon.clouds.objects.s3 import S3Objects
from donjon.core.clock import system_clock
from donjon.core.errors import Refused
from donjon.core.events import Silent
from donjon.recovery.history import restore_history
from donjon.testing.aws.seaweedfs import SeaweedFs
from donjon.testing.azure.account import ACCOUNT, KEY, azure, azurite
from donjon.testing.google.bucket import fake_gcs_server, gcs
from tests.clouds import new_bucket, new_container
from tests.integration.buckets import backup, put_all
from tests.integration.cli import Donjon
from tests.integration.cloud import CloudHost
from tests.integration.engine import Place

MIB = 1 << 20
#: (bytes, content type) of a version; None for a delete marker.
Version = tuple[bytes, str] | None
LARGE = os.urandom(5 * MIB)


def address(server: SeaweedFs, *, locks: bool = True) -> str:
    """A new bucket; one with locks keeps versions."""
    return server.url(server.make_bucket(locks=locks), "in/here")


@contextlib.contextmanager
def opened(url: str) -> Iterator[S3Objects]:
    made = S3Objects(BucketAddress.parse(url))
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def command(donjon: Donjon, s3_server: SeaweedFs) -> CloudHost:
    return CloudHost(donjon.folder, variables=tuple(s3_server.environment.items()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place")


def put(objects: Objects, key: str, *versions: Version) -> None:
    """Lay versions over each other."""
    for number, version in enumerate(versions):
        if version is None:
            objects.hide(objects.prefix + key)
            continue
        data, content_type = version
        metadata = Metadata(content_type=content_type, user={"number": str(number)})
        objects.put(objects.prefix + key, data, metadata, replace=True)


def history(objects: Objects) -> dict[str, list[Any]]:
    """What is listed of each key, oldest first: its bytes and metadata, or that it is a marker."""
    found: dict[str, list[Any]] = {}
    rows: list[Listed] = [row for page in objects.pages(versions=True) for row in page]
    for row in reversed(rows):
        what: Any = "marker"
        if not row.is_marker:
            got = objects.read(row, most_bytes=1 << 30)
            what = (got.data, got.metadata.content_type, got.metadata.user, row.is_latest)
        found.setdefault(row.key.removeprefix(objects.prefix), []).append(what)
    return found


def one(text: str) -> Version:
    return (text.encode(), "text/plain")


def test_every_version_comes_back_in_its_order(command: CloudHost, s3_server: SeaweedFs) -> None:
    source, target = address(s3_server), address(s3_server)
    with opened(source) as objects:
        put(objects, "once", one("1"))
        put(objects, "often", *(one(str(number)) for number in range(40)))
        put(objects, "gone", one("1"), one("2"), None)
        put(objects, "back", one("1"), None, None, one("2"), one("3"))
        put(objects, "back/%@x/%25 ü", one("1"), one("2"))
        put(objects, "large", one("small"), (LARGE, "video/mp4"), one("small again"), (LARGE[::-1], "a/b"))
        before = history(objects)
        assert len(before["often"]) == 40
    command.run("backup", "--bucket", source, "--versions", "all")
    time.sleep(1.1)
    done = command.json("restore", "latest", "--to", target, "--versions", "all", "--verify", "--record")
    assert command.json("evidence", "show", done["evidence"])["passed"]
    assert (done["files"], done["verified"], done["problems"]) == (5, 5, [])
    assert done["files"] + done["versions"] == sum(len(versions) for versions in before.values())
    with opened(target) as objects:
        assert history(objects) == before
    command.run("backup", "--bucket", target, "--versions", "all")


def test_many_keys_and_versions_keep_their_order(command: CloudHost, s3_server: SeaweedFs) -> None:
    source, target = address(s3_server), address(s3_server)
    with opened(source) as objects:
        for version in range(4):
            put_all(objects, {f"d{key % 7}/k{key:03}": b"%d of %d" % (version, key) for key in range(150)})
        before = history(objects)
    command.run("backup", "--bucket", source, "--versions", "all")
    done = command.json("restore", "latest", "--to", target, "--versions", "all")
    assert (done["files"], done["versions"]) == (150, 450)
    with opened(target) as objects:
        assert history(objects) == before


def test_a_place_where_history_cannot_go_is_refused_before_anything_is_put(
    command: CloudHost, s3_server: SeaweedFs, tmp_path: Path
) -> None:
    source, plain, full = address(s3_server), address(s3_server, locks=False), address(s3_server)
    with opened(source) as objects, opened(full) as there:
        put(objects, "a", one("1"), one("2"))
        put(there, "b", one("1"), None)
    command.run("backup", "--bucket", source, "--versions", "all")
    (tmp_path / "file").write_bytes(b"x")
    command.run("backup", tmp_path / "file", "--workload", "files")
    bucket = command.json("points")["points"][0]["id"]
    for code, says, arguments in (
        (1, "keeps no versions", (bucket, "--to", plain)),
        (1, "holds something", (bucket, "--to", full)),
        (2, "is not of a bucket", ("files@latest", "--to", full)),
        (2, "whole point", (f"{bucket}:/objects", "--to", full)),
        (2, "whole point", (bucket, "--to", full, "--include", "a")),
        (2, "whole point", (bucket, "--to", full, "--overwrite", "always")),
        (2, "restores to buckets", (bucket, tmp_path / "out")),
    ):
        told = command.run("restore", *arguments, "--versions", "all", code=code).stderr.decode()
        assert says in told, told
    with opened(plain) as nothing, opened(full) as same:
        assert (history(nothing), history(same)["b"][1:]) == ({}, ["marker"])


class Cut(Exception):
    """The restore ends here."""


def cut_off(objects: Objects, after: int) -> Objects:
    """Let so many puts and deletions through."""
    left, mutex = [after], threading.Lock()

    def count() -> None:
        with mutex:
            if not left[0]:
                raise Cut
            left[0] -= 1

    for name in ("put", "hide", "start"):
        plain = getattr(objects, name)

        def counted(*arguments: Any, plain: Callable[..., Any] = plain, **named: Any) -> Any:
            count()
            return plain(*arguments, **named)

        setattr(objects, name, counted)
    return objects


def test_a_restore_that_was_cut_off_goes_on_wherever_it_was(place: Place, s3_server: SeaweedFs) -> None:
    source, target = address(s3_server), address(s3_server)
    with opened(source) as objects:
        put(objects, "often", *(one(str(number)) for number in range(5)))
        put(objects, "same", one("x"), one("x"), None, None, one("x"))
        put(objects, "gone", one("1"), None)
        put(objects, "large", (LARGE, "video/mp4"), one("small"), (LARGE[::-1], "a/b"))
        put(objects, "empty", one(""), None, one(""))
        before = history(objects)
        backup(place, objects, versions=True)
    vault = place.open()
    steps = sum(len(versions) for versions in before.values())
    for after in range(0, steps, 3):
        with opened(target) as objects, pytest.raises(Cut):
            restore_history(
                place.points()[-1], place.reader(vault), cut_off(objects, min(after, 3)), Silent()
            )
        with opened(target) as objects:
            found = history(objects)
        for key, versions in found.items():
            wanted = before[key][: len(versions)]
            assert [row[0] for row in versions] == [row[0] for row in wanted], key
    with opened(target) as objects:
        older, current, lost = restore_history(
            place.points()[-1], place.reader(vault), objects, Silent(), verify=True
        )
    assert (older.problems, current.problems, lost) == ([], [], [])
    with opened(target) as objects:
        assert history(objects) == before
        # And once more, with nothing to do.
        older, current, _ = restore_history(place.points()[-1], place.reader(vault), objects, Silent())
    with opened(target) as objects:
        assert history(objects) == before
    assert (older.problems, current.problems) == ([], [])
    assert older.kept + current.kept + older.files + current.files == steps


def test_what_somebody_else_put_stays_and_is_told(place: Place, s3_server: SeaweedFs) -> None:
    source, target = address(s3_server), address(s3_server)
    others: dict[str, tuple[Version, ...]] = {
        "bytes": (one("1"), one("X")),
        "size": (one("much longer"),),
        "marker": (None,),
        "no marker": (one("1"), one("")),
        "large": ((LARGE[:-1] + b"?", "video/mp4"),),
    }
    with opened(source) as objects, opened(target) as there:
        for key, versions in others.items():
            put(there, key, *versions)
        put(there, "type", (b"1", "text/html"))
        put(objects, "bytes", one("1"), one("2"), one("3"), one("4"))
        put(objects, "size", one("1"), one("2"))
        put(objects, "marker", one("1"), one("2"))
        put(objects, "no marker", one("1"), None, one("2"))
        put(objects, "large", (LARGE, "video/mp4"), (LARGE, "video/mp4"))
        put(objects, "type", one("1"), one("2"))
        put(objects, "good", one("1"), one("2"))
        before, kept = history(objects), history(there)
        backup(place, objects, versions=True)
    vault = place.open()
    with opened(target) as objects:
        older, current, lost = restore_history(place.points()[-1], place.reader(vault), objects, Silent())
    assert {problem.path.partition(b"/")[0] for problem in older.problems} == {key.encode() for key in others}
    assert {problem.path for problem in current.problems} == {key.encode() for key in others}
    assert all("something else is there" in problem.reason for problem in older.problems + current.problems)
    assert [(path.partition(b"/")[0], "metadata" in what) for path, what in lost] == [(b"type", True)]
    with opened(target) as objects:
        after = history(objects)
    assert after["good"] == before["good"]
    assert [row[0] for row in after["type"]] == [b"1", b"2"]
    for key in others:
        assert after[key] == kept[key]


#: Makes a bucket that keeps versions, and gives what opens it.
Make = Callable[[], Callable[[], Objects]]


@pytest.fixture(params=["azure", "google"])
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    """For buckets at a provider that has no delete markers."""
    if request.param == "azure":
        with azurite() as port, azure(port, system_clock) as (front, connection):

            def container() -> Callable[[], Objects]:
                where = BucketAddress.parse(f"azure://{ACCOUNT}/{new_container(front, locks=False)}/x")
                return lambda: AzureObjects(where, connection_string=connection)

            yield container
        return
    with fake_gcs_server() as port, gcs(port, system_clock) as (_, client):

        def bucket() -> Callable[[], Objects]:
            where = BucketAddress.parse(f"gs://{new_bucket(client, locks=False)}/x")
            return lambda: GcsObjects(where, client=client)

        yield bucket


def _restore(place: Place, target: Objects) -> int:
    vault = place.open()
    older, current, _ = restore_history(place.points()[-1], place.reader(vault), target, Silent())
    assert (older.problems, current.problems) == ([], [])
    return older.files


def _contents(objects: Objects) -> dict[str, list[Any]]:
    """The bytes of each version; the fakes of these providers forget the metadata of older ones."""
    return {
        key: [row if row == "marker" else row[0] for row in rows] for key, rows in history(objects).items()
    }


def test_history_of_providers_without_delete_markers(place: Place, make: Make, s3_server: SeaweedFs) -> None:
    """What was deleted last stays deleted; at S3 by a marker, which lies over the same versions."""
    source, other, back = make(), make(), make()
    put(source(), "once", one("1"))
    put(source(), "often", one("1"), one("2"), one("3"))
    put(source(), "gone", one("1"), one("2"), None)
    before = {"gone": [b"1", b"2"], "often": [b"1", b"2", b"3"], "once": [b"1"]}
    assert _contents(source()) == before
    backup(place, source(), versions=True)
    assert _restore(place, other()) == 4
    assert _contents(other()) == before
    assert {row.key for page in other().pages() for row in page} == {"x/often", "x/once"}
    at_s3 = address(s3_server)
    with opened(at_s3) as target:
        _restore(place, target)
    with opened(at_s3) as target:
        assert _contents(target) == before | {"gone": [b"1", b"2", "marker"]}
        backup(place, target, versions=True)
    assert _restore(place, back()) == 5
    assert _contents(back()) == before


def test_history_at_providers_without_markers_goes_on(place: Place, make: Make, s3_server: SeaweedFs) -> None:
    at_s3, other = address(s3_server), make()
    with opened(at_s3) as source:
        put(source, "back", one("1"), None, None, one("2"), one("3"))
        put(source, "gone", one("1"), one("2"), None)
        put(source, "once", one("1"))
        backup(place, source, versions=True)
    vault = place.open()
    for _ in range(4):
        with pytest.raises(Cut):
            restore_history(place.points()[-1], place.reader(vault), cut_off(other(), 2), Silent())
    for _ in range(2):
        assert _restore(place, other()) >= 0
        assert _contents(other()) == {"back": [b"1", b"2", b"3"], "gone": [b"1", b"2"], "once": [b"1"]}
        assert {row.key for page in other().pages() for row in page} == {"x/back", "x/once"}


def test_somebody_elses_object_is_not_hidden_where_deletions_leave_no_marker(
    place: Place, make: Make, s3_server: SeaweedFs
) -> None:
    at_s3, other = address(s3_server), make()
    with opened(at_s3) as source:
        put(source, "a", one("1"), None, one("2"))
        put(source, "b", one("1"), None)
        backup(place, source, versions=True)
    put(other(), "a", one("X"))
    put(other(), "b", one("Y"))
    vault = place.open()
    older, current, _ = restore_history(place.points()[-1], place.reader(vault), other(), Silent())
    assert {problem.path.partition(b"/")[0] for problem in older.problems} == {b"a", b"b"}
    assert [problem.path for problem in current.problems] == [b"a"]
    assert {row.key for page in other().pages() for row in page} == {"x/a", "x/b"}
    assert _contents(other()) == {"a": [b"X"], "b": [b"Y"]}


def test_a_container_that_keeps_no_versions_is_told_by_a_probe_that_goes_away(
    place: Place, s3_server: SeaweedFs
) -> None:
    with opened(address(s3_server)) as source:
        put(source, "a", one("1"), one("2"))
        backup(place, source, versions=True)
    with azurite() as port, azure(port, system_clock) as (front, connection):
        container = BucketAddress.parse(f"azure://{ACCOUNT}/{new_container(front, locks=False)}")
        kept = AzureObjects(container, connection_string=connection)
        assert kept.keeps_versions()
        assert not any(kept.pages(versions=True))
        told = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};"
        told += f"BlobEndpoint=http://127.0.0.1:{port}/{ACCOUNT};"  # Azurite itself, without the front
        where = BucketAddress.parse(f"azure://{ACCOUNT}/plain")
        AzureObjects(where, connection_string=told)._service.create_container("plain")
        with pytest.raises(Refused, match="keeps no versions"):
            _restore(place, AzureObjects(where, connection_string=told))
        assert not any(AzureObjects(where, connection_string=told).pages())
