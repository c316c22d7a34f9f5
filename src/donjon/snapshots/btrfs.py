"""Read-only snapshots of subvolumes of btrfs.

Each lies in a folder of the subvolume itself, for only there it is sure to be on the same file system:
``.donjon-snapshots/WORKLOAD.SET/snapshot``, and beside it ``record.json`` with its marks and the id that the
kernel gave it. Only what has such a record, and is what the record says, is ever deleted.

A snapshot has all of its subvolume at one moment, and nothing of subvolumes within; several subvolumes are
taken one after another. Being read-only is no lock: root deletes it all the same.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import msgspec

from donjon.core.errors import DonjonError, LocksUnsupported, Refused, SnapshotFailed
from donjon.snapshots import btrfs_calls as calls
from donjon.snapshots.base import Snapshot, SnapshotState
from donjon.snapshots.btrfs_calls import DIRECTORY, find_volume
from donjon.snapshots.marks import Marks, check_names
from donjon.snapshots.patience import Patience

__all__ = ["FOLDER", "BtrfsSnapshots", "find_volume"]

#: The folder in each subvolume that snapshots lie in.
FOLDER: Final = ".donjon-snapshots"
_SNAPSHOT: Final = "snapshot"
_RECORD: Final = "record.json"
_NEW_RECORD: Final = "record.new"
_MAX_RECORD_BYTES: Final = 16 << 10
_CACHE_TAG: Final = b"Signature: 8a477f597d28d172789f06886806bc55\n# The snapshots of Donjon.\n"


class _Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is written beside a snapshot. ``uuid`` is empty until it has been taken."""

    marks: dict[str, str]
    uuid: str = ""


