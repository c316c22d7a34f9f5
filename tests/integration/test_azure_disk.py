"""Managed disks of Azure are read: Azure's own clients, and a fake behind them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.exceptions import ServiceRequestError

from donjon.clouds import azure_disk_faults as faults
from donjon.codec.chunk import Sizes
from donjon.core.errors import (
    PermissionMissing,
    SourceFailed,
)
from donjon.sources.azure_disk import DISK_ATTRIBUTE
from donjon.sources.base import Source
from donjon.targets.image import ImageTarget
from donjon.testing.azure.pages import PAGE, Refusal
from donjon.testing.azure.snapshots import AzureSnapshotsFront
from donjon.testing.conformance.sources import SourceTests
from donjon.testing.front import Answer, HangUp, Request
from donjon.testing.servers.ports import free_port
from tests.integration.azure_disks import SIZE, Cloud, image_of, served_clouds
from tests.integration.engine import Place
from tests.integration.volumes import GIB, MIB, assert_same, back_up, bring_back, entry_of, noise


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[AzureSnapshotsFront, Any]]:
    with served_clouds() as served:
        yield served


@pytest.fixture
def cloud(served: tuple[AzureSnapshotsFront, Any]) -> Cloud:
    return Cloud(*served)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes())


class TestAzureDiskSource(SourceTests):
    @pytest.fixture(autouse=True)
    def _cloud(self, cloud: Cloud) -> None:
        cloud.write({3 * MIB: noise(1, 512)})
        cloud.snapshot("s1")
        self._made = cloud

    def make(self) -> Source:
        return self._made.source()


# -- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [10_000, 2])
def test_a_disk_comes_back_as_an_image_without_its_footer(
    cloud: Cloud, place: Place, tmp_path: Path, ranges: int
) -> None:
    content = {0: noise(1, 2 * MIB), 7 * MIB + 512: noise(2, 1024), SIZE - 512: noise(3, 512)}
    content[5 * MIB] = bytes(4096)  # written, and zero
    cloud.write(content)
    cloud.snapshot("s1")
    cloud.blobs.page_ranges = ranges
    done = back_up(place, cloud.source())
    assert (done.counts.problems, done.warnings) == ([], [])
    entry = entry_of(place, b"data")
    assert (entry.size, entry.attribute(DISK_ATTRIBUTE)) == (SIZE, b"rg/data")
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False), verify=True)
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")
    assert cloud.blobs.grants == {}
    if ranges == 10_000:
        assert cloud.blobs.counts["pagelist"] == 1  # and not one more for each read
    place.assert_sound()


@pytest.mark.parametrize("ranges", [10_000, 1])
def test_an_increment_reads_changed_pages_and_makes_holes_of_cleared_ones(
    cloud: Cloud, place: Place, tmp_path: Path, ranges: int
) -> None:
    cloud.write({0: noise(1, 6 * MIB), 100 * MIB: noise(2, MIB), 200 * MIB: noise(3, 2 * MIB)})
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    cloud.write({MIB + 4096: noise(4, 512), 300 * MIB: noise(5, 1024)})
    cloud.discard(200 * MIB, 2 * MIB)
    cloud.discard(100 * MIB, 4096)
    cloud.snapshot("s2")
    cloud.blobs.page_ranges, cloud.blobs.bytes_read = ranges, 0
    done = back_up(place, cloud.source("s2"))
    assert (done.counts.problems, done.warnings) == ([], [])
    assert cloud.blobs.bytes_read == 3 * MIB  # what was cleared as a whole is not asked for
    assert cloud.blobs.counts.get("pagelist", 0) > 0
    assert (cloud.blobs.grants, cloud.blobs.most_open) == ({}, 2)
    assert all(offset != 200 * MIB for offset, _ in entry_of(place).extents or ())
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    cloud.image(tmp_path / "wanted", "disks/data")
    assert_same(tmp_path / "wanted", tmp_path / "image")
    assert back_up(place, cloud.source("s2")).counts.files_unmodified == 1
    done = back_up(place, cloud.source("s2"), read_all=True)
    assert done.counts.problems == []
    place.assert_sound()


def _gone(cloud: Cloud) -> str:
    cloud.client.snapshots.begin_delete("rg", "s1", polling=False)
    return "is not there any more"


def _foreign(cloud: Cloud) -> str:
    properties = cloud.front.snapshots[cloud.arm("snapshots", "s1")]["properties"]
    properties["incrementalSnapshotFamilyId"] = "another"
    return "not of one family"


def _newer(cloud: Cloud) -> str:
    properties = cloud.front.snapshots[cloud.arm("snapshots", "s1")]["properties"]
    properties["timeCreated"] = "2999-01-01T00:00:00+00:00"
    return "not the older one"


def _service_says_newer(cloud: Cloud) -> str:
    cloud.blobs.blobs[cloud.arm("snapshots", "s1")].created += 10_000
    return "PreviousSnapshotCannotBeNewer"


def _service_says_unrelated(cloud: Cloud) -> str:
    cloud.blobs.blobs[cloud.arm("snapshots", "s1")].family = "another"
    return "PreviousSnapshotOperationNotSupported"


@pytest.mark.parametrize("change", [_gone, _foreign, _newer, _service_says_newer, _service_says_unrelated])
def test_what_cannot_be_compared_is_read_in_full_and_that_is_said(
    cloud: Cloud, place: Place, change: Callable[[Cloud], str]
) -> None:
    cloud.write({0: noise(1, 4 * MIB)})
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    cloud.snapshot("s2")
    reason = change(cloud)
    done = back_up(place, cloud.source("s2"))
    assert done.counts.bytes_read == 4 * MIB
    assert done.bytes_stored < MIB
    (note,) = done.warnings
    assert "was read in full" in note
    assert reason in note
    assert cloud.blobs.grants == {}


def test_a_disk_that_grew_over_4_tb_is_read_in_full(cloud: Cloud, place: Place) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    disk = cloud.blobs.blobs[cloud.arm("disks", "data")]
    disk.pages[(5 << 40) // PAGE] = disk.pages.pop(SIZE // PAGE)
    cloud.front.disks[cloud.arm("disks", "data")]["properties"]["diskSizeBytes"] = 5 << 40
    cloud.snapshot("s2")
    done = back_up(place, cloud.source("s2", 5 << 40))
    assert "grown over 4 TB" in done.warnings[0]
    assert done.counts.bytes_read == MIB


def test_a_disk_that_grew_a_little_is_read_as_far_as_it_changed(cloud: Cloud, place: Place) -> None:
    cloud.write({0: noise(1, 4 * MIB)})
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    disk = cloud.blobs.blobs[cloud.arm("disks", "data")]
    disk.pages[2 * SIZE // PAGE] = disk.pages.pop(SIZE // PAGE)
    cloud.front.disks[cloud.arm("disks", "data")]["properties"]["diskSizeBytes"] = 2 * SIZE
    cloud.write({SIZE + MIB: noise(2, 512)})
    cloud.snapshot("s2")
    done = back_up(place, cloud.source("s2", 2 * SIZE))
    assert done.warnings == []
    assert done.counts.bytes_read <= 2 * MIB  # and where the footer was


def test_signatures_that_end_in_the_middle_are_renewed(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    content = {0: noise(1, 20 * MIB)}
    cloud.write(content)
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    cloud.write({at: noise(at, 512) for at in range(0, 20 * MIB, MIB)})
    cloud.snapshot("s2")
    cloud.blobs.page_ranges = 4
    lock = threading.Lock()
    count = 0

    def slow(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += cloud.blobs.serves(request.path)
            if count % 40 == 30:
                count += 1
                cloud.ahead += 5 * 3600
        return handle(request)

    cloud.front.trouble = slow
    done = back_up(place, cloud.source("s2"))
    cloud.front.trouble = None
    assert (done.counts.problems, done.warnings) == ([], [])
    assert done.counts.bytes_read == 20 * MIB
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(cloud.image(tmp_path / "wanted", "disks/data"), tmp_path / "image")
    assert cloud.blobs.grants == {}


def test_signatures_that_are_never_good_are_an_error_and_no_loop(cloud: Cloud, place: Place) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")

    def refuse(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        if cloud.blobs.serves(request.path):
            return Refusal(403, "AuthorizationFailure").answer
        return handle(request)

    cloud.front.trouble = refuse
    with pytest.raises(PermissionMissing, match="snapshots/download/action"):
        back_up(place, cloud.source())
    assert len([one for one in cloud.front.requests if one.path.lower().endswith("begingetaccess")]) < 99
    assert (place.points(), cloud.blobs.grants) == ([], {})


def test_throttling_bad_networks_and_damage_are_waited_for(
    cloud: Cloud, place: Place, tmp_path: Path
) -> None:
    content = {0: noise(1, 12 * MIB)}
    cloud.write(content)
    cloud.snapshot("s1")
    lock = threading.Lock()
    count = 0

    def trouble(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += 1
            turn = count % 7
        answer = handle(request)
        if turn == 1:
            return Refusal(503, "ServerBusy").answer if cloud.blobs.serves(request.path) else Answer(429)
        if turn == 3:
            raise HangUp
        if turn == 5 and answer.status == 206:
            return Answer(206, b"x" + answer.body[1:], answer.headers)  # flipped on the way
        return answer

    cloud.front.trouble = trouble
    cloud.try_times(50)  # a request may meet more than one of these
    back_up(place, cloud.source())
    cloud.front.trouble = None
    assert cloud.pauses
    assert cloud.blobs.grants == {}
    bring_back(place, ImageTarget(str(tmp_path / "image"), overwrite=False))
    assert_same(image_of(tmp_path / "wanted", content), tmp_path / "image")


def test_what_is_always_cut_off_makes_no_point(cloud: Cloud, place: Place) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")

    def cut(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        if request.headers.get("x-ms-range-get-content-md5"):
            raise HangUp
        return handle(request)

    cloud.front.trouble = cut
    with pytest.raises(SourceFailed, match="cannot read it") as caught:
        back_up(place, cloud.source())
    assert caught.value.retryable
    assert (place.points(), cloud.blobs.grants) == ([], {})


def test_no_signature_is_told_when_nobody_answers(
    cloud: Cloud, place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")
    monkeypatch.setattr(cloud.blobs, "address", f"http://127.0.0.1:{free_port()}")
    signatures: list[str] = []

    def watch(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        signatures.extend(one.signature for one in cloud.blobs.grants.values())
        return handle(request)

    cloud.front.trouble = watch
    with pytest.raises(SourceFailed, match="refused") as caught:
        back_up(place, cloud.source())
    assert signatures
    assert not [one for one in signatures if one in f"{caught.value}{caught.value.hint}"]
    assert cloud.blobs.grants == {}
    said = ServiceRequestError("Max retries exceeded with url: /d/abcd?sv=1&sig=abc%2F3&se=1 (Caused by x)")
    error = faults.translated(said, faults.READ, "rg/s1")
    assert "abc" not in error.message.replace("abcd", "")
    assert "sig=…&se=1" in error.message


@pytest.mark.parametrize("permission", ["read", "beginGetAccess/action"])
def test_missing_permissions_are_named(cloud: Cloud, place: Place, permission: str) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")
    back_up(place, cloud.source())
    cloud.write({0: noise(2, MIB)})
    cloud.snapshot("s2")
    cloud.front.denied.add(f"Microsoft.Compute/snapshots/{permission}")
    with pytest.raises(PermissionMissing, match=f"snapshots/{permission}") as caught:
        back_up(place, cloud.source("s2"))
    assert permission in caught.value.hint
    assert len(place.points()) == 1


def test_access_that_cannot_be_taken_back_is_told(cloud: Cloud, place: Place) -> None:
    cloud.write({0: noise(1, MIB)})
    cloud.snapshot("s1")
    cloud.front.denied.add("Microsoft.Compute/snapshots/endGetAccess/action")
    (note,) = back_up(place, cloud.source()).warnings
    assert "endGetAccess" in note
    assert "ends by itself within 4 hours" in note


def test_the_sixth_snapshot_with_access_is_refused_in_words(cloud: Cloud, place: Place) -> None:
    for number in range(1, 7):
        cloud.snapshot(f"s{number}")
    for number in range(1, 6):
        cloud.blobs.grant(cloud.arm("snapshots", f"s{number}"), "Read", 3600)
    with pytest.raises(SourceFailed, match="5 snapshots of a family") as caught:
        back_up(place, cloud.source("s6"))
    assert "At most 5 snapshots" in caught.value.hint
    assert len(cloud.blobs.grants) == 5  # of whoever has them


def test_a_blob_of_another_size_than_the_disk_is_no_point(cloud: Cloud, place: Place) -> None:
    cloud.snapshot("s1")
    with pytest.raises(SourceFailed, match="with a footer of 512 were expected"):
        back_up(place, cloud.source(size=SIZE + GIB))
    assert (place.points(), cloud.blobs.grants) == ([], {})
