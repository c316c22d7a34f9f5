"""What a command works with, made from its settings: the vault, its keys, its cache."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from donjon.app.config import Home, KnownVault, Settings
from donjon.app.pins import watch_points
from donjon.app.stores import BUCKETS, PATIENCE_S, local_folder, normal_url, open_store
from donjon.core.errors import (
    DonjonError,
    IntegrityFailure,
    KeyNotAvailable,
    PermissionMissing,
    UnsupportedVersion,
    UsageError,
    VaultNotFound,
)
from donjon.core.events import Progress, Silent
from donjon.core.units import MIB
from donjon.format import names
from donjon.keys.base import PASSPHRASE, Connect, KeyService, Recipient
from donjon.repository.cache import Cache
from donjon.repository.credential import WriterCredential
from donjon.repository.index import Index
from donjon.repository.keyring import Member, vault_id_of
from donjon.repository.points import OpenPoint
from donjon.repository.reading import ChunkReader
from donjon.repository.rebuild import complete_index
from donjon.repository.vault import Vault, open_vault
from donjon.repository.writer_keys import adopt_successor
from donjon.stores.first_versions import first_of_each

if TYPE_CHECKING:
    from donjon.keys.recovery import RecoveryKit
    from donjon.plan.model import Credential

#: Asks a person for a passphrase; None where nobody can be asked.
Ask = Callable[[str], str]
#: Hears what a person should know at once.
Tell = Callable[[str], None]

#: Packs (of 56 MiB at most) are fetched whole if a point has at least this much content for each of them.
_USED_BYTES = 32 * MIB
#: Packs are fetched into memory on their way to the disk; a hostile listing can claim any size.
_SPOOLED_BYTES = 128 * MIB
#: How many packs are listed at most to learn their sizes: a page, and more the more packs are needed.
_LISTED = 1000
_LISTED_EACH = 20


def open_vault_at(
    url: str,
    *,
    root_public: bytes | None = None,
    patience_s: float = PATIENCE_S,
    credential: Credential | None = None,
) -> Vault:
    """The vault at an address, whose id is checked to belong to its root key.

    Raises what ``open_vault`` raises, and ``VaultNotFound`` for a local folder that does not exist.
    """
    folder = local_folder(url)
    if folder is not None and not folder.is_dir():
        msg = f"{url}: there is no such folder, so no vault either"
        raise VaultNotFound(msg, hint="Mount the disk, correct the address, or make one with `donjon init`.")
    store = open_store(url, patience_s=patience_s, credential=credential)
    vault = open_vault(store, root_public=root_public, connect=key_services())
    if vault.vault_id != vault_id_of(vault.object.root_public):
        msg = f"vault: the id {vault.vault_id.hex()} does not belong to its root key"
        raise IntegrityFailure(msg, hint=f"Do not use {url}; find out who replaced the vault.")
    return vault


def key_services() -> Connect:
    """What reaches the key services of recipients, with the credentials that this host has for them."""

    @functools.cache
    def services() -> Connect:
        from donjon.keys.services import KeyServices  # here, for most commands ask none

        return KeyServices(os.environ)

    def connect(recipient: Recipient) -> KeyService:
        return services()(recipient)

    return connect


class Workspace:
    """A command's settings, and all that is opened by them. Silent stores are tried for ``patience_s``."""

    def __init__(
        self,
        settings: Settings,
        *,
        ask: Ask | None = None,
        tell: Tell | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self.settings = settings
        self.home = Home(settings.home)
        self._ask = ask
        self._tell = tell or (lambda _: None)
        self._patience_s = patience_s
        self._kit: RecoveryKit | None = None  # so that its passphrase is asked for once

    def open(self) -> Vault:
        """The vault that is meant, without any key."""
        chosen = self.home.select(self.settings.vault)
        if isinstance(chosen, str):
            url = normal_url(chosen).rstrip("/")
            chosen = next((known for known in self.home.vaults() if known.url == url), url)
        url = chosen if isinstance(chosen, str) else chosen.url
        root_public = None if isinstance(chosen, str) else bytes.fromhex(chosen.root_public)
        vault = open_vault_at(
            url,
            root_public=root_public,
            patience_s=self._patience_s,
            credential=self.settings.credential,
        )
        self.home.check_pin(vault.keyring)
        if known := isinstance(chosen, KnownVault):
            self.home.keep_pin(vault.keyring)
        watch_points(self.home.folder, vault, self._tell, keep=lambda: known or vault.has_secret)
        return vault

    def tell(self, message: str) -> None:
        """Let whoever works with this know at once."""
        self._tell(message)

    def cache(self, vault: Vault) -> Cache:
        """This host's cache of a vault."""
        return Cache(self.home.cache_path(vault.vault_id))

    def open_for_writing(self) -> tuple[Vault, WriterCredential]:
        """The vault with the writer credential of this host, which opens no backup."""
        vault = self.open()
        path = self.home.writer_path(vault.vault_id)
        credential = WriterCredential.read(path)
        if (credential.vault_id, credential.root_public) != (vault.vault_id, vault.object.root_public):
            msg = f"{vault.store.url}: this host is enrolled in a vault with another root key"
            raise KeyNotAvailable(msg, hint="Check the address; if the vault was replaced, ask by whom.")
        vault.use_secret(credential.secret)
        self.home.keep_pin(vault.keyring)
        return vault, adopt_successor(vault, credential, path)

    def open_for_reading(self) -> Vault:
        """The vault with a key that opens it; see ``unlock``."""
        vault = self.open()
        self.unlock(vault)
        return vault

    def open_for_listing(self) -> Vault:
        """The vault with the names that the writer credential of this host reveals, if there is one."""
        vault = self.open()
        if (path := self.home.writer_path(vault.vault_id)).exists():
            vault.use_secret(WriterCredential.read(path).secret)
        return vault

    @property
    def has_key(self) -> bool:
        """Whether the user named a key that opens backups."""
        return self.settings.kit is not None or self.settings.passphrase_file is not None

    def unlock(self, vault: Vault) -> None:
        """Use the kit or the passphrase that the user gave; without either, the vault's key services.

        If no key service opens it, somebody at a terminal is asked for the passphrase.

        Raises ``KeyNotAvailable`` that tells what was tried and why it failed, and ``PermissionMissing`` if
        permissions are all that is missing.
        """
        if self.settings.kit is not None:
            vault.use_opener(self.read_kit(vault).opener())
        elif self.settings.passphrase_file is not None:
            self._unlock_with_passphrase(vault)
        elif failures := use_services(vault):
            if self._ask is None or not _passphrases(vault):
                raise no_key(vault, failures)
            for failure in failures:
                self._tell(failure.message)
            self._unlock_with_passphrase(vault)
        elif not vault.openers:
            if self._ask is None:
                raise no_key(vault)
            self._unlock_with_passphrase(vault)
        self.home.keep_pin(vault.keyring)

    def read_kit(self, vault: Vault) -> RecoveryKit:
        """The recovery kit that the user named. Raises ``KeyNotAvailable`` if it is of another vault."""
        kit = self.read_any_kit()
        if kit.vault_id != vault.vault_id:  # and the id names the root key
            msg = f"{self.settings.kit}: is the recovery kit of another vault ({kit.vault_name!r})"
            raise KeyNotAvailable(msg, hint=f"Use the kit of {vault.store.url}.")
        return kit

    def read_any_kit(self) -> RecoveryKit:
        """The recovery kit that the user named, of whatever vault."""
        from donjon.keys.recovery import read_kit

        if self.settings.kit is None:
            msg = "this needs the recovery kit"
            raise KeyNotAvailable(msg, hint="Give it with --kit FILE or DONJON_KIT.")
        if self._kit is None:
            passphrase = self.passphrase("Passphrase of the recovery kit: ")
            self._kit = read_kit(self.settings.kit, passphrase)
        return self._kit

    def _unlock_with_passphrase(self, vault: Vault) -> None:
        from donjon.keys.passphrase import unlock

        members = _passphrases(vault)
        source = self.passphrase("Passphrase of the vault: ")
        if source is None:
            raise no_key(vault)
        if not members:
            msg = f"{vault.store.url}: no passphrase opens this vault, or none any more"
            raise KeyNotAvailable(msg, hint="Use a recovery kit with --kit FILE; see `donjon keys list`.")
        passphrase = source()
        failure: DonjonError | None = None
        for member in members:
            try:
                opener = unlock(member.recipient, passphrase)
            except KeyNotAvailable:
                continue
            except (IntegrityFailure, UnsupportedVersion) as error:  # another one may open all the same
                failure = error
                continue
            vault.use_opener(opener)
            return
        if failure is not None:
            raise failure
        msg = f"{vault.store.url}: the passphrase opens none of the {len(members)} passphrase keys"
        raise KeyNotAvailable(msg, hint="Check the passphrase, or use the recovery kit with --kit FILE.")

    def with_kit(self, kit: Path) -> Workspace:
        """The same, with another kit."""
        return Workspace(replace(self.settings, kit=kit), ask=self._ask, tell=self._tell)

    def for_vault(self, vault: str) -> Workspace:
        """The same, for the vault of this name or address."""
        return Workspace(replace(self.settings, vault=vault), ask=self._ask, tell=self._tell)

    @property
    def has_passphrase(self) -> bool:
        """Whether the user named a file with a passphrase."""
        return self.settings.passphrase_file is not None

    def passphrase(self, prompt: str) -> Callable[[], str] | None:
        """Gives the passphrase in the file that the user named, or asks; None if there is nobody to ask."""
        if (path := self.settings.passphrase_file) is not None:
            from donjon.keys.passphrase import passphrase_from_file

            return lambda: passphrase_from_file(path)
        if (ask := self._ask) is not None:
            return lambda: ask(prompt)
        return None

    def spool(self, opened: Vault, point: OpenPoint, reader: ChunkReader, size_bytes: int) -> None:
        """Fetch whole packs from here on, and the next ones ahead, as so much of a point is about to be read.

        Only from a bucket, where each request counts, and not if little is needed of each pack.
        """
        uses = len(point.point.uses)
        if urlsplit(opened.store.url).scheme not in BUCKETS or size_bytes < uses * _USED_BYTES:
            return
        from donjon.stores.spool import SpoolingStore

        # In a vault of many packs most are of no use here: then those that are not found are read in ranges.
        listed = itertools.islice(
            first_of_each(opened.store.list(names.PACKS)), _LISTED + _LISTED_EACH * uses
        )
        sizes = {info.name: info.size_bytes for info in listed if info.size_bytes <= _SPOOLED_BYTES}
        order = map(names.pack, reader.packs(point.point.uses))
        folder = self.home.cache_path(opened.vault_id)
        opened.store = SpoolingStore(opened.store, sizes, folder, order)

    def reader(self, vault: Vault, progress: Progress | None = None) -> ChunkReader:
        """What reads chunks of an opened vault; the index is brought up to date first."""
        index = Index(self.cache(vault))
        listener = progress or Silent()
        for name in index.sync_all(vault):
            listener.note(f"{name}: is damaged; what it held is read from the packs if needed")
        return ChunkReader(vault, index, lambda: complete_index(vault, index, listener))


def use_services(vault: Vault) -> list[DonjonError]:
    """Open the vault by its key services, in the order in which they joined.

    The first that opens the vault secret is used, and those after it for sessions that it does not open.
    Returns why each failed, empty if one opened the vault or none is a recipient.
    """
    failures: list[DonjonError] = []
    for member in vault.keyring.members.values():
        if not member.recipient.is_service:
            continue
        try:
            service = vault.connect(member.recipient)
            if vault.openers:
                vault.openers.append(service)
            else:
                vault.use_opener(service)
        except (IntegrityFailure, KeyNotAvailable, PermissionMissing, UsageError) as error:
            failures.append(error)
    return [] if vault.openers else failures


def no_key(vault: Vault, failures: Sequence[DonjonError] = ()) -> DonjonError:
    """The error for a command that needs a key and has none; ``failures`` tell what was tried.

    It is the failure itself if there is one, and ``PermissionMissing`` if all of them are.
    """
    if len(failures) == 1:
        return failures[0]
    tried = "; ".join(failure.message for failure in failures)
    hint = "Give the recovery kit with --kit FILE or DONJON_KIT, or --passphrase-file FILE."
    if failures and all(isinstance(failure, PermissionMissing) for failure in failures):
        return PermissionMissing(f"{vault.store.url}: no key service opens this vault: {tried}", hint=hint)
    return KeyNotAvailable(
        f"{vault.store.url}: no key at hand that opens this vault{f': {tried}' if tried else ''}", hint=hint
    )


def _passphrases(vault: Vault) -> list[Member]:
    """The recipients that a passphrase opens."""
    return [m for m in vault.keyring.members.values() if m.recipient.kind == PASSPHRASE]
