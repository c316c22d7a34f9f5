"""Custody as every interface offers it: what is due, what it costs, extending, and what a policy keeps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from donjon.app.signers.custodians import open_as_custodian
from donjon.app.verdicts.marks import look_up, warn_of_doubts
from donjon.app.wiring import Workspace
from donjon.core.errors import DonjonError, IntegrityFailure, UsageError
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.custody.extending import Extended, Extender
from donjon.custody.extension import Extension, check_epoch, default_epoch_s, due_objects, plan_extension
from donjon.custody.inventory import Inventory, take_inventory
from donjon.custody.standing import Standing, find_standings
from donjon.keys.private import create_private
from donjon.plan.prices import PRICES, Prices, prices_for
from donjon.plan.retention import Policy
from donjon.repository.certificates import deleted_points
from donjon.repository.points import Point, list_points, open_point
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class View:
    """A vault as custody sees it.

    ``workloads`` tells the workload of each point id that a key at hand opens; ``certificates`` are the names
    of those by which points were given up; ``damaged`` is what cannot be read or does not count.
    """

    vault: Vault
    inventory: Inventory
    standings: list[Standing]
    workloads: dict[bytes, str]
    certificates: frozenset[str]
    damaged: list[IntegrityFailure]


@dataclass(frozen=True, slots=True)
class Planned:
    """What is due, and what it takes: ``listing`` requests to look and ``dollars``, None if unknown."""

    view: View
    policy: Policy
    extension: Extension
    epoch_s: int
    listing: int
    prices: Prices | None
    dollars: float | None


#: Names that one request for a listing gives, on S3, Azure Blob Storage and Google Cloud Storage.
_NAMES_A_LISTING = 1000


def look(workspace: Workspace, vault: Vault, policy: Policy, progress: Progress) -> View:
    """List the points and the store. With a key that opens points are counted for each workload.

    Raises ``UsageError`` for a vault without locks.
    """
    if not vault.object.lock_s:
        msg = f"{vault.store.url}: this vault has no locks, so nothing in it can be kept or expire"
        raise UsageError(msg, hint="Locks are chosen when a vault is made: `donjon init --lock 30d`.")
    if workspace.has_key:
        workspace.unlock(vault)
    damaged: list[IntegrityFailure] = []
    points = list_points(vault, damaged)
    inventory = take_inventory(vault, workspace.cache(vault), progress)
    workloads = _workloads(vault, points) if workspace.has_key else {}
    deleted = deleted_points(vault, damaged)
    verdicts = look_up(workspace, vault)
    warn_of_doubts(workspace, verdicts)
    standings = find_standings(
        points, inventory, vault.keyring, policy, deleted=deleted, suspect=verdicts.marks, workloads=workloads
    )
    certificates = frozenset(certificate.name for certificate in deleted.values())
    return View(vault, inventory, standings, workloads, certificates, damaged + inventory.damaged)


def _workloads(vault: Vault, points: list[Point]) -> dict[bytes, str]:
    """The workload of each point that a key at hand opens; the others are counted for their writer."""
    found = {}
    for point in points:
        try:
            found[point.point_id] = open_point(vault, point).body.workload
        except DonjonError:
            continue
    return found


def preview(workspace: Workspace, policy: Policy, progress: Progress) -> View:
    """How each point stands under a policy. Needs no key, and changes nothing."""
    return look(workspace, workspace.open(), policy, progress)


def plan(
    workspace: Workspace, policy: Policy, epoch_s: int | None, prices: str | None, progress: Progress
) -> Planned:
    """What is due, what is at risk, and what extending costs. Needs no key, and changes nothing."""
    return _planned(workspace, workspace.open(), policy, epoch_s, prices, progress)


def write_batch(planned: Planned, out: Path) -> None:
    """Write the manifest of a job of S3 Batch Operations that locks what is due, but for manifests of points.

    Those come after it: ``extend`` with ``look_first`` locks them once all else is locked.

    Raises ``UsageError`` for a vault that is not in S3, ``Refused`` if the file exists.
    """
    store, inventory = planned.view.vault.store, planned.view.inventory
    if urlsplit(store.url).scheme != "s3":
        msg = f"{store.url}: only S3 has Batch Operations"
        raise UsageError(msg, hint="Leave out --s3-batch, and run `donjon custody extend`.")
    from donjon.stores.s3.batch import batch_manifest

    due = ((item.name, item.version) for item in due_objects(inventory, planned.extension))
    create_private(out, "".join(batch_manifest(store.url, due)).encode())


def extend(
    workspace: Workspace,
    credential_file: Path,
    policy: Policy,
    epoch_s: int | None,
    progress: Progress,
    *,
    look_first: bool = False,
    stop: StopCheck = never_stop,
) -> tuple[Planned, Extended]:
    """Lock anew what is due. Needs the credential of a custodian. A run that ended early is gone on with.

    With ``look_first`` what was locked by somebody else is only looked at, and told in the epoch object.
    """
    vault, credential = open_as_custodian(workspace, credential_file)
    planned = _planned(workspace, vault, policy, epoch_s, None, progress)
    inventory, extension = planned.view.inventory, planned.extension
    extender = Extender(vault, credential, inventory, extension, progress, look_first=look_first, stop=stop)
    return planned, extender.run(planned.view.standings)


def _planned(
    workspace: Workspace,
    vault: Vault,
    policy: Policy,
    epoch_s: int | None,
    prices: str | None,
    progress: Progress,
) -> Planned:
    lock_s = vault.object.lock_s
    if epoch_s is not None and lock_s:
        check_epoch(epoch_s, lock_s)
    view = look(workspace, vault, policy, progress)
    epoch_s = epoch_s or default_epoch_s(lock_s)
    extension = plan_extension(view.inventory, view.standings, epoch_s, view.certificates)
    table = _prices(vault, prices)
    listing = -(-view.inventory.objects // _NAMES_A_LISTING)
    dollars = None if table is None else table.cost(extension.requests + listing, len(view.standings))
    return Planned(view, policy, extension, epoch_s, listing, table, dollars)


def _prices(vault: Vault, name: str | None) -> Prices | None:
    if name is None:
        return prices_for(urlsplit(vault.store.url).scheme)
    try:
        return PRICES[name]
    except KeyError:
        msg = f"{name!r}: there is no such price table"
        raise UsageError(msg, hint=f"Use one of: {', '.join(PRICES)}.") from None
