"""Putting a plan in force: freely if it weakens nothing, else as approvers or the operator say."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from donjon.app.approvals.files import RequestFile
from donjon.app.approvals.requests import UNFINISHED, Asking, ask, signed_requests
from donjon.app.approvals.views import Asked, Views
from donjon.app.plans.files import (
    Adoption,
    PlanFile,
    adopting,
    keep_adopted,
    read_adopted,
    read_adoption,
    read_plan,
)
from donjon.app.setup import show_labels
from donjon.app.wiring import Workspace
from donjon.core.clock import Clock
from donjon.core.errors import IntegrityFailure, NotApproved, Refused
from donjon.format.approval import PlanChange
from donjon.plan.changes import Weakening, weakenings
from donjon.repository.approvals import Request
from donjon.repository.approving import check_plan_change
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class Adopted:
    """The plan that is in force now. ``is_new`` is false if it was before; ``requests`` allowed it."""

    file: PlanFile
    is_new: bool
    weakenings: tuple[Weakening, ...] = ()
    requests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unapproved:
    """Nothing was changed: so much is weaker, and too few approvers of these vaults have allowed it.

    ``asked`` are the requests, by the addresses of the vaults.
    """

    file: PlanFile
    weakenings: tuple[Weakening, ...]
    asked: dict[str, Asked]


def adopt(
    workspace: Workspace,
    path: Path,
    clock: Clock,
    *,
    weaken: bool,
    asking: Asking,
    files: Sequence[Path] = (),
) -> Adopted | Unapproved:
    """Put a plan in force on this host.

    One that weakens the plan in force takes, in each vault that it is about and that has approvers, enough of
    their signatures for exactly these two files; they are asked if nobody has done so. If no such vault has
    approvers it takes ``weaken``. ``files`` hold requests and signatures that went round outside of vaults.

    Raises ``UsageError`` that tells all that is wrong with the plan; ``Refused`` without ``weaken``; what
    opening a vault raises, as one that cannot be asked has not agreed.
    """
    home = workspace.home
    with adopting(home):
        file, before = read_plan(path), read_adoption(home)
        now = Adoption(file.digest.hex(), clock(), before.requests if before else ())
        if before is not None and before.digest == now.digest:
            return Adopted(file, is_new=False)
        if before is None:
            keep_adopted(home, file, now)
            return Adopted(file, is_new=True)
        old = read_adopted(home, before)
        found = tuple(weakenings(old.plan, file.plan))
        if not found:
            keep_adopted(home, file, now)
            return Adopted(file, is_new=True)
        governed = _governed(workspace, old, found)
        if not governed and not weaken:
            raise _unmeant(path, len(found))
        signed = _Signed(now.requests, files)
        change = PlanChange(old.digest, file.digest)
        used, asked = _consult(governed, change, signed, asking)
        if asked:
            return Unapproved(file, found, asked)
        keep_adopted(home, file, Adoption(now.digest, now.adopted_at, tuple(signed.used)))
        return Adopted(file, is_new=True, weakenings=found, requests=used)


def _unmeant(path: Path, count: int) -> Refused:
    msg = f"{path}: weakens {count} things, and no vault that they are about has approvers"
    return Refused(msg, hint="Look at `donjon plan diff`, then repeat with --weaken.")


def _consult(
    governed: Mapping[str, tuple[Workspace, Vault]], change: PlanChange, signed: _Signed, asking: Asking
) -> tuple[tuple[str, ...], dict[str, Asked]]:
    """The requests that were used, and those that too few approvers signed, by the addresses of vaults.

    Where nobody has asked the approvers yet, they are asked.
    """
    used, missing = [], {}
    for url, (space, vault) in governed.items():
        if (request_id := signed.use(vault, change)) is not None:
            used.append(request_id)
            continue
        show_labels(space, vault)
        missing[url] = signed.open(vault, change) or ask(space, vault, change, asking)
    return tuple(used), missing


def _governed(
    workspace: Workspace, old: PlanFile, found: Sequence[Weakening]
) -> dict[str, tuple[Workspace, Vault]]:
    """The vaults with approvers that weakenings are about; one that is about none is about all."""
    everywhere = tuple(vault.url for vault in old.plan.vaults.values())
    urls = {url for one in found for url in one.vaults or everywhere}
    governed = {}
    for url in sorted(urls):
        space = workspace.for_vault(url)
        vault = space.open()
        if vault.keyring.approvers is not None:
            governed[url] = (space, vault)
    return governed


class _Signed:
    """What approvers signed, in vaults and in files, and which of their requests are used up.

    A request is known by the digest of what approvers sign, whoever puts it into a vault once more.
    """

    def __init__(self, used: Sequence[str], files: Sequence[Path]) -> None:
        self.used = list(used)
        self._files: dict[bytes, list[Path]] = {}
        for file in files:
            self._files.setdefault(RequestFile.read(file).vault_id, []).append(file)

    def of(self, vault: Vault, change: PlanChange) -> list[tuple[Request, dict[bytes, bytes]]]:
        """All requests for this change that are not used up, with their signatures."""
        files = self._files.get(vault.vault_id, [])
        found = signed_requests(vault, files, lambda asked: asked == change)
        return [(one, signed) for one, signed in found if one.digest.hex() not in self.used]

    def use(self, vault: Vault, change: PlanChange) -> str | None:
        """The request that enough approvers of a vault signed, used up; None if there is none."""
        for request, signatures in self.of(vault, change):
            try:
                check_plan_change(vault, request, signatures, change.before, change.after)
            except (IntegrityFailure, NotApproved):  # another one may do
                continue
            self.used.append(request.digest.hex())
            return request.request_id.hex()
        return None

    def open(self, vault: Vault, change: PlanChange) -> Asked | None:
        """The request that approvers can still sign: of several that with the most signatures."""
        views, found = Views(vault), []
        for request, signatures in self.of(vault, change):
            with contextlib.suppress(IntegrityFailure):
                asked = views.asked(request, signatures)
                if asked.state in UNFINISHED:
                    found.append(asked)
        return max(found, key=lambda asked: len(asked.signers), default=None)
