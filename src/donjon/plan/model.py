"""The plan: what is protected, how often, where the copies are, and how fast they must come back.

The models are the one source of the plan's JSON Schema and of ``docs/plan.md``. Each describes one mapping
of the file; ``plan.load`` reads the file, ``plan.lint`` finds what no single mapping can tell.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, Field, model_validator

from donjon.plan.retention import MAX_COUNT, Policy
from donjon.plan.values import (
    AbsolutePath,
    Command,
    CronText,
    Duration,
    Name,
    PlanPart,
    Rate,
    TimeOfDay,
    TimeZone,
    WebAddress,
)
from donjon.plan.workloads import Workload

Provider = Literal["aws", "azure", "gcp", "on-premises"]


_DAY_S: Final = 86_400
#: The fields of a credential that say when it is found wanting, each in seconds.
CREDENTIAL_LIMITS: Final = ("max_age", "max_unused", "max_overlap", "renew_before")
#: Which fields a stored credential of each service may have, besides ``service``, limits and identities.
_FIELDS: Final[Mapping[str, frozenset[str]]] = {
    "aws": frozenset({"aws_profile", "file", "endpoint", "owner", "admin_profile"}),
    "azure": frozenset({"file", "endpoint"}),
    "azure-storage": frozenset({"file", "role"}),
    "google": frozenset({"file", "endpoint"}),
    "openbao": frozenset({"file", "endpoint"}),
    "writer": frozenset({"vault"}),
}
#: The field that says whom to be at a provider.
IDENTITY_FIELDS: Final[Mapping[str, str]] = {
    "aws": "aws_profile",
    "azure": "azure_client",
    "gcp": "google_account",
}
#: Services whose stored credentials the SDK of a provider finds by itself.
_FOUND: Final[Mapping[str, frozenset[str]]] = {
    "azure": frozenset({"azure", "azure-storage"}),
    "gcp": frozenset({"google"}),
}
#: Without which it cannot be told which one is meant.
_NEEDED: Final[Mapping[str, str]] = {"aws": "aws_profile", "azure": "file", "writer": "vault"}


class Credential(PlanPart):
    """Where a credential is found, and how old it may get. The plan holds names only, never a secret.

    Without any field the SDK's standard chain is used: a role of the machine, workload identity, environment.
    `donjon credentials check` looks at those that are stored: with ``service``, or with ``aws_profile``.
    """

    aws_profile: Name | None = None
    """A profile of the AWS configuration, which may assume a role."""
    azure_client: str | None = None
    """The client id of a managed identity of Azure."""
    google_account: str | None = None
    """A service account of Google Cloud to impersonate."""
    service: Literal["aws", "azure", "azure-storage", "google", "openbao", "writer"] | None = None
    """Whose stored credential it is that is checked, named as in `donjon credentials check SERVICE`; with
    ``aws_profile`` it is `aws`."""
    file: AbsolutePath | None = None
    """Where this host stores it, if not in the service's usual place. Donjon uses what the SDK finds."""
    endpoint: WebAddress | None = None
    """The server of the service that is asked about it, other than that of the cloud."""
    owner: str | None = None
    """The IAM user whose keys they are, if not the one whom the key itself belongs to."""
    admin_profile: Name | None = None
    """The AWS profile that asks IAM, if the key itself may not."""
    role: Literal["writer", "reader", "custodian", "reaper", "auditor"] = "writer"
    """The role whose permissions a SAS of Azure may have."""
    vault: Name | None = None
    """The vault of the plan that the signing key of this host's writer is of."""
    max_age: Duration = 90 * _DAY_S
    """How old it may get; for a SAS, for how long it may work."""
    max_unused: Duration = 45 * _DAY_S
    """How long it may go unused, where the service tells."""
    max_overlap: Duration = 7 * _DAY_S
    """How long an old one may still work after the next was made."""
    renew_before: Duration = 14 * _DAY_S
    """How long before its end it is due."""

    @property
    def stored(self) -> str | None:
        """The service whose stored credential it is; None if it stores nothing that could be checked."""
        return self.service or ("aws" if self.aws_profile else None)

    @property
    def is_standard(self) -> bool:
        """Whether it names nothing, so that the SDK's standard chain is used."""
        return not (self.stored or self.azure_client or self.google_account)

    def fits(self, provider: str) -> bool:
        """Whether it says whom to be at a provider (`aws`, `azure`, `gcp`), or leaves that to its SDK."""
        field = IDENTITY_FIELDS.get(provider)
        is_named = field is not None and getattr(self, field) is not None
        return is_named or self.is_standard or self.service in _FOUND.get(provider, ())

    @property
    def is_policy(self) -> bool:
        """Whether the plan says itself that it is to be checked, or how: it is not named only to be used."""
        return self.service is not None or not self.model_fields_set.isdisjoint(CREDENTIAL_LIMITS)

    @model_validator(mode="after")
    def _of_its_service(self) -> Credential:
        other = {"service", "azure_client", "google_account", *CREDENTIAL_LIMITS}
        given = {name for name in self.model_fields_set - other if getattr(self, name) is not None}
        if self.stored is None:
            if given:
                msg = f"{min(given)} says nothing without service. Name the service whose credential it is"
                raise ValueError(msg)
        elif wrong := given - _FIELDS[self.stored]:
            allowed = ", ".join(sorted(_FIELDS[self.stored]))
            msg = f"{min(wrong)} is of no credential of {self.stored}, which may have {allowed}"
            raise ValueError(msg)
        elif (needed := _NEEDED.get(self.stored)) and needed not in given:
            msg = f"a credential of {self.stored} needs {needed}"
            raise ValueError(msg)
        return self


