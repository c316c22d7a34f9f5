"""What a workload is: one model for each kind, told apart by ``kind``."""

from __future__ import annotations

from typing import Annotated, Literal, TypeVar

from pydantic import Field, model_validator

from donjon.plan.values import AbsolutePath, Command, Duration, Pattern, PlanPart

_Part = TypeVar("_Part", bound=PlanPart)
Paths = Annotated[tuple[AbsolutePath, ...], Field(min_length=1)]
Tags = dict[str, str]


class Tree(PlanPart):
    """Files and folders of this host."""

    kind: Literal["tree"]
    paths: Paths
    """Absolute paths."""
    exclude: tuple[Pattern, ...] = ()
    """Patterns as in .gitignore."""
    exclude_caches: bool = True
    """Leave out the content of folders with a CACHEDIR.TAG."""
    one_file_system: bool = False
    """Stay on the file system of each path."""
    snapshot: Literal["btrfs"] | None = None
    """Read from a snapshot of the file system, so that all files are of one moment."""


class Block(PlanPart):
    """Block devices and image files of this host."""

    kind: Literal["block"]
    devices: Paths
    """Absolute paths of devices or image files."""


class Ebs(PlanPart):
    """Volumes of EBS, backed up from snapshots taken at one moment."""

    kind: Literal["ebs"]
    volumes: tuple[str, ...] = ()
    """These volumes."""
    instances: tuple[str, ...] = ()
    """All volumes attached to these instances."""
    tags: Tags = Field(default_factory=dict)
    """All volumes that have these tags."""

    @model_validator(mode="after")
    def _some(self) -> Ebs:
        return _needs(self, self.volumes, self.instances, self.tags)


class AzureDisk(PlanPart):
    """Managed disks of Azure, backed up from incremental snapshots."""

    kind: Literal["azure-disk"]
    resource_group: str
    """The resource group that they are in."""
    disks: tuple[str, ...] = ()
    """These disks."""
    tags: Tags = Field(default_factory=dict)
    """All disks that have these tags."""

    @model_validator(mode="after")
    def _some(self) -> AzureDisk:
        return _needs(self, self.disks, self.tags)


class GceDisk(PlanPart):
    """Disks of Compute Engine, backed up from snapshots through a disk attached to this machine."""

    kind: Literal["gce-disk"]
    zone: str
    """The zone that they are in."""
    disks: tuple[str, ...] = ()
    """These disks."""
    labels: Tags = Field(default_factory=dict)
    """All disks that have these labels."""

    @model_validator(mode="after")
    def _some(self) -> GceDisk:
        return _needs(self, self.disks, self.labels)


class Bucket(PlanPart):
    """The objects of a bucket or container."""

    kind: Literal["bucket"]
    url: str
    """`s3://bucket/prefix`, `azure://account/container/prefix` or `gs://bucket/prefix`."""
    versions: Literal["current", "all"] = "current"
    """Whether older versions are backed up as well."""
    inventory: str | None = None
    """Where the provider's inventory or list of changes lies, for buckets too large to be listed."""


class Postgres(PlanPart):
    """A server of PostgreSQL."""

    kind: Literal["postgres"]
    service: str
    """The connection: a service of pg_service.conf, so that no password is in the plan."""
    mode: Literal["base", "dump"] = "base"
    """A base backup with the write-ahead log, or a logical dump."""
    databases: tuple[str, ...] = ()
    """The databases of a dump; all of them without."""
    wal: bool = True
    """Whether to archive the write-ahead log, for recovery to a point in time."""
    timeout: Duration = 12 * 3600
    """How long a backup may take before it is ended."""


class CommandOutput(PlanPart):
    """Whatever a command writes to its standard output."""

    kind: Literal["command"]
    command: Command
    """The program and its arguments; no shell reads it."""
    filename: str
    """The name of the file in the vault."""
    timeout: Duration = 12 * 3600
    """How long it may run before it is ended."""


Workload = Annotated[
    Tree | Block | Ebs | AzureDisk | GceDisk | Bucket | Postgres | CommandOutput, Field(discriminator="kind")
]


def _needs(part: _Part, *selectors: object) -> _Part:
    if not any(selectors):
        msg = "selects nothing: name what is meant, or give tags"
        raise ValueError(msg)
    return part