class BtrfsSnapshots:
    """See ``Snapshots``. Volumes are absolute paths of subvolumes, and ids are paths of snapshots."""

    def __init__(
        self, volumes: Sequence[str], *, account: str, region: str, patience: Patience | None = None
    ) -> None:
        """``volumes`` are those whose snapshots are listed, beside those that snapshots are taken of."""
        self._volumes = dict.fromkeys(volumes)
        self.account: Final = account
        self.region: Final = region
        self._patience = patience or Patience()

    def __repr__(self) -> str:
        return f"BtrfsSnapshots({', '.join(self._volumes)})"

    def create(self, volumes: Sequence[str], *, workload: str, set_id: str) -> list[Snapshot]:
        """See ``Snapshots``."""
        check_names(workload, set_id)
        self._volumes |= dict.fromkeys(volumes)
        made: list[Snapshot] = []
        try:
            for volume in volumes:
                marks = Marks(workload, set_id, len(set(volumes)), volume, volume)
                made.append(self._take(volume, marks))
        except DonjonError:
            for one in made:
                with suppress(DonjonError):  # the error that led here says more
                    self.delete(one)
            raise
        return made

    def wait(self, snapshots: Sequence[Snapshot], *, timeout_s: float) -> list[Snapshot]:
        """See ``Snapshots``."""

        def look(waiting: Sequence[Snapshot]) -> dict[str, Snapshot]:
            found = [self._read(*_parts(one.snapshot_id)) for one in waiting]
            return {one.snapshot_id: one for one in found if one is not None}

        return self._patience.wait(snapshots, look, timeout_s)

    def copy(self, snapshot: Snapshot, *, key: str = "") -> Snapshot:
        """See ``Snapshots``."""
        msg = f"{snapshot.snapshot_id}: snapshots of btrfs are not copied"
        raise Refused(msg, hint="Leave `copy_to` out; what is elsewhere is the backup in the vault.")

    def share(self, snapshot: Snapshot, account: str) -> None:
        """See ``Snapshots``."""
        msg = f"{snapshot.snapshot_id}: snapshots of btrfs are not shared"
        raise Refused(msg, hint="They belong to this host.")

    def lock(self, snapshot: Snapshot, *, retain_until: int) -> Snapshot:
        """See ``Snapshots``."""
        msg = f"{snapshot.snapshot_id}: btrfs has no locks: a read-only snapshot can be deleted by root"
        raise LocksUnsupported(msg, hint="Leave `lock` out of the plan; the vault has locks.")

    def delete(self, snapshot: Snapshot) -> None:
        """See ``Snapshots``."""
        volume, name = _parts(snapshot.snapshot_id)
        try:
            with _opened(volume, FOLDER, name) as folder:
                self._delete(folder, snapshot)
            with _opened(volume, FOLDER) as base:
                os.rmdir(name, dir_fd=base)
        except FileNotFoundError:
            return
        except OSError as error:
            raise calls.translated(error, snapshot.snapshot_id, "delete") from error

    def list(self, workload: str | None = None) -> Iterator[Snapshot]:
        """See ``Snapshots``."""
        for volume in self._volumes:
            try:
                with _opened(volume, FOLDER) as base:
                    names = sorted(os.listdir(base))
            except FileNotFoundError:
                continue
            except OSError as error:
                raise calls.translated(error, volume, "list the snapshots of") from error
            for name in names:
                found = self._read(volume, name)
                if found is not None and workload in {None, found.workload}:
                    yield found

    def _take(self, volume: str, marks: Marks) -> Snapshot:
        name = f"{marks.workload}.{marks.set_id}"
        present = self._read(volume, name)
        if present is not None and present.state is SnapshotState.COMPLETE:
            return present
        if present is not None:
            self.delete(present)
        try:
            with _opened(volume) as root:
                if calls.look(root) is None:
                    msg = f"{volume}: is no subvolume of btrfs"
                    raise SnapshotFailed(msg, hint="Name a subvolume; see `btrfs subvolume list`.")
                with suppress(FileExistsError):
                    os.mkdir(FOLDER, 0o700, dir_fd=root)
                with _opened(volume, FOLDER) as base:
                    _check_owner(base, volume)
                    _mark_as_cache(base)
                    with suppress(FileExistsError):
                        os.mkdir(name, 0o700, dir_fd=base)
                with _opened(volume, FOLDER, name) as folder:
                    _write(folder, _Record(marks.tags))
                    calls.take(root, folder, os.fsencode(_SNAPSHOT))
                    taken = _subvolume(folder)
                    _write(folder, _Record(marks.tags, taken.uuid if taken else ""))
        except OSError as error:
            raise calls.translated(error, volume, "take a snapshot of") from error
        made = self._read(volume, name)
        if made is None or made.state is not SnapshotState.COMPLETE:
            msg = f"{volume}: its snapshot vanished while it was taken"
            raise SnapshotFailed(msg, hint="Find out who deletes it.", retryable=True)
        return made

    def _read(self, volume: str, name: str) -> Snapshot | None:
        """What there is under a name; None without a record of ours."""
        try:
            with _opened(volume, FOLDER, name) as folder:
                record, taken = _recorded(folder), _subvolume(folder)
                written_at = int(os.stat(_RECORD, dir_fd=folder).st_mtime) if record else 0
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise calls.translated(error, f"{volume}/{FOLDER}/{name}", "look at") from error
        marks = Marks.of(record.marks) if record else None
        if record is None or marks is None or name != f"{marks.workload}.{marks.set_id}":
            return None
        if taken is None and record.uuid:
            return None  # somebody deleted it, and left the record
        complete = taken is not None and taken.read_only and taken.uuid == record.uuid
        return Snapshot(
            snapshot_id=_path(volume, name),
            volume_id=volume,
            workload=marks.workload,
            set_id=marks.set_id,
            created_at=taken.created_at if taken else written_at,
            size_bytes=0,
            state=SnapshotState.COMPLETE if complete else SnapshotState.FAILED,
            account=self.account,
            region=self.region,
            set_size=marks.set_size,
            moment=marks.moment,
            detail="" if complete else "it was not finished, or is not what was taken",
        )

    @staticmethod
    def _delete(folder: int, snapshot: Snapshot) -> None:
        """Delete what is in a folder. Raises ``Refused`` unless it is what record and ``snapshot`` say."""
        record, taken = _recorded(folder), _subvolume(folder)
        marks = Marks.of(record.marks) if record else None
        if record is None or marks is None:
            raise _not_ours(snapshot, "has no record of Donjon's")
        if (marks.workload, marks.set_id) != (snapshot.workload, snapshot.set_id):
            raise _not_ours(snapshot, f"has not the marks of {snapshot.workload}, set {snapshot.set_id}")
        if taken is not None:
            # A snapshot without its id in the record was being taken when something ended that.
            if record.uuid not in {taken.uuid, ""} or not taken.read_only:
                raise _not_ours(snapshot, "is not the subvolume that its record names")
            calls.destroy(folder, os.fsencode(_SNAPSHOT))
        for name in (_NEW_RECORD, _RECORD):
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)


