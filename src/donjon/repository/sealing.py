"""Who can open which session: sealing session keys to recipients that joined later, and checking.

A session is sealed to the recipients of its time. For those that join later its key is sealed once more
in an object of its own, which the root key signs. See ``docs/format.md``, "Sessions".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from donjon.codec.sign import SigningKey
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    KeyServiceUnavailable,
    ObjectExists,
)
from donjon.core.events import Progress
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.session import SealObject
from donjon.format.vault import session_info
from donjon.keys.base import Opener, Recipient
from donjon.repository.vault import Vault

T = TypeVar("T")

#: A session: its writer's id and its number.
SessionName = tuple[bytes, int]

_NAME = re.compile(rf"{names.SESSIONS}([0-9a-f]{{32}})/([0-9]{{8}})")
_THREADS = 8


@dataclass(slots=True)
class Resealed:
    """What ``reseal`` did. ``failures`` are the sessions that could not be opened, and why."""

    sessions: int = 0
    sealed: int = 0
    failures: list[DonjonError] = field(default_factory=list)


@dataclass(slots=True)
class KeyCheck:
    """What is known of one recipient. ``sealed`` is the number of sessions that have a seal for it.

    ``missing`` are the names of those that have none, ``tried`` and ``opened`` how many of the others were,
    and ``failures`` why some did not open. ``not_tried`` says why nothing was tried with it; empty if it was.
    """

    sealed: int = 0
    missing: list[str] = field(default_factory=list)
    tried: int = 0
    opened: int = 0
    failures: list[DonjonError] = field(default_factory=list)
    not_tried: str = ""


@dataclass(slots=True)
class Survey:
    """Which recipients can open which sessions.

    ``keys`` has every recipient. ``damaged`` are sessions or seals that are not what was put there.
    """

    sessions: int = 0
    keys: dict[bytes, KeyCheck] = field(default_factory=dict)
    damaged: list[IntegrityFailure] = field(default_factory=list)

    @property
    def least(self) -> int:
        """To how many recipients every session is sealed at least."""
        lacking: dict[str, int] = {}
        for key in self.keys.values():
            for name in key.missing:
                lacking[name] = lacking.get(name, 0) + 1
        return len(self.keys) - max(lacking.values(), default=0)


def list_sessions(vault: Vault) -> list[SessionName]:
    """All sessions that the store lists, deleted ones too if only a marker hides them."""
    found = set()
    for info in vault.store.list(names.SESSIONS):
        if match := _NAME.fullmatch(info.name):  # other objects are for `verify` to report
            found.add((bytes.fromhex(match[1]), int(match[2])))
    return sorted(found)


def reseal(vault: Vault, root: SigningKey, recipients: Iterable[Recipient], progress: Progress) -> Resealed:
    """Seal the key of every session for each recipient that it was not sealed to.

    Needs an opener. Puts are create-only and what exists is skipped, so it can be cut off and run again.
    """
    wanted = list(recipients)
    sessions = list_sessions(vault)
    done = Resealed(len(sessions))
    progress.total(items=len(sessions))
    for session, outcome in side_by_side(sessions, lambda session: _seal_later(vault, root, wanted, session)):
        if isinstance(outcome, DonjonError):
            done.failures.append(outcome)
            progress.note(outcome.message)
        else:
            done.sealed += outcome
        progress.advance(items=1, current=names.session(*session))
    return done


def survey(
    vault: Vault, progress: Progress, tries: Mapping[bytes, Collection[SessionName]] | None = None
) -> Survey:
    """Look at every session and every seal, and open sessions with the openers at hand.

    ``tries`` has the sessions to open with each opener, by its recipient's id; without it all are opened with
    all.
    """
    sessions = list_sessions(vault)
    if tries is None:
        tries = {opener.recipient_id: frozenset(sessions) for opener in vault.openers}
    result = Survey(len(sessions), {member: KeyCheck() for member in vault.keyring.members})
    openers = {opener.recipient_id: opener for opener in vault.openers}
    progress.total(items=len(sessions))

    def look(session: SessionName) -> _Looked:
        wanted = [openers[who] for who, which in tries.items() if session in which]
        return _look(vault, session, wanted)

    for session, outcome in side_by_side(sessions, look):
        name = names.session(*session)
        if isinstance(outcome, IntegrityFailure):
            result.damaged.append(outcome)
        elif isinstance(outcome, DonjonError):
            raise outcome
        else:
            _enter(outcome, name, result)
        progress.advance(items=1, current=name)
    return result


@dataclass(slots=True)
class _Looked:
    """One session: who has a seal, what is damaged, and how opening it went, None if it opened."""

    sealed: set[bytes] = field(default_factory=set)
    damaged: list[IntegrityFailure] = field(default_factory=list)
    opened: dict[bytes, DonjonError | None] = field(default_factory=dict)


def _look(vault: Vault, session: SessionName, openers: list[Opener]) -> _Looked:
    read = vault.read_session(*session)
    looked = _Looked({recipient for recipient, _ in read.seals})
    for recipient in vault.keyring.members:
        try:
            if recipient not in looked.sealed and vault.later_seal(recipient, *session) is not None:
                looked.sealed.add(recipient)
        except IntegrityFailure as error:
            looked.damaged.append(error)
    for opener in openers:
        if opener.recipient_id not in looked.sealed:
            continue
        failure: DonjonError | None = None
        try:
            vault.open_session(read, opener)
        except IntegrityFailure as error:
            failure = error
            looked.damaged.append(error)
        except DonjonError as error:  # a key service that refuses or is not there
            failure = error
        looked.opened[opener.recipient_id] = failure
    return looked


def _enter(looked: _Looked, name: str, result: Survey) -> None:
    result.damaged += looked.damaged
    for recipient, key in result.keys.items():
        if recipient in looked.sealed:
            key.sealed += 1
        else:
            key.missing.append(name)
    for recipient, failure in looked.opened.items():
        key = result.keys[recipient]
        key.tried += 1
        if failure is None:
            key.opened += 1
        else:
            key.failures.append(failure)


def _seal_later(vault: Vault, root: SigningKey, recipients: list[Recipient], session: SessionName) -> int:
    """How many seals were put for this session."""
    first = {recipient for recipient, _ in vault.read_session(*session).seals}
    put = 0
    for recipient in recipients:
        who = recipient.recipient_id
        if who in first or vault.later_seal(who, *session) is not None:
            continue
        sealed = vault.seal(recipient, vault.session_key(*session), session_info(vault.vault_id, *session))
        data = pack_object(ObjectKind.SEAL, SealObject(who, *session, sealed), vault.vault_id, root)
        try:
            vault.store.put(names.seal(who, *session), data, retain_until=vault.lock_end())
        except ObjectExists:  # somebody else is at it too
            vault.later_seal(who, *session)
            continue
        put += 1
    return put


def side_by_side(
    sessions: list[SessionName], work: Callable[[SessionName], T]
) -> Iterator[tuple[SessionName, T | IntegrityFailure | KeyNotAvailable]]:
    """The outcome of ``work`` for each session, in order. What one session lacks stops no other.

    A key service that does not answer stops all, as it was waited for long.
    """

    def attempt(session: SessionName) -> T | IntegrityFailure | KeyNotAvailable:
        try:
            return work(session)
        except KeyServiceUnavailable:
            raise
        except (IntegrityFailure, KeyNotAvailable) as error:
            return error

    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield from zip(sessions, pool.map(attempt, sessions), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
