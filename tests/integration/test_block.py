"""Block devices and image files: fixed extents, increments, devices that misbehave, and back again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from donjon.backup import extents
from donjon.backup.extents import OldExtents
from donjon.codec.chunk import Sizes
from donjon.core.errors import IntegrityFailure, Interrupted, Refused, SourceFailed, UsageError
from donjon.format.entries import EXTENT_ATTRIBUTE
from donjon.recovery.ranges import ChunkCache, FileRanges
from donjon.sources.base import Source
from donjon.sources.block import SECTOR_BYTES, BlockOptions, BlockSource
from donjon.sources.block_hints import ChangedBlocks
from donjon.sources.tree import TreeSource
from donjon.targets.image import ImageTarget
from donjon.testing.conformance.sources import SourceTests
from tests.integration.engine import SMALL, Place
from tests.integration.volumes import (
    GIB,
    MIB,
    assert_same,
    back_up,
    bring_back,
    entry_of,
    loop_device,
    mounted,
    noise,
    patch,
    sparse,
    view_of,
)


def block(*paths: Path, options: BlockOptions | None = None) -> BlockSource:
    return BlockSource([os.fsencode(path) for path in paths], options)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place.make(tmp_path / "place", sizes=Sizes())


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    pieces = {0: noise(1, 3 * MIB), 10 * MIB + 4096: noise(2, 5 * MIB), 64 * MIB: b"end" * 100}
    sparse(path, 64 * MIB + 512, pieces)
    return path


class TestBlockSource(SourceTests):
    comparable = False

    @pytest.fixture(autouse=True)
    def _image(self, tmp_path: Path) -> None:
        self._paths = [tmp_path / name for name in ("b/c/y.img", "b.img", "b/x.img", "a/z.img")]
        for path in self._paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            sparse(path, 3 * MIB, {0: noise(1, 5000), MIB: noise(2, 100_000)})

    def make(self) -> Source:
        return block(*self._paths)


def test_a_sparse_volume_of_5_gib_comes_back_and_keeps_its_holes(place: Place, tmp_path: Path) -> None:
    image = tmp_path / "large.img"
    # 300 MiB, most of them alike from far away: the vault of the test lies in memory.
    pieces = {number * 97 * MIB: noise(number % 7, 6 * MIB) for number in range(50)}
    sparse(image, 5 * GIB, pieces)
    done = back_up(place, block(image))
    assert done.counts.size_bytes == 5 * GIB
    assert done.counts.bytes_read < 400 * MIB
    entry = entry_of(place)
    assert entry.data_bytes == 300 * MIB
    assert all(offset % MIB == 0 for offset, _ in entry.extents or ())
    assert bring_back(place, ImageTarget(str(tmp_path / "back.img"), overwrite=False), verify=True).verified
    assert_same(image, tmp_path / "back.img")
    assert (tmp_path / "back.img").stat().st_blocks * 512 < 310 * MIB
    place.assert_sound()


def test_a_volume_is_a_file_like_any_other_for_a_restore_of_the_tree(place: Place, image: Path) -> None:
    back_up(place, block(image))
    done = place.restore(place.folder / "out")
    assert (done.problems, done.damage) == ([], [])
    (found,) = (place.folder / "out").rglob("disk.img")
    assert_same(image, found)
    assert not any(name.startswith("donjon") for name in os.listxattr(found))
    view = view_of(place)
    file = FileRanges(view, entry_of(place), ChunkCache())
    assert file.read(10 * MIB, 8192) == bytes(4096) + noise(2, 5 * MIB)[:4096]


@pytest.mark.parametrize("size", [40 * MIB, 64 * MIB + 512, 64 * MIB + 4096, 90 * MIB + 1, 3 * MIB + 7])
def test_a_volume_that_grew_or_shrank_between_two_points(
    place: Place, image: Path, tmp_path: Path, size: int
) -> None:
    back_up(place, block(image, options=hints(image, None, "a")))
    os.truncate(image, size)
    patch(image, size - 100, b"x" * 100)
    changed = hints(image, "a", "b", (size - 100, 100))
    done = back_up(place, block(image, options=changed))
    assert done.counts.bytes_read <= 30 * MIB
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    place.assert_sound()


def hints(
    image: Path, since: str | None, generation: str, *ranges: tuple[int, int], even_mounted: bool = False
) -> BlockOptions:
    changed = ChangedBlocks(generation, since, tuple(sorted(ranges)))
    return BlockOptions(even_mounted, changed={os.fsencode(image): changed})


def test_an_increment_reads_only_what_has_changed(place: Place, image: Path, tmp_path: Path) -> None:
    first = back_up(place, block(image, options=hints(image, None, "a")))
    assert first.counts.files_new == 1
    patch(image, 11 * MIB + 5, b"changed")
    patch(image, 30 * MIB, noise(9, 100))  # where a hole was
    patch(image, 0, bytes(MIB))  # a hole now
    changed = hints(image, "a", "b", (0, MIB), (11 * MIB + 5, 7), (30 * MIB, 100))
    done = back_up(place, block(image, options=changed))
    assert done.counts.bytes_read == 3 * MIB
    assert (done.counts.problems, done.warnings) == ([], [])
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    assert done.bytes_stored < 3 * MIB
    # All of it again, with nothing changed.
    done = back_up(place, block(image, options=hints(image, "b", "c")))
    assert done.counts.bytes_read == 0
    place.assert_sound()


def test_hints_since_another_generation_are_not_taken(place: Place, image: Path, tmp_path: Path) -> None:
    back_up(place, block(image, options=hints(image, None, "a")))
    patch(image, 11 * MIB, b"changed")
    done = back_up(place, block(image, options=hints(image, "b", "c")))
    assert done.counts.bytes_read > 8 * MIB
    assert "was read in full" in done.warnings[0]
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b'{"version": 2, "generation": "a"}',
        b'{"version": 1}',
        b'{"version": 1, "generation": "a", "changed": [{"offset": -1, "length": 1}]}',
        b'{"version": 1, "generation": "a", "changed": [{"offset": 0, "length": 1e999}]}',
        b'{"version": 1, "generation": "a", "typo": 1}',
    ],
)
def test_hints_that_make_no_sense_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "hints").write_bytes(text)
    with pytest.raises(UsageError, match="hints"):
        ChangedBlocks.read(tmp_path / "hints")
    with pytest.raises(UsageError, match="No such file"):
        ChangedBlocks.read(tmp_path / "nowhere")


def test_hints_that_lie_are_found_by_reading_all(place: Place, image: Path, tmp_path: Path) -> None:
    back_up(place, block(image, options=hints(image, None, "a")))
    patch(image, 11 * MIB, b"not told")
    patch(image, 40 * MIB, b"not told either")
    subprocess.run(["fallocate", "-p", "-o", "0", "-l", str(MIB), image], check=True)
    lying = hints(image, "a", "a", (63 * MIB, 512))
    assert back_up(place, block(image, options=lying)).counts.problems == []  # nobody can know
    done = back_up(place, block(image, options=lying), read_all=True)
    (problem,) = done.counts.problems
    assert problem.reason == (
        "3 extents of 1.0 MiB had changed though the list of changed blocks left them out, "
        "the first at offset 0"
    )
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    done = back_up(place, block(image, options=hints(image, "a", "b")), read_all=True)
    assert done.counts.problems == []


def test_chunks_that_the_vault_may_lose_are_read_again(image: Path, tmp_path: Path) -> None:
    place = Place.make(tmp_path / "locked", sizes=Sizes(), lock_s=30 * 86_400)
    back_up(place, block(image, options=hints(image, None, "a")))
    place.clock.advance(29 * 86_400 + 80_000)
    done = back_up(place, block(image, options=hints(image, "a", "b")))
    assert done.counts.bytes_read >= 8 * MIB
    assert done.bytes_stored > 7 * MIB
    place.assert_sound()


def test_without_a_cache_everything_is_read_and_nothing_stored_again(place: Place, image: Path) -> None:
    back_up(place, block(image, options=hints(image, None, "a")))
    for file in (place.host.cache.folder / "previous").iterdir():
        file.unlink()
    done = back_up(place, block(image, options=hints(image, "a", "b")))
    assert done.counts.bytes_read > 8 * MIB
    assert done.bytes_stored < MIB


def test_a_vault_of_small_chunks_has_smaller_extents(image: Path, tmp_path: Path) -> None:
    place = Place.make(tmp_path / "small", sizes=SMALL)
    back_up(place, block(image, options=hints(image, None, "a")))
    assert entry_of(place).attribute(EXTENT_ATTRIBUTE) == b"%d" % SMALL.maximum
    patch(image, 2 * MIB, b"x")
    done = back_up(place, block(image, options=hints(image, "a", "b", (2 * MIB, 1))))
    assert done.counts.bytes_read == SMALL.maximum
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")


def test_increments_of_a_volume_with_lists_of_chunks(tmp_path: Path) -> None:
    sizes = Sizes(1024, 2048, 4096)
    place = Place.make(tmp_path / "lists", sizes=sizes)
    image = tmp_path / "image"
    sparse(image, 100 * MIB, {0: noise(1, 66 * MIB), 70 * MIB: b"x"})
    back_up(place, block(image, options=hints(image, None, "a")))
    assert entry_of(place).indirect
    patch(image, 40 * MIB, b"changed")
    done = back_up(place, block(image, options=hints(image, "a", "b", (40 * MIB, 7))))
    assert (done.counts.bytes_read, done.warnings) == (4096, [])
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    place.assert_sound()


@pytest.mark.parametrize("size", [0, 1, 4096, MIB, 2 * MIB])
def test_small_and_empty_volumes(place: Place, tmp_path: Path, size: int) -> None:
    for name, data in (("full", noise(1, size)), ("zero", b"")):
        sparse(tmp_path / name, size, {0: data})
        back_up(place, block(tmp_path / name))
        bring_back(place, ImageTarget(str(tmp_path / f"{name}.back"), overwrite=False), verify=True)
        assert_same(tmp_path / name, tmp_path / f"{name}.back")
    assert entry_of(place).data_bytes == 0
    place.assert_sound()


def test_the_same_path_as_a_file_of_a_tree_is_no_previous_volume(place: Place, image: Path) -> None:
    back_up(place, TreeSource([os.fsencode(image)]))
    done = back_up(place, block(image, options=hints(image, "a", "b")))
    assert done.counts.bytes_read > 8 * MIB
    place.assert_sound()
    done = back_up(place, TreeSource([os.fsencode(image)]))
    assert done.counts.files_changed == 1
    place.assert_sound()


def test_more_holes_than_a_file_may_have_are_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place.make(tmp_path / "place", sizes=Sizes())
    image = tmp_path / "image"
    sparse(image, 64 * MIB, {offset * MIB: b"data" for offset in (0, 1, 3, 10, 12, 30, 31, 63)})
    monkeypatch.setattr(extents, "_MAX_RUNS", 3)
    back_up(place, block(image, options=hints(image, None, "a")))
    entry = entry_of(place)
    assert entry.extents == ((0, 13 * MIB), (30 * MIB, 2 * MIB), (63 * MIB, MIB))
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")
    place.assert_sound()
    done = back_up(place, block(image, options=hints(image, "a", "b")))
    assert done.counts.bytes_read == 0


def test_an_interrupted_backup_is_gone_on_with(place: Place, image: Path) -> None:
    disk = Disk()

    def stop() -> None:
        if disk.reads >= 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        back_up(place, block(image, options=BlockOptions(read=disk)), stop=stop)
    assert place.points() == []
    done = back_up(place, block(image))
    assert done.counts.bytes_read == 9 * MIB + 512
    assert done.bytes_stored < 6 * MIB
    place.assert_sound()


def test_half_empty_packs_are_left_behind_by_reading_again(place: Place, image: Path) -> None:
    back_up(place, block(image, options=hints(image, None, "a")))
    patch(image, 0, noise(7, 3 * MIB))
    patch(image, 10 * MIB, noise(8, 5 * MIB))
    changed = hints(image, "a", "b", (0, 3 * MIB), (10 * MIB, 5 * MIB))
    back_up(place, block(image, options=changed))
    done = back_up(place, block(image, options=hints(image, "b", "c")), compact_percent=80)
    assert done.packs_left > 0
    assert 0 < done.counts.bytes_read <= 2 * MIB
    place.assert_sound()


def test_old_extents_that_do_not_add_up_are_none(place: Place, image: Path) -> None:
    back_up(place, block(image))
    entry = entry_of(place)
    assert OldExtents.of(entry, {}, MIB) is not None
    for change in (
        {"chunks": entry.chunks[:-32]},
        {"extents": ((512, MIB),)},
        {"indirect": True},
        {"xattrs": ((EXTENT_ATTRIBUTE, b"4096"),)},
        {"xattrs": ()},
    ):
        assert OldExtents.of(msgspec.structs.replace(entry, **change), {}, MIB) is None


# -- devices that misbehave ----------------------------------------------------------------------------


class Disk:
    """The system call, with bad sectors. The kernel of the tests has no device-mapper to make some."""

    def __init__(self, *bad: int) -> None:
        self.bad = bad
        self.reads = 0
        self.action: Callable[[], object] = lambda: None

    def __call__(self, fd: int, buffers: Sequence[memoryview], offset: int) -> int:
        size = sum(map(len, buffers))
        if any(offset <= sector < offset + size for sector in self.bad):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        self.reads += 1
        action, self.action = self.action, lambda: None
        action()
        return os.preadv(fd, buffers, offset)


def test_a_bad_sector_fails_the_volume_and_no_empty_point_is_made(place: Place, image: Path) -> None:
    with pytest.raises(SourceFailed, match="cannot be read at offset 11534336: Input/output error"):
        back_up(place, block(image, options=BlockOptions(read=Disk(11 * MIB))))
    assert place.points() == []


def test_bad_sectors_are_zeros_if_the_user_says_so(place: Place, image: Path, tmp_path: Path) -> None:
    bad = 11 * MIB + 3 * SECTOR_BYTES
    options = BlockOptions(zero_bad_sectors=True, read=Disk(bad + 5, 64 * MIB + 3))
    done = back_up(place, block(image, options=options))
    (problem,) = done.counts.problems
    assert problem.reason == (
        f"8.0 KiB could not be read and are stored as zeros, at offset {bad}, {64 * MIB}"
    )
    patch(image, bad, bytes(SECTOR_BYTES))
    patch(image, 64 * MIB, bytes(512))
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")


def test_after_bad_sectors_the_next_point_reads_all_and_tells_again(place: Place, image: Path) -> None:
    disk = Disk(11 * MIB)
    for generation, since in (("a", None), ("b", "a")):
        changed = {os.fsencode(image): ChangedBlocks(generation, since, ())}
        options = BlockOptions(zero_bad_sectors=True, changed=changed, read=disk)
        done = back_up(place, block(image, options=options))
        assert "could not be read" in done.counts.problems[0].reason
        assert done.counts.bytes_read > 8 * MIB


def test_one_bad_device_does_not_keep_the_others_from_being_backed_up(
    place: Place, image: Path, tmp_path: Path
) -> None:
    sparse(tmp_path / "good", MIB, {0: b"good"})
    sparse(tmp_path / "zbad", 2 * MIB, {MIB: b"bad"})
    disk = Disk(MIB + 1)
    done = back_up(place, block(tmp_path / "good", tmp_path / "zbad", options=BlockOptions(read=disk)))
    assert [os.path.basename(problem.path) for problem in done.counts.problems] == [b"zbad"]
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(tmp_path / "good", tmp_path / "back")


def test_an_image_that_shrinks_while_it_is_read_fails(place: Place, image: Path) -> None:
    disk = Disk()
    disk.action = lambda: os.truncate(image, 11 * MIB)
    with pytest.raises(SourceFailed, match=f"became smaller while it was read: {64 * MIB + 512} bytes"):
        back_up(place, block(image, options=BlockOptions(read=disk)))


def test_a_volume_that_grows_or_changes_while_it_is_read_is_stored_and_told(
    place: Place, image: Path
) -> None:
    disk = Disk()
    disk.action = lambda: os.truncate(image, 80 * MIB)
    done = back_up(place, block(image, options=BlockOptions(read=disk)))
    assert "grew from 67109376 to 83886080 bytes while it was read" in done.counts.problems[0].reason
    assert entry_of(place).size == 64 * MIB + 512
    disk.action = lambda: patch(image, 50, b"x")
    done = back_up(place, block(image, options=BlockOptions(read=disk)))
    assert "changed while it was read" in done.counts.problems[0].reason


def test_what_is_no_volume_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a block device nor an image file"):
        block(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        block(tmp_path / "missing")
    with pytest.raises(UsageError, match="nothing to back up"):
        block()


# -- loop devices --------------------------------------------------------------------------------------


def test_a_device_with_a_file_system_goes_to_another_device(place: Place, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    sparse(first, 64 * MIB, {})
    subprocess.run(["mkfs.ext4", "-q", first], check=True)
    sparse(second, 80 * MIB, {0: noise(1, MIB), 40 * MIB: noise(2, MIB), 70 * MIB: b"behind it"})
    with loop_device(first) as device, loop_device(second) as other:
        with mounted(device, tmp_path / "mnt") as folder:
            (folder / "file").write_bytes(noise(5, 2 * MIB))
            with pytest.raises(Refused, match=f"mounted for writing at {folder}"):
                block(device)
            with pytest.raises(Refused, match="mounted for writing"):
                block(first)  # the image below the device
            block(device, options=BlockOptions(even_mounted=True))
        with mounted(device, tmp_path / "mnt", "-o", "ro"):
            back_up(place, block(device))
            with pytest.raises(Refused, match=r"cannot be opened for writing: Device or resource busy"):
                bring_back(place, ImageTarget(str(device), overwrite=True))
        with pytest.raises(Refused, match="is not empty"):
            bring_back(place, ImageTarget(str(other), overwrite=False))
        done = bring_back(place, ImageTarget(str(other), overwrite=True), verify=True)
        assert done.notes == (f"{other}: the last {16 * MIB} bytes of the device are as they were",)
        subprocess.run(["cmp", "-n", str(64 * MIB), device, other], check=True)
        with mounted(other, tmp_path / "mnt", "-o", "ro") as folder:
            assert (folder / "file").read_bytes() == noise(5, 2 * MIB)


def test_an_empty_device_is_taken_and_a_smaller_one_is_not(place: Place, image: Path, tmp_path: Path) -> None:
    back_up(place, block(image))
    small, empty = tmp_path / "small", tmp_path / "empty"
    sparse(small, 64 * MIB, {})
    sparse(empty, 65 * MIB, {})
    with loop_device(small) as device, pytest.raises(Refused, match=f"has {64 * MIB} bytes, and the volume"):
        bring_back(place, ImageTarget(str(device), overwrite=True))
    with loop_device(empty) as device:
        assert bring_back(place, ImageTarget(str(device), overwrite=False), verify=True).verified
        subprocess.run(["cmp", "-n", str(64 * MIB + 512), device, image], check=True)


def test_a_device_that_grows_between_two_points(place: Place, image: Path, tmp_path: Path) -> None:
    with loop_device(image) as device:
        back_up(place, block(device))
        os.truncate(image, 70 * MIB)
        subprocess.run(["losetup", "--set-capacity", device], check=True)
        patch(device, 69 * MIB, noise(3, MIB))
        back_up(place, block(device))
    bring_back(place, ImageTarget(str(tmp_path / "back"), overwrite=False))
    assert_same(image, tmp_path / "back")


def test_an_existing_image_is_replaced_when_asked_and_only_as_a_whole(
    place: Place, image: Path, tmp_path: Path
) -> None:
    back_up(place, block(image))
    there = tmp_path / "there"
    there.write_bytes(b"precious")
    with pytest.raises(Refused, match="is there already"):
        bring_back(place, ImageTarget(str(there), overwrite=False))
    target = ImageTarget(str(there), overwrite=True)
    target.begin(MIB)
    target.write_at(0, bytes(4096))
    target.abort()
    assert there.read_bytes() == b"precious"
    assert sorted(os.listdir(tmp_path)) == ["disk.img", "place", "there"]
    bring_back(place, ImageTarget(str(there), overwrite=True))
    assert_same(image, there)


def test_a_target_that_reads_back_differently_is_told(place: Place, image: Path, tmp_path: Path) -> None:
    class Forgetful(ImageTarget):
        def finish(self) -> None:
            super().finish()
            patch(tmp_path / "back", 40 * MIB, b"rot")  # in a hole

    back_up(place, block(image))
    with pytest.raises(IntegrityFailure, match="reads back differently"):
        bring_back(place, Forgetful(str(tmp_path / "back"), overwrite=False), verify=True)
