"""Reaping as every interface offers it: a plan, a grace time, and what of it still holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from donjon.app.custody import View, look
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, KeyNotAvailable
from donjon.core.events import Progress, StopCheck, never_stop
from donjon.custody.reap_plan import ReapPlan, read_plan, same, write_plan
from donjon.custody.reaper import Reaped, reap
from donjon.custody.reaping import Reaping, plan_reaping
from donjon.keys.private import create_private, private_folder
from donjon.plan.retention import Policy
from donjon.repository.check import Finding
from donjon.repository.checkpoints import newest_trusted
from donjon.repository.vault import Vault, nothing_seen
from donjon.repository.witness import contradictions

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Made:
    """A plan that was made, and what it was made from."""

    plan: ReapPlan
    reaping: Reaping
    view: View


def make_plan(workspace: Workspace, policy: Policy, grace_s: int, out: Path, progress: Progress) -> Made:
    """Write down what may be deleted after the grace time. Needs no key, and changes nothing.

    Raises ``IntegrityFailure`` if the vault contradicts its checkpoint or what this host saw before:
    nothing is deleted on the word of a store that hides points.
    """
    vault = workspace.open()
    view, reaping = _reaping(workspace, vault, policy, progress)
    now = view.inventory.now
    plan = ReapPlan(vault.vault_id, now, now + grace_s, policy, reaping.doomed)
    write_plan(out, plan, vault.store.url, _key(workspace))
    return Made(plan, reaping, view)


def apply_plan(
    workspace: Workspace, file: Path, progress: Progress, stop: StopCheck = never_stop
) -> tuple[ReapPlan, Reaped]:
    """Delete what the plan names and a fresh look agrees on. Needs no key.

    Raises ``Refused`` for a plan of another vault, of another host, changed, too early or too old.
    """
    plan = read_plan(file, _key(workspace))
    vault = workspace.open()
    plan.check(vault.vault_id, vault.store.now(), str(file))
    _, fresh = _reaping(workspace, vault, plan.policy, progress)
    agreed = same(plan.doomed, fresh.doomed)
    progress.total(items=len(agreed), size_bytes=sum(item.size_bytes for item in agreed))
    reaped = reap(vault, fresh, agreed, progress, stop)
    kept = {(item.name, item.version) for item in plan.doomed} - {(i.name, i.version) for i in agreed}
    reaped.kept += [(name, "is needed, locked, or gone by now") for name, _ in sorted(kept, key=str)]
    return plan, reaped


def _reaping(workspace: Workspace, vault: Vault, policy: Policy, progress: Progress) -> tuple[View, Reaping]:
    newest = newest_trusted(vault)  # before the points are listed, as some come between
    watch, vault.watch = vault.watch, nothing_seen
    view = look(workspace, vault, policy, progress)
    points = [standing.point for standing in view.standings]
    _refuse(watch(points, newest), list(contradictions(newest, points)) if newest else [])
    return view, plan_reaping(view.inventory, view.standings)


def _refuse(alarms: Sequence[IntegrityFailure], findings: Sequence[Finding]) -> None:
    """Raises ``IntegrityFailure`` if anything contradicts what this host saw, or the newest checkpoint."""
    told = [(alarm.message, alarm.hint) for alarm in alarms]
    told += [(f"{finding.object}: {finding.kind}: {finding.what}", finding.remedy) for finding in findings]
    if told:
        msg = f"nothing is deleted from a vault that hides points: {told[0][0]}"
        raise IntegrityFailure(msg, hint=told[0][1])


def _key(workspace: Workspace) -> bytes:
    """What seals the plans of this host; made when it is needed first."""
    path = private_folder(workspace.home.folder) / "reaper.key"
    if not path.exists():
        create_private(path, os.urandom(_KEY_BYTES))
    key = path.read_bytes()
    if len(key) != _KEY_BYTES:
        msg = f"{path}: is damaged"
        raise KeyNotAvailable(msg, hint="Remove it; plans that were made before are worth nothing then.")
    return key
