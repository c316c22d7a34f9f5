"""The matrix of a plan as data, and as a page to print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.core.clock import iso
from donjon.core.errors import PermissionMissing, Refused, UsageError
from donjon.keys.private import create_private
from donjon.plan.copies import Copy, CopyKind
from donjon.plan.placement import Verdict
from donjon.plan.worth import Fault, Judged
from donjon.version import __version__

if TYPE_CHECKING:
    from donjon.app.status.matrix import Status

_TITLES = {
    "copies": "3 copies",
    "media": "2 media",
    "offsite": "1 offsite",
    "immutable": "1 immutable",
    "verified": "0 unverified",
    "rpo": "RPO",
    "rto": "RTO",
}
_WORDS = {"met": "ok", "not-met": "no", "unknown": "unknown", "not-asked": "not asked"}


def check_file(path: Path) -> None:
    """Raises ``Refused`` for a report that exists, and ``UsageError`` if it could not be made there."""
    if os.path.lexists(path):
        msg = f"{path}: exists, and a report never overwrites anything"
        raise Refused(msg, hint="Choose another file name.")
    if not path.parent.is_dir():
        raise UsageError(f"{path.parent}: there is no such folder", hint="Make it, or choose another one.")


def save_report(status: Status, path: Path) -> None:
    """Write the page into a new file that only its owner may read: it names sites, accounts and people.

    Raises ``Refused`` if the file exists, ``PermissionMissing``.
    """
    try:
        create_private(path, render(status).encode())
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise PermissionMissing(msg, hint="Choose a folder that this user may write.") from error


def render(status: Status) -> str:
    """The page: one file of HTML without scripts and without anything from elsewhere."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("donjon.app.status", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("status.html")
    return template.render(
        plan=status.plan.name,
        digest=status.digest,
        time=iso(status.now),
        program=f"donjon {__version__}",
        green=status.is_green,
        titles=_TITLES,
        words=_WORDS,
        verdicts=[
            {
                "name": verdict.facts.workload,
                "green": verdict.is_green,
                "cells": verdict.cells,
                "copies": [
                    (one, one.copy.title in verdict.counted, [*facts_of(one)]) for one in verdict.copies
                ],
                "shared": verdict.shared,
            }
            for verdict in status.verdicts
        ],
        warnings=status.warnings,
        evidence=[one.signed.digest.hex() for one in status.recorded],
    )


def facts_of(judged: Judged) -> Iterator[tuple[str, str]]:
    """All that is known of a copy, by name, for people."""
    copy = judged.copy
    yield from _where(copy)
    if copy.point_time is not None:
        yield "newest", f"{iso(copy.point_time)} {copy.point[:12]}".rstrip()
    if copy.kind is not CopyKind.PRODUCTION and copy.point_time is not None:
        until = iso(copy.locked_until) if copy.locked_until else "not locked"
        yield "lock", f"{copy.lock_mode}, {until}"
        yield "opened by", ", ".join(key.key_id for key in copy.keys) or "whoever reads it"
    if (check := copy.checked) is not None:
        share = f", {check.data_percent:.3g} % of the data" if check.data_percent else ""
        result = "sound" if check.passed else "FAILED"
        yield "verified", f"{iso(check.at)}, {check.depth}{share}: {result} ({check.source})"
    if copy.suspect:
        yield "suspect", str(copy.suspect)
    for fact in copy.facts:
        yield "seen", fact
    for name, fault in _faults(judged):
        yield name, fault.reason


def _where(copy: Copy) -> Iterator[tuple[str, str]]:
    if copy.place is None:
        yield "place", "not known"
    else:
        place = copy.place
        yield "place", f"{place.site}: {place.account_id}, {place.region}"
        yield "administrators", ", ".join(sorted(place.administrators)) or "those of the account"
    yield "medium", ", ".join(filter(None, (copy.medium or "not known", copy.storage)))


def _faults(judged: Judged) -> Iterator[tuple[str, Fault]]:
    if judged.fault is not None:
        yield "does not count", judged.fault
        return
    for name, fault in (
        ("not offsite", judged.offsite),
        ("not immutable", judged.immutable),
        ("not verified", judged.verified),
    ):
        if fault is not None:
            yield name, fault


def verdict_data(verdict: Verdict) -> dict[str, object]:
    """A verdict in JSON."""
    restore = verdict.facts.restore
    return {
        "workload": verdict.facts.workload,
        "green": verdict.is_green,
        "cells": [
            {
                "rule": cell.rule.value,
                "state": cell.state.value,
                "value": cell.value,
                "reason": cell.reason,
                "remedy": cell.remedy or None,
            }
            for cell in verdict.cells
        ],
        "copies": [_copy_data(one, counts=one.copy.title in verdict.counted) for one in verdict.copies],
        "shared": [
            {"one": shared.one, "other": shared.other, "what": list(shared.what)} for shared in verdict.shared
        ],
        "restore": None
        if restore is None
        else {
            "time": iso(restore.at),
            "seconds": restore.seconds,
            "point": restore.point,
            "source": restore.source,
            "passed": restore.passed,
        },
    }


def _copy_data(judged: Judged, *, counts: bool) -> dict[str, object]:
    copy, place, check = judged.copy, judged.copy.place, judged.copy.checked
    return {
        "kind": copy.kind.value,
        "name": copy.name,
        "counts": counts,
        "why_not": {name.replace(" ", "_"): fault.reason for name, fault in _faults(judged)},
        "site": place.site if place else None,
        "provider": place.provider if place else None,
        "account": place.account if place else None,
        "region": place.region if place else None,
        "administrators": sorted(place.administrators) if place else [],
        "medium": copy.medium.value if copy.medium else None,
        "storage": copy.storage or None,
        "point": copy.point or None,
        "time": iso(copy.point_time) if copy.point_time is not None else None,
        "suspect": None
        if copy.suspect is None
        else {"points": list(copy.suspect.points), "marked": copy.suspect.marked},
        "lock_mode": copy.lock_mode.value,
        "locked_until": iso(copy.locked_until) if copy.locked_until else None,
        "keys": [{"key": key.key_id, "owner": key.owner} for key in copy.keys],
        "verified": None
        if check is None
        else {
            "time": iso(check.at),
            "depth": check.depth.value,
            "data_percent": check.data_percent,
            "passed": check.passed,
            "source": check.source,
        },
        "facts": list(copy.facts),
    }
