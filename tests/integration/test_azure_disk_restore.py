"""Managed disks of Azure are uploaded: Azure's own clients, and a fake behind them."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from donjon.app.volumes import volume_target
from donjon.clouds.vhd import footer
from donjon.codec.chunk import Sizes
from donjon.core.errors import (
    DonjonError,
    Refused,
    UsageError,
)
from donjon.snapshots import azure_calls
from donjon.sources.block import BlockSource
from donjon.targets.azure_disk import AzureDiskAddress
from donjon.targets.image import ImageTarget
from donjon.testing.azure.pages import PAGE
from donjon.testing.azure.snapshots import AzureSnapshotsFront
from donjon.testing.front import Answer, HangUp, Request
from tests.integration.azure_disks import SUBSCRIPTION, URL, Cloud, image_of, served_clouds
from tests.integration.cli import Donjon
from tests.integration.engine import Place
from tests.integration.volumes import MIB, assert_same, back_up, bring_back, noise, sparse


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


def _footer_of(cloud: Cloud, name: str = "new") -> bytes:
    blob = cloud.blobs.blobs[cloud.arm("disks", name)]
    return blob.pages[blob.size // PAGE - 1]


def test_an_image_becomes_a_disk_and_comes_back(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = tmp_path / "image"
    pieces = {0: noise(1, 5 * MIB + 5), 300 * MIB + 7: noise(2, 9), 700 * MIB: b"end"}
    sparse(image, 700 * MIB + 512, pieces)
    back_up(place, BlockSource([os.fsencode(image)]))
    done = bring_back(place, cloud.target(f"{URL}&sku=Premium_LRS&os=Linux&generation=V2"), verify=True)
    assert done.made == f"{SUBSCRIPTION}/rg/new"
    assert "az vm disk attach" in done.notes[0]
    disk = cloud.front.disks[cloud.arm("disks", "new")]
    assert disk["properties"]["diskState"] == "Unattached"
    assert disk["properties"]["osType"] == "Linux"
    assert disk["properties"]["creationData"]["uploadSizeBytes"] == 701 * MIB + 512
    assert cloud.blobs.grants == {}
    assert len(cloud.blobs.blobs[cloud.arm("disks", "new")].pages) * PAGE < 9 * MIB  # holes stay holes
    os.truncate(image, 701 * MIB)
    assert_same(image, cloud.image(tmp_path / "there"))
    # And from Azure back to an image.
    cloud.blobs.blobs[cloud.arm("disks", "data")] = cloud.blobs.blobs[cloud.arm("disks", "new")]
    cloud.front.disks[cloud.arm("disks", "data")]["properties"]["diskSizeBytes"] = 701 * MIB
    cloud.snapshot("s1")
    back_up(place, cloud.source(size=701 * MIB), workload="azure")
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")


def test_the_footer_is_that_of_the_specification() -> None:
    made = footer(701 * MIB, unique_id=bytes(range(16)), unix_s=946_684_800 + 5)
    layout = struct.Struct(">8sIIQI4sI4sQQHBBII16sB427s")
    assert layout.size == len(made) == 512
    found = layout.unpack(made)
    assert found[:5] == (b"conectix", 2, 0x10000, (1 << 64) - 1, 5)
    assert found[8:10] == (701 * MIB, 701 * MIB)
    # By hand from "CHS Calculation": 1,435,648 sectors need 63 to a track and 16 heads.
    assert found[10:13] == (1_435_648 // 63 // 16, 16, 63)
    assert (found[13], found[15], found[16], found[17]) == (2, bytes(range(16)), 0, bytes(427))
    assert found[14] == ~sum(made[:64] + bytes(4) + made[68:]) & 0xFFFF_FFFF
    small, large = (footer(size, unique_id=bytes(16), unix_s=0) for size in (20 * MIB, 4 << 40))
    assert layout.unpack(small)[10:13] == (602, 4, 17)
    assert layout.unpack(large)[10:13] == (65_535, 16, 255)


def test_the_footer_is_written_last(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = image_of(tmp_path / "image", {0: noise(1, 9 * MIB)}, 64 * MIB)
    back_up(place, BlockSource([os.fsencode(image)]))
    start = len(cloud.front.requests)
    bring_back(place, cloud.target())
    puts = [one for one in cloud.front.requests[start:] if one.query.get("comp") == "page"]
    assert puts[-1].body == _footer_of(cloud)
    assert puts[-1].body.startswith(b"conectix")
    assert max(len(one.body) for one in puts) <= 4 * MIB
    assert len(puts) == 4


@pytest.mark.parametrize("step", range(10))
def test_whatever_step_fails_no_disk_is_left(cloud: Cloud, place: Place, tmp_path: Path, step: int) -> None:
    image = image_of(tmp_path / "image", {0: noise(1, 3 * MIB), 40 * MIB: noise(2, MIB)}, 64 * MIB)
    back_up(place, BlockSource([os.fsencode(image)]))
    lock = threading.Lock()
    count = 0

    def broken(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        cleans = request.method in {"DELETE", "GET"} or "endGetAccess" in request.path
        with lock:
            count += 1
            fails = count == step + 1 or (count > step and not cleans)
        return Answer(400, b"{}") if fails else handle(request)

    cloud.front.trouble = broken
    with pytest.raises(DonjonError):
        bring_back(place, cloud.target())
    assert count > step
    assert list(cloud.front.disks) == [cloud.arm("disks", "data")]
    assert cloud.blobs.grants == {}


def test_lost_answers_do_no_harm(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = image_of(tmp_path / "image", {0: noise(1, 3 * MIB), 40 * MIB: noise(2, MIB)}, 64 * MIB)
    back_up(place, BlockSource([os.fsencode(image)]))
    seen: set[tuple[str, str, str]] = set()
    lock = threading.Lock()

    def lose(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        answer = handle(request)
        with lock:
            key = (request.method, request.path, request.headers.get("x-ms-range", ""))
            is_new = key not in seen
            seen.add(key)
        if is_new and not request.path.startswith("/operations"):
            raise HangUp  # carried out, and the answer lost
        return answer

    cloud.front.trouble = lose
    bring_back(place, cloud.target())
    cloud.front.trouble = None
    assert_same(image, cloud.image(tmp_path / "there"))
    assert cloud.blobs.grants == {}


def test_an_upload_outlives_its_signature(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = image_of(tmp_path / "image", {at * MIB: noise(at, MIB) for at in range(0, 60, 8)}, 64 * MIB)
    back_up(place, BlockSource([os.fsencode(image)]))
    lock = threading.Lock()
    count = 0

    def slow(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        nonlocal count
        with lock:
            count += request.query.get("comp") == "page"
            if count == 4:
                count += 1
                cloud.ahead += 5 * 3600
        return handle(request)

    cloud.front.trouble = slow
    bring_back(place, cloud.target())
    assert_same(image, cloud.image(tmp_path / "there"))


def test_a_disk_that_is_there_is_never_touched(cloud: Cloud, place: Place, tmp_path: Path) -> None:
    image = image_of(tmp_path / "image", {0: noise(1, MIB)}, 64 * MIB)
    back_up(place, BlockSource([os.fsencode(image)]))
    before = dict(cloud.blobs.blobs[cloud.arm("disks", "data")].pages)
    with pytest.raises(Refused, match="such a disk already"):
        bring_back(place, cloud.target(URL.replace("/new?", "/data?")))
    # Nor one that somebody makes at the same moment.
    made = threading.Event()

    def race(request: Request, handle: Callable[[Request], Answer]) -> Answer:
        if request.method == "PUT" and not made.is_set():
            made.set()
            cloud.front.make_disk(SUBSCRIPTION, "rg", "new", "westeurope")
        return handle(request)

    cloud.front.trouble = race
    with pytest.raises(DonjonError):
        bring_back(place, cloud.target())
    assert sorted(cloud.front.disks) == sorted(cloud.arm("disks", name) for name in ("data", "new"))
    assert cloud.blobs.blobs[cloud.arm("disks", "data")].pages == before


@pytest.mark.parametrize(
    "url",
    [
        "azure-disk://", f"azure-disk://{SUBSCRIPTION}/rg/new", f"azure-disk://{SUBSCRIPTION}/rg?region=r",
        f"{URL}&x=1", f"{URL}&sku=UltraSSD_LRS", f"{URL}&os=BSD", f"{URL}&a",
        "azure-disk://s/rg/a/b?region=r",
    ],
)  # fmt: skip
def test_addresses_that_mean_nothing(url: str) -> None:
    with pytest.raises(UsageError, match="azure-disk"):
        AzureDiskAddress.parse(url)


def test_the_command_restores_to_an_address(
    cloud: Cloud, donjon: Donjon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = image_of(tmp_path / "image", {0: noise(1, MIB)}, 64 * MIB)
    monkeypatch.setattr(azure_calls, "connect", lambda *_, **__: cloud.client)
    with volume_target(None, URL, overwrite=False, name=b"sda") as target:
        target.begin(64 * MIB)
        target.write_at(0, image.read_bytes()[:MIB])
        target.finish()
    assert_same(image, cloud.image(tmp_path / "there"))
    donjon.run("backup", "--device", image)
    said = donjon.run("restore", "latest", "--to", "azure-disk://nothing", code=2).stderr
    assert b"is no address of a managed disk" in said
