"""What the plan tells of copies: where places are, what they are kept on, and what is wanted."""

from __future__ import annotations

import os
from pathlib import Path

from donjon.app.stores import local_folder
from donjon.core.addresses import split_address
from donjon.core.clock import SECONDS_PER_DAY
from donjon.plan.copies import Medium, Objectives, Place
from donjon.plan.model import Plan, Rules, Verification
from donjon.plan.retention import Policy
from donjon.plan.workloads import Block, Tree, Workload

_BUCKETS = {"s3", "azure", "gs"}


def vaults_of(plan: Plan, workload: str) -> list[str]:
    """The vault of a workload and those with copies of it, by their names in the plan."""
    rules = plan.rules(workload)
    return list(dict.fromkeys(name for name in (rules.vault, *rules.copies) if name is not None))


def objectives(rules: Rules) -> Objectives:
    """What the plan wants of a workload."""
    verify = rules.verify or Verification()
    return Objectives(
        rules.rpo,
        rules.rto,
        verify.every,
        verify.data_percent,
        promised_s(rules.retention.policy) if rules.retention else 0,
    )


def promised_s(policy: Policy) -> int:
    """For how long a policy keeps points, in seconds; 0 if it only counts the last ones, or keeps all."""
    day = SECONDS_PER_DAY
    return max(
        policy.hourly * 3600,
        policy.daily * day,
        policy.weekly * 7 * day,
        policy.monthly * 30 * day,
        policy.yearly * 365 * day,
        policy.within_s,
    )


def place_of(plan: Plan, site: str | None) -> Place | None:
    """A site of the plan as a place; None if the plan names none."""
    if site is None:
        return None
    part = plan.sites[site]
    return Place(site, part.provider, part.account, part.region, frozenset(part.administrators))


def medium_of(url: str, said: str, storage: str, production: str) -> Medium:
    """What a vault is kept on: what its address shows, whatever the plan says.

    A folder on the device that holds production is on the same medium as that.
    """
    if split_address(url).scheme in _BUCKETS:
        return Medium.OBJECT_STORAGE
    if said == Medium.TAPE:
        return Medium.TAPE
    return Medium.VOLUME if storage and storage == production else Medium.DISK


def storage_of(url: str) -> str:
    """What holds the vault at an address: a bucket or storage account, a server, a device of this host.

    Two vaults in one of them are lost together, in whatever sites the plan has them.
    """
    parts = split_address(url)
    if parts.scheme in _BUCKETS:
        server = f"?{parts.query}" if parts.query else ""
        return f"{parts.scheme}://{parts.netloc}{server}"
    if parts.scheme == "sftp":
        return f"sftp://{parts.hostname}"
    folder = local_folder(url)
    return _device(folder) if folder is not None else ""


def production_storage(source: Workload) -> str:
    """The device that holds production, if all of it is on one of this host; else empty."""
    paths = source.paths if isinstance(source, Tree) else source.devices if isinstance(source, Block) else ()
    found = {_device(Path(path)) for path in paths}
    return found.pop() if len(found) == 1 else ""


def _device(path: Path) -> str:
    try:
        device = os.stat(path).st_dev  # noqa: PTH116
    except OSError:
        return ""
    return f"device {os.major(device)}:{os.minor(device)}"
