"""`donjon backup --azure-snapshot`: snapshots that are there, without a plan. Azure is a fake of ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from donjon.app.volumes import azure_source
from donjon.cli import main
from donjon.core.errors import SourceFailed, UsageError
from donjon.snapshots import azure_calls
from donjon.sources.azure_disk import AzureDiskSource
from donjon.testing.azure.snapshots import AzureSnapshotsFront
from tests.integration.azure_disks import SUBSCRIPTION, Cloud, served_clouds
from tests.integration.cli import Donjon
from tests.integration.volumes import MIB, assert_same, noise

GROUP = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.Compute/snapshots"


@dataclass
class Bench:
    """The command in this process, for the fake stands in for Azure's clients there."""

    cloud: Cloud
    donjon: Donjon
    capsys: pytest.CaptureFixture[str]

    def run(self, *arguments: str | Path, code: int = 0) -> tuple[str, str]:
        got = main.run([str(one) for one in arguments])
        shown = self.capsys.readouterr()
        assert got == code, shown
        assert "Traceback" not in shown.err
        assert "sig=" not in shown.out + shown.err
        return shown.out, shown.err

    def back_up(self, *names: str, options: tuple[str, ...] = ()) -> dict[str, Any]:
        named = [part for name in names for part in ("--azure-snapshot", f"{GROUP}/{name}")]
        out, _ = self.run("backup", *named, "--workload", "db", "--json", *options)
        said: dict[str, Any] = json.loads(out)
        return said


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[AzureSnapshotsFront, Any]]:
    with served_clouds() as served:
        yield served


