"""Who can open which session: sealing session keys to recipients that joined later, and checking.

A session is sealed to the recipients of its time. For those that join later its key is sealed once more
in an object of its own, which the root key signs. See ``docs/format.md``, "Sessions".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from donjon.codec.sign import SigningKey
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, ObjectExists
from donjon.core.events import Progress
from donjon.format import names
from donjon.format.objects import ObjectKind, pack_object
from donjon.format.session import SealObject
from donjon.format.vault import session_info
from donjon.keys.base import Recipient
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
class Survey:
    """Which recipients can open which sessions.

    ``missing`` has, for every recipient, the sessions without a seal for it. ``unopened`` are errors of
    sessions that the key at hand does not open, ``damaged`` of sessions or seals that are not what was
    put there.
    """

    sessions: int = 0
    missing: dict[bytes, list[str]] = field(default_factory=dict)
    unopened: list[KeyNotAvailable] = field(default_factory=list)
    damaged: list[IntegrityFailure] = field(default_factory=list)

    @property
    def least(self) -> int:
        """To how many recipients every session is sealed at least."""
        lacking: dict[str, int] = {}
        for sessions in self.missing.values():
            for name in sessions:
                lacking[name] = lacking.get(name, 0) + 1
        return len(self.missing) - max(lacking.values(), default=0)


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
    for session, outcome in _side_by_side(
        sessions, lambda session: _seal_later(vault, root, wanted, session)
    ):
        if isinstance(outcome, DonjonError):
            done.failures.append(outcome)
            progress.note(outcome.message)
        else:
            done.sealed += outcome
        progress.advance(items=1, current=names.session(*session))
    return done


def survey(vault: Vault, progress: Progress) -> Survey:
    """Look at every session and every seal, and open each session with the key at hand."""
    sessions = list_sessions(vault)
    result = Survey(len(sessions), {member: [] for member in vault.keyring.members})
    progress.total(items=len(sessions))
    for session, outcome in _side_by_side(sessions, lambda session: _lacking(vault, session)):
        name = names.session(*session)
        if isinstance(outcome, DonjonError):
            _file(outcome, result)
        else:
            lacking, errors = outcome
            for recipient in lacking:
                result.missing[recipient].append(name)
            for error in errors:
                _file(error, result)
        progress.advance(items=1, current=name)
    return result


def _file(error: DonjonError, result: Survey) -> None:
    if isinstance(error, KeyNotAvailable):
        result.unopened.append(error)
    elif isinstance(error, IntegrityFailure):
        result.damaged.append(error)
    else:
        raise error


def _seal_later(vault: Vault, root: SigningKey, recipients: list[Recipient], session: SessionName) -> int:
    """How many seals were put for this session."""
    first = {recipient for recipient, _ in vault.read_session(*session).seals}
    put = 0
    for recipient in recipients:
        who = recipient.recipient_id
        if who in first or vault.later_seal(who, *session) is not None:
            continue
        sealed = recipient.seal(vault.session_key(*session), session_info(vault.vault_id, *session))
        data = pack_object(ObjectKind.SEAL, SealObject(who, *session, sealed), vault.vault_id, root)
        try:
            vault.store.put(names.seal(who, *session), data, retain_until=vault.lock_end())
        except ObjectExists:  # somebody else is at it too
            vault.later_seal(who, *session)
            continue
        put += 1
    return put


def _lacking(vault: Vault, session: SessionName) -> tuple[list[bytes], list[DonjonError]]:
    """The recipients without a seal for this session, and what is wrong with it."""
    first = {recipient for recipient, _ in vault.read_session(*session).seals}
    lacking: list[bytes] = []
    errors: list[DonjonError] = []
    for recipient in vault.keyring.members:
        try:
            if recipient not in first and vault.later_seal(recipient, *session) is None:
                lacking.append(recipient)
        except IntegrityFailure as error:
            lacking.append(recipient)
            errors.append(error)
    try:
        vault.session_key(*session)
    except (IntegrityFailure, KeyNotAvailable) as error:
        if error.message not in {other.message for other in errors}:
            errors.append(error)
    return lacking, errors


def _side_by_side(
    sessions: list[SessionName], work: Callable[[SessionName], T]
) -> Iterator[tuple[SessionName, T | IntegrityFailure | KeyNotAvailable]]:
    """The outcome of ``work`` for each session, in order. What one session lacks stops no other."""

    def attempt(session: SessionName) -> T | IntegrityFailure | KeyNotAvailable:
        try:
            return work(session)
        except (IntegrityFailure, KeyNotAvailable) as error:
            return error

    pool = ThreadPoolExecutor(_THREADS)
    try:
        yield from zip(sessions, pool.map(attempt, sessions), strict=True)
    finally:
        pool.shutdown(cancel_futures=True)
