"""Rotating a key: a new one joins, all sessions are sealed to it as well, and the old one may go.

Nothing is rewritten. Each step leaves a vault that opens with all keys that opened it before, and the same
command run again goes on from wherever it was cut off.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from donjon.app.keys.changes import Pending
from donjon.app.keys.members import KeyInfo, address_of, info, infos
from donjon.app.keys.revocation import fitting_keys, revoke
from donjon.app.setup import open_with_kit
from donjon.app.wiring import Workspace
from donjon.core.errors import IntegrityFailure, KeyNotAvailable, Refused, UsageError
from donjon.core.events import Progress
from donjon.format.vault import secret_info
from donjon.keys.base import KIT, PASSPHRASE, Opener, Recipient
from donjon.repository.reach import Reach, reach
from donjon.repository.recipients import weaknesses
from donjon.repository.records import check_label
from donjon.repository.sealing import Resealed, reseal
from donjon.repository.vault import Vault, add_recipient

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit

_GENERATION = re.compile(r"(.*) ([0-9]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Replacement:
    """What takes the place of the old key: the file for a new kit, a new passphrase, or a key of a service.

    ``kit_passphrase`` protects the new kit. ``name`` is that of the new key; without it the old one's name
    with a number. ``with_root`` puts the root key on the new kit, as it is anyway if the old one is in use.
    """

    kit: Path | None = None
    kit_passphrase: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    uri: str | None = None
    name: str | None = None
    with_root: bool = False


@dataclass(frozen=True, slots=True)
class Rotated:
    """A key that was rotated. ``old`` is None if it had been revoked already by an earlier run.

    ``reach`` is what stays open to the holder of the old key; None if it was not revoked. ``fingerprint`` is
    that of a new kit. ``pending`` tells that approvers have to allow that the old key is revoked.
    """

    old: KeyInfo | None
    new: KeyInfo
    resealed: Resealed
    reach: Reach | None
    fingerprint: str
    warnings: list[str]
    pending: Pending | None = None


def rotate_key(
    workspace: Workspace,
    wanted: str,
    new: Replacement,
    progress: Progress,
    *,
    revoke_old: bool,
    single_recipient: bool,
) -> Rotated:
    """Let a new key take the place of ``wanted``; with ``revoke_old`` nothing more is sealed to the old one.

    The old key is revoked only once every session is sealed to the new one. Raises ``UsageError`` if no key
    or several fit, or if ``new`` is of another kind, ``Refused`` if what is there already is not the new key.
    """
    vault, own, root = open_with_kit(workspace)
    work = _rotation(vault, own, wanted, new)
    recipient, opener, fingerprint = work.recipient()
    if recipient.recipient_id not in vault.keyring.members:
        add_recipient(vault, root, recipient)
        workspace.home.keep_pin(vault.keyring)
    _prove(vault, recipient, opener)
    done = reseal(vault, root, [recipient], progress)
    old, open_to_it, pending = work.old, None, None
    if revoke_old and old is not None and not done.failures:
        told = reach(vault, old.recipient_id)
        pending = revoke(workspace, vault, root, old, single_recipient=single_recipient)
        open_to_it = told if pending is None else None
    return Rotated(
        old,
        info(vault, recipient),
        done,
        open_to_it,
        fingerprint,
        weaknesses(member.recipient for member in vault.keyring.members.values()),
        pending,
    )


def next_name(name: str) -> str:
    """``office``, ``office 2``, ``office 3``: the generations of a key."""
    if match := _GENERATION.fullmatch(name):
        return f"{match[1]} {int(match[2]) + 1}"
    return f"{name} 2"


def _rotation(vault: Vault, own: RecoveryKit, wanted: str, new: Replacement) -> _Rotation:
    """What is to be done, from what is there: perhaps an earlier run did part of it."""
    fitting = fitting_keys(vault, wanted)
    old = fitting[0] if len(fitting) == 1 else None
    name = new.name or next_name(old.name if old is not None else wanted)
    check_label(name)
    made = next((key for key in infos(vault) if key.name == name), None)
    if old is None and (made is None or fitting):
        msg = f"{wanted!r} fits {len(fitting) or 'no'} keys"
        raise UsageError(msg, hint="See `donjon keys list`, and give a name or the start of an id.")
    _check_kind((old or made), new)
    if old is not None and made is not None and (old == made or old.kind != made.kind):
        raise _taken(name)
    return _Rotation(vault, own, old, made, new, name)


def _check_kind(known: KeyInfo | None, new: Replacement) -> None:
    """Raises ``UsageError`` unless exactly one new key is given, and it is of the old one's kind."""
    kind = known.kind if known is not None else ""
    option = {KIT: "--out FILE", PASSPHRASE: "--new-passphrase-file FILE"}.get(kind, "--to URI")
    fits = {KIT: new.kit, PASSPHRASE: new.passphrase}.get(kind, new.uri)
    if fits is None or sum(each is not None for each in (new.kit, new.passphrase, new.uri)) != 1:
        msg = f"a key of kind {kind} is rotated with {option}, and with nothing else"
        raise UsageError(msg, hint="To change the kind, add the new key and revoke the old one.")