@pytest.fixture
def bench(
    served: tuple[AzureSnapshotsFront, Any],
    donjon: Donjon,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Bench:
    cloud = Cloud(*served)
    asked: list[str] = []

    def connect(subscription: str, **_: object) -> Any:
        asked.append(subscription)
        assert set(asked) == {SUBSCRIPTION}
        return cloud.client

    monkeypatch.setattr(azure_calls, "connect", connect)
    for name, value in donjon.environment().items():
        monkeypatch.setenv(name, value)
    return Bench(cloud, donjon, capsys)


def test_a_snapshot_is_backed_up_and_then_what_changed(bench: Bench, tmp_path: Path) -> None:
    cloud = bench.cloud
    cloud.write({0: noise(1, 4 * MIB)})
    cloud.snapshot("s1")
    assert bench.back_up("s1")["bytes_read"] == 4 * MIB
    cloud.write({2 * MIB: noise(2, 512)})
    cloud.discard(3 * MIB, MIB)
    cloud.snapshot("s2")
    cloud.write({0: noise(3, MIB)})  # production goes on
    cloud.blobs.bytes_read = 0
    assert bench.back_up("s2")["warnings"] == []
    assert cloud.blobs.bytes_read == MIB  # what was cleared as a whole is not asked for
    again = bench.back_up("s2")
    assert (again["bytes_read"], again["files_unmodified"]) == (0, 1)
    assert bench.back_up("s2", options=("--read-all",))["bytes_read"] == 3 * MIB
    bench.run("restore", "db@latest:/data", "--to-device", tmp_path / "back")
    assert_same(cloud.image(tmp_path / "wanted", "snapshots/s2"), tmp_path / "back")
    assert set(cloud.front.snapshots) == {
        cloud.arm("snapshots", name) for name in ("s1", "s2")
    }  # nothing goes
    assert cloud.blobs.grants == {}


def test_a_dry_run_reads_nothing(bench: Bench) -> None:
    bench.cloud.write({0: noise(1, MIB)})
    bench.cloud.snapshot("s1")
    assert bench.back_up("s1", options=("--dry-run",))["files_new"] == 1
    assert bench.cloud.blobs.bytes_read == 0


def test_snapshots_of_several_disks_make_one_point(bench: Bench) -> None:
    cloud = bench.cloud
    cloud.front.make_disk(SUBSCRIPTION, "rg", "log", "westeurope")
    cloud.write({0: noise(1, MIB)})
    cloud.write({0: noise(2, MIB)}, "log")
    cloud.snapshot("s1")
    cloud.snapshot("s2")
    cloud.front.snapshots[cloud.arm("snapshots", "s2")]["properties"]["creationData"]["sourceResourceId"] = (
        cloud.arm("disks", "log")
    )
    bench.back_up("s1", "s2")
    listed = json.loads(bench.run("ls", "db@latest", "--json")[0])
    files = sorted(item["path"] for item in listed["items"] if item["type"] == "file")
    assert files == ["/data", "/log"]


def _disk(cloud: Cloud, source: str | None, tags: dict[str, str] | None = None) -> bytes:
    """How the file is called of a snapshot that was made so."""
    one = cloud.front.snapshots[cloud.arm("snapshots", "s1")]
    one["properties"]["creationData"] = {"createOption": "Copy", "sourceResourceId": source}
    one["tags"] = tags or {}
    (path,), source_of = azure_source([f"{GROUP}/s1"])
    assert isinstance(source_of, AzureDiskSource)
    return path


MARKS = {"donjon-workload": "web", "donjon-set": "s", "donjon-set-size": "1"}


@pytest.mark.parametrize(
    ("source", "tags", "path"),
    [
        ("/subscriptions/x/resourceGroups/RG/providers/Microsoft.Compute/disks/Data", {}, b"/Data"),
        (f"{GROUP}/other", {}, b"/s1"),  # a copy of a snapshot
        (f"{GROUP}/other", {**MARKS, "donjon-volume": "rg/log"}, b"/log"),  # one of Donjon's
        (f"{GROUP}/other", {**MARKS, "donjon-volume": "rg/.."}, b"/s1"),
        (f"{GROUP}/other", {**MARKS, "donjon-volume": "rg/a/../../etc"}, b"/s1"),
        (f"{GROUP}/other", {"donjon-volume": "rg/log"}, b"/s1"),
        ("/subscriptions/x/resourceGroups/RG/providers/Microsoft.Compute/disks/..", {}, b"/s1"),
        ("https://account.blob.core.windows.net/c/disk.vhd", {}, b"/s1"),
        (None, {}, b"/s1"),
    ],
)
def test_the_file_is_called_as_the_disk(
    bench: Bench, source: str | None, tags: dict[str, str], path: bytes
) -> None:
    bench.cloud.snapshot("s1")
    assert _disk(bench.cloud, source, tags) == path


def test_an_increment_is_found_whatever_capitals_azure_writes(bench: Bench) -> None:
    """Azure answers names of resource groups in other capitals than they were given in."""
    bench.cloud.write({0: noise(1, 4 * MIB)})
    bench.cloud.snapshot("s1")
    bench.back_up("s1")
    bench.cloud.write({0: noise(2, 512)})
    bench.cloud.snapshot("s2")
    creation = bench.cloud.front.snapshots[bench.cloud.arm("snapshots", "s2")]["properties"]["creationData"]
    creation["sourceResourceId"] = creation["sourceResourceId"].replace("/rg/", "/RG/")
    assert bench.back_up("s2")["bytes_read"] == MIB


def _pending(properties: dict[str, Any]) -> None:
    properties["completionPercent"] = 40.0


def _updating(properties: dict[str, Any]) -> None:
    properties["provisioningState"] = "Updating"


def _failed(properties: dict[str, Any]) -> None:
    properties["provisioningState"] = "Failed"


def _no_copy(properties: dict[str, Any]) -> None:
    properties["copyCompletionError"] = {"errorCode": "CopySourceNotFound", "errorMessage": "gone"}


@pytest.mark.parametrize(
    ("change", "told", "again"),
    [
        (_pending, "is not complete (", True),
        (_updating, "is not complete (Updating", True),
        (_failed, "is not complete (Failed", False),
        (_no_copy, "is no whole copy: gone", False),
    ],
)
def test_what_is_not_complete_makes_no_point(
    bench: Bench, change: Callable[[dict[str, Any]], None], told: str, again: bool
) -> None:
    bench.cloud.snapshot("s1")
    change(bench.cloud.front.snapshots[bench.cloud.arm("snapshots", "s1")]["properties"])
    with pytest.raises(SourceFailed) as caught:
        azure_source([f"{GROUP}/s1"])
    assert (told in caught.value.message, caught.value.retryable) == (True, again)
    err = bench.run("backup", "--azure-snapshot", f"{GROUP}/s1", code=1)[1]
    assert f"rg/s1: {told}" in err
    assert json.loads(bench.run("points", "--json")[0])["points"] == []


def test_what_is_not_there_or_not_allowed_is_named(bench: Bench) -> None:
    err = bench.run("backup", "--azure-snapshot", f"{GROUP}/none", code=1)[1]
    assert "rg/none: is not there" in err
    bench.cloud.snapshot("s1")
    bench.cloud.front.denied.add("Microsoft.Compute/snapshots/read")
    err = bench.run("backup", "--azure-snapshot", f"{GROUP}/s1", code=11)[1]
    assert "Microsoft.Compute/snapshots/read" in err


@pytest.mark.parametrize(
    "name",
    [
        "",
        "s1",
        "rg/s1",
        f"{GROUP}/",
        f"{GROUP}/a/b",
        GROUP.replace("snapshots", "disks") + "/data",
        f"{GROUP}/s1?x",
    ],
)
def test_what_is_no_id_of_a_snapshot(bench: Bench, name: str) -> None:
    err = bench.run("backup", "--azure-snapshot", name, code=2)[1]
    assert "is no id of a snapshot of Azure" in err
    assert "--query id" in err


def test_what_does_not_go_together(bench: Bench) -> None:
    bench.cloud.snapshot("s1")
    bench.cloud.snapshot("s2")
    two = ("backup", "--azure-snapshot", f"{GROUP}/s1", "--azure-snapshot")
    assert "two of the snapshots are of one disk" in bench.run(*two, f"{GROUP}/s2", code=2)[1]
    other = f"{GROUP}/s2".replace(SUBSCRIPTION, SUBSCRIPTION[:-1] + "b")
    assert "several subscriptions" in bench.run(*two, other, code=2)[1]
    assert "do not go together" in bench.run(*two[:3], "--ebs-snapshot", "snap-1", code=2)[1]
    with pytest.raises(UsageError):
        azure_source([f"{GROUP}/s1", other])