class Site(PlanPart):
    """A place that can fail or be taken over as a whole: an account and region, or a building."""

    provider: Provider
    """Whose place it is."""
    account: str = Field(min_length=1)
    """The AWS account, Azure subscription, Google Cloud project, or the name of a domain on premises."""
    region: str = Field(min_length=1)
    """The provider's region, or on premises the name of the building."""
    administrators: tuple[str, ...] = ()
    """Who can destroy what is there: principals as the provider names them, people on premises."""
    credential: Name | None = None
    """The credential that Donjon uses there."""
    snapshot_key: str | None = None
    """What encrypts the copies of snapshots that are made there: the ARN of a KMS key, or the id of a disk
    encryption set of Azure. Without it they are encrypted as the snapshots are."""


def cloud_of(url: str) -> str | None:
    """Whose credentials an address takes: `aws` for any server of S3, `azure`, `gcp`; None for others."""
    return {"s3": "aws", "azure": "azure", "gs": "gcp"}.get(url.partition("://")[0])


class Vault(PlanPart):
    """A vault that this plan writes to."""

    url: str = Field(min_length=1)
    """Its address, as `donjon init` has it, or the name by which this host knows it."""
    site: Name
    """Where it is."""
    medium: Literal["object-storage", "disk", "tape"] = "object-storage"
    """What it is kept on; snapshots are on volumes."""
    retention_cap: Duration | None = None
    """The longest lock that its bucket allows; retention that needs more is an error."""
    credential: Name | None = None
    """The credential for it, if not that of its site."""


class Window(PlanPart):
    """A part of the day in which work may start. It may cross midnight."""

    start: TimeOfDay
    """The first minute."""
    end: TimeOfDay
    """The first minute that is outside again."""

    @model_validator(mode="after")
    def _some(self) -> Window:
        if self.start == self.end:
            msg = "start and end are the same. Leave the window out if work may start at any time"
            raise ValueError(msg)
        return self


class Schedule(PlanPart):
    """When work starts: either ``cron`` or ``every``."""

    cron: CronText | None = None
    """Five fields: minute, hour, day of month, month, day of week."""
    every: Duration | None = None
    """The time from one start to the next."""
    time_zone: TimeZone = "UTC"
    """Whose clock ``cron`` and ``window`` mean. Work in an hour that it skips starts after it."""
    window: Window | None = None
    """Work that is due outside starts when the window opens."""
    jitter: Duration = 0
    """Work starts up to so much later, differently for each workload, so that not all start at once."""

    @model_validator(mode="after")
    def _either(self) -> Schedule:
        if (self.cron is None) == (self.every is None):
            msg = "a schedule has either cron or every"
            raise ValueError(msg)
        if self.every is not None and self.every < 60:
            msg = "every must be a minute or more"
            raise ValueError(msg)
        return self


