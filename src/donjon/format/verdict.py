"""Verdicts: evidence that says of points whether they are clean. See ``docs/format.md``, section 25."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from donjon.format.evidence import EvidenceRow, Outcome, evidence_row

KIND: Final = "verdict"
NONCE_BYTES: Final = 16

_POINT: Final = re.compile(r"point ([0-9a-f]{64})")
_LIFTS: Final = re.compile(r"clean, lifts ([0-9a-f]{64})")
_REASON: Final = re.compile(r"(?:[0-9a-f]{2})+")


@dataclass(frozen=True, slots=True)
class Said:
    """What a row says of a point: that it is suspect, or that one mark of it is lifted.

    ``lifts`` is the digest of the evidence with that mark, None for a mark; ``reason`` is sealed, or empty.
    """

    point_id: bytes
    lifts: bytes | None
    reason: bytes


def mark_row(point_id: bytes, nonce: bytes, reason: bytes) -> EvidenceRow:
    """The row that marks a point as suspect; ``nonce`` keeps two marks of it apart."""
    return _row(point_id, f"suspect {nonce.hex()}", reason, Outcome.FAILED)


def lift_row(point_id: bytes, mark: bytes, reason: bytes) -> EvidenceRow:
    """The row that lifts the mark of a point in the evidence with this digest."""
    return _row(point_id, f"clean, lifts {mark.hex()}", reason, Outcome.PASSED)


def read_row(row: EvidenceRow) -> Said | None:
    """What a row of a verdict says, None if it says nothing of any point.

    Whatever failed marks its point, so that a finding which this Donjon does not know yet does no less.
    """
    if (point := _POINT.fullmatch(row.tried)) is None:
        return None
    reason = bytes.fromhex(row.answer) if _REASON.fullmatch(row.answer) else b""
    point_id = bytes.fromhex(point[1])
    if row.outcome is Outcome.FAILED:
        return Said(point_id, None, reason)
    if row.outcome is Outcome.PASSED and (lifts := _LIFTS.fullmatch(row.seen)) is not None:
        return Said(point_id, bytes.fromhex(lifts[1]), reason)
    return None


def _row(point_id: bytes, seen: str, reason: bytes, outcome: Outcome) -> EvidenceRow:
    return evidence_row(f"point {point_id.hex()}", "clean", seen, outcome, answer=reason.hex())
