"""The drill of a lost KMS: every point must open with a recovery kit alone, and nobody may be asked for more.

``docs/keys.md``, "The loss drill", says what it proves and what it does not.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from donjon.core.errors import (
    IntegrityFailure,
    KeyNotAvailable,
    ObjectNotFound,
    PermissionMissing,
    UnsupportedVersion,
)
from donjon.core.events import Progress, StopCheck
from donjon.format import names
from donjon.format.evidence import EvidenceRow, Outcome, evidence_row
from donjon.format.segments import SegmentRecord
from donjon.format.vault import secret_info
from donjon.keys.base import KeyService, Opener, Recipient
from donjon.repository.check import check_structure
from donjon.repository.points import Point, open_point
from donjon.repository.reading import ChunkReader
from donjon.repository.sealing import survey
from donjon.repository.tree import Tree
from donjon.repository.vault import Vault

KIND: Final = "key-loss-drill"

#: So many failures of one kind are told one by one; evidence has room for 2,000 rows.
_MOST_ROWS: Final = 200
_SEGMENTS: Final = 2
_BROKEN: Final = (IntegrityFailure, KeyNotAvailable, ObjectNotFound, PermissionMissing, UnsupportedVersion)


class ServicesGone:
    """A ``Connect`` that reaches no key service, and counts who wanted one."""

    def __init__(self) -> None:
        self.asked = 0
        self._mutex = threading.Lock()

    def __call__(self, recipient: Recipient) -> KeyService:
        """Raises ``KeyNotAvailable``, always."""
        with self._mutex:
            self.asked += 1
        msg = f"recipient {recipient.recipient_id.hex()}: the drill has taken its {recipient.kind} away"
        raise KeyNotAvailable(msg, hint="This is a drill.")


@dataclass(frozen=True, slots=True)
class Loss:
    """How the drill is done: the kit's opener, and how many chunks of data are read of each point."""

    opener: Opener
    chunks: int


def drill_key_loss(
    vault: Vault,
    loss: Loss,
    make_reader: Callable[[Vault], ChunkReader],
    progress: Progress,
    stop: StopCheck,
) -> Iterator[EvidenceRow]:
    """What was tried, row by row. From here on ``vault`` has no key but that of the kit.

    ``make_reader`` brings the index up to date. Raises what stores raise if they cannot be reached: then
    nothing was found out.
    """
    gone = ServicesGone()
    vault.connect, vault.openers = gone, []
    yield _take_away(vault)
    refused = gone.asked
    opened = _open_secret(vault, loss.opener)
    yield opened
    if opened.outcome is Outcome.FAILED:
        return
    yield from _sessions(vault, loss.opener.recipient_id, progress)
    yield from _points(vault, loss, make_reader, progress, stop)
    calls = gone.asked - refused
    yield evidence_row(
        "count who asked a key service meanwhile",
        "nobody",
        f"{calls} times" if calls else "nobody",
        Outcome.FAILED if calls else Outcome.PASSED,
    )


def _take_away(vault: Vault) -> EvidenceRow:
    """Take all key services away, and see that they are."""
    services = [m.recipient for m in vault.keyring.members.values() if m.recipient.is_service]
    refused = 0
    for recipient in services:
        try:
            vault.connect(recipient)
        except KeyNotAvailable:
            refused += 1
    tried = f"reach the {len(services)} key services of the vault"
    if not services:
        return evidence_row(tried, "none is reached", "the vault has none", Outcome.SKIPPED)
    outcome = Outcome.PASSED if refused == len(services) else Outcome.FAILED
    return evidence_row(tried, "none is reached", f"{refused} of {len(services)} refused", outcome)


def _open_secret(vault: Vault, opener: Opener) -> EvidenceRow:
    tried, expected = "open the vault secret with the kit", "opens"
    member = vault.keyring.members.get(opener.recipient_id)
    try:
        if member is None:
            msg = "the kit is not, or no longer, one of the vault's recipients"
            raise KeyNotAvailable(msg)
        opener.open(member.sealed_secret, secret_info(vault.vault_id))
        vault.use_opener(opener)
    except KeyNotAvailable as error:
        return evidence_row(tried, expected, "does not open", Outcome.FAILED, answer=error.message)
    return evidence_row(tried, expected, "opens", Outcome.PASSED)


