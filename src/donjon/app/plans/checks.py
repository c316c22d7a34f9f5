"""Verifies the places of a workload when the plan wants it, and keeps evidence of what was seen."""

from __future__ import annotations

from collections.abc import Mapping

from donjon.app.catalog.opening import Places
from donjon.app.catalog.places import VERIFIED, count_evidence, evidence_record, subject_of
from donjon.app.checks import verify_opened
from donjon.app.evidence import Recorder
from donjon.app.evidence_rows import verify_rows
from donjon.catalog import facts, points
from donjon.catalog.database import Catalog
from donjon.core.clock import Clock
from donjon.core.errors import DonjonError, IntegrityFailure
from donjon.core.events import Progress
from donjon.plan.model import Verification
from donjon.repository.vault import Vault
from donjon.repository.verify import Report

_SHOWN = 3


def verify_due(catalog: Catalog, places: Places, name: str, wanted: Verification, clock: Clock) -> bool:
    """Whether a place has to be verified by now."""
    last = points.verified_at(catalog, places.url(name))
    return last is None or last + wanted.every <= clock()


def verify_place(
    catalog: Catalog,
    places: Places,
    name: str,
    home: str,
    wanted: Verification,
    *,
    environment: Mapping[str, str],
    progress: Progress,
) -> None:
    """Verify the place ``name`` of a vault, and sign what was seen in ``home``, the vault itself.

    Data is read if a key was named; without one the structure and all signatures are checked. Raises
    ``IntegrityFailure`` if anything is wrong, and what the stores raise.
    """
    own = places.space(home)
    vault = own.open()
    with vault.store:
        space = places.space(name)
        opened = vault if name == home else places.open_copy(name, vault.vault_id)
        percent = wanted.data_percent if space.has_key else 0
        report = verify_opened(space, opened, percent, progress)
        rows = verify_rows(report, percent, with_key=bool(opened.openers))
        recorder = Recorder(own, vault, credential=None, environment=environment, out=None)
        recorded = recorder.record(VERIFIED, subject_of(opened.store.url), rows)
    record = evidence_record(vault, recorded.signed)
    facts.put_evidence(catalog, record)
    count_evidence(catalog, record)
    if not report.ok:
        raise _unsound(opened, report)


def _unsound(vault: Vault, report: Report) -> DonjonError:
    first = "; ".join(f"{one.object}: {one.what}" for one in report.findings[:_SHOWN])
    msg = f"{vault.store.url}: {len(report.findings)} problems: {first}"
    return IntegrityFailure(msg, hint="See them all with `donjon verify`, and restore from another copy.")
