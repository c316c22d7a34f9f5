"""Rows of evidence that programs read again: of verifications, and of timed restores.

``docs/format.md``, "Evidence", has their grammar. Paths and names of workloads are never in them.
"""

from __future__ import annotations

import re
from typing import Final

from donjon.core.units import format_size
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from donjon.plan.copies import Check, Depth
from donjon.repository.evidence import SignedEvidence
from donjon.repository.verify import Report

VERIFY: Final = "verify"
RESTORE: Final = "restore"
STATUS: Final = "status"

#: What is told of a vault with very many faults.
_MOST_FINDINGS: Final = 100
_STRUCTURE: Final = "structure and signatures"
_METADATA: Final = "metadata"
_PERCENT: Final = re.compile(r"(\d{1,3}(?:\.\d{1,6})?(?:e-\d\d)?) % of the data")
_SECONDS: Final = re.compile(r"(\d{1,9}\.\d) s for ")
_RESTORED: Final = re.compile(r"restore point ([0-9a-f]{64})")


def verify_rows(report: Report, percent: float, *, with_key: bool) -> list[EvidenceRow]:
    """What a verification saw that was to read ``percent`` of the data.

    What is wrong is told by kind and object alone, as the rest may hold names of files.
    """
    structure, found = report.structure, report.findings
    seen = f"{structure.objects} objects, {len(structure.points)} points, {len(found)} problems"
    outcome = Outcome.PASSED if report.ok else Outcome.FAILED
    rows = [evidence_row(_STRUCTURE, "no problems", seen, outcome)]
    if with_key:
        rows.append(evidence_row(_METADATA, "no problems", f"{report.points_read} points", outcome))
    if percent:
        read = f"{report.packs_read} packs, {format_size(report.data_bytes)}"
        rows.append(evidence_row(f"{percent:g} % of the data", "every byte as signed", read, outcome))
    rows += [
        evidence_row(finding.object, "no problems", finding.kind, Outcome.FAILED)
        for finding in found[:_MOST_FINDINGS]
    ]
    return rows


def read_check(signed: SignedEvidence, at: int, *, by_writer: bool) -> Check | None:
    """The verification that evidence tells of, signed ``at`` a time, or None if it tells of none."""
    rows = signed.evidence.rows
    tried = {row.tried for row in rows}
    if _STRUCTURE not in tried:
        return None
    depth = Depth.METADATA if _METADATA in tried else Depth.STRUCTURE
    read = [float(match[1]) for row in tried if (match := _PERCENT.fullmatch(row))]
    if read:
        depth = Depth.DATA
    passed = all(row.outcome is Outcome.PASSED for row in rows)
    source = f"evidence {signed.digest.hex()[:12]}"
    return Check(at, depth, passed, source, max(read, default=0.0), by_writer)


def restore_row(point_id: bytes, seconds: float, size_bytes: int, *, whole: bool) -> EvidenceRow:
    """A restore of a whole point that was timed. ``whole``: nothing was damaged or refused."""
    seen = f"{seconds:.1f} s for {size_bytes} bytes"
    outcome = Outcome.PASSED if whole else Outcome.FAILED
    return evidence_row(f"restore point {point_id.hex()}", "whole", seen, outcome)


def read_restore(row: EvidenceRow) -> tuple[str, float, bool] | None:
    """The id of the point, the seconds, and whether all went well; None if the row tells of no restore."""
    point, seconds = _RESTORED.fullmatch(row.tried), _SECONDS.match(row.seen)
    if point is None or seconds is None:
        return None
    return point[1], float(seconds[1]), row.outcome is Outcome.PASSED
