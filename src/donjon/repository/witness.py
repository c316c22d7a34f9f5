"""What contradicts a checkpoint: pure comparisons, as ``docs/format.md``, section 20, defines them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from donjon.core.clock import iso
from donjon.format import names
from donjon.format.checkpoint import Chain, Row
from donjon.repository.check import Finding
from donjon.repository.checkpoints import Signed
from donjon.repository.points import Point

OMITTED = "omitted"
ROLLED_BACK = "rolled back"
FORKED = "forked"
REORDERED = "reordered"

_ELSEWHERE = "Do not trust this store; look for the points in another copy, and find out who hides them."
_IF_REMOVED = (
    " If they were removed on purpose after their lock ended, let the custodian say so: "
    "`donjon custody checkpoint --accept-removed`."
)
_FORK = "Compare the copies of the vault: a writer's or custodian's key signed two histories, or was stolen."


def contradictions(signed: Signed, points: Iterable[Point]) -> Iterator[Finding]:
    """What of the points that a vault shows, in any order, contradicts this checkpoint."""
    by_writer: dict[bytes, dict[int, Point]] = {}
    for point in points:
        by_writer.setdefault(point.manifest.writer, {})[point.manifest.sequence] = point
    for chain in signed.checkpoint.chains:
        yield from _chain_contradictions(chain, by_writer.get(chain.writer, {}), signed)


def _chain_contradictions(chain: Chain, shown: Mapping[int, Point], signed: Signed) -> Iterator[Finding]:
    gone, forked, moved = [], [], []
    for row in chain.rows():
        point = shown.get(row.sequence)
        if point is None:
            gone.append(row)
        elif point.point_id != row.point_id:
            forked.append(row)
        elif point.store_time < row.time:
            moved.append(row)
    head = shown.get(chain.last)
    if head is not None and head.point_id != chain.head and chain.last not in {r.sequence for r in forked}:
        forked.append(Row(chain.last, 0, 0, chain.head))
    since = f"since checkpoint {signed.number} ({signed.where}, {iso(signed.checkpoint.created_at)})"
    yield from _gone(chain.writer, gone, max(shown, default=0), since)
    if forked:
        what = f"is another point than the custodian saw there, {since}"
        yield _finding(FORKED, chain.writer, forked, what, _FORK)
    if moved:
        what = f"has an earlier time than the custodian saw, {since}: the order of points was changed"
        yield _finding(REORDERED, chain.writer, moved, what, "Find out who changed the times in the store.")


def _gone(writer: bytes, rows: Sequence[Row], last_shown: int, since: str) -> Iterator[Finding]:
    newest = [row for row in rows if row.sequence > last_shown]
    middle = [row for row in rows if row.sequence < last_shown]
    if newest:
        what = f"{_count(newest)} at the end of this writer's points not shown any more, {since}"
        yield _finding(ROLLED_BACK, writer, newest, what, _ELSEWHERE + _IF_REMOVED)
    if middle:
        what = f"{_count(middle)} not shown any more, {since}"
        yield _finding(OMITTED, writer, middle, what, _ELSEWHERE + _IF_REMOVED)


def _count(rows: Sequence[Row]) -> str:
    return f"{len(rows)} point is" if len(rows) == 1 else f"{len(rows)} points are"


def _finding(kind: str, writer: bytes, rows: Sequence[Row], what: str, remedy: str) -> Finding:
    name = names.manifest(writer, rows[0].sequence)
    return Finding(kind, name, what, tuple(row.point_id.hex() for row in rows), remedy)


def between(one: Signed, other: Signed) -> Iterator[Finding]:
    """What of two checkpoints of one vault contradicts the other."""
    older, newer = sorted((one, other), key=lambda signed: signed.number)
    if older.number == newer.number and older.digest != newer.digest:
        affected = tuple(sorted(row.hex() for row in older.times().keys() ^ newer.times().keys()))
        what = f"there are two checkpoints with this number: {older.where} and {newer.where}"
        yield Finding(FORKED, names.checkpoint(older.number), what, affected, _FORK)
    if older.number + 1 == newer.number and newer.checkpoint.previous != older.digest:
        what = f"does not follow the checkpoint before it ({older.where})"
        yield Finding(REORDERED, newer.where, what, (), _FORK)
    chains = {chain.writer: chain for chain in newer.checkpoint.chains}
    for before in older.checkpoint.chains:
        yield from _chains_between(before, chains.get(before.writer), older, newer)


def _chains_between(before: Chain, after: Chain | None, older: Signed, newer: Signed) -> Iterator[Finding]:
    rows = list(before.rows())
    if after is None or after.last < before.last:
        lost = [row for row in rows if after is None or row.sequence > after.last]
        what = f"{newer.where} does not reach as far as {older.where}"
        yield _finding(ROLLED_BACK, before.writer, lost or [_end(before)], what, _FORK)
        return
    kept = {row.sequence: row.point_id for row in after.rows()}
    kept[after.last] = after.head
    forked = [row for row in [*rows, _end(before)] if kept.get(row.sequence, row.point_id) != row.point_id]
    if forked:
        what = f"{older.where} and {newer.where} name different points"
        yield _finding(FORKED, before.writer, list(dict.fromkeys(forked)), what, _FORK)
    at = newer.checkpoint.created_at
    dropped = [row for row in rows if row.sequence not in kept and row.protected_until > at]
    if dropped:
        what = f"{newer.where} leaves out points of {older.where} that were still locked"
        yield _finding(OMITTED, before.writer, dropped, what, _FORK)


def _end(chain: Chain) -> Row:
    return Row(chain.last, 0, 0, chain.head)


def judge(
    points: Sequence[Point], inside: Sequence[Signed], outside: Sequence[Signed], *, pinned: int = 0
) -> list[Finding]:
    """All that contradicts the checkpoints inside the vault and outside of it, each told once.

    ``inside`` are the trusted ones in the vault, newest first. ``pinned`` is the number of the newest one
    that this client saw before.
    """
    by_number = {signed.number: signed for signed in inside}
    last = max(by_number, default=0)
    findings: list[Finding] = []
    beyond = max((signed.number for signed in outside), default=0)
    if max(beyond, pinned) > last:
        what = f"is not shown, though there was a checkpoint {max(beyond, pinned)} of this vault"
        findings.append(Finding(ROLLED_BACK, names.checkpoint(last + 1), what, (), _ELSEWHERE))
    for signed in outside:
        near = {signed.number - 1, signed.number, signed.number + 1, last} & by_number.keys()
        for number in sorted(near):
            findings += between(by_number[number], signed)
    for signed in _newest([*inside[:1], *outside]):
        findings += contradictions(signed, points)
    return list(dict.fromkeys(findings))


def _newest(candidates: Sequence[Signed]) -> list[Signed]:
    """Those with the highest number, each bytes once: there can be two if somebody forked the vault."""
    highest = max((signed.number for signed in candidates), default=0)
    return list({signed.digest: signed for signed in candidates if signed.number == highest}.values())
