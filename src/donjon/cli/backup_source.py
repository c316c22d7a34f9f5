"""What the options of `donjon backup` name, as something that can be backed up."""

from __future__ import annotations

import enum
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from donjon.core.errors import UsageError
from donjon.core.events import StopCheck

if TYPE_CHECKING:
    from donjon.app.backups import BackupRequest, MakeSource
    from donjon.sources.selection import Selection
    from donjon.sources.stream import ByteStream

#: The paths for the manifest, and what makes the source.
Made = tuple[tuple[bytes, ...], "MakeSource"]


class BucketVersions(enum.StrEnum):
    """Which versions of the objects of a bucket are backed up or restored."""

    CURRENT = "current"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class BlockNamed:
    """The block devices and image files that are named, and how to read them."""

    devices: tuple[str, ...] = ()
    even_mounted: bool = False
    zero_bad_sectors: bool = False
    changed_blocks: Path | None = None

    @property
    def has_options(self) -> bool:
        """Whether something is said of how to read them."""
        return self.even_mounted or self.zero_bad_sectors or self.changed_blocks is not None


@dataclass(frozen=True, slots=True)
class Named:
    """Everything that the command line names; one kind of it may be."""

    paths: tuple[str, ...]
    selection: Selection
    block: BlockNamed
    ebs_snapshots: tuple[str, ...]
    azure_snapshots: tuple[str, ...]
    stdin: str | None
    bucket: str | None
    versions: BucketVersions


@dataclass(frozen=True, slots=True)
class Settings:
    """How it is backed up."""

    workload: str | None
    tags: tuple[str, ...]
    read_all: bool
    compact_percent: float


@contextmanager
def request_for(named: Named, settings: Settings, stop: StopCheck) -> Iterator[BackupRequest]:
    """The request for what is named. Raises ``UsageError`` if that is nothing, or too much."""
    from donjon.app.backups import BackupRequest

    kinds = (
        named.paths, named.block.devices, named.ebs_snapshots, named.azure_snapshots, named.stdin,
        named.bucket,
    )  # fmt: skip
    if sum(kind not in ((), None) for kind in kinds) > 1:
        msg = "paths, --device, --ebs-snapshot, --azure-snapshot, --bucket and --stdin do not go together"
        raise UsageError(msg, hint="Back them up separately.")
    if named.block.has_options and not named.block.devices:
        msg = "--even-mounted, --zero-bad-sectors and --changed-blocks are about devices"
        raise UsageError(msg, hint="Name the device with --device.")
    if named.versions is not BucketVersions.CURRENT and named.bucket is None:
        msg = "--versions needs --bucket"
        raise UsageError(msg, hint="Files have no versions: leave it out.")
    with _source(named, stop) as (paths, make_source):
        yield BackupRequest(
            paths,
            make_source,
            settings.workload or (os.fsdecode(paths[0]) if named.bucket is not None else None),
            settings.tags,
            read_all=settings.read_all,
            compact_percent=settings.compact_percent,
        )


@contextmanager
def _source(named: Named, stop: StopCheck) -> Iterator[Made]:
    if named.bucket is not None:
        from donjon.app.buckets import bucket_named, bucket_source

        bucket, path = bucket_named(named.bucket, versions=named.versions.value)
        with bucket_source(bucket, stop=stop) as source:
            yield (path,), lambda _: source
    elif named.stdin is not None:
        yield _stdin(named.stdin)
    elif named.block.devices:
        yield _devices(named.block)
    elif named.ebs_snapshots:
        from donjon.app.volumes import ebs_source

        volumes, snapshots = ebs_source(list(named.ebs_snapshots))
        yield volumes, lambda _: snapshots
    elif named.azure_snapshots:
        from donjon.app.volumes import azure_source

        volumes, snapshots = azure_source(named.azure_snapshots)
        yield volumes, lambda _: snapshots
    else:
        yield _tree(named)


def _tree(named: Named) -> Made:
    from donjon.sources.tree import TreeSource

    if not named.paths:
        msg = "nothing to back up"
        hint = "Name files or folders, or use --device, --bucket URL or --stdin NAME."
        raise UsageError(msg, hint=hint)
    sources = tuple(os.fsencode(path) for path in named.paths)
    absolute = tuple(os.path.abspath(path) for path in sources)  # noqa: PTH100  (bytes, links kept)
    return absolute, lambda own: TreeSource(sources, replace(named.selection, never=own))


def _stdin(filename: str) -> Made:
    from donjon.sources.stream import StreamSource

    name = os.fsencode(filename)
    stream = cast("ByteStream", sys.stdin.buffer)
    path = os.path.abspath(b"/" + name.lstrip(b"/"))  # noqa: PTH100  (bytes, links kept)
    return (path,), lambda _: StreamSource(name, stream)


def _devices(block: BlockNamed) -> Made:
    from donjon.sources.block import BlockOptions, BlockSource
    from donjon.sources.block_hints import ChangedBlocks

    paths = tuple(os.path.abspath(os.fsencode(path)) for path in block.devices)  # noqa: PTH100  (bytes)
    changed = {}
    if block.changed_blocks is not None:
        if len(set(paths)) != 1:
            msg = "--changed-blocks is about one device"
            raise UsageError(msg, hint="Back up each device as a workload of its own.")
        changed[paths[0]] = ChangedBlocks.read(block.changed_blocks)
    options = BlockOptions(block.even_mounted, block.zero_bad_sectors, changed)
    return paths, lambda _: BlockSource(paths, options)
