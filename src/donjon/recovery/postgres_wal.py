"""The write-ahead log of PostgreSQL: what its files are called, what their first bytes say, what is missing.

Names and layouts are those of PostgreSQL's ``access/xlog_internal.h`` (``XLogFileName``,
``XLogLongPageHeaderData``) and ``catalog/pg_control.h`` (its first field is the system identifier).
"""

from __future__ import annotations

import enum
import itertools
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from donjon.core.errors import IntegrityFailure, UsageError
from donjon.core.units import MIB

DEFAULT_SEGMENT_BYTES: Final = 16 * MIB
#: As many bytes of a segment tell what it is.
HEADER_BYTES: Final = 40
#: As many bytes of ``global/pg_control`` tell whose it is.
CONTROL_BYTES: Final = 8

_NAME: Final = re.compile(
    r"(?P<timeline>[0-9A-F]{8})"
    r"(?:(?P<history>\.history)|(?P<high>[0-9A-F]{8})(?P<low>[0-9A-F]{8})"
    r"(?:(?P<partial>\.partial)|(?P<backup>\.[0-9A-F]{8}\.backup))?)"
)
# xlp_magic, xlp_info, xlp_tli, xlp_pageaddr, xlp_rem_len, xlp_sysid, xlp_seg_size, xlp_xlog_blcksz
_HEADER: Final = struct.Struct("=HHIQI4xQII")
_MAGIC_HIGH: Final = 0xD0  # XLOG_PAGE_MAGIC is 0xD0xx or 0xD1xx in every version of this format
_LONG: Final = 0x0002  # XLP_LONG_HEADER
_LABEL: Final = re.compile(
    rb"START WAL LOCATION: [0-9A-F]+/[0-9A-F]+ \(file (?P<file>[0-9A-F]{24})\).*?"
    rb"START TIME: (?P<time>[^\n]*)\n.*?START TIMELINE: (?P<timeline>\d+)",
    re.DOTALL,
)


class WalKind(enum.Enum):
    """What an archived file is."""

    SEGMENT = enum.auto()
    PARTIAL = enum.auto()  #: the last, unfinished segment of a timeline that was left
    HISTORY = enum.auto()  #: where a timeline left the one before
    BACKUP = enum.auto()  #: a note that a base backup was made


@dataclass(frozen=True, slots=True)
class WalName:
    """A parsed name. ``high`` and ``low`` are 0 for a history file."""

    text: str
    kind: WalKind
    timeline: int
    high: int
    low: int

    def number(self, segment_bytes: int) -> int:
        """The place of the segment in its timeline, counted from the first byte of all log."""
        return self.high * per_high(segment_bytes) + self.low


def is_segment_size(size_bytes: int) -> bool:
    """Whether initdb --wal-segsize can make segments of this size: powers of two, 1 MiB to 1 GiB."""
    return MIB <= size_bytes <= 1024 * MIB and not size_bytes & (size_bytes - 1)


def per_high(segment_bytes: int) -> int:
    """How many segments share the middle part of a name: 4 GiB of log."""
    return (1 << 32) // segment_bytes


def parse_name(text: str) -> WalName:
    """Raises ``UsageError`` for what cannot be the name of a file of the log."""
    match = _NAME.fullmatch(text)
    if match is None:
        msg = f"{text!r} is no name of a file of PostgreSQL's write-ahead log"
        raise UsageError(msg, hint="PostgreSQL puts it in for %f and %p of its settings.")
    kind = WalKind.SEGMENT
    for found in (WalKind.HISTORY, WalKind.PARTIAL, WalKind.BACKUP):
        if match[found.name.lower()]:
            kind = found
    high, low = int(match["high"] or "0", 16), int(match["low"] or "0", 16)
    return WalName(text, kind, int(match["timeline"], 16), high, low)


