"""Whether what a plan names is there, and may be used by this host. Nothing is changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from donjon.app.kinds.registry import check_online as check_kind
from donjon.app.wiring import Workspace
from donjon.core.errors import (
    DonjonError,
    KeyNotAvailable,
    ObjectExists,
    ObjectHidden,
    ObjectNotFound,
    PermissionMissing,
)
from donjon.core.units import format_duration
from donjon.format import names
from donjon.plan.lint_places import BUCKETS, scheme_of
from donjon.plan.model import Plan
from donjon.repository.vault import Vault


@dataclass(frozen=True, slots=True)
class Seen:
    """One thing that was looked at: where the plan names it, and what was seen. ``hint`` says what to do.

    ``is_good`` is None if it could not be told.
    """

    path: str
    what: str
    is_good: bool | None
    hint: str = ""


def look(workspace: Workspace, plan: Plan) -> Iterator[Seen]:
    """Look at every vault with what this host has, then at every workload as its kind can."""
    for name, vault in plan.vaults.items():
        yield from _vault(workspace, f"vaults.{name}", vault.url, vault.retention_cap)
    for name in plan.workloads:
        found = list(check_kind(plan, name))
        yield from (Seen(f"workloads.{name}.source", one.message, one.is_good, one.hint) for one in found)


def _vault(workspace: Workspace, path: str, url: str, cap_s: int | None) -> Iterator[Seen]:
    space = workspace.for_vault(url)
    try:
        vault = space.open()
    except DonjonError as error:
        yield Seen(path, error.message, False, error.hint)
        return
    try:
        yield Seen(path, f"opens; {_locks(vault)}", True)
        yield from _writer(space, path)
        if scheme_of(vault.store.url) in BUCKETS:
            yield _cap(vault, path, cap_s)
    except DonjonError as error:
        yield Seen(path, error.message, False, error.hint)
    finally:
        vault.store.close()


def _locks(vault: Vault) -> str:
    """How long its locks last, and who enforces them if this host may know: writers mostly may not."""
    if not vault.object.lock_s:
        return "it was made without locks"
    told = f"its locks last {format_duration(vault.object.lock_s)}"
    try:
        return f"{told}, enforced by: {vault.store.lock_enforcement.value}"
    except PermissionMissing:
        return told


def _writer(space: Workspace, path: str) -> Iterator[Seen]:
    """Whether this host is enrolled, may sign, and may put."""
    try:
        vault, credential = space.open_for_writing()
    except KeyNotAvailable as error:
        yield Seen(path, f"this host cannot write there: {error.message}", False, error.hint)
        return
    with vault.store:
        writer = vault.keyring.writers.get(credential.writer_id)
        if writer is None or writer.revoked_at is not None:
            what = f"the writer {credential.name!r} of this host was revoked, or never certified"
            yield Seen(path, what, False, "Certify a new one with `donjon writer add`, then `donjon enrol`.")
            return
        yield Seen(path, f"this host writes there as {credential.name!r}", True)
        yield _may_put(vault, credential.writer_id, path)


def _may_put(vault: Vault, writer_id: bytes, path: str) -> Seen:
    """Put an object that is there already: whoever may put is told so, and nothing comes of it.

    Stores look at the permission before they look for the name. The writer's first manifest stays for ever,
    and its own bytes are put, so that even a store that replaces objects would change nothing.
    """
    name = names.manifest(writer_id, 1)
    try:
        vault.store.put(name, vault.store.get(name))
    except ObjectExists:
        return Seen(path, "the store lets it put objects", True)
    except ObjectHidden as error:
        return Seen(path, error.message, False, error.hint)
    except ObjectNotFound:
        what = "whether the store lets it put objects is seen only by the first backup"
        return Seen(path, what, None, "Run `donjon backup` once.")
    except PermissionMissing as error:
        return Seen(path, f"the store does not let it put objects: {error.message}", False, error.hint)
    what = f"{name}: could be put again, so the store does not keep what is there"
    return Seen(path, what, False, "Do not use this store. See `donjon drill attack`.")


def _cap(vault: Vault, path: str, cap_s: int | None) -> Seen:
    """Whether the bucket takes locks as long as the plan says, as far as this credential may look."""
    wanted = cap_s if cap_s is not None else vault.object.lock_s
    try:
        faults = vault.store.check_bucket(wanted)
    except PermissionMissing:
        what = "this host may not look at the settings of the bucket, which is as it should be"
        return Seen(path, what, None, "See them as its administrator, or with an auditor's credential.")
    if faults:
        what = "; ".join(fault.fault for fault in faults)
        return Seen(path, what, False, " && ".join(dict.fromkeys(fault.fix for fault in faults)))
    return Seen(path, f"takes locks of {format_duration(wanted)}", True)