@dataclass(frozen=True, slots=True)
class _Rotation:
    """One rotation: ``old`` is the key that goes, None if it went; ``made`` has the new name already."""

    vault: Vault
    own: RecoveryKit
    old: KeyInfo | None
    made: KeyInfo | None
    new: Replacement
    name: str

    def recipient(self) -> tuple[Recipient, Opener | None, str]:
        """The recipient that takes over, as an earlier run left it or fresh; opener, fingerprint of a kit."""
        if self.new.kit is not None:
            kit = self._kit(self.new.kit)
            return kit.recipient(self.name), kit.opener(), kit.fingerprint
        if self.new.passphrase is not None:
            return *self._passphrase(self.new.passphrase), ""
        assert self.new.uri is not None  # noqa: S101  (one of the three is given)
        return self._service(self.new.uri), None, ""

    def _kit(self, path: Path) -> RecoveryKit:
        from donjon.keys.recovery import RecoveryKit, read_kit, write_kit

        vault, phrase = self.vault, self.new.kit_passphrase
        if os.path.lexists(path):
            kit = read_kit(path, (lambda: phrase) if phrase is not None else None)
            member = vault.keyring.members.get(kit.recipient("").recipient_id)
            other = member is not None and info(vault, member.recipient).name != self.name
            if kit.vault_id != vault.vault_id or other:
                msg = f"{path}: exists, and is not the new kit of this vault"
                raise Refused(msg, hint="Choose another file name; a kit never overwrites anything.")
            self._check_made(kit.recipient("").recipient_id)
            return kit
        if self.made is not None:
            raise _taken(self.name)
        in_use = self.old is not None and self.old.recipient_id in {
            each.recipient_id for each in vault.openers
        }
        kit = RecoveryKit.generate(
            vault_id=vault.vault_id,
            vault_name=self.own.vault_name,
            vault_url=vault.store.url,
            created_at=vault.store.now(),
            with_root=False,
        )
        if self.new.with_root or in_use:
            kit = replace(kit, root_seed=self.own.root_seed)
        write_kit(path, kit, phrase)
        return kit

    def _passphrase(self, passphrase: str) -> tuple[Recipient, Opener]:
        from donjon.keys.passphrase import create, unlock

        if self.made is None:  # else an earlier run made it
            recipient = create(self.name, passphrase, created_at=self.vault.store.now())
        else:
            recipient = self.vault.keyring.members[self.made.recipient_id].recipient
        try:
            return recipient, unlock(recipient, passphrase)
        except KeyNotAvailable as error:
            raise _taken(self.name) from error

    def _service(self, uri: str) -> Recipient:
        from donjon.keys.address import service_recipient
        from donjon.keys.services import parse_address

        address = parse_address(uri)
        for member in self.vault.keyring.members.values():
            known = address_of(member.recipient)
            if known is None or known.identity != address.identity:
                continue
            if self.made is None:
                msg = f"{uri}: opens this vault already, as {info(self.vault, member.recipient).name!r}"
                hint = "Its versions rotate inside the service, and old seals keep opening; give another key."
                raise Refused(msg, hint=hint)
            self._check_made(member.recipient.recipient_id)
            return member.recipient
        if self.made is not None:
            raise _taken(self.name)
        return service_recipient(address, self.name, self.vault.store.now())

    def _check_made(self, recipient: bytes) -> None:
        if self.made is not None and self.made.recipient_id != recipient:
            raise _taken(self.name)


def _taken(name: str) -> Refused:
    return Refused(
        f"there is another key {name!r} already", hint="Choose a name for the new one with --name."
    )


def _prove(vault: Vault, recipient: Recipient, opener: Opener | None) -> None:
    """Raises ``IntegrityFailure`` if the new key does not open the vault. A key service is not asked."""
    if opener is None:
        return
    member = vault.keyring.members[recipient.recipient_id]
    if opener.open(member.sealed_secret, secret_info(vault.vault_id)) != vault.secret.secret:
        msg = f"{info(vault, recipient).name}: the new key does not open the vault"
        raise IntegrityFailure(msg, hint="Revoke it with `donjon keys revoke`, and check this machine.")