def segment_name(timeline: int, number: int, segment_bytes: int) -> str:
    """The name of a segment."""
    high, low = divmod(number, per_high(segment_bytes))
    return f"{timeline:08X}{high:08X}{low:08X}"


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first page of a segment says. ``system`` identifies the cluster."""

    system: int
    segment_bytes: int


def check_segment(name: WalName, data: bytes, size_bytes: int) -> SegmentHeader:
    """What the first ``HEADER_BYTES`` of a segment say, if it is the one that its name tells.

    Raises ``IntegrityFailure``. The page may carry an older timeline than the name: a new timeline begins
    with a copy of the segment in which it left the old one.
    """
    problem = ""
    if len(data) < HEADER_BYTES:
        problem = f"has only {len(data)} bytes"
    else:
        magic, info, timeline, address, _, system, segment_bytes, _ = _HEADER.unpack(data[:HEADER_BYTES])
        if magic >> 8 not in (_MAGIC_HIGH, _MAGIC_HIGH + 1) or not info & _LONG:
            problem = "does not begin as a segment does"
        elif segment_bytes != size_bytes or not is_segment_size(segment_bytes):
            problem = f"has {size_bytes} bytes, and says that it has {segment_bytes}"
        elif address != name.number(segment_bytes) * segment_bytes or timeline > name.timeline:
            problem = f"holds {segment_name(timeline, address // segment_bytes, segment_bytes)}"
    if problem:
        msg = f"{name.text}: {problem}"
        raise IntegrityFailure(msg, hint="Find out what wrote this file; PostgreSQL did not.")
    return SegmentHeader(system, segment_bytes)


def parse_control(data: bytes) -> int:
    """The system identifier in the first bytes of ``global/pg_control``. Raises ``IntegrityFailure``."""
    if len(data) < CONTROL_BYTES:
        raise IntegrityFailure("global/pg_control is too short", hint="This is no data directory.")
    return int(struct.unpack("=Q", data[:CONTROL_BYTES])[0])


@dataclass(frozen=True, slots=True)
class Label:
    """What the ``backup_label`` of a base backup says: where recovery begins."""

    segment: str
    timeline: int
    start_time: str


def parse_label(data: bytes) -> Label:
    """Raises ``IntegrityFailure``."""
    match = _LABEL.search(data)
    if match is None:
        raise IntegrityFailure("backup_label: cannot be understood", hint="This is no base backup.")
    time = match["time"].decode(errors="replace")
    return Label(match["file"].decode(), int(match["timeline"]), time)


@dataclass(frozen=True, slots=True)
class Timeline:
    """The archived segments of one timeline, by number. ``missing`` lie between the first and the last."""

    timeline: int
    first: int
    last: int
    count: int
    missing: tuple[int, ...]
    has_history: bool


def timelines(found: Iterable[WalName], segment_bytes: int) -> list[Timeline]:
    """What is there of each timeline, and what is missing, at most ``MOST_MISSING`` for each."""
    numbers: dict[int, set[int]] = {}
    histories = set()
    for name in found:
        if name.kind is WalKind.SEGMENT:
            numbers.setdefault(name.timeline, set()).add(name.number(segment_bytes))
        elif name.kind is WalKind.HISTORY:
            histories.add(name.timeline)
    return [
        Timeline(
            timeline,
            min(there),
            max(there),
            len(there),
            tuple(_between(sorted(there))),
            timeline == 1 or timeline in histories,
        )
        for timeline, there in sorted(numbers.items())
    ]


#: A hostile list of names must not make a list of billions.
MOST_MISSING: Final = 1_000


def _between(numbers: list[int]) -> list[int]:
    missing: list[int] = []
    for before, after in itertools.pairwise(numbers):
        room = MOST_MISSING - len(missing)
        missing += range(before + 1, min(after, before + 1 + room))
    return missing


def reaches(known: list[Timeline], timeline: int, start: int) -> tuple[int, int] | None:
    """(timeline, number) of the last segment that a recovery from here gets to, going by names alone.

    A newer timeline goes on where its first segment lies in the run, or right after it. None if not even the
    first segment is there.
    """
    at: tuple[int, int] | None = None
    for one in known:
        if at is None and one.timeline == timeline and one.first <= start <= one.last:
            at = (timeline, _run(one, start)) if start not in one.missing else None
        elif at is not None and one.timeline > at[0] and start <= one.first <= at[1] + 1:
            at = (one.timeline, _run(one, one.first))
    return at


def _run(one: Timeline, start: int) -> int:
    return min((number - 1 for number in one.missing if number > start), default=one.last)
