"""Trying every key of a vault that can be reached from here."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from donjon.app.keys.members import KeyInfo, infos
from donjon.app.wiring import Workspace, no_key
from donjon.core.errors import DonjonError, IntegrityFailure, KeyNotAvailable, PermissionMissing, UsageError
from donjon.core.events import Progress
from donjon.keys.base import KIT, PASSPHRASE, Opener, Recipient
from donjon.repository.recipients import FEWEST, HOW_TO_ADD, weaknesses
from donjon.repository.sealing import SessionName, Survey, list_sessions, survey
from donjon.repository.vault import Vault

#: So many sessions are opened with a key service unless told otherwise: each costs a call.
SERVICE_SAMPLE: Final = 16


@dataclass(frozen=True, slots=True)
class CheckedKeys:
    """All keys of a vault, and how opening with each went."""

    keys: list[KeyInfo]
    survey: Survey
    warnings: list[str]


def check_keys(
    workspace: Workspace, kits: Sequence[Path], sample: int | None, progress: Progress
) -> CheckedKeys:
    """Open sessions with every key that can be reached: ``kits``, the passphrase given, and key services.

    ``sample`` is how many sessions are opened with each, 0 for all; None for all, but few with key
    services. Raises what ``read_kit`` raises for a kit that cannot be read, ``KeyNotAvailable`` if no key can
    be reached.
    """
    vault = workspace.open()
    for path in kits:
        vault.use_opener(workspace.with_kit(path).read_kit(vault).opener())
    not_tried = _reach_others(workspace, vault, has_kits=bool(kits))
    if not vault.openers:
        raise no_key(vault, [error for error in not_tried.values() if not isinstance(error, UsageError)])
    workspace.home.keep_pin(vault.keyring)
    sessions = list_sessions(vault)
    services = {m.recipient.recipient_id for m in vault.keyring.members.values() if m.recipient.is_service}
    tries = {
        opener.recipient_id: _choose(
            sessions, SERVICE_SAMPLE if sample is None and opener.recipient_id in services else sample
        )
        for opener in vault.openers
    }
    found = survey(vault, progress, tries)
    for recipient, error in not_tried.items():
        found.keys[recipient].not_tried = error.message
    return CheckedKeys(infos(vault), found, _warnings(vault, found))


def _reach_others(workspace: Workspace, vault: Vault, *, has_kits: bool) -> dict[bytes, DonjonError]:
    """Use the passphrase and the key services; why the keys that are left cannot be tried."""
    at_hand = {opener.recipient_id for opener in vault.openers}
    left: dict[bytes, DonjonError] = {}
    ask = workspace.passphrase("Passphrase of the vault: ")
    passphrase = ask() if ask is not None and (workspace.has_passphrase or not has_kits) and _has(
        vault, PASSPHRASE
    ) else None  # fmt: skip
    for recipient in [member.recipient for member in vault.keyring.members.values()]:
        if recipient.recipient_id in at_hand:
            continue
        try:
            vault.use_opener(_opener(vault, recipient, passphrase))
        except (IntegrityFailure, KeyNotAvailable, PermissionMissing, UsageError) as error:
            left[recipient.recipient_id] = error
    return left


def _opener(vault: Vault, recipient: Recipient, passphrase: str | None) -> Opener:
    from donjon.keys.passphrase import unlock

    if recipient.is_service:
        return vault.connect(recipient)
    if recipient.kind == KIT:
        msg = "its kit was not given"
        raise UsageError(msg)
    if passphrase is None:
        msg = "its passphrase was not given"
        raise UsageError(msg)
    return unlock(recipient, passphrase)


def _has(vault: Vault, kind: str) -> bool:
    return any(member.recipient.kind == kind for member in vault.keyring.members.values())


def _choose(sessions: list[SessionName], count: int | None) -> frozenset[SessionName]:
    """The first and the last of them and others at random, another choice each time; all for 0 and None."""
    if not count or count >= len(sessions):
        return frozenset(sessions)
    ends = [sessions[-1], sessions[0]][:count]
    rest = [session for session in sessions if session not in ends]
    return frozenset([*ends, *random.SystemRandom().sample(rest, count - len(ends))])


def _warnings(vault: Vault, found: Survey) -> list[str]:
    warnings = []
    if found.least < len(found.keys):
        warnings.append("some sessions are not sealed to every key: `donjon keys reseal` completes them")
    warnings += weaknesses(member.recipient for member in vault.keyring.members.values())
    if found.least < FEWEST <= len(found.keys):
        warnings.append(f"fewer than two keys open everything: reseal, or add one: {HOW_TO_ADD}")
    return warnings