def _path(volume: str, name: str) -> str:
    return f"{volume.rstrip('/')}/{FOLDER}/{name}/{_SNAPSHOT}"


def _parts(snapshot_id: str) -> tuple[str, str]:
    """The volume and the name of a snapshot. Raises ``Refused`` for a path that is none of Donjon's."""
    volume, found, rest = snapshot_id.rpartition(f"/{FOLDER}/")
    name, _, last = rest.partition("/")
    if not found or last != _SNAPSHOT or name in {"", ".", ".."}:
        msg = f"{snapshot_id}: is no snapshot that Donjon made"
        raise Refused(msg, hint=f"Those lie in {FOLDER} of their subvolume.")
    return volume or "/", name


def _not_ours(snapshot: Snapshot, reason: str) -> Refused:
    hint = "Donjon touches only snapshots that it made; find out who changed this one."
    return Refused(f"{snapshot.snapshot_id}: {reason}", hint=hint)


@contextmanager
def _opened(volume: str, *names: str) -> Iterator[int]:
    """A folder, opened name by name without following links. Raises ``OSError``."""
    fd = os.open(volume, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            below = os.open(name, DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = below
        yield fd
    finally:
        os.close(fd)


def _check_owner(base: int, volume: str) -> None:
    """Raises ``Refused`` for a folder that others can put things into."""
    status = os.fstat(base)
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        msg = f"{volume}/{FOLDER}: belongs to somebody else, or is open to others"
        raise Refused(msg, hint=f"Let it belong to user {os.geteuid()} alone (chmod 700), or remove it.")


def _mark_as_cache(base: int) -> None:
    """Let no tool that copies files take up snapshots with their volume (https://bford.info/cachedir/)."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        suppress(FileExistsError),
        os.fdopen(os.open("CACHEDIR.TAG", flags, 0o600, dir_fd=base), "wb") as tag,
    ):
        tag.write(_CACHE_TAG)


def _subvolume(folder: int) -> calls.Subvolume | None:
    try:
        fd = os.open(_SNAPSHOT, DIRECTORY, dir_fd=folder)
    except FileNotFoundError:
        return None
    try:
        return calls.look(fd)
    finally:
        os.close(fd)


def _recorded(folder: int) -> _Record | None:
    try:
        fd = os.open(_RECORD, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        return None
    with os.fdopen(fd, "rb") as file:
        try:
            return msgspec.json.decode(file.read(_MAX_RECORD_BYTES), type=_Record)
        except (msgspec.MsgspecError, ValueError):
            return None


def _write(folder: int, record: _Record) -> None:
    """Put a record in place of the one that is there, whole or not at all."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(_NEW_RECORD, flags, 0o600, dir_fd=folder)
    with os.fdopen(fd, "wb") as file:
        content: Any = msgspec.to_builtins(record)
        file.write(json.dumps(content, indent=1).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(_NEW_RECORD, _RECORD, src_dir_fd=folder, dst_dir_fd=folder)
    os.fsync(folder)
