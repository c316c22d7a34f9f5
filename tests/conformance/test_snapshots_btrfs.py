"""The suite of snapshots against real btrfs, and what is particular to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from donjon.core.clock import system_clock
from donjon.core.errors import PermissionMissing, Refused, SnapshotFailed
from donjon.snapshots import btrfs_calls
from donjon.snapshots.base import SnapshotState
from donjon.snapshots.btrfs import FOLDER, BtrfsSnapshots, find_volume
from donjon.testing.conformance.snapshots import Ground, QuickTime, SnapshotTests
from donjon.testing.folders import open_to_others
from donjon.testing.servers.btrfs import btrfs, delete_subvolume, make_subvolume, take_snapshot


class Btrfs(Ground):
    def __init__(self, place: Path) -> None:
        self.place = place
        self.snapshots = BtrfsSnapshots([], account="host", region="room", patience=QuickTime().patience)

    def make_volume(self) -> str:
        path = self.place / f"v{os.urandom(6).hex()}"
        make_subvolume(path)
        return str(path)

    def remove_volume(self, volume: str) -> None:
        delete_subvolume(Path(volume))

    def make_foreign(self, volume: str) -> str:
        folder = Path(volume, FOLDER, f"foreign{os.urandom(4).hex()}")
        folder.mkdir()
        take_snapshot(Path(volume), folder / "snapshot")
        return str(folder / "snapshot")

    def exists(self, snapshot_id: str) -> bool:
        return Path(snapshot_id).exists()

    def now(self) -> int:
        return system_clock()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with btrfs(tmp_path_factory.mktemp("btrfs")) as place:
        yield place


@pytest.fixture
def ground(place: Path) -> Btrfs:
    return Btrfs(place)


class TestBtrfs(SnapshotTests):
    @pytest.fixture
    def ground(self, ground: Btrfs) -> Btrfs:
        return ground


def test_a_snapshot_has_what_was_there_and_stays_as_it_was(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    (volume / "a").write_text("before")
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    (volume / "a").write_text("after")
    (volume / "b").write_text("new")
    seen = Path(one.snapshot_id)
    assert (seen / "a").read_text() == "before"
    assert not (seen / "b").exists()
    with pytest.raises(OSError, match="Read-only"):
        (seen / "a").write_text("changed")


def test_snapshots_are_seen_by_their_owner_alone(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    assert (volume / FOLDER).stat().st_mode & 0o777 == 0o700


def test_a_folder_that_others_can_change_is_not_used(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    (volume / FOLDER).mkdir(mode=0o777)
    (volume / FOLDER).chmod(0o777)
    with pytest.raises(Refused, match="open to others"):
        ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    assert list((volume / FOLDER).iterdir()) == []


def test_a_link_in_place_of_the_folder_is_not_followed(ground: Btrfs, tmp_path: Path) -> None:
    volume = Path(ground.make_volume())
    (volume / FOLDER).symlink_to(tmp_path)
    with pytest.raises(SnapshotFailed):
        ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_subvolume_has_no_snapshots(ground: Btrfs, tmp_path: Path) -> None:
    (Path(ground.place) / "folder").mkdir(exist_ok=True)
    for path in (ground.place / "folder", tmp_path):
        with pytest.raises(SnapshotFailed, match="is no subvolume"):
            ground.snapshots.create([str(path)], workload="web", set_id="s1")


def test_the_subvolume_of_a_path_is_found(ground: Btrfs, tmp_path: Path) -> None:
    volume = Path(ground.make_volume())
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "a" / "file").touch()
    assert find_volume(str(volume / "a" / "b")) == str(volume)
    assert find_volume(str(volume / "a" / "file")) == str(volume)
    assert find_volume(str(volume)) == str(volume)
    assert find_volume(str(tmp_path)) is None
    with pytest.raises(SnapshotFailed, match="is not there"):
        find_volume(str(volume / "nothing"))


def test_another_subvolume_in_place_of_a_snapshot_is_not_deleted(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    delete_subvolume(Path(one.snapshot_id))
    take_snapshot(volume, Path(one.snapshot_id))
    assert [found.state for found in ground.snapshots.list("web")] == [SnapshotState.FAILED]
    with pytest.raises(Refused, match="not the subvolume"):
        ground.snapshots.delete(one)
    assert Path(one.snapshot_id).exists()


def test_one_that_was_made_writable_is_not_good_any_more(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    subprocess.run(["btrfs", "property", "set", "-ts", one.snapshot_id, "ro", "false"], check=True)
    assert [found.state for found in ground.snapshots.list("web")] == [SnapshotState.FAILED]
    with pytest.raises(SnapshotFailed):
        ground.snapshots.wait([one], timeout_s=60)
    with pytest.raises(Refused):
        ground.snapshots.delete(one)


@pytest.mark.parametrize(
    "record", ["", "[]", "{}", '{"marks": {}, "uuid": ""}', '{"marks": {"donjon-workload": 3}}', "\0" * 99]
)
def test_a_record_that_is_damaged_makes_nothing_ours(ground: Btrfs, record: str) -> None:
    volume = Path(ground.make_volume())
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    path = Path(one.snapshot_id).parent / "record.json"
    path.write_text(record)
    assert list(ground.snapshots.list()) == []
    with pytest.raises(Refused):
        ground.snapshots.delete(one)
    assert Path(one.snapshot_id).exists()


@pytest.mark.parametrize(
    "path", ["/", "/tmp", f"/{FOLDER}/x", f"/{FOLDER}/../snapshot", f"/{FOLDER}/a/b/snapshot", "relative"]
)
def test_a_path_of_no_snapshot_is_refused(ground: Btrfs, path: str) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    with pytest.raises(Refused):
        ground.snapshots.delete(replace(one, snapshot_id=path))


@pytest.mark.parametrize("step", ["record", "taken"])
def test_one_that_was_killed_while_it_was_taken_is_cleaned_up(
    ground: Btrfs, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume = Path(ground.make_volume())
    take = btrfs_calls.take

    def killed(root: int, folder: int, name: bytes) -> None:
        if step == "taken":
            take(root, folder, name)
        raise KeyboardInterrupt

    monkeypatch.setattr(btrfs_calls, "take", killed)
    with pytest.raises(KeyboardInterrupt):
        ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    monkeypatch.undo()
    (left,) = ground.snapshots.list("web")
    assert left.state is SnapshotState.FAILED
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    assert one.state is SnapshotState.COMPLETE
    ground.snapshots.delete(one)
    assert [one.name for one in (volume / FOLDER).iterdir()] == ["CACHEDIR.TAG"]


def test_a_full_file_system_leaves_nothing_behind(ground: Btrfs, monkeypatch: pytest.MonkeyPatch) -> None:
    good, bad = ground.make_volume(), ground.make_volume()
    take = btrfs_calls.take

    def full(root: int, folder: int, name: bytes) -> None:
        if bad in os.readlink(f"/proc/self/fd/{root}"):
            raise OSError(28, "No space left on device")
        take(root, folder, name)

    monkeypatch.setattr(btrfs_calls, "take", full)
    with pytest.raises(SnapshotFailed, match="No space left") as caught:
        ground.snapshots.create([good, bad], workload="full", set_id="s1")
    assert caught.value.retryable
    assert [one.state for one in ground.snapshots.list("full")] == [SnapshotState.FAILED]
    assert [one.name for one in Path(good, FOLDER).iterdir()] == ["CACHEDIR.TAG"]


def test_a_user_without_rights_is_told_which_are_missing(ground: Btrfs) -> None:
    volume = Path(ground.make_volume())
    (one,) = ground.snapshots.create([str(volume)], workload="web", set_id="s1")
    open_to_others(ground.place)
    code = (
        "import os, sys\n"
        "from donjon.core.errors import PermissionMissing\n"
        "from donjon.snapshots.btrfs import BtrfsSnapshots\n"
        "os.setgid(65534); os.setuid(65534)\n"
        "snapshots = BtrfsSnapshots([sys.argv[1]], account='h', region='r')\n"
        "for call in (lambda: list(snapshots.list()),\n"
        "             lambda: snapshots.create([sys.argv[1]], workload='w', set_id='s')):\n"
        "    try:\n"
        "        call()\n"
        "    except PermissionMissing as error:\n"
        "        print(error.message)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(volume)], capture_output=True, text=True, check=True
    )
    assert done.stdout.count("no permission CAP_SYS_ADMIN") == 2, done
    assert Path(one.snapshot_id).exists()
    assert PermissionMissing.exit_code == 11


def test_a_record_says_what_it_is_to_people(ground: Btrfs) -> None:
    (one,) = ground.snapshots.create([ground.make_volume()], workload="web", set_id="s1")
    said = json.loads((Path(one.snapshot_id).parent / "record.json").read_text())
    assert said["marks"]["donjon-workload"] == "web"
    assert len(said["uuid"]) == 32


def test_mounts_and_loop_devices_go_with_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import pathlib, sys, time\n"
        "from donjon.testing.servers.btrfs import btrfs\n"
        "with btrfs(pathlib.Path(sys.argv[1])):\n"
        "    print('mounted', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"mounted\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert str(tmp_path) not in Path("/proc/mounts").read_text()
    for _ in range(100):
        listed = subprocess.run(["losetup", "--all"], capture_output=True, text=True, check=True).stdout
        if str(tmp_path) not in listed:
            return
        signal.sigtimedwait([], 0.05)
    pytest.fail(listed)