def _sessions(vault: Vault, kit: bytes, progress: Progress) -> Iterator[EvidenceRow]:
    """Open every session, each with its seal for the kit."""
    found = survey(vault, progress)
    key = found.keys[kit]
    failures = [(name, "has no seal for the kit") for name in key.missing]
    damaged = [error for error in found.damaged if error.message.startswith(names.SESSIONS)]
    failures += [(error.message.partition(":")[0], error.message) for error in (*key.failures, *damaged)]
    failures = list(dict.fromkeys(failures))
    yield _total(f"open the keys of {found.sessions} sessions", found.sessions, key.opened, failures)
    yield from _each("open the key of", failures)


def _points(
    vault: Vault,
    loss: Loss,
    make_reader: Callable[[Vault], ChunkReader],
    progress: Progress,
    stop: StopCheck,
) -> Iterator[EvidenceRow]:
    """Open the manifest and the tree of every point, and read some chunks of its data."""
    structure = check_structure(vault, progress)
    points = [point for point in structure.points if point.point_id not in structure.expired]
    reader = make_reader(vault)
    unopened: list[tuple[str, str]] = [
        (finding.object, finding.what)
        for finding in structure.findings
        if finding.object.startswith(names.MANIFESTS)
    ]
    unread: list[tuple[str, str]] = []
    chunks = 0
    progress.total(items=len(points))
    for point in points:
        stop()
        try:
            tree = Tree(open_point(vault, point), reader)
        except _BROKEN as error:
            unopened.append((point.name, error.message))
            continue
        try:
            chunks += _read_some(tree, reader, point, loss.chunks)
        except _BROKEN as error:
            unread.append((point.name, error.message))
        progress.advance(items=1, current=point.name)
    broken = len({name for name, _ in unopened})
    yield _total(f"open the manifests of {len(points)} points", len(points), len(points) - broken, unopened)
    yield from _each("open the point", unopened)
    tried = f"read the trees of {len(points)} points, and {chunks} chunks of their data"
    yield _total(tried, len(points), len(points) - broken - len(unread), unread or unopened)
    yield from _each("read the point", unread)
    if structure.expired:
        seen = f"{len(structure.expired)}: their locks ended and their data is gone"
        yield evidence_row("look for points that are history", "nothing to open", seen, Outcome.SKIPPED)


def _read_some(tree: Tree, reader: ChunkReader, point: Point, wanted: int) -> int:
    """Read the list of segments, some of them, and chunks of files in them; how many chunks were read.

    Each has the id that was asked for, or ``IntegrityFailure`` is raised. Which ones is drawn anew each time.
    """
    draw = random.SystemRandom()
    segments: list[SegmentRecord] = []
    for number, record in enumerate(tree.segments()):
        if len(segments) < _SEGMENTS:
            segments.append(record)
        elif (place := draw.randrange(number + 1)) < _SEGMENTS:
            segments[place] = record
    ids: list[bytes] = []
    for record in segments:
        for _, entry in tree.read_segment(record):
            ids += tree.chunk_ids(entry)
    chosen = draw.sample(ids, min(wanted, len(ids)))
    for chunk in chosen:
        reader.read_one(chunk, point.uses)
    return len(chosen)


def _total(tried: str, all_: int, opened: int, failures: list[tuple[str, str]]) -> EvidenceRow:
    if not all_ and not failures:
        return evidence_row(tried, "all open", "there are none", Outcome.SKIPPED)
    outcome = Outcome.FAILED if failures or opened < all_ else Outcome.PASSED
    return evidence_row(tried, "all open", f"{opened} of {all_}", outcome)


def _each(what: str, failures: list[tuple[str, str]]) -> Iterator[EvidenceRow]:
    for name, said in failures[:_MOST_ROWS]:
        yield evidence_row(f"{what} {name}", "opens", "does not open", Outcome.FAILED, answer=said)
    if len(failures) > _MOST_ROWS:
        more = f"{len(failures) - _MOST_ROWS} more"
        yield evidence_row(f"{what} others", "opens", f"{more} do not open", Outcome.FAILED)