class Retention(PlanPart):
    """How many points to keep: the newest of each hour, day, week, month, year. Empty keeps everything."""

    last: int = Field(default=0, ge=0, le=MAX_COUNT)
    """The newest ones."""
    hourly: int = Field(default=0, ge=0, le=MAX_COUNT)
    """One of each of the newest hours that have one."""
    daily: int = Field(default=0, ge=0, le=MAX_COUNT)
    """One of each of the newest days that have one, in UTC."""
    weekly: int = Field(default=0, ge=0, le=MAX_COUNT)
    """One of each of the newest weeks, from Monday."""
    monthly: int = Field(default=0, ge=0, le=MAX_COUNT)
    """One of each of the newest months."""
    yearly: int = Field(default=0, ge=0, le=MAX_COUNT)
    """One of each of the newest years."""
    within: Duration = 0
    """All that are so much older than the newest one, or less."""

    @property
    def policy(self) -> Policy:
        """The same as ``donjon retention`` works with."""
        return Policy(self.last, self.hourly, self.daily, self.weekly, self.monthly, self.yearly, self.within)


class SnapshotPolicy(PlanPart):
    """The provider's own snapshots, near production."""

    keep: int = Field(default=3, ge=1, le=1000)
    """How many sets to keep; older ones that Donjon made go, never the last good one."""
    lock: Duration | None = None
    """How long the provider refuses to delete each, where it can."""
    copy_to: tuple[Name, ...] = ()
    """Sites that get a copy of each."""
    wait: Duration = 6 * 3600
    """How long to wait until one is complete, before the run fails."""


class Hooks(PlanPart):
    """Commands that bring an application to rest while its snapshot is taken or its data is read."""

    before: Command | None = None
    """Runs first. If it fails, nothing is backed up, and ``after`` runs all the same."""
    after: Command | None = None
    """Releases what ``before`` held. It always runs."""
    timeout: Duration = 60
    """How long each may take before it is ended; also the longest time between both."""


class Limits(PlanPart):
    """How much of the network and of the provider's quotas a run may take."""

    upload: Rate | None = None
    """Bytes a second to the vault."""
    requests: int | None = Field(default=None, gt=0)
    """Requests a second to the source."""


class Verification(PlanPart):
    """How often a copy is read back."""

    every: Duration = 7 * 86_400
    """The time from one reading to the next."""
    data_percent: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False)
    """How much of the data is read each time, besides all that tells where it is."""


class Rules(PlanPart):
    """Everything about a workload but what it is. Also the defaults of a plan."""

    site: Name | None = None
    """Where production is."""
    vault: Name | None = None
    """The vault that backups are written to."""
    copies: tuple[Name, ...] = ()
    """Vaults that get each point from there."""
    schedule: Schedule | None = None
    """Without it the workload runs when it is told to."""
    snapshots: SnapshotPolicy | None = None
    """Without it snapshots are taken only to be read, and go."""
    retention: Retention | None = None
    """Without it every point stays."""
    verify: Verification | None = None
    """Without it no copy is read back by itself."""
    rpo: Duration | None = None
    """The recovery point objective: the greatest age of the newest whole point."""
    rto: Duration | None = None
    """The recovery time objective: the longest time that a restore may take."""
    hooks: Hooks | None = None
    """Without them an application is not brought to rest."""
    limits: Limits | None = None
    """Without them a run takes what it gets."""
    retries: int | None = Field(default=None, ge=0, le=100)
    """How often a run that failed is tried again before the next one is due; by default 3 times."""


class Protected(Rules):
    """A workload: what it is, and the rules for it."""

    source: Workload
    """What it is."""
    tags: tuple[str, ...] = ()
    """Tags of its points."""


def _number(version: object) -> object:
    """Scalars come as texts, and pydantic makes numbers of them everywhere but in a Literal."""
    return 1 if version == "1" else version


class Plan(PlanPart):
    """The whole file."""

    version: Annotated[Literal[1], BeforeValidator(_number)]
    """Of this form of plans."""
    name: Name
    """Names the plan in the catalog and in evidence."""
    credentials: dict[Name, Credential] = Field(default_factory=dict)
    """Names for where credentials are found."""
    sites: dict[Name, Site]
    """Where production and vaults are."""
    vaults: dict[Name, Vault]
    """Where backups go."""
    defaults: Rules = Rules()
    """What holds for each workload that says nothing else."""
    workloads: Annotated[dict[Name, Protected], Field(min_length=1)]
    """What is protected. The names are those of the points in the vaults."""

    def rules(self, workload: str) -> Rules:
        """The rules of a workload, with the defaults where it says nothing. Raises ``KeyError``."""
        own = self.workloads[workload]
        said = own.model_fields_set & Rules.model_fields.keys()
        return self.defaults.model_copy(update={name: getattr(own, name) for name in said})
