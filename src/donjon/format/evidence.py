"""Evidence: a signed, dated record that something was checked, and what was seen.

See ``docs/format.md``, "Evidence".
"""

from __future__ import annotations

import enum
import re
from typing import Final

import msgspec

from donjon.codec.sign import PUBLIC_BYTES
from donjon.format.limits import check_id, check_time, require

MAX_ROWS: Final = 2_000
MAX_TEXT_BYTES: Final = 200
MAX_ANSWER_BYTES: Final = 500
MAX_PROGRAM_BYTES: Final = 64
MAX_CERTIFICATION_BYTES: Final = 1_024

_KIND: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class Outcome(enum.StrEnum):
    """What became of one thing that was tried."""

    PASSED = "passed"  #: what was seen is what was expected
    FAILED = "failed"
    SKIPPED = "skipped"  #: it was not tried, or nothing can be said


class EvidenceRow(msgspec.Struct, array_like=True, frozen=True):
    """One thing that was tried. ``answer`` is what the other side said, in its own words, or empty."""

    tried: str
    expected: str
    seen: str
    answer: str
    outcome: Outcome

    def __post_init__(self) -> None:
        for text, field in ((self.tried, "tried"), (self.expected, "expected"), (self.seen, "seen")):
            _check_text(text, MAX_TEXT_BYTES, field)
        _check_text(self.answer, MAX_ANSWER_BYTES, "answer")


class Evidence(msgspec.Struct, array_like=True, frozen=True):
    """The payload. ``certification`` is the whole keyring record that certifies the signer, so that whoever
    knows the vault's id can check a file without the vault. ``created_at`` is the provider's time.

    Everybody who may read the store can read it: no names of workloads, hosts, paths or people belong here.
    """

    signer: bytes
    root_public: bytes
    certification: bytes
    created_at: int
    kind: str
    program: str
    subject: str
    rows: tuple[EvidenceRow, ...]

    def __post_init__(self) -> None:
        check_id(self.signer)
        require(len(self.root_public) == PUBLIC_BYTES, "root key")
        require(len(self.certification) <= MAX_CERTIFICATION_BYTES, "certification")
        check_time(self.created_at)
        require(_KIND.fullmatch(self.kind) is not None, "kind")
        _check_text(self.program, MAX_PROGRAM_BYTES, "program")
        _check_text(self.subject, MAX_TEXT_BYTES, "subject")
        require(1 <= len(self.rows) <= MAX_ROWS, "number of rows")

    @property
    def has_passed(self) -> bool:
        """Whether at least one thing passed and nothing failed."""
        return passed(self.rows)


def passed(rows: tuple[EvidenceRow, ...]) -> bool:
    """Whether at least one row passed and none failed: a check in which all was skipped shows nothing."""
    outcomes = {row.outcome for row in rows}
    return Outcome.PASSED in outcomes and Outcome.FAILED not in outcomes


def evidence_row(tried: str, expected: str, seen: str, outcome: Outcome, *, answer: str = "") -> EvidenceRow:
    """A row whose texts are made to fit: cut to their limits, control characters replaced by spaces."""
    return EvidenceRow(
        fitting(tried, MAX_TEXT_BYTES),
        fitting(expected, MAX_TEXT_BYTES),
        fitting(seen, MAX_TEXT_BYTES),
        fitting(answer, MAX_ANSWER_BYTES),
        outcome,
    )


def fitting(text: str, limit_bytes: int) -> str:
    """The text in at most so many bytes of UTF-8, without control characters."""
    data = _CONTROL.sub(" ", text).encode("utf-8", "backslashreplace")
    if len(data) <= limit_bytes:
        return data.decode()
    return data[: limit_bytes - 3].decode(errors="ignore") + "..."


def _check_text(text: str, limit_bytes: int, field: str) -> None:
    require(len(text.encode()) <= limit_bytes and not _CONTROL.search(text), field)
